"""The rows of an earlier Iceberg snapshot as a new one, where the catalog hides the earlier.

Some catalogs (Nessie) show only the current snapshot of a table: no reference can be moved
back. The earlier snapshot's files are in storage nevertheless, and what was staged names its
manifest list. A new list of the same manifests gives the same rows: no data file is copied.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from pyiceberg.manifest import ManifestFile, read_manifest_list, write_manifest_list
from pyiceberg.table import TableProperties
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.connection.errors import sentence
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.write.iceberg_snapshot import metadata_folder

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from seeknal_iceberg.ledger.staged_write import Before, StagedWrite


def restore(
    table: Table, write: StagedWrite, before: Before, promotion: str, name: str
) -> Snapshot:
    """Write the manifest list of a snapshot with a table's earlier files, and return it.

    Raises:
        BackendError: the earlier manifests are gone, or are not known.
    """
    metadata = table.metadata
    manifests = _manifests(table, before, name)
    snapshot_id = metadata.new_snapshot_id()
    sequence = ledger.sequence_of(metadata) + 1 if metadata.format_version > 1 else None
    parent = metadata.current_snapshot_id
    # Its name holds the write's id, so that it is found where this commit never lands.
    place = f"{metadata_folder(metadata)}/snap-{snapshot_id}-0-{write.write_id}.avro"
    codec = table.properties.get(
        TableProperties.WRITE_AVRO_COMPRESSION, TableProperties.WRITE_AVRO_COMPRESSION_DEFAULT
    )
    with write_manifest_list(
        format_version=metadata.format_version,
        output_file=table.io.new_output(place),
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent,
        sequence_number=sequence,
        avro_compression=cast(Any, codec),
    ) as writer:
        writer.add_manifests(manifests)
    summary = {**before.totals, ledger.UNDO + promotion: str(before.snapshot_id or "empty")}
    # pyiceberg's models have aliases that mypy takes for the arguments' names.
    made = cast(Any, Snapshot)(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent,
        sequence_number=sequence,
        timestamp_ms=int(time.time() * 1000),
        manifest_list=place,
        summary=Summary(operation=Operation.OVERWRITE, **summary),
        schema_id=before.schema_id,
    )
    return cast("Snapshot", made)


def _manifests(table: Table, before: Before, name: str) -> list[ManifestFile]:
    if before.snapshot_id is None:
        return []
    why = "what it was staged by did not note where they are"
    if before.manifests:
        try:
            found = list(read_manifest_list(table.io.new_input(before.manifests)))
            gone = [one for one in found if not table.io.new_input(one.manifest_path).exists()]
            if not gone:
                return found
            why = f"{gone[0].manifest_path} is gone"
        except Exception as error:  # noqa: BLE001 - a damaged file can raise any exception in its reader
            why = sentence(error)
    raise BackendError(
        f"{name} cannot be undone: the catalog shows no iceberg_snapshot_id {before.snapshot_id} "
        f"any more, and its files cannot be listed: {why}",
        target=name,
    )
