"""Files that sources name: which they are, and what is in them."""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs

from seeknal_core.errors import EngineError
from seeknal_core.regular import read_regular
from seeknal_core.specs import SourceNode

if TYPE_CHECKING:
    from seeknal_core.engine.https import Heard

#: A file's time stamp says nothing about writes this close to it, in nanoseconds.
_RECENT = 2_000_000_000
_CACHE_VERSION = 1
#: Bytes that are digested at a time.
_PIECE = 8 * 2**20
_NEAREST_LOOKED_AT = 10_000


@attrs.frozen(kw_only=True)
class ResolvedFiles:
    """The files of a source, in the order they are read.

    ``labels`` name them for the content key and for messages: relative to the
    project root with ``/``, or the absolute path or URL where they lie elsewhere.
    ``folders`` are those of each file below the fixed part of the written path: what a
    glob found.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...] = attrs.field()

    @folders.default
    def _no_folders(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.files)


def resolve_files(
    source: SourceNode, root: Path, scratch: Path, heard: Heard | None = None
) -> ResolvedFiles:
    """Find the files that a source names; those elsewhere are downloaded into `scratch`.

    Args:
        source: with ``table`` and ``params`` expanded; ``params: path`` serves
            where ``table`` is missing. A glob knows ``*``, ``?``, ``[…]`` and ``**``.
        root: what relative paths are relative to.
        heard: hears what a server says of a file behind ``https://``.

    Raises:
        EngineError: no file matches, with the nearest name that exists.
    """
    written = source.table if source.table is not None else source.params.get("path")
    if not isinstance(written, str) or not written:
        raise EngineError(
            f"{source.id}: no file is named", "write table: data/orders.csv (or a glob)"
        )
    if written.startswith("s3://"):
        from seeknal_core.engine.s3 import download

        found = download(source.id, written, scratch)
        return ResolvedFiles(
            files=tuple(found.values()),
            labels=tuple(found),
            folders=tuple(_below(written, url) for url in found),
        )
    if written.startswith(("https://", "http://")):
        from seeknal_core.engine.https import download as fetch

        found = fetch(source.id, written, scratch, source.max_bytes, heard)
        return ResolvedFiles(files=tuple(found.values()), labels=tuple(found))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", written)
    if scheme is not None and scheme[1] != "file":
        raise EngineError(
            f"{source.id}: files can't be read from {scheme[1]}://",
            "write a path, s3://bucket/key or https://host/path",
        )
    pattern = os.path.expanduser(written.removeprefix("file://"))
    literal = root / pattern
    if literal.is_dir():
        raise EngineError(
            f"{source.id}: {written} is a folder",
            f"write {written.rstrip('/')}/*.{source.type}",
        )
    if literal.is_file():
        matches = [pattern]
    else:
        matches = glob.glob(pattern, root_dir=root, recursive=True)
        matches = [match for match in matches if os.path.isfile(os.path.join(root, match))]
    if not matches:
        raise EngineError(f"{source.id}: no file matches {written}", _nearest(root, pattern))
    fixed = matches == [pattern]
    base = os.path.normpath(root)
    labelled = sorted({_label(root / match, base): match for match in matches}.items())
    return ResolvedFiles(
        files=tuple(root / match for _, match in labelled),
        labels=tuple(label for label, _ in labelled),
        folders=tuple(() if fixed else _below(pattern, match) for _, match in labelled),
    )


def _below(pattern: str, found: str) -> tuple[str, ...]:
    """Return the folders of what a glob found that are not written out in the glob."""
    written = PurePosixPath(pattern).parts
    fixed = next((n for n, part in enumerate(written) if glob.has_magic(part)), len(written))
    return PurePosixPath(found).parts[fixed:-1]


def check_rows(source: SourceNode, rows: int) -> None:
    """Refuse more rows than the source's ``max_rows``."""
    if source.max_rows is not None and rows > source.max_rows:
        raise EngineError(
            f"{source.id}: more than {source.max_rows:,} rows (max_rows)",
            "name fewer files, or raise max_rows",
        )


def check_bytes(source: SourceNode, files: Sequence[Path]) -> None:
    """Refuse files that are larger together than the source's ``max_bytes``."""
    if source.max_bytes is None:
        return
    size = sum(path.stat().st_size for path in files)
    if size > source.max_bytes:
        raise EngineError(
            f"{source.id}: {size:,} bytes, more than {source.max_bytes:,} (max_bytes)",
            "name fewer files, or raise max_bytes",
        )


def check_sha256(source: SourceNode, labels: Sequence[str], digests: Sequence[str]) -> None:
    """Refuse a file that is not the one whose SHA-256 the source gives."""
    wanted = source.params.get("sha256")
    if wanted is None:
        return
    if len(labels) != 1:
        raise EngineError(
            f"{source.id}: params.sha256 is about one file, and {len(labels)} were found",
            "name one file, or leave sha256 out",
        )
    if digests[0] != str(wanted).lower():
        raise EngineError(
            f"{source.id}: {labels[0]} is another file than the one that was meant: its SHA-256"
            f" is {digests[0]}",
            "look at the file; if it is right, write that under params: sha256",
        )


def _label(path: Path, root: str | Path) -> str:
    normal, base = os.path.normpath(path), os.path.normpath(root)
    inside = base.rstrip(os.sep) + os.sep
    return Path(normal.removeprefix(inside)).as_posix()


def _nearest(root: Path, pattern: str) -> str:
    """Name the file that was perhaps meant, among those of the folder or of the project."""
    parent = (root / pattern).parent
    folder = parent if parent.is_dir() else root
    candidates = {_label(path, root): path for path in _some_files(folder)}
    wanted = _label(root / pattern, root)
    close = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"paths are relative to the project root, {root}"


def _some_files(folder: Path) -> Iterable[Path]:
    looked_at = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name != "target"
        )
        for name in names:
            looked_at += 1
            if looked_at > _NEAREST_LOOKED_AT:
                return
            yield Path(where, name)


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

    def digest(self, path: Path) -> str:
        """Return the digest of a file's bytes as they are now.

        Digest a file before it is read and again afterwards: the second call
        costs nothing unless the file changed meanwhile.

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
                digest = _sha256(key)
                after = _stamp(key)
                if after == stamp:
                    break
                stamp = after
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
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(json.dumps({"version": _CACHE_VERSION, "files": files}))
            os.replace(temporary, self._path)
        except OSError:
            temporary.unlink(missing_ok=True)


def _load(path: Path) -> dict[str, _Known]:
    try:
        document = json.loads(read_regular(path))
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


def _sha256(path: str) -> str:
    # Each piece waits for the interpreter's lock, up to 5 ms where another thread imports.
    digest, buffer = hashlib.sha256(), bytearray(_PIECE)
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()
