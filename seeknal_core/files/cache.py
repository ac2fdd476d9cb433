"""What one command found out and the next need not find out again.

A `Cache` is a file of JSON in the project's ``target``, by keys that hold everything an
entry was made from. It holds for the versions it was written by; where it is absent, edited,
copied (`seeknal_core.files.sealed`) or of others, everything is found out again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seeknal_core import __version__
from seeknal_core.contract.errors import StateError
from seeknal_core.files.sealed import read_sealed, write_sealed

#: A cache is written anew when it holds this many times what a command used.
_STALE = 2


class Cache:
    """The entries of one file. Thread-safe: they are only ever added.

    Until `open` they live in the process alone.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._used: set[str] = set()
        self._path: Path | None = None
        self._versions: list[str] = []
        self._fresh = False

    def open(self, path: Path, versions: Sequence[str]) -> None:
        """Take what an earlier command left; nothing is written before `save`.

        Args:
            versions: what must be the same for any entry to hold.
        """
        self._path, self._versions, self._known = path, [*versions, __version__], {}
        self._used, self._fresh = set(), False
        try:
            document = json.loads(read_sealed(path) or b"null")
            if document["version"] == self._versions and isinstance(document["entries"], dict):
                self._known = document["entries"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return

    def get(self, key: str) -> Any:
        """Return the entry of a key, None where there is none."""
        found = self._known.get(key)
        if found is not None:
            self._used.add(key)
        return found

    def put(self, key: str, entry: Any) -> None:
        """Keep an entry of JSON values, in place of one that could not be used."""
        self._known[key] = entry
        self._used.add(key)
        self._fresh = True

    def save(self, write: Callable[[Path, str], None]) -> None:
        """Leave to the next command what this one used, if that is anything new.

        Args:
            write: replaces a file's text. A folder that cannot be written, or a full
                disk, only costs time next time: its `StateError` is swallowed.
        """
        stale = len(self._known) > _STALE * len(self._used)
        if self._path is None or not (self._fresh or stale):
            return
        entries = {key: self._known[key] for key in sorted(self._used)}
        document = {"version": self._versions, "entries": entries}
        try:
            write_sealed(self._path, json.dumps(document, separators=(",", ":")), write)
        except (StateError, OSError):
            return
        self._fresh = False


def key_of(*parts: str) -> str:
    """Return the key of what is made of these texts alone."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()
