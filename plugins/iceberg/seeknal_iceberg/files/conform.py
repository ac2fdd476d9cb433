"""Batches of a snapshot in a table's schema: order, names, types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from pyiceberg.io.pyarrow import (
    schema_to_pyarrow,
)
from pyiceberg.schema import Schema, sanitize_column_names
from pyiceberg.types import NestedField

from seeknal_core.contract.errors import WriteRefused
from seeknal_iceberg.types import nested


def file_schema(schema: Schema) -> tuple[Schema, pa.Schema]:
    """Return the schema of new files: compatible names and field ids, also in Arrow."""
    compatible = sanitize_column_names(schema)
    return compatible, schema_to_pyarrow(compatible)


def conform(
    batches: Iterable[pa.RecordBatch],
    names: Sequence[tuple[str, str]],
    schema: Schema,
    target: str,
    nulls: nested.Nulls | None = None,
) -> Iterator[pa.RecordBatch]:
    """Turn batches into a table's schema: order, names, types; what is missing is NULL.

    Args:
        names: the batches' columns and what the table calls them.
        nulls: counts the NULLs of the batches as they come.

    Raises:
        WriteRefused: a value does not fit its column, which is named.
    """
    _, arrow = file_schema(schema)
    source = {there: here for here, there in names}
    for batch in batches:
        arrays: list[pa.Array] = []
        for field, compatible_field in zip(schema.fields, arrow, strict=True):
            here = source.get(field.name)
            if here is None:
                array = pa.nulls(batch.num_rows, compatible_field.type)
            else:
                column = batch.column(here)
                if nulls is not None:
                    nulls.add(column, field, (here,))
                array = _fit(column, field, compatible_field.type, here, target)
            if field.required and array.null_count:
                raise WriteRefused(
                    f"{target}: column {field.name!r} is required there and has NULLs here",
                    "filter the NULLs out in the node's SQL",
                    target=target,
                )
            arrays.append(array)
        yield pa.RecordBatch.from_arrays(arrays, schema=arrow)


def _fit(
    array: pa.Array, field: NestedField, type: pa.DataType, name: str, target: str
) -> pa.Array:
    try:
        return nested.fit(array, field.field_type, type, (name,))
    except nested.Misfit as misfit:
        shown = ".".join(misfit.path)
        raise WriteRefused(
            f"{target}: column {shown!r} does not fit {misfit.type} exactly: {misfit}",
            "CAST the column in the node's SQL",
            target=target,
        ) from misfit
