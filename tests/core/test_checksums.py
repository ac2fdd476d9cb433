"""Checksums of rows: what they tell apart, and what counts as one value."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.types import Checksum

EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - a time stamp without zone is meant


def summed(values: list[Any], type: pa.DataType | None = None, batch: int = 2) -> Checksum:
    table = pa.table({"v": pa.array(values, type)})
    return checksum_of(table.to_reader(max_chunksize=batch))


def test_the_order_of_rows_and_the_cut_into_batches_are_nothing() -> None:
    assert summed([1, 2, 3, None], batch=1) == summed([None, 3, 1, 2], batch=4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1, 3]),
        ([1, 1], [1]),
        ([1, None], [1, 0]),
        (["", None], [None, None]),
        ([0.0], [-0.0]),
        ([float("nan")], [float("inf")]),
        ([2**53 + 1], [2**53]),
        ([Decimal("1.10")], [Decimal("1.11")]),
        ([[1, None]], [[1]]),
        ([{"a": 1}], [{"a": 2}]),
        ([EPOCH + dt.timedelta(microseconds=1)], [EPOCH]),
        ([b"\x00"], [b""]),
    ],
)
def test_other_values_have_another_sum(one: list[Any], other: list[Any]) -> None:
    assert summed(one) != summed(other)


@pytest.mark.parametrize(
    ("values", "one", "other"),
    [
        ([1, -5, None], pa.int8(), pa.int64()),
        ([1, 2**40], pa.int64(), pa.decimal128(38, 0)),
        ([1.5, float("nan"), float("inf"), -0.0], pa.float32(), pa.float64()),
        (["a", "ü", None], pa.string(), pa.large_string()),
        (["a", "b", "a"], pa.dictionary(pa.int8(), pa.string()), pa.string()),
        ([b"a", None], pa.binary(), pa.large_binary()),
        ([EPOCH - dt.timedelta(days=60_000)], pa.timestamp("ms"), pa.timestamp("us")),
        (
            [dt.datetime(2020, 6, 1, tzinfo=dt.UTC)],
            pa.timestamp("us", "UTC"),
            pa.timestamp("us", "Europe/Berlin"),
        ),
        ([[1, 2], [], None], pa.list_(pa.int16()), pa.large_list(pa.int64())),
        ([[{"a": 1.5}]], pa.list_(pa.struct([("a", pa.float32())])), None),
        ([[("k", 1)]], pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.int64())),
    ],
)
def test_one_value_in_two_types_has_one_sum(
    values: list[Any], one: pa.DataType, other: pa.DataType | None
) -> None:
    assert summed(values, one) == summed(values, other)


def test_no_rows_have_a_sum_for_each_column() -> None:
    found = checksum_of(
        pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())}).to_reader()
    )
    assert found.rows == 0
    assert set(found.columns) == {"a", "b"}


def test_uuids_are_told_apart() -> None:
    import uuid

    one, other = (
        pa.array([uuid.UUID(int=n).bytes], pa.binary(16)).cast(pa.binary(16)) for n in (1, 2)
    )
    tables = [pa.table({"v": pa.ExtensionArray.from_storage(pa.uuid(), v)}) for v in (one, other)]
    sums = [checksum_of(table.to_reader()) for table in tables]
    assert sums[0] != sums[1]
