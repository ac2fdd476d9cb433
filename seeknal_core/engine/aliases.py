"""Second names of snapshots: a content key whose rows are provably a stored one's."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Collection
from pathlib import Path

from seeknal_core.files.own import make_folder, open_own
from seeknal_core.files.regular import read_regular


class Aliases:
    """The aliases under a snapshot store, one small file each. Thread-safe.

    An alias is written once and never changed; one that is lost costs a
    computation, so it is not fsynced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root / "aliases"

    def get(self, content_key: str) -> tuple[str, str] | None:
        """Return the stored key that a key stands for, and the proof."""
        try:
            document = json.loads(read_regular(self._path(content_key)))
            return str(document["stored"]), str(document["proof"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, content_key: str, stored: str, proof: str) -> None:
        """Record that a key stands for a stored one."""
        path = self._path(content_key)
        make_folder(path.parent)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        with open(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
            json.dump({"stored": stored, "proof": proof}, file)
        os.replace(temporary, path)

    def keep(self, stored: Collection[str]) -> None:
        """Remove the aliases of all other keys than `stored`."""
        for path in self._root.glob("*/*"):
            found = self.get(path.name)
            if found is None or found[0] not in stored:
                path.unlink(missing_ok=True)

    def _path(self, content_key: str) -> Path:
        return self._root / content_key[:2] / content_key
