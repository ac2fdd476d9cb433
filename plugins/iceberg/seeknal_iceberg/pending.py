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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyarrow.fs import FileSelector, FileType
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO

from seeknal_core.types import ExecutionContext
from seeknal_iceberg import catalog as catalogs

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table


def folder_of(context: ExecutionContext, parts: tuple[str, ...], kind: str = "pending") -> str:
    """Return the folder of the notes on a table.

    Args:
        kind: ``pending`` for writes that commit at once, ``staged`` for those that wait.
    """
    place = catalogs.short_hash(catalogs.identity(catalogs.of(context), parts))
    return os.path.join(context.target_dir, f"iceberg-{kind}", place)


class Note:
    """The note of a write that is under way.

    Args:
        folder: that of the target's notes; made if needed.
        write_id: a UUID.
    """

    def __init__(self, folder: str, write_id: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(folder, f"{write_id}.json")
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._write_id = write_id
        self._folders: list[str] = []
        self._ids = [write_id]

    def add(self, data: str, metadata: str, commit_id: str) -> None:
        """Note, durably, a folder for data files, one for manifests, and the manifests' id."""
        for folder in (data, metadata):
            if folder not in self._folders:
                self._folders.append(folder)
        self._ids.append(commit_id)
        noted = {"write_id": self._write_id, "folders": self._folders, "ids": self._ids}
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


def clean(folder: str, table: Table) -> None:
    """Delete what dead writes of a target left, and their notes.

    To be called after a commit of one's own: a dead write's commit that is still
    on its way can land no more then.
    """
    if not os.path.isdir(folder) or not isinstance(table.io, PyArrowFileIO):
        return
    for path, note in _dead(folder):
        ids, folders = note.get("ids"), note.get("folders")
        if isinstance(ids, list) and isinstance(folders, list):
            _delete(table, table.io, [str(each) for each in ids], [str(each) for each in folders])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def discard(folder: str, catalog: Catalog) -> list[str]:
    """Delete what dead writes of a target left, and their notes, once its table is dropped.

    Returns:
        The folders that they named.
    """
    named: list[str] = []
    for path, note in _dead(folder):
        ids, folders = note.get("ids"), note.get("folders")
        if isinstance(ids, list) and isinstance(folders, list):
            named += [str(each) for each in folders]
            for each in folders:
                io = load_file_io(dict(catalog.properties), str(each))
                if not isinstance(io, PyArrowFileIO):
                    continue
                for file in _list(io, str(each)):
                    if any(str(id) in file for id in ids):
                        with contextlib.suppress(FileNotFoundError):
                            io.delete(file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return named


def _dead(folder: str) -> Iterator[tuple[str, dict[str, object]]]:
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = os.read(descriptor, 1024 * 1024)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        try:
            note = json.loads(text)
        except ValueError:  # killed before it was written: no file was placed
            note = {}
        yield path, note if isinstance(note, dict) else {}


def _delete(table: Table, io: FileIO, ids: list[str], folders: list[str]) -> None:
    listed = (path for folder in folders for path in _list(io, folder))
    found = [path for path in listed if any(each in path for each in ids)]
    used = referenced(table) if found else frozenset()
    for path in found:
        if path not in used:
            with contextlib.suppress(FileNotFoundError):
                io.delete(path)


def _list(io: FileIO, folder: str) -> list[str]:
    assert isinstance(io, PyArrowFileIO)
    scheme, netloc, path = io.parse_location(folder, io.properties)
    selector = FileSelector(path, allow_not_found=True, recursive=False)
    return [
        f"{folder.rstrip('/')}/{info.base_name}"
        for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector)
        if info.type == FileType.File
    ]


def referenced(table: Table) -> frozenset[str]:
    """Return the data files and manifests that any snapshot of the table names."""
    used: set[str] = set()
    manifests = {}
    for snapshot in table.metadata.snapshots:
        used.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            manifests[manifest.manifest_path] = manifest
    for path, manifest in manifests.items():
        used.add(path)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            used.add(entry.data_file.file_path)
    return frozenset(used)
