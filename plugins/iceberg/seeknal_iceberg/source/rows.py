"""Rows of a table, counted by its manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyiceberg.schema import Schema

from seeknal_core.contract.types import (
    ExecutionContext,
    Target,
)
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.files.scan import task_batches
from seeknal_iceberg.source import staged_rows

if TYPE_CHECKING:
    from pyiceberg.table import Table


def count(table: Table, snapshot_id: int | None = None) -> int:
    """Count a table's rows by its manifests; reads data files only where rows were deleted."""
    if snapshot_id is None and table.metadata.current_snapshot_id is None:
        return 0
    field = table.schema().fields[0]
    # Files of an older snapshot may lack it.
    first = Schema(field.model_copy(update={"required": False}))
    total = 0
    for task in table.scan(snapshot_id=snapshot_id).plan_files():
        if not task.delete_files:
            total += task.file.record_count
        else:
            batches = task_batches(table.metadata, table.io, first, task)
            total += sum(batch.num_rows for batch in batches)
    return total


def rows_after(table: Table, snapshot_id: int | None = None) -> int:
    """Return a table's rows: from its summary where no deletes are about, else counted.

    Args:
        snapshot_id: the iceberg_snapshot_id that is meant; None for the current one.
    """
    snapshot = (
        table.current_snapshot() if snapshot_id is None else table.snapshot_by_id(snapshot_id)
    )
    summary = snapshot.summary if snapshot is not None else None
    known = rows_of(summary.additional_properties) if summary is not None else None
    return count(table, snapshot_id) if known is None else known


def rows_of(summary: Mapping[str, str]) -> int | None:
    """Return the rows that a snapshot's summary tells, None if it does not."""
    deletes = ("total-position-deletes", "total-equality-deletes")
    if "total-records" in summary and all(summary.get(key, "0") == "0" for key in deletes):
        return int(summary["total-records"])
    return None


def count_rows(context: ExecutionContext, target: Target) -> int:
    """Count a target's rows, or those that are staged for it.

    Raises:
        BackendError: it does not exist or cannot be read.
    """
    if target.staged is not None:
        return staged_rows.count(context, target, target.staged)
    table = catalogs.existing(context, target.name.parts)
    with translating(catalogs.of(context), str(target.name)):
        return count(table)
