"""The one place where the core knows words of particular backends: ``hints.json``.

Which distribution to suggest for a type that no plugin provides, which other
words a type goes by, and which type a target of an older project means that
names none.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources

import attrs


@attrs.frozen(kw_only=True)
class Hints:
    """The content of ``hints.json``."""

    distributions: Mapping[str, str]
    aliases: Mapping[str, str]
    legacy_target_type: str


@functools.cache
def hints() -> Hints:
    """Load the hints, once."""
    data = json.loads(resources.files(__package__).joinpath("hints.json").read_text("utf-8"))
    return Hints(**data)


def canonical_type(word: str) -> str:
    """Return the type that `word` is an alias of, or `word` itself."""
    return hints().aliases.get(word, word)
