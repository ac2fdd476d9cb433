"""Sort rows by a table's sort order (https://iceberg.apache.org/spec/#sorting)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortOrder


def ordered(rows: pa.Table, order: SortOrder, schema: Schema) -> pa.Table:
    """Return rows in a sort order of plain columns.

    Args:
        rows: columns in the order of the schema's fields, independent of their names.
    """
    positions = {field.field_id: number for number, field in enumerate(schema.fields)}
    keys: dict[str, pa.ChunkedArray] = {}
    ways: list[tuple[str, str]] = []

    def add(values: pa.ChunkedArray, *, descending: bool) -> None:
        name = str(len(keys))
        keys[name] = values
        ways.append((name, "descending" if descending else "ascending"))

    for field in order.fields:
        values = rows.column(positions[field.source_id])
        if isinstance(values.type, pa.BaseExtensionType):
            storage = [chunk.storage for chunk in values.chunks]
            values = pa.chunked_array(storage, values.type.storage_type)
        descending = field.direction is SortDirection.DESC
        # Arrow puts NULLs and NaN on one side for all keys, so each says it of itself.
        add(pc.is_null(values), descending=field.null_order is NullOrder.NULLS_FIRST)
        if pa.types.is_floating(values.type):
            add(pc.fill_null(pc.is_nan(values), fill_value=False), descending=descending)
        if pa.types.is_fixed_size_binary(values.type):
            values = values.cast(pa.binary())
        add(values, descending=descending)
    return rows.take(pc.sort_indices(pa.table(keys), sort_keys=ways))
