"""Rows find their partition whatever the value: NaN, infinities, both zeros, NULL."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode
from support.iceberg import Bench
from support.random_tables import plain, sorted_rows
from support.readers import by_pyiceberg

ODD = [math.nan, 0.0, -0.0, math.inf, -math.inf, 1.5, None]


def rows(first: int, *values: float | None, type: pa.DataType) -> pa.Table:
    """Return two rows for each value."""
    ids = list(range(first, first + 2 * len(values)))
    return pa.table({"id": ids, "p": pa.array([*values, *values], type)})


@pytest.mark.parametrize("type", [pa.float64(), pa.float32()], ids=str)
@pytest.mark.parametrize(
    "mode", [Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY, Mode.INSERT_OVERWRITE]
)
@pytest.mark.parametrize("promoted", [False, True])
def test_odd_numbers_partition_a_table(
    bench: Bench, type: pa.DataType, mode: Mode, promoted: bool
) -> None:
    full = bench.target(partition_by=("p",))
    target = attrs.evolve(full, mode=mode, unique_keys=("id",))
    first = rows(0, *ODD, type=type)
    bench.write(full, first)
    assert len(list(bench.data_files())) == len(ODD)
    assert sorted_rows(bench.read(full)) == sorted_rows(first)
    # Again, and once more: the first write left partitions that the others must find.
    second = rows(0, *reversed(ODD), type=type)
    for number in range(2):
        if promoted:
            promotion = bench.promotion(f"p-{number}", number + 1)
            promotion.stage(target, second)
            promotion.publish()
        else:
            bench.write(target, second)
    expected = pa.concat_tables([first, second]) if mode is Mode.APPEND else second
    assert sorted_rows(bench.read(full)) == sorted_rows(expected)
    assert sorted_rows(by_pyiceberg(bench.table(full))) == sorted_rows(expected)
    if promoted:
        # Equal rows are appended once: the second promotion had nothing to do.
        assert promotion.revert() is (mode is not Mode.APPEND)
    bench.write(full, first)
    assert sorted_rows(bench.read(full)) == sorted_rows(first)


def test_each_odd_number_is_one_partition_over_many_batches(bench: Bench) -> None:
    count = 300_000
    values = [ODD[number % len(ODD)] for number in range(count)]
    table = pa.table({"id": range(count), "p": pa.array(values, pa.float64())})
    target = bench.target(partition_by=("p",))
    bench.write(target, table)
    tasks = list(bench.table(target).scan().plan_files())
    assert len(tasks) == len(ODD)
    found: list[Any] = [task.file.partition[0] for task in tasks]
    assert sorted(plain(pa.array(found, pa.float64())), key=str) == sorted(
        plain(pa.array(ODD, pa.float64())), key=str
    )
    assert bench.count(target) == count


def test_a_day_is_replaced_in_a_table_that_is_partitioned_by_nan(bench: Bench) -> None:
    target = bench.target(partition_by=("p",), mode=Mode.INCREMENTAL_BY_TIME, time_column="t")
    table = pa.table(
        {"t": pa.array([0, 86_400_000_000], pa.timestamp("us")), "p": [math.nan, math.nan]}
    )
    bench.write(target, table)
    bench.write(target, table.slice(1).set_column(1, "p", pa.array([2.5])))
    assert [repr(p) for p in bench.read(target).sort_by("t")["p"].to_pylist()] == ["nan", "2.5"]


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND, Mode.INSERT_OVERWRITE])
def test_a_column_named_as_a_partition_field_is_refused(bench: Bench, mode: Mode) -> None:
    """Somebody renamed the column, or the node begins to give one of that name."""
    target = bench.target(mode=mode, partition_by=("p", "day(at)"))
    at = [datetime(2024, 1, 1, tzinfo=UTC)]
    bench.write(target, {"p": ["a"], "at": at})
    with pytest.raises(WriteRefused, match="column 'at_day' cannot be added: a partition field"):
        bench.write(target, {"p": ["a"], "at": at, "at_day": [1]})
    with bench.table(target).update_schema() as update:
        update.rename_column("p", "q")
    with pytest.raises(WriteRefused, match="column 'p' cannot be added: a partition field"):
        bench.write(target, {"p": ["a"], "at": at})
    assert bench.count(target) == 1
