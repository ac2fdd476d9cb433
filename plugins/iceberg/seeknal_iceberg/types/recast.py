"""Changing a column's type by casting the values that stay: which types, and how."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from seeknal_core.contract.errors import WriteRefused

_INTEGER, _NUMBER, _TEXT, _TRUTH, _DATE, _INSTANT, _TIME, _BYTES, _UUID = range(9)

_KINDS: dict[type[IcebergType], int] = {
    IntegerType: _INTEGER,
    LongType: _INTEGER,
    FloatType: _NUMBER,
    DoubleType: _NUMBER,
    DecimalType: _NUMBER,
    StringType: _TEXT,
    BooleanType: _TRUTH,
    DateType: _DATE,
    TimestampType: _INSTANT,
    TimestamptzType: _INSTANT,
    TimestampNanoType: _INSTANT,
    TimestamptzNanoType: _INSTANT,
    TimeType: _TIME,
    BinaryType: _BYTES,
    FixedType: _BYTES,
    UUIDType: _UUID,
}

# Arrow casts more: an integer to a date, by counting days from 1970, which nobody means.
_CASTS = {frozenset((_TEXT, kind)) for kind in range(9)} | {
    frozenset((_INTEGER,)),
    frozenset((_NUMBER,)),
    frozenset((_BYTES,)),
    frozenset((_INSTANT,)),
    frozenset((_INTEGER, _NUMBER)),
    frozenset((_INTEGER, _TRUTH)),
    frozenset((_DATE, _INSTANT)),
}


def has_cast(old: IcebergType, new: IcebergType) -> bool:
    """Return whether values of one type mean something as values of another."""
    kinds = {_KINDS.get(type(old)), _KINDS.get(type(new))}
    return None not in kinds and kinds in _CASTS


def exactly(array: pa.Array, type: pa.DataType, name: str, target: str) -> pa.Array:
    """Cast values that stay, and refuse where one would become another value.

    A cast that succeeds proves nothing: text to decimal wraps in pyarrow 26.
    """
    try:
        made = _cast(array, type)
        back = _cast(made, array.type)
    except (pa.ArrowException, ValueError) as error:
        value = _first_unfit(array, type)
        raise _unfit(name, array.type, type, f"{value} does not fit", target) from error
    same = pc.fill_null(pc.equal(_comparable(back), _comparable(array)), True)
    if pa.types.is_floating(array.type):
        same = pc.or_(same, pc.fill_null(pc.is_nan(array), False))
    if made.null_count != array.null_count or (not pc.all(same).as_py() and len(array)):
        place = pc.index(same, False).as_py()
        shown = f"{array[place]} would become {made[place]}" if place >= 0 else "values get lost"
        raise _unfit(name, array.type, type, shown, target)
    return made


def _cast(array: pa.Array, type: pa.DataType) -> pa.Array:
    """Cast where every value fits, even if the types could hold other values."""
    if pa.types.is_integer(array.type) and pa.types.is_decimal128(type):
        # Straight, Arrow wants room for the widest integer there is.
        return array.cast(pa.decimal256(76, type.scale)).cast(type, safe=True)
    if _is_text(array.type) and pa.types.is_time(type):
        return _each(array, type, dt.time.fromisoformat)
    if _is_text(array.type) and isinstance(type, pa.UuidType):
        return _each(array, type, uuid.UUID)
    if _is_text(type) and isinstance(array.type, pa.UuidType):
        return _each(array, type, str)
    return array.cast(type, safe=True)


def _comparable(array: pa.Array) -> pa.Array:
    return array.storage if isinstance(array.type, pa.UuidType) else array


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type))


def _each(array: pa.Array, type: pa.DataType, change: Callable[[Any], Any]) -> pa.Array:
    values = [None if value is None else change(value) for value in array.to_pylist()]
    return pa.array(values, type)


def _first_unfit(array: pa.Array, type: pa.DataType) -> object:
    """Return the first value whose cast fails, one way or back, by halving."""
    while len(array) > 1:
        half = array.slice(0, len(array) // 2)
        try:
            _cast(_cast(half, type), half.type)
        except (pa.ArrowException, ValueError):
            array = half
        else:
            array = array.slice(len(half))
    return array[0]


def _unfit(name: str, old: pa.DataType, new: pa.DataType, why: str, target: str) -> WriteRefused:
    return WriteRefused(
        f"{target}: column {name!r} is {new} here and {old} there, and the rows that stay cannot "
        f"be cast: {why}",
        "cast it in the SQL, or replace all rows: seeknal run --full-refresh",
        target=target,
    )
