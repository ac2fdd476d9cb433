"""Files that sources name: which they are, and what is in them."""

from __future__ import annotations

import contextlib
import difflib
import glob
import hashlib
import json
import os
import re
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.contract.types import problem_at
from seeknal_core.engine.files.globbing import LeadsOut, Match, matches_of
from seeknal_core.files.own import make_folder, open_own
from seeknal_core.files.regular import NotAFile, refuse_irregular
from seeknal_core.files.sealed import read_sealed, write_sealed
from seeknal_core.project.places import Closed, Places
from seeknal_core.project.specs import SourceNode

if TYPE_CHECKING:
    from seeknal_core.engine.files.https import Heard

#: A file's time stamp says nothing about writes this close to it, in nanoseconds.
_RECENT = 2_000_000_000
_CACHE_VERSION = 1
_SCHEME = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")
#: Bytes that are digested at a time.
_PIECE = 8 * 2**20
_NEAREST_LOOKED_AT = 10_000
#: Where the system shows a process its own open files.
_OPEN_FILES = "/proc/self/fd"
_MOST_OPEN = 16_384
#: Making a link on a disk takes half a millisecond.
_IN_MEMORY = "/dev/shm"


@attrs.frozen(kw_only=True)
class ResolvedFiles:
    """The files of a source, in the order they are read.

    ``labels`` name them for the content key and for messages: relative to the
    project root with ``/``, or the absolute path or URL where they lie elsewhere.
    ``folders`` are those of each file below the fixed part of the written path: what a
    glob found. ``places`` are what the files were checked against, None for our own copies
    of what was downloaded.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...] = attrs.field()
    places: Places | None = None

    @folders.default
    def _no_folders(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.files)

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[ResolvedFiles]:
        """Open the files and give the same ones by paths that nobody can change.

        Each path is a link to the open file, under the file's own name, in a new folder
        below `folder`. Where the system has no such links, or there are more files than
        may be open at once, the files are given as they are.

        Raises:
            EngineError: a file leads to what the project may not read by now.
        """
        if self.places is None or not os.path.isdir(_OPEN_FILES):
            yield self
            return
        with _held_open.room_for(len(self.files)) as enough:
            if not enough:
                yield self
                return
            with self._linked(folder, self.places) as linked:
                yield linked

    @contextlib.contextmanager
    def _linked(self, folder: Path, places: Places) -> Iterator[ResolvedFiles]:
        made = _private_folder(folder)
        descriptors: list[int] = []
        links: dict[Path, None] = {}
        try:
            for path in self.files:
                descriptors.append(open_checked(path, places))
                link = made / path.name
                if link in links:
                    link = Path(tempfile.mkdtemp(dir=made)) / path.name
                os.symlink(f"{_OPEN_FILES}/{descriptors[-1]}", link)
                links[link] = None
            files = tuple(links)
            yield attrs.evolve(self, files=files)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            shutil.rmtree(made, ignore_errors=True)


def _private_folder(folder: Path) -> Path:
    """Make a folder for links: in memory where that is possible, else below `folder`."""
    if os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="seeknal-open-", dir=_IN_MEMORY))
    return Path(tempfile.mkdtemp(prefix="open-", dir=folder))


def open_checked(path: Path, places: Places) -> int:
    """Open a file that the project may read; return its descriptor.

    Raises:
        EngineError: it leads elsewhere by now, or is no regular file.
        FileNotFoundError: it is gone.
    """
    try:
        return places.open(path)
    except Closed as closed:
        raise EngineError(
            f"{path.name}: {closed.message}", "look at who changes the file and its folder"
        ) from None
    except NotAFile as error:
        raise EngineError(f"{path.name}: {error.strerror}", "name a file") from None


class _HeldOpen:
    """Counts the files that are held open: half of what the process may, in all."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def room_for(self, files: int) -> Iterator[bool]:
        """Reserve room for some files; the answer is False where there is none."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_OPEN if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST_OPEN)
        with self._lock:
            enough = self._count + files <= most
            self._count += files if enough else 0
        try:
            yield enough
        finally:
            with self._lock:
                self._count -= files if enough else 0


_held_open = _HeldOpen()


def resolve_files(
    source: SourceNode,
    root: Path,
    scratch: Path,
    heard: Heard | None = None,
    places: Places | None = None,
) -> ResolvedFiles:
    """Find the files that a source names; those elsewhere are downloaded into `scratch`.

    Args:
        source: with ``table`` and ``params`` expanded; ``params: path`` serves
            where ``table`` is missing. A glob knows ``*``, ``?``, ``[…]`` and ``**``.
        root: what relative paths are relative to.
        heard: hears what a server says of a file behind ``https://``.
        places: what may be read, by default what lies below `root`.

    Raises:
        ConfigError: the project may not read one of them.
        EngineError: no file matches, with the nearest name that exists.
    """
    written = source.table if source.table is not None else source.params.get("path")
    if not isinstance(written, str) or not written:
        raise EngineError(
            f"{source.id}: no file is named", "write table: data/orders.csv (or a glob)"
        )
    if written.startswith("s3://"):
        from seeknal_core.engine.files.s3 import download

        found = download(source.id, written, scratch)
        return ResolvedFiles(
            files=tuple(found.values()),
            labels=tuple(found),
            folders=tuple(_below(written, url) for url in found),
        )
    if written.startswith(("https://", "http://")):
        from seeknal_core.engine.files.https import download as fetch

        found = fetch(source.id, written, scratch, source.max_bytes, heard)
        return ResolvedFiles(files=tuple(found.values()), labels=tuple(found))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", written)
    if scheme is not None and scheme[1] != "file":
        lower = scheme[1].lower()
        raise EngineError(
            f"{source.id}: files can't be read from {scheme[1]}://",
            f"write {lower}:// in lower case"
            if lower != scheme[1] and lower in ("s3", "https", "http", "file")
            else "write a path, s3://bucket/key or https://host/path",
        )
    return _local(source, written, root, places or Places.of(root))


def check_named(source: SourceNode, root: Path, places: Places) -> None:
    """Check the path or the fixed part of the glob that a source of files names.

    Links that a glob meets are found by `resolve_files`.

    Raises:
        ConfigError: the project may not read there.
    """
    written = source.table if source.table is not None else source.params.get("path")
    if not isinstance(written, str) or not written or _SCHEME.match(written):
        return
    pattern = _pattern(written)
    parts = Path(pattern).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), None)
    try:
        places.check(root.joinpath(*parts[:fixed]))
    except Closed as closed:
        raise _refusal(source, written, closed, places, folder=fixed is not None) from None


def _pattern(written: str) -> str:
    return os.path.expanduser(written.removeprefix("file://"))


def _local(source: SourceNode, written: str, root: Path, places: Places) -> ResolvedFiles:
    """Find files of this machine, none that the project may not read."""
    pattern = _pattern(written)
    literal = root / pattern
    matches = []
    try:
        # A name may look like a glob. Nothing is looked at before its folder was checked.
        if glob.has_magic(pattern):
            matches = matches_of(pattern, str(root), places)
        real = places.check(literal)
    except Closed as closed:
        folder = glob.has_magic(pattern)
        raise _refusal(source, written, closed, places, folder=folder) from None
    except LeadsOut as link:
        folder = os.path.isdir(link.closed.real)
        raise _refusal(source, link.shown, link.closed, places, folder=folder) from None
    if literal.is_dir():
        raise EngineError(
            f"{source.id}: {written} is a folder",
            f"write {written.rstrip('/')}/{_glob_of(literal, source.type)}",
        )
    if literal.is_file():
        matches = [Match(pattern, real)]
    if not matches:
        _refuse_irregular(source, literal, written)
        raise EngineError(
            f"{source.id}: no file matches {written}", _nearest(root, pattern, places)
        )
    alone = [match.shown for match in matches] == [pattern]
    base = os.path.normpath(root)
    labelled = sorted({_label(root / match, base): match for match, _ in matches}.items())
    return ResolvedFiles(
        files=tuple(root / match for _, match in labelled),
        labels=tuple(label for label, _ in labelled),
        folders=tuple(() if alone else _below(pattern, match) for _, match in labelled),
        places=places,
    )


def _refusal(
    source: SourceNode, written: str, closed: Closed, places: Places, *, folder: bool
) -> ConfigError:
    """Return the error about a path that the project may not read, with the line that allows it.

    Args:
        written: the path as the source has it, or the link that a glob met.
        folder: what is to be allowed is a folder.
    """
    is_link = os.path.normpath(os.path.join(places.root, written)) != closed.real and not folder
    leads = (
        f" leads to {closed.real}, which"
        if is_link and os.path.islink(os.path.join(places.root, written))
        else ""
    )
    problem = problem_at(
        source.location,
        f"{written}{leads} {closed.message}",
        path=source.id,
        hint=places.way_out(closed, folder=folder, relative=written.startswith("..")),
    )
    return ConfigError([problem])


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


def _nearest(root: Path, pattern: str, places: Places) -> str:
    """Name the file that was perhaps meant, among those of the folder or of the project."""
    parent = (root / pattern).parent
    try:
        folder = parent if os.path.isdir(places.check(parent)) else root
    except Closed:
        folder = root
    candidates = {_label(path, root): path for path in _some_files(folder)}
    wanted = _label(root / pattern, root)
    address = re.match(r"(s3|https?|www)[:.]", pattern, re.IGNORECASE)
    if address is not None:
        start = "s3://bucket/key" if address[1].lower() == "s3" else "https://host/path"
        return f"write the whole address: {start}"
    close = difflib.get_close_matches(wanted, candidates, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"paths are relative to the project root, {root}"


def _refuse_irregular(source: SourceNode, path: Path, written: str) -> None:
    """Refuse what stands at a path and is no file, by what it is."""
    if os.path.islink(path) and not os.path.exists(path):
        gone = f"{source.id}: {written} is a link to {os.readlink(path)}, which is missing"
        raise EngineError(gone, "put the file there, or name another one")
    try:
        refuse_irregular(path)
    except NotAFile as error:
        raise EngineError(f"{source.id}: {written}: {error.strerror}", "name a file") from None


def _glob_of(folder: Path, type: str) -> str:
    """Return the glob below a folder that finds its files of a type.

    Folders ``key=value`` on the way are written ``key=*``, so that they become columns.
    """
    ending = f".{type}"
    found = next((path for path in _some_files(folder) if ending in path.suffixes), None)
    if found is None:
        return f"*{ending}"
    *folders, name = found.relative_to(folder).parts
    name = f"*{ending}{name.rpartition(ending)[2]}"
    if all("=" in part for part in folders):
        return "/".join([*(f"{part.partition('=')[0]}=*" for part in folders), name])
    return f"**/{name}"


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
