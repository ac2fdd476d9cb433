"""The Iceberg snapshot that a write adds: which files come, and which go."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.snapshots import Operation

if TYPE_CHECKING:
    from pyiceberg.table import Transaction
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot


def metadata_folder(metadata: TableMetadata) -> str:
    """Return the location where a table's manifests are put."""
    chosen = metadata.properties.get(TableProperties.WRITE_METADATA_PATH)
    return (chosen or f"{metadata.location.rstrip('/')}/metadata").rstrip("/")


def add_snapshot(
    transaction: Transaction,
    added: list[DataFile],
    removed: tuple[DataFile, ...],
    summary: dict[str, str],
    commit_id: uuid.UUID,
    starts_anew: bool,
) -> None:
    """Add one Iceberg snapshot that takes files away and adds others.

    Its manifests are named by the commit's id, so that those of a killed write can be found.

    Args:
        starts_anew: nothing of the current snapshot is read or taken over.
    """
    update = transaction.update_snapshot(snapshot_properties=summary)
    if removed:
        with update.overwrite(commit_uuid=commit_id) as overwrite:
            # Without a predicate, pyiceberg looks for the files in no manifest of an
            # unpartitioned table.
            overwrite.delete_by_predicate(AlwaysTrue())
            # It would be narrowed to the files' partitions by a filter in which NaN raises.
            setattr(overwrite, "_build_delete_files_partition_predicate", lambda: None)  # noqa: B010
            for file in removed:
                overwrite.delete_data_file(file)
            for file in added:
                overwrite.append_data_file(file)
        return
    with update.fast_append() as append:
        append.commit_uuid = commit_id
        if starts_anew:
            append._parent_snapshot_id = None
            append._operation = Operation.OVERWRITE
        for file in added:
            append.append_data_file(file)


def data_files(table: Table, snapshot: IcebergSnapshot) -> tuple[DataFile, ...]:
    """Return the data files of a snapshot of a table."""
    return tuple(
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )


def is_readable(table: Table) -> bool:
    """Return whether manifest list and manifests of a table's current snapshot can be read."""
    snapshot = table.current_snapshot()
    try:
        return snapshot is None or data_files(table, snapshot) is not None
    except Exception:  # noqa: BLE001 - a damaged file can raise any exception
        return False
