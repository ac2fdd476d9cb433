"""Backends that are broken in one way each, and the tests of the suite that must notice.

Each is the reference backend but for one fault. The modules `support.broken_...` hold
them; `all_broken` gives all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

import attrs

from seeknal_core.testing.memory import MemoryBackend

T = TypeVar("T", bound=MemoryBackend)

_MODULES = ("writing", "data", "looking", "staging", "undoing", "reading", "dying")


@attrs.frozen(kw_only=True)
class Broken:
    """A broken backend: where it is, and which tests of the suite turn red for it."""

    name: str
    plugin: str
    red: frozenset[str]


_found: dict[str, Broken] = {}


def breaks(*tests: str) -> Callable[[type[T]], T]:
    """Note a broken backend; the class becomes its one instance.

    Args:
        tests: those that turn red, and no others of their themes.
    """

    def note(cls: type[T]) -> T:
        plugin = f"{cls.__module__}:{cls.__name__}"
        assert cls.__name__ not in _found
        red = frozenset(f"test_{test}" for test in tests)
        _found[cls.__name__] = Broken(name=cls.__name__, plugin=plugin, red=red)
        return cls()

    return note


def all_broken() -> dict[str, Broken]:
    """Return all broken backends by name."""
    for name in _MODULES:
        importlib.import_module(f"support.broken_{name}")
    return dict(_found)
