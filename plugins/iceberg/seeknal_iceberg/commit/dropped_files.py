"""Deleting the files of a dropped table, also after a crash."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
from pyarrow.fs import FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO

from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.files.durable_note import write_durably
from seeknal_iceberg.files.parquet import folder_of
from seeknal_iceberg.ledger import ledger, orphan_files, write_notes

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

_FOLDER = "iceberg-dropped"


@attrs.frozen(kw_only=True)
class Note:
    """The files to delete once a table is dropped.

    ``location`` is the table's own folder, ``files`` are those of ours elsewhere. Where
    ``whole`` is false the folder stays, and ``files`` are all that is deleted.
    """

    identity: str
    project: str
    environment: str
    parts: tuple[str, ...]
    uuid: str
    location: str
    files: tuple[str, ...]
    whole: bool = True

    @classmethod
    def of_written(cls, context: ExecutionContext, parts: tuple[str, ...], table: Table) -> Note:
        """Return the note of a table whose catalog doesn't delete files: those that we wrote."""
        return cls(
            identity=catalogs.identity(catalogs.of(context), parts),
            project=context.project,
            environment=context.environment.name,
            parts=parts,
            uuid=str(table.metadata.table_uuid),
            location=table.metadata.location.rstrip("/"),
            files=tuple(sorted(set(_written(table)))),
            whole=False,
        )

    @classmethod
    def of(cls, context: ExecutionContext, parts: tuple[str, ...], table: Table) -> Note:
        """Return the note of a table of ours."""
        location = table.metadata.location.rstrip("/")
        files: frozenset[str] = frozenset()
        if "write.data.path" in table.properties:
            files = orphan_files.referenced(table)
        return cls(
            identity=catalogs.identity(catalogs.of(context), parts),
            project=context.project,
            environment=context.environment.name,
            parts=parts,
            uuid=str(table.metadata.table_uuid),
            location=location,
            # Somebody may have added files of their own to the table: those stay.
            files=tuple(
                sorted(
                    file
                    for file in files
                    if "/seeknal-" in file and not file.startswith(f"{location}/")
                )
            ),
        )

    @classmethod
    def find(cls, context: ExecutionContext, parts: tuple[str, ...]) -> Note | None:
        """Return the note of a table that was dropped here and is not all deleted."""
        identity = catalogs.identity(catalogs.of(context), parts)
        return next((note for note in unfinished(context) if note.identity == identity), None)

    def _path(self, context: ExecutionContext) -> str:
        return os.path.join(
            context.target_dir, _FOLDER, f"{catalogs.short_hash(self.identity)}.json"
        )

    def write(self, context: ExecutionContext) -> None:
        """Write the note, durably."""
        write_durably(self._path(context), json.dumps(attrs.asdict(self)))

    def remove(self, context: ExecutionContext) -> None:
        """Remove the note: nothing is left to delete, or nothing may be."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(context))


def unfinished(context: ExecutionContext) -> Iterator[Note]:
    """Yield the notes of this project, environment and catalog."""
    folder = os.path.join(context.target_dir, _FOLDER)
    if not os.path.isdir(folder):
        return
    for entry in sorted(os.listdir(folder)):
        if not entry.endswith(".json"):
            continue
        with open(os.path.join(folder, entry), encoding="utf-8") as file:
            found = json.load(file)
        note = Note(**{**found, "parts": tuple(found["parts"]), "files": tuple(found["files"])})
        if (note.project, note.environment, note.identity) == (
            context.project,
            context.environment.name,
            catalogs.identity(catalogs.of(context), note.parts),
        ):
            yield note


def _written(table: Table) -> Iterator[str]:
    """Yield the files of a table that writes of ours put there.

    They are those that its snapshots name, and those in folders that are named by a write
    of ours: some catalogs show the current snapshot alone.
    """
    yield from _in_our_folders(table)
    for snapshot in table.metadata.snapshots:
        summary = snapshot.summary
        if summary is None or ledger.WRITE_ID not in summary.additional_properties:
            continue
        yield snapshot.manifest_list
        # A manifest that is missing, or can't be read, names no files.
        with contextlib.suppress(Exception):
            for manifest in snapshot.manifests(table.io):
                if manifest.added_snapshot_id != snapshot.snapshot_id:
                    continue
                yield manifest.manifest_path
                entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
                yield from (
                    entry.data_file.file_path
                    for entry in entries
                    if "/seeknal-" in entry.data_file.file_path
                )


def _in_our_folders(table: Table) -> Iterator[str]:
    place = os.path.dirname(folder_of(table.metadata, "any"))
    io = table.io
    if not isinstance(io, PyArrowFileIO):
        return  # other file systems of pyiceberg's cannot list
    scheme, netloc, path = io.parse_location(place, io.properties)
    selector = FileSelector(path, allow_not_found=True, recursive=True)
    for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector):
        below = info.path.removeprefix(path).lstrip("/")
        if info.type == FileType.File and below.startswith("seeknal-"):
            yield f"{place}/{below}"


def finish(
    context: ExecutionContext, catalog: Catalog, note: Note, io: FileIO | None = None
) -> None:
    """Delete the files of a table that is no longer in the catalog, and the note of it.

    Args:
        io: that of the table, where it was loaded in this call.
    """
    io = io or catalogs.io_at(catalog, note.parts, note.location)
    for file in note.files:
        with contextlib.suppress(FileNotFoundError):
            io.delete(file)
    if note.whole and isinstance(io, PyArrowFileIO):
        scheme, netloc, path = io.parse_location(note.location, io.properties)
        with contextlib.suppress(FileNotFoundError):
            io.fs_by_scheme(scheme, netloc).delete_dir(path)
        remove_empty(catalog, io, os.path.dirname(note.location))
    forget_writes(context, catalog, note.parts)
    note.remove(context)


def remove_empty(catalog: Catalog, io: FileIO, location: str) -> None:
    """Remove a local folder and those around it, up to the warehouse, as far as they are empty."""
    if not isinstance(io, PyArrowFileIO):
        return
    scheme, _, folder = io.parse_location(location, io.properties)
    warehouse = str(catalog.properties.get("warehouse", ""))
    if scheme != "file" or not warehouse:
        return
    root = io.parse_location(warehouse, io.properties)[2].rstrip("/")
    while folder.startswith(f"{root}/"):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = os.path.dirname(folder)


def forget_writes(context: ExecutionContext, catalog: Catalog, parts: tuple[str, ...]) -> None:
    """Delete what killed writes of a table that is dropped left, and their notes."""
    folder = write_notes.notes_folder(context, parts)
    if os.path.isdir(folder):
        late = catalogs.of(context).catalog_type != "sql"
        for named in orphan_files.discard(folder, catalog, late=late):
            io = catalogs.io_at(catalog, parts, catalogs.root_of(named), named)
            remove_empty(catalog, io, named)
    with contextlib.suppress(OSError):
        os.rmdir(folder)
