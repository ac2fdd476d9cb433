"""Arrow types: those that DuckDB would not keep, and those that others would not know."""

from __future__ import annotations

import pyarrow as pa


def unfit(type: pa.DataType) -> str:
    """Say why a type has no counterpart, in no words where it has one."""
    if pa.types.is_null(type):
        return "has no type"
    if getattr(type, "unit", "") == "ns" and (not pa.types.is_timestamp(type) or type.tz):
        return f"holds nanoseconds ({type}), which DuckDB would cut off"
    inner = (unfit(type.field(index).type) for index in range(type.num_fields))
    return next(filter(None, inner), "")


def plain(reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return rows without dictionaries and without DuckDB's way of writing booleans."""
    schema = pa.schema([field.with_type(_plain(field.type)) for field in reader.schema])
    return pa.RecordBatchReader.from_batches(schema, (batch.cast(schema) for batch in reader))


def _plain(type: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(type):  # An ENUM of today's values would refuse tomorrow's.
        return type.value_type
    if getattr(type, "extension_name", "") == "arrow.bool8":
        return pa.bool_()
    if pa.types.is_list(type):
        return pa.list_(type.value_field.with_type(_plain(type.value_type)))
    if pa.types.is_struct(type):
        return pa.struct([field.with_type(_plain(field.type)) for field in type])
    return type
