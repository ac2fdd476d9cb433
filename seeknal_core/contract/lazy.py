"""Packages that import their modules when a name of theirs is first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazily(
    package: dict[str, object], homes: Mapping[str, Sequence[str]]
) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: the package's ``globals()``; a name that was found is kept there.
        homes: the names by the module that has them.
    """
    module_of = {name: module for module, names in homes.items() for name in names}

    def getattr(name: str) -> object:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        value = vars(import_module(f"{package['__name__']}.{module}"))[name]
        package[name] = value
        return value

    return getattr
