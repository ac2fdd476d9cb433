"""Parquet files: they agree, or both are named; nothing is read as another type."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import EngineError
from support.engines import Lab, file_source, open_lab, rows

BIG = 2**64 - 1


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def write(lab: Lab, number: int, table: pa.Table, **options: object) -> Path:
    path = lab.root / f"{number}.parquet"
    pq.write_table(table, path, **options)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    return path


def read(
    lab: Lab, *columns: pa.Array, dtypes: dict[str, str] | None = None, **params: object
) -> list[object]:
    paths = [write(lab, n, pa.table({"a": column})) for n, column in enumerate(columns)]
    return [row["a"] for row in rows(lab.files(file_source("parquet", dtypes, **params), *paths))]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (pa.array([1], pa.int32()), pa.array([2**40]), [1, 2**40]),
        (pa.array([BIG], pa.uint64()), pa.array([-1]), [BIG, -1]),
        (pa.array([1], pa.int32()), pa.array([0.5]), [1.0, 0.5]),
        (
            pa.array([Decimal("1.25")]),
            pa.array([Decimal("123456789.1")]),
            [Decimal("1.25"), Decimal("123456789.10")],
        ),
        (
            pa.array([{"x": 1, "y": 2}]),
            pa.array([{"y": 5, "x": 6}], pa.struct([("y", pa.int64()), ("x", pa.int64())])),
            [{"x": 1, "y": 2}, {"x": 6, "y": 5}],
        ),
        (
            pa.array([date(2024, 1, 1)]),
            pa.array([datetime(2024, 1, 1, 5)]),  # noqa: DTZ001 - a column without zone
            [datetime(2024, 1, 1), datetime(2024, 1, 1, 5)],  # noqa: DTZ001 - the same
        ),
    ],
)
def test_types_are_widened_where_nothing_is_lost(
    lab: Lab, one: pa.Array, other: pa.Array, found: list[object]
) -> None:
    assert read(lab, one, other) == found
    assert read(lab, other, one) == found[::-1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([2**60 + 1]), pa.array([0.5])),
        (pa.array([1]), pa.array(["x"])),
        (pa.array([{"x": 1}]), pa.array([{"x": 5, "z": 6}])),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([Decimal(10**37)]), pa.array([Decimal("0.5")])),
    ],
)
def test_types_that_do_not_agree_are_an_error_that_names_both_files(
    lab: Lab, one: pa.Array, other: pa.Array
) -> None:
    with pytest.raises(EngineError, match=r"column 'a' is .* in 0\.parquet and .* in 1\.parquet"):
        read(lab, one, other)


def test_three_types_must_agree_with_one_another(lab: Lab) -> None:
    with pytest.raises(EngineError, match=r"int64 in 1\.parquet and double in 2\.parquet"):
        read(lab, pa.array([1], pa.int32()), pa.array([2**60 + 1]), pa.array([0.5]))


def test_a_missing_column_is_an_error_unless_allowed(lab: Lab) -> None:
    one = write(lab, 0, pa.table({"a": [1], "b": [2]}))
    other = write(lab, 1, pa.table({"b": [3]}))
    for files in ((one, other), (other, one)):
        with pytest.raises(EngineError, match=r"1\.parquet has no column 'a', which 0\.parquet"):
            lab.files(file_source("parquet"), *files)
    made = lab.files(file_source("parquet", union_by_name=True), one, other)
    assert rows(made) == [{"a": 1, "b": 2}, {"a": None, "b": 3}]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([Decimal("1" * 45)], pa.decimal256(60, 2)),
        pa.array([[Decimal("1" * 45)]], pa.list_(pa.decimal256(60, 2))),
        pa.array([5], pa.duration("us")),
    ],
)
def test_what_would_be_read_as_another_type_is_refused(lab: Lab, column: pa.Array) -> None:
    with pytest.raises(EngineError, match=r"0\.parquet: column 'a' is "):
        read(lab, column)


def test_nanoseconds_are_kept_or_refused(lab: Lab) -> None:
    late = pa.array([1_704_067_200_000_000_001, None], pa.timestamp("ns"))
    made = lab.files(file_source("parquet"), write(lab, 0, pa.table({"a": late})))
    assert made.reader().read_all()["a"].combine_chunks().equals(late)
    old = write(lab, 1, pa.table({"a": late}), use_deprecated_int96_timestamps=True)
    with pytest.raises(EngineError, match=r"1\.parquet: column 'a' holds nanoseconds"):
        lab.files(file_source("parquet"), old)
    whole = pa.array([1_704_067_200_000_001_000, None], pa.timestamp("ns"))
    old = write(lab, 2, pa.table({"a": whole}), use_deprecated_int96_timestamps=True)
    assert lab.files(file_source("parquet"), old).row_count == 2


@pytest.mark.parametrize(
    ("dtype", "column", "found"),
    [
        ("integer", pa.array(["1", None]), [1, None]),
        ("integer", pa.array([2.0, None]), [2, None]),
        ("string", pa.array([5, None]), ["5", None]),
        ("decimal(10,2)", pa.array([1, None]), [Decimal("1.00"), None]),
    ],
)
def test_a_declared_type_converts_exactly(
    lab: Lab, dtype: str, column: pa.Array, found: list[object]
) -> None:
    assert read(lab, column, dtypes={"a": dtype}) == found


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        ("integer", pa.array(["1", "2.5"])),
        ("integer", pa.array([2.0, 1.5])),
        ("decimal(10,1)", pa.array([Decimal("1.20"), Decimal("1.25")])),
        ("float", pa.array([1, 2**53 + 1])),
        ("date", pa.array([None, datetime(2024, 1, 1, 5)])),  # noqa: DTZ001 - without zone
    ],
)
def test_a_value_that_does_not_fit_is_named_with_file_and_row(
    lab: Lab, dtype: str, column: pa.Array
) -> None:
    with pytest.raises(EngineError, match=r"0\.parquet: row 2, column 'a': "):
        read(lab, column, dtypes={"a": dtype})


def test_two_columns_of_one_name_are_refused(lab: Lab) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "A"])
    with pytest.raises(EngineError, match="more than one column named 'a'"):
        lab.files(file_source("parquet"), write(lab, 0, table))
