"""The mark of a table, and what happened to a table whose mark changed.

The mark is the table's UUID, its current Iceberg snapshot and its current schema, all
from the metadata. Unlike counters they are exact: what is looked for afterwards is only
whether the snapshots in between changed rows. Compaction and a fence of ours don't.
Where nothing did, the files that the current snapshot names have to be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs
from pyiceberg.exceptions import ForbiddenError
from pyiceberg.table.snapshots import Operation

from seeknal_core.contract.types import (
    Drift,
    ExecutionContext,
    Since,
    Target,
    TargetChange,
)
from seeknal_iceberg.commit import leftover_tags
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_refused, sentence, translating
from seeknal_iceberg.ledger.versions import mark_of, version_of
from seeknal_iceberg.source.rows import rows_after

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from seeknal_iceberg.connection.profile import IcebergConnection

#: Files of a table that are checked at a time.
_LOOKS = 8


def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Return, for each target, what happened to its table since a write."""
    connection = catalogs.of(context)
    catalog = catalogs.open_catalog(context)
    found = []
    for target, known in zip(targets, since, strict=True):
        with translating(connection, str(target.name)):
            try:
                table = catalogs.load(catalog, target.name.parts)
            except ForbiddenError as error:
                # Some catalogs say so of what is absent; a write finds out which it is.
                said = f"the table is gone, or may not be read: {sentence(error)}"
                found.append(TargetChange(drift=Drift.CHANGED, detail=said))
                continue
            if table is None:
                found.append(TargetChange(drift=Drift.CHANGED, detail="the table is gone"))
                continue
            change = _undamaged(change_between(known, table), table, connection)
            kept = leftover_tags.kept_in(context, target.name.parts, table.metadata)
            said = ", ".join([*([change.detail] if change.detail else []), *kept])
            found.append(attrs.evolve(change, detail=said))
    return tuple(found)


def change_between(since: Since, table: Table) -> TargetChange:
    """Return what happened to a table between its last write and now."""
    metadata = table.metadata
    lost = _lost(since, metadata)
    drift, added, said = _rows(since, metadata)
    rows = rows_after(table)
    if said and drift is Drift.CHANGED and rows != since.rows:
        said += f" ({since.rows:,} rows then, {rows:,} now)"
    return TargetChange(
        drift=Drift.CHANGED if lost else drift,
        version=version_of(metadata),
        rows=rows,
        mark=mark_of(metadata),
        detail=", ".join([*lost, *([said] if said else [])]),
        others=added,
    )


def _undamaged(change: TargetChange, table: Table, connection: IcebergConnection) -> TargetChange:
    """Return a change, or the damage of a table that nothing else happened to."""
    damage = "" if change.drift is not Drift.NONE else _damage(table, connection)
    return attrs.evolve(change, drift=Drift.CHANGED, detail=damage) if damage else change


def _damage(table: Table, connection: IcebergConnection) -> str:
    """Return what of a table's current snapshot is missing or cannot be read.

    Looks at the metadata and at each file's length, not at what is in it.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ""
    io = table.io

    def wrong(file: DataFile) -> str:
        try:
            length = len(io.new_input(file.file_path))
        except FileNotFoundError:
            return f"file {file.file_path} is gone"
        wanted = file.file_size_in_bytes
        return "" if length == wanted else f"file {file.file_path} has {length} of {wanted} bytes"

    try:
        files = [
            entry.data_file
            for manifest in snapshot.manifests(io)
            for entry in manifest.fetch_manifest_entry(io, discard_deleted=True)
        ]
        with ThreadPoolExecutor(_LOOKS) as pool:
            said = next(filter(None, pool.map(wrong, files)), "")
    # A damaged file can raise any exception in its reader.
    except Exception as error:
        if is_refused(error, connection):
            raise
        said = sentence(error)
    return f"its current snapshot cannot be read: {said}" if said else ""


def _rows(since: Since, metadata: TableMetadata) -> tuple[Drift, int, str]:
    """Return what the snapshots since the last write did to the rows, and how many came."""
    if version_of(metadata) == since.version:
        return Drift.NONE, 0, ""
    uuid = since.mark.partition("/")[0]
    if uuid and uuid != str(metadata.table_uuid):
        return Drift.CHANGED, 0, "another table was registered under its name"
    between = _between(since.version, metadata)
    if between is None:
        return Drift.CHANGED, 0, "it was set to a snapshot that doesn't follow the one written"
    acting = [one for one in between if _acts(one)]
    added = sum(_number(one, "added-records") for one in acting)
    if not acting:
        return Drift.NONE, 0, ""
    if all(one.summary and one.summary.operation is Operation.APPEND for one in acting):
        return Drift.ADDED, added, f"{added:,} rows were appended"
    done = sorted({one.summary.operation.value for one in acting if one.summary})
    deleted = sum(_number(one, "deleted-records") for one in acting)
    return Drift.CHANGED, added, f"{', '.join(done)}: {added:,} rows added, {deleted:,} deleted"


def _between(version: str, metadata: TableMetadata) -> list[IcebergSnapshot] | None:
    """Return the snapshots since one, None if it isn't among the current one's ancestors."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    empty = version == f"empty-{metadata.table_uuid}"
    found: list[IcebergSnapshot] = []
    current = metadata.current_snapshot_id
    while current is not None and str(current) != version:
        snapshot = by_id.get(current)
        if snapshot is None:
            return None
        found.append(snapshot)
        current = snapshot.parent_snapshot_id
    return found if current is not None or empty else None


def _acts(snapshot: IcebergSnapshot) -> bool:
    """Return whether a snapshot changed rows: compaction and empty commits don't."""
    summary = snapshot.summary
    if summary is None:
        return True
    if summary.operation is Operation.REPLACE:
        return False
    names = ("added-data-files", "deleted-data-files", "added-delete-files", "removed-delete-files")
    told = summary.additional_properties
    # A summary that tells nothing of files may be of any writer.
    return not told or "total-records" not in told or any(_number(snapshot, n) for n in names)


def _number(snapshot: IcebergSnapshot, name: str) -> int:
    told: Mapping[str, str] = snapshot.summary.additional_properties if snapshot.summary else {}
    value = told.get(name, "0")
    return int(value) if value.isdigit() else 0


def _lost(since: Since, metadata: TableMetadata) -> list[str]:
    """Name the columns that are gone, renamed, or of another type, by the field's id."""
    number = since.mark.rpartition("/")[2]
    if not number.isdigit() or int(number) == metadata.current_schema_id:
        return []
    before = next((one for one in metadata.schemas if one.schema_id == int(number)), None)
    if before is None:
        return []
    now = {field.field_id: field for field in metadata.schema().fields}
    said = []
    for field in before.fields:
        there = now.get(field.field_id)
        if there is None:
            said.append(f"column {field.name!r} is gone")
        elif there.name != field.name:
            said.append(f"column {field.name!r} is {there.name!r} now")
        elif there.field_type != field.field_type:
            said.append(f"column {field.name!r} is {there.field_type} now")
    return said
