"""The one place where the core knows words of particular backends: ``hints.json``.

Which distribution to suggest for a type that no plugin provides, which other
words a type goes by, and which type a target of an older project means that
names none, and which files, variables and folders are a backend's own.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from importlib import resources

import attrs


@attrs.frozen(kw_only=True)
class Hints:
    """The content of ``hints.json``.

    ``secret_files`` are never read as data; variables that begin like one of
    ``steering_variables`` are not taken from ``.env``; what begins like one of
    ``own_folders`` in ``target/`` is a backend's.
    """

    distributions: Mapping[str, str]
    aliases: Mapping[str, str]
    legacy_target_type: str
    secret_files: Sequence[str]
    steering_variables: Sequence[str]
    own_folders: Sequence[str]


@functools.cache
def hints() -> Hints:
    """Load the hints, once."""
    data = json.loads(resources.files(__package__).joinpath("hints.json").read_text("utf-8"))
    return Hints(**data)


def canonical_type(word: str) -> str:
    """Return the type that `word` is an alias of, or `word` itself."""
    return hints().aliases.get(word, word)
