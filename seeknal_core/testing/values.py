"""Awkward data: by name, a column whose values a store is likely to bend."""

from __future__ import annotations

import datetime as dt
import functools
import uuid
from decimal import Decimal

import pyarrow as pa

_UTC = dt.UTC
_DAY_10000 = 2_932_897  # 10000-01-01, in days after 1970
_INFINITY = float("inf")

#: Text that is mistaken for something else, or for SQL.
TEXTS = (
    "", " ", "NULL", "\\N", "é😀👩‍👩‍👧", "a\nb\r\n\tc", "\\", "'", '"', "''; DROP TABLE t; --",
    "%s {} $1 :x", "e\u0301", "x" * 1_000_000,
)  # fmt: skip


@functools.cache
def awkward() -> dict[str, pa.Array]:
    """Return the columns; each has one NULL at its end."""
    return {name: _with_null(array) for name, array in {**_numbers(), **_others()}.items()}


def _with_null(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        storage = _with_null(array.storage)
        return pa.ExtensionArray.from_storage(array.type, storage)
    return pa.concat_arrays([array, pa.nulls(1, array.type)])


def _numbers() -> dict[str, pa.Array]:
    columns = {
        f"int{bits}": pa.array([-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1], f"int{bits}")
        for bits in (8, 16, 32, 64)
    }
    columns |= {
        f"uint{bits}": pa.array([0, 2**bits - 1], f"uint{bits}") for bits in (8, 16, 32, 64)
    }
    floats = [0.1, _INFINITY, -_INFINITY, float("nan"), 0.0, -0.0]
    return {
        **columns,
        "integers above 2**53": pa.array([2**53 + 1, -(2**53) - 1]),
        "float32": pa.array([1.5, _INFINITY, float("nan"), -0.0], pa.float32()),
        "float64": pa.array([*floats, 5e-324, 1.7976931348623157e308]),
        "decimal(5,2)": pa.array([Decimal("999.99"), Decimal("-0.01"), Decimal("0.10")]),
        "decimal(38,0)": pa.array([Decimal("9" * 38), Decimal("-" + "9" * 38)]),
        "decimal(38,9)": pa.array(
            [Decimal("12345678901234567890123456789.123456789"), Decimal("-0.000000001")],
            pa.decimal128(38, 9),
        ),
        "decimal(38,38)": pa.array([Decimal("0." + "9" * 38)], pa.decimal128(38, 38)),
        "bool": pa.array([True, False]),
    }


def _others() -> dict[str, pa.Array]:
    stamps = [
        dt.datetime.fromisoformat(text)
        for text in ("0001-01-01", "1883-11-18T12:03:58", "2024-02-29T01:02:03.000004")
    ]
    stamps.append(dt.datetime.fromisoformat("9999-12-31T23:59:59.999999"))
    moments = [
        dt.datetime(1883, 11, 18, tzinfo=_UTC),
        dt.datetime(2024, 10, 27, 0, 30, tzinfo=_UTC),
        dt.datetime(2024, 10, 27, 1, 30, tzinfo=_UTC),
    ]
    text, number = pa.string(), pa.int64()
    return {
        "text": pa.array(TEXTS),
        "text with NUL": pa.array(["a\0b", "\0"]),
        "large text": pa.array(["", "é😀"], pa.large_string()),
        "enum": pa.array(["red", "", "red"]).dictionary_encode(),
        "bytes": pa.array([b"", b"\0\xff\\x", b"'"]),
        "date": pa.array([dt.date(1, 1, 1), dt.date(1899, 12, 31), dt.date(9999, 12, 31)]),
        "date after 9999": pa.array([_DAY_10000], pa.int32()).cast(pa.date32()),
        "time": pa.array([dt.time(0), dt.time(23, 59, 59, 999999)]),
        "timestamp": pa.array(stamps, pa.timestamp("us")),
        "timestamp after 9999": pa.array([_DAY_10000 * 86_400_000_000], pa.timestamp("us")),
        "timestamp in milliseconds": pa.array([1, -1], pa.timestamp("ms")),
        "timestamp in nanoseconds": pa.array([1_709_168_523_000_000_001], pa.timestamp("ns")),
        "moment": pa.array(moments, pa.timestamp("us", "UTC")),
        "moment in another zone": pa.array(moments, pa.timestamp("us", "Europe/Berlin")),
        "duration": pa.array([dt.timedelta(days=400, microseconds=1), dt.timedelta(seconds=-1)]),
        "uuid": pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([uuid.UUID(int=0).bytes, uuid.UUID(int=2**128 - 1).bytes], pa.binary(16))
        ),
        "list": pa.array([[1, None, 2**53 + 1], []], pa.list_(number)),
        "list of text": pa.array([["", None, "a,b}{\"'\\"], []], pa.list_(text)),
        "list of lists": pa.array([[[1], [], None], []], pa.list_(pa.list_(number))),
        "struct": pa.array(
            [{"a": 1, "b": {"c": ""}}, {"a": None, "b": None}, {"a": 2, "b": {"c": None}}],
            pa.struct({"a": number, "b": pa.struct({"c": text})}),
        ),
        "list of structs": pa.array(
            [[{"a": 1, "b": None}, None], []], pa.list_(pa.struct({"a": number, "b": text}))
        ),
        "map": pa.array([[("k", 1), ("", None)], []], pa.map_(text, number)),
        "nothing but NULL": pa.nulls(1),
    }  # fmt: skip
