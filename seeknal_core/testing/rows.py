"""Rows of two tables, compared by value: what must be equal, and what may differ.

A store may give a value back in a neighbouring type: an integer of another width, or
as a decimal without fraction; text in another encoding; a time in another unit. It
may not round, drop a time zone, turn -0.0 to 0.0, "" to NULL, or a number to text.
"""

from __future__ import annotations

import decimal
import itertools
from typing import Any

import pyarrow as pa

_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def values(column: pa.ChunkedArray | pa.Array) -> list[object]:
    """Return a column's values in a form in which equal values are equal.

    Raises:
        TypeError: the column has a type that no two stores share.
    """
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in values(chunk)]
    return [None if valid is False else value for value, valid in _plain(column)]


def _plain(array: pa.Array) -> list[tuple[object, bool]]:
    """Return each value with whether it is valid; invalid ones may be anything."""
    type, types = array.type, pa.types
    valid = array.is_valid().to_pylist()
    if isinstance(type, pa.BaseExtensionType):
        found = values(array.storage)
    elif types.is_dictionary(type):
        found = values(array.dictionary_decode())
    elif types.is_struct(type):
        fields = [values(field) for field in array.flatten()]
        names = [field.name for field in type]
        found = [tuple(zip(names, row, strict=True)) for row in _rows(fields, len(array))]
    elif types.is_map(type):
        pairs = list(zip(values(array.keys), values(array.items), strict=True))
        found = [tuple(sorted(pairs[a:b], key=repr)) for a, b in _bounds(array)]
    elif types.is_fixed_size_list(type):
        found = [tuple(values(array[i].values)) if valid[i] else None for i in range(len(array))]
    elif types.is_nested(type):
        inner = values(array.values)
        found = [tuple(inner[a:b]) for a, b in _bounds(array)]
    else:
        found = _scalars(array)
    return list(zip(found, valid, strict=True))


def _rows(columns: list[list[object]], count: int) -> list[tuple[object, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * count


def _bounds(array: pa.Array) -> list[tuple[int, int]]:
    offsets = array.offsets.to_pylist()
    return list(itertools.pairwise(offsets))


def _scalars(array: pa.Array) -> list[object]:
    type, types = array.type, pa.types
    if types.is_timestamp(type):
        kind = "a moment" if type.tz else "a local time"
        return _counted(array, kind, _PER_UNIT[type.unit], pa.int64())
    if types.is_date32(type):
        return _counted(array, "a day", 1, pa.int32())
    if types.is_date64(type):
        return _scalars(array.cast(pa.date32()))
    if types.is_time(type):
        width = pa.int32() if types.is_time32(type) else pa.int64()
        return _counted(array, "a time of day", _PER_UNIT[type.unit], width)
    if types.is_duration(type):
        return _counted(array, "a duration", _PER_UNIT[type.unit], pa.int64())
    if types.is_decimal(type):
        return [None if value is None else _number(value) for value in array.to_pylist()]
    if types.is_floating(type):
        # As text: NaN is itself then, and -0.0 is not 0.0.
        return [None if value is None else f"float {value!r}" for value in array.to_pylist()]
    if types.is_string(type) or types.is_large_string(type) or types.is_string_view(type):
        return list(array.to_pylist())
    if types.is_integer(type) or types.is_null(type):
        return list(array.to_pylist())
    if types.is_boolean(type):
        return [None if value is None else f"{value}" for value in array.to_pylist()]
    if types.is_binary(type) or types.is_large_binary(type) or types.is_fixed_size_binary(type):
        return list(array.to_pylist())
    if types.is_binary_view(type):
        return list(array.to_pylist())
    raise TypeError(f"no values of type {type} are compared")


def _counted(array: pa.Array, kind: str, factor: int, width: pa.DataType) -> list[object]:
    counts: list[Any] = array.cast(width).to_pylist()
    return [None if count is None else (kind, count * factor) for count in counts]


def _number(value: decimal.Decimal) -> object:
    return int(value) if value == value.to_integral_value() else value.normalize(_CONTEXT)


_CONTEXT = decimal.Context(prec=80)


def as_rows(table: pa.Table) -> list[dict[str, object]]:
    """Return a table's rows by column name, in an order of their own."""
    columns = [values(column) for column in table.columns]
    found = [
        dict(zip(table.column_names, row, strict=True)) for row in _rows(columns, table.num_rows)
    ]
    return sorted(found, key=lambda row: repr(sorted(row.items())))


def difference(found: pa.Table | None, wanted: pa.Table) -> str:
    """Return how the rows of two tables differ; empty where they are equal.

    The order of rows and of columns does not count.
    """
    if found is None:
        return "there is no table"
    if set(found.column_names) != set(wanted.column_names):
        return f"columns {_short(found.column_names)}, not {_short(wanted.column_names)}"
    if found.num_rows != wanted.num_rows:
        return f"{found.num_rows:,} rows, not {wanted.num_rows:,}"
    for got, due in zip(as_rows(found), as_rows(wanted.select(found.column_names)), strict=True):
        for name in due:
            if got[name] != due[name]:
                return f"column {name!r}: {_short(got[name])}, not {_short(due[name])}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"
