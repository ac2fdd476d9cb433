"""Finds out from the table itself whether a staged write is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.types import Cancellation, ExecutionContext, Target
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.ledger.staged_write import StagedWrite, undo_tag

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot


def is_published(metadata: TableMetadata, write: StagedWrite, promotion: str) -> bool:
    """Return whether a staged write was published, and not undone since.

    Known by what publishing leaves and undoing takes away. The Iceberg snapshot alone
    does not tell: somebody may expire it, and some catalogs keep it after the undoing,
    and the tag with it.
    """
    if write.snapshot_id is None or str(metadata.table_uuid) != write.uuid:
        return False
    if write.created:
        # One that was created before its rows is published once they are in it.
        return not write.begun or ledger.CREATED in metadata.properties
    written = metadata.properties.get(ledger.WRITE_ID)
    if written == write.write_id:
        return True
    if write.before is not None and written == write.before.properties.get(ledger.WRITE_ID):
        # Not published, or undone, though the tag may still be there and a fence on main.
        return _follows(metadata, write, promotion)
    return undo_tag(promotion) in metadata.refs or _follows(metadata, write, promotion)


def has_undone(snapshot: Snapshot | None, promotion: str) -> bool:
    """Return whether a snapshot is one that undid a promotion."""
    summary = snapshot.summary if snapshot is not None else None
    return summary is not None and ledger.UNDO + promotion in summary.additional_properties


def _follows(metadata: TableMetadata, write: StagedWrite, promotion: str) -> bool:
    """Return whether the current snapshot is the published one, or comes after it."""
    snapshots = {each.snapshot_id: each for each in metadata.snapshots}
    at = metadata.current_snapshot_id
    while at is not None and at in snapshots:
        found = snapshots.pop(at)
        if at == write.snapshot_id:
            return True
        if has_undone(found, promotion):
            return False
        at = found.parent_snapshot_id
    return False


def unstoppable(context: ExecutionContext) -> ExecutionContext:
    """Return a context for undoing and tidying, which continue when a user stops the command."""
    return attrs.evolve(context, cancellation=Cancellation())


def note_of(context: ExecutionContext, target: Target, write: StagedWrite) -> write_notes.Note:
    """Open the note of a staged write, to add to it."""
    folder = write_notes.notes_folder(context, target.name.parts, "staged")
    return write_notes.Note(folder, write.write_id, target.name.parts)
