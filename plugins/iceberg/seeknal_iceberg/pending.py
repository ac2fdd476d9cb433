"""What a killed write left behind.

Before a write places its first file it notes, in the tool's own folder, where
it will place them. The note goes when the write has landed or its files are
deleted. A note that nobody holds the lock of is a dead process's: the next
write of the same target deletes the files it names, unless a commit names them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
from pyarrow.fs import FileSelector, FileType
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO

from seeknal_core.types import ExecutionContext
from seeknal_iceberg import catalog as catalogs

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table


def notes_folder(context: ExecutionContext, parts: tuple[str, ...], kind: str = "pending") -> str:
    """Return the folder of the notes on a table.

    Args:
        kind: ``pending`` for writes that commit at once, ``staged`` for those that wait.
    """
    place = catalogs.short_hash(catalogs.identity(catalogs.of(context), parts))
    return os.path.join(context.target_dir, f"iceberg-{kind}", place)


#: The most bytes of a note.
_MOST = 1024 * 1024


@attrs.frozen(kw_only=True)
class Noted:
    """What a note says; nothing where there is none, or it was never written.

    ``sent`` is when a commit was sent whose outcome is not known, in seconds since 1970.
    """

    there: bool = False
    folders: list[str] = attrs.field(factory=list)
    ids: list[str] = attrs.field(factory=list)
    namespaces: list[tuple[str, ...]] = attrs.field(factory=list)
    made: list[str] = attrs.field(factory=list)
    sent: float = 0.0


def _parsed(text: bytes) -> Noted:
    try:
        found = json.loads(text)
    except ValueError:  # killed before it was written: no file was placed
        return Noted(there=True)
    return Noted(
        there=True,
        folders=[str(each) for each in found.get("folders", ())],
        ids=[str(each) for each in found.get("ids", ())],
        namespaces=[tuple(levels) for levels in found.get("namespaces", ())],
        made=[str(each) for each in found.get("made", ())],
        sent=float(found.get("sent", 0.0)),
    )


def _opened(path: str) -> int:
    while True:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        # Another thread removes the folder when its own note was the last one.
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


class Note:
    """The note of a write that is under way.

    Args:
        folder: that of the target's notes; made if needed.
        write_id: a UUID.
    """

    def __init__(self, folder: str, write_id: str) -> None:
        self._path = os.path.join(folder, f"{write_id}.json")
        self._descriptor = _opened(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._write_id = write_id
        # What is noted already stays: a publish adds to the note of its staging.
        noted = _parsed(os.pread(self._descriptor, _MOST, 0))
        self._folders = noted.folders
        self._ids = noted.ids or [write_id]
        self._namespaces = noted.namespaces
        self._made = noted.made
        self._sent = noted.sent

    def add(self, data: str, metadata: str, commit_id: str) -> None:
        """Note, durably, a folder for data files, one for manifests, and the manifests' id."""
        for folder in (data, metadata):
            if folder not in self._folders:
                self._folders.append(folder)
        if commit_id not in self._ids:
            self._ids.append(commit_id)
        self._save()

    def add_namespaces(self, namespaces: Iterable[tuple[str, ...]]) -> None:
        """Note, durably, namespaces that are about to be made."""
        self._namespaces += [levels for levels in namespaces if levels not in self._namespaces]
        self._save()

    def add_made(self, paths: Iterable[str]) -> None:
        """Note, durably, a local catalog and folders that are about to be made."""
        self._made += [path for path in paths if path not in self._made]
        self._save()

    def set_sent(self, sent: float) -> None:
        """Note, durably, when a commit was sent, or by 0 that its outcome is known."""
        self._sent = sent
        self._save()

    def _save(self) -> None:
        noted: dict[str, object] = {
            "write_id": self._write_id,
            "folders": self._folders,
            "ids": self._ids,
        }
        if self._namespaces:
            noted["namespaces"] = self._namespaces
        if self._made:
            noted["made"] = self._made
        if self._sent:
            noted["sent"] = self._sent
        text = json.dumps(noted).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove the note: nothing is left behind."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Let go of the note, removed or not."""
        os.close(self._descriptor)

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_staged(context: ExecutionContext, parts: tuple[str, ...], write_id: str) -> Noted:
    """Return what is noted of a staged write."""
    path = os.path.join(notes_folder(context, parts, "staged"), f"{write_id}.json")
    try:
        with open(path, "rb") as file:
            return _parsed(file.read())
    except FileNotFoundError:
        return Noted()


def forget_staged(context: ExecutionContext, parts: tuple[str, ...], write_id: str) -> None:
    """Remove the note of a staged write, and the folders that held only it."""
    folder = notes_folder(context, parts, "staged")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, f"{write_id}.json"))
    for emptied in (folder, os.path.dirname(folder)):
        with contextlib.suppress(OSError):
            os.rmdir(emptied)


def clean(folder: str, table: Table) -> None:
    """Delete what dead writes of a target left, and their notes.

    To be called after a commit of one's own: a dead write's commit that is still
    on its way can land no more then.
    """
    if not os.path.isdir(folder) or not isinstance(table.io, PyArrowFileIO):
        return
    for path, note in _dead(folder):
        delete(table.io, table, note.folders, note.ids)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def discard(folder: str, catalog: Catalog) -> list[str]:
    """Delete what dead writes of a target left, and their notes, once its table is dropped.

    Returns:
        The folders that they named.
    """
    named: list[str] = []
    for path, note in _dead(folder):
        named += note.folders
        for each in note.folders:
            delete(load_file_io(dict(catalog.properties), each), None, [each], note.ids)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return named


def _dead(folder: str) -> Iterator[tuple[str, Noted]]:
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = os.read(descriptor, _MOST)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        yield path, _parsed(text)


def delete(
    io: FileIO,
    table: Table | None,
    folders: Iterable[str],
    ids: Sequence[str],
    since: int | None = None,
) -> None:
    """Delete the files in some folders whose names hold an id, and that no snapshot names.

    Args:
        table: None where there is none that could name them.
        since: the sequence number after which the first file was placed; 0 and None
            for not known.
    """
    listed = (path for folder in folders for path in _list(io, folder))
    found = [path for path in listed if any(each in path for each in ids)]
    used = referenced(table, since) if found and table is not None else frozenset()
    for path in found:
        if path not in used:
            with contextlib.suppress(FileNotFoundError):
                io.delete(path)


def _list(io: FileIO, folder: str) -> list[str]:
    if not isinstance(io, PyArrowFileIO):
        return []  # other file systems of pyiceberg's cannot list
    scheme, netloc, path = io.parse_location(folder, io.properties)
    selector = FileSelector(path, allow_not_found=True, recursive=False)
    return [
        f"{folder.rstrip('/')}/{info.base_name}"
        for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector)
        if info.type == FileType.File
    ]


def referenced(table: Table, since: int | None = None) -> frozenset[str]:
    """Return the data files and manifests that any snapshot of the table names.

    Args:
        since: only snapshots of a higher sequence number are looked at.
    """
    used: set[str] = set()
    manifests = {}
    for snapshot in table.metadata.snapshots:
        if since and (snapshot.sequence_number or since + 1) <= since:
            continue
        used.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            manifests[manifest.manifest_path] = manifest
    for path, manifest in manifests.items():
        used.add(path)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            used.add(entry.data_file.file_path)
    return frozenset(used)
