"""Values of Arrow arrays as Python values to show, also those that Python's types can't hold.

pyarrow makes ``datetime`` and ``date`` objects, which end with the year 9999 and with
microseconds. Dates and times beyond that, and infinite ones, become text here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime.fromisoformat("1970-01-01")
_UNITS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}
_DAY = 86_400 * 10**9
_MOST_DAYS = date.max.toordinal() - _EPOCH.toordinal()
_LEAST_DAYS = date.min.toordinal() - _EPOCH.toordinal()
#: By these numbers DuckDB writes infinite dates and timestamps.
_INFINITE = {
    2**63 - 1: "infinity", -(2**63 - 1): "-infinity", 2**31 - 1: "infinity", -(2**31 - 1): "-infinity"
}  # fmt: skip


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return a batch's rows, as `values_of` gives their columns."""
    columns = [values_of(column) for column in batch.columns]
    names = batch.schema.names
    if not columns:
        return [{} for _ in range(batch.num_rows)]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def values_of(array: pa.Array) -> list[Any]:
    """Return an array's values; dates and times that Python can't hold are text."""
    import pyarrow as pa

    type = array.type
    if not _holds_times(type):
        return list(array.to_pylist())
    if pa.types.is_dictionary(type):
        return values_of(array.dictionary_decode())
    if pa.types.is_struct(type):
        names = [field.name for field in type]
        rows = zip(*(values_of(column) for column in array.flatten()), strict=True)
        valid = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if there else None
            for row, there in zip(rows, valid, strict=True)
        ]
    if pa.types.is_nested(type):
        # A scalar's values are an array; of a map, one of structs.
        inner = [scalar.values if scalar.is_valid else None for scalar in array]
        if pa.types.is_map(type):
            return [
                None
                if entries is None
                else list(zip(*(values_of(side) for side in entries.flatten()), strict=True))
                for entries in inner
            ]
        return [None if elements is None else values_of(elements) for elements in inner]
    if pa.types.is_timestamp(type):
        return [
            None if value is None else _timestamp(value, _UNITS[type.unit], type.tz is not None)
            for value in array.cast(pa.int64()).to_pylist()
        ]
    if pa.types.is_date(type):
        return [
            None if value is None else _date(value)
            for value in array.cast(pa.date32()).cast(pa.int32()).to_pylist()
        ]
    return list(array.to_pylist())


def _holds_times(type: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        return _holds_times(type.value_type)
    if pa.types.is_nested(type):
        return any(_holds_times(type.field(index).type) for index in range(type.num_fields))
    return bool(pa.types.is_timestamp(type) or pa.types.is_date(type))


def _timestamp(value: int, unit: int, zoned: bool) -> datetime | str:
    if value in _INFINITE:
        return _INFINITE[value]
    days, nanos = divmod(value * unit, _DAY)
    zone = "+00:00" if zoned else ""
    if _LEAST_DAYS <= days <= _MOST_DAYS and nanos % 1000 == 0:
        found = _EPOCH + timedelta(days=days, microseconds=nanos // 1000)
        return found.replace(tzinfo=UTC) if zoned else found
    seconds, nanos = divmod(nanos, 10**9)
    fraction = f".{nanos:09d}".rstrip("0").rstrip(".")
    minutes, second = divmod(seconds, 60)
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"
    return f"{_day(days)} {clock}{fraction}{zone}"


def _date(days: int) -> date | str:
    if days in _INFINITE:
        return _INFINITE[days]
    if _LEAST_DAYS <= days <= _MOST_DAYS:
        return date.fromordinal(days + _EPOCH.toordinal())
    return _day(days)


def _day(days: int) -> str:
    """Return a day of any year; the calendar repeats every 400 years, of 146,097 days."""
    cycles, rest = divmod(days, 146_097)
    found = date.fromordinal(_EPOCH.toordinal() + rest)
    year = found.year + 400 * cycles
    sign = "-" if year < 0 else ""
    return f"{sign}{abs(year):04d}-{found.month:02d}-{found.day:02d}"
