"""Delete the files of writes that did not land: those that no snapshot names."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import read_manifest_list

from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.ledger import ledger

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table


from seeknal_iceberg.ledger.write_notes import dead

log = logging.getLogger("seeknal")

#: Messages of a storage for requests that it never carries out.
_NEVER = ("MethodNotAllowed", "HTTP status 405", "HTTP status 501")
#: Locations of tables for which the log has said so.
_told: set[str] = set()


def clean(folder: str, table: Table) -> None:
    """Delete what dead writes of a target left, and their notes.

    A dead write stays whose commit may still land. After a commit of one's own
    none can: it has moved the table from where they began.
    """
    if not os.path.isdir(folder) or not isinstance(table.io, PyArrowFileIO):
        return
    for path, note in dead(folder):
        if not note.is_fenced(table):
            continue
        delete(table.io, table, note.folders, note.ids)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def discard(folder: str, catalog: Catalog, *, late: bool) -> list[str]:
    """Delete what dead writes of a target left, and their notes, once its table is dropped.

    Args:
        late: a commit may still land, and make the table again.

    Returns:
        The folders that they named.
    """
    named: list[str] = []
    for path, note in dead(folder):
        if late and not note.is_fenced(None):
            continue
        named += note.folders
        for each in note.folders:
            io = catalogs.io_at(catalog, note.parts, catalogs.root_of(each), each)
            delete(io, None, [each], note.ids)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return named


def delete(
    io: FileIO,
    table: Table | None,
    folders: Iterable[str],
    ids: Sequence[str],
    since: int | None = None,
) -> None:
    """Delete the files in some folders whose names hold an id, and that no snapshot names.

    A storage that lists and deletes nothing at all (S3 Tables) keeps them; that is said.

    Args:
        table: None if there is none that could name them.
        since: the sequence number after which the first file was placed; 0 and None
            for not known.
    """
    try:
        _delete(io, table, folders, ids, since)
    except OSError as error:
        if not any(word in str(error) for word in _NEVER):
            raise
        for root in {catalogs.root_of(folder) for folder in folders} - _told:
            _told.add(root)
            log.warning(
                "%s: the storage lists and deletes no files: what a write left there stays, "
                "unless the storage's own maintenance removes it",
                root,
            )


def _delete(
    io: FileIO,
    table: Table | None,
    folders: Iterable[str],
    ids: Sequence[str],
    since: int | None,
) -> None:
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
        # A missing manifest names no files: nobody can read that snapshot.
        with contextlib.suppress(FileNotFoundError):
            for manifest in snapshot.manifests(table.io):
                manifests[manifest.manifest_path] = manifest
    # What undoes a promotion, where the catalog doesn't show the snapshot of it.
    for name, place in table.properties.items():
        if name.startswith(ledger.UNDO):
            used.add(place)
            with contextlib.suppress(FileNotFoundError):
                for manifest in read_manifest_list(table.io.new_input(place)):
                    manifests[manifest.manifest_path] = manifest
    for path, manifest in manifests.items():
        used.add(path)
        with contextlib.suppress(FileNotFoundError):
            used |= _files(table, manifest)
    return frozenset(used)


def _files(table: Table, manifest: ManifestFile) -> set[str]:
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    return {entry.data_file.file_path for entry in entries}
