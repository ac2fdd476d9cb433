"""Whether a staged write is published, asked of the table itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from seeknal_core.types import Cancellation, ExecutionContext, Target
from seeknal_iceberg import ledger, pending
from seeknal_iceberg.waiting import Waiting, undo_tag

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata


def is_published(metadata: TableMetadata, waiting: Waiting, promotion: str) -> bool:
    """Tell whether a staged write was published, and not undone since.

    Known by what publishing leaves and undoing takes away. The Iceberg snapshot alone
    does not tell: somebody may expire it, and some catalogs keep it after the undoing.
    """
    if waiting.snapshot_id is None or str(metadata.table_uuid) != waiting.uuid:
        return False
    return (
        waiting.created
        or metadata.properties.get(ledger.WRITE_ID) == waiting.write_id
        or undo_tag(promotion) in metadata.refs
        or waiting.snapshot_id in _lineage(metadata)
    )


def _lineage(metadata: TableMetadata) -> Iterator[int]:
    parents = {each.snapshot_id: each.parent_snapshot_id for each in metadata.snapshots}
    at = metadata.current_snapshot_id
    while at is not None and at in parents:
        yield at
        at = parents.pop(at)


def unstoppable(context: ExecutionContext) -> ExecutionContext:
    """Return a context for undoing and tidying, which a user who stops a command waits for."""
    return attrs.evolve(context, cancellation=Cancellation())


def note_of(context: ExecutionContext, target: Target, waiting: Waiting) -> pending.Note:
    """Open the note of a staged write, to add to it."""
    folder = pending.notes_folder(context, target.name.parts, "staged")
    return pending.Note(folder, waiting.write_id, target.name.parts)
