"""Digests of files that sources name, remembered by size and time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import EngineError
from seeknal_core.files.own import make_folder, open_own
from seeknal_core.files.sealed import read_sealed, write_sealed
from seeknal_core.project.places import Closed, Places

if TYPE_CHECKING:
    pass


#: A file's time stamp says nothing about writes this close to it, in nanoseconds.
_RECENT = 2_000_000_000


_CACHE_VERSION = 1


#: Bytes that are digested at a time.
_PIECE = 8 * 2**20


@attrs.define
class _Known:
    stamp: tuple[int, ...]
    digest: str


class FileDigests:
    """SHA-256 of files, remembered by size and time stamps. Thread-safe.

    A digest is remembered only for a file that was last written more than two
    seconds before it was looked at: a second write within one tick of the file
    system's clock leaves size and time as they were.
    """

    def __init__(self, cache_path: Path) -> None:
        self._path = cache_path
        self._lock = threading.Lock()
        self._changed = False
        self._known = _load(cache_path)

    def digest(self, path: Path, places: Places | None = None) -> str:
        """Return the digest of a file's bytes as they are now.

        Digest a file before it is read and again afterwards: the second call
        costs nothing unless the file changed meanwhile.

        Args:
            places: what may be read; None for any file.

        Raises:
            EngineError: it cannot be read.
        """
        key = os.path.abspath(path)
        try:
            stamp = _stamp(key)
            with self._lock:
                known = self._known.get(key)
            if known is not None and known.stamp == stamp:
                return known.digest
            while True:
                seen = time.time_ns()
                digest = _sha256(key, places)
                after = _stamp(key)
                if after == stamp:
                    break
                stamp = after
        except Closed as closed:
            raise EngineError(f"{path.name}: {closed.message}", "look at who changes it") from None
        except OSError as error:
            raise EngineError(
                f"{path.name}: {error.strerror or error}", "look at the file and its rights"
            ) from None
        if max(stamp[1], stamp[2]) < seen - _RECENT:
            with self._lock:
                self._known[key] = _Known(stamp=stamp, digest=digest)
                self._changed = True
        return digest

    def save(self) -> None:
        """Write the cache, atomically. Losing it costs time only."""
        with self._lock:
            if not self._changed:
                return
            files = {key: [*known.stamp, known.digest] for key, known in self._known.items()}
            self._changed = False
        text = json.dumps({"version": _CACHE_VERSION, "files": files})
        with contextlib.suppress(OSError):
            make_folder(self._path.parent)
            write_sealed(self._path, text, _replace)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # what a killed process of that number left
        with open(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _load(path: Path) -> dict[str, _Known]:
    try:
        document = json.loads(read_sealed(path) or b"null")
        if document["version"] != _CACHE_VERSION:
            return {}
        return {
            key: _Known(stamp=tuple(entry[:-1]), digest=entry[-1])
            for key, entry in document["files"].items()
        }
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
    ):
        return {}


def _stamp(path: str) -> tuple[int, ...]:
    found = os.stat(path)
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _sha256(path: str, places: Places | None) -> str:
    # Each piece waits for the interpreter's lock, up to 5 ms where another thread imports.
    digest, buffer = hashlib.sha256(), bytearray(_PIECE)
    opened = path if places is None else places.open(path)
    with open(opened, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()
