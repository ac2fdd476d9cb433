"""Tokens of a table: its version, and its mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata


def mark_of(metadata: TableMetadata) -> str:
    """Return a table's mark: its UUID, its current Iceberg snapshot and its schema."""
    current = metadata.current_snapshot_id
    return f"{metadata.table_uuid}/{current or 'empty'}/{metadata.current_schema_id}"


def version_of(metadata: TableMetadata) -> str:
    """Return a table's version token: its current iceberg_snapshot_id."""
    if metadata.current_snapshot_id is None:
        return f"empty-{metadata.table_uuid}"
    return str(metadata.current_snapshot_id)
