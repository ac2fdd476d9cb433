"""Files that sources name: which they are, and what is in them."""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import ConfigError, EngineError
from seeknal_core.contract.types import problem_at
from seeknal_core.engine.files.globbing import LeadsOut, Match, matches_of
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.files.regular import NotAFile, refuse_irregular
from seeknal_core.project.places import Closed, Places
from seeknal_core.project.specs import SourceNode

if TYPE_CHECKING:
    from seeknal_core.engine.files.https import Heard

_SCHEME = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://")
_NEAREST_LOOKED_AT = 10_000


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
