"""Values are shown that Python's own dates and times can't hold."""

from __future__ import annotations

from datetime import UTC, date, datetime

import duckdb
import pyarrow as pa
import pytest

from seeknal_core.engine.showing import rows_of, values_of
from support.random_tables import random_table

MOMENT = datetime.fromisoformat("2024-01-01 00:00:00.123456")


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("TIMESTAMP_NS '2024-01-01 00:00:00.123456789'", "2024-01-01 00:00:00.123456789"),
        ("TIMESTAMP_NS '2024-01-01 00:00:00.123456'", MOMENT),
        ("TIMESTAMP_NS '1969-12-31 23:59:59.999999999'", "1969-12-31 23:59:59.999999999"),
        ("TIMESTAMP '99999-03-01 01:02:03.5'", "99999-03-01 01:02:03.5"),
        ("TIMESTAMP '4001-01-01 (BC)'", "-4000-01-01 00:00:00"),
        ("TIMESTAMP_S '12000-02-29 00:00:01'", "12000-02-29 00:00:01"),
        ("TIMESTAMPTZ '99999-03-01 01:02:03+00'", "99999-03-01 01:02:03+00:00"),
        ("TIMESTAMPTZ '2024-01-01 00:00:00+00'", datetime(2024, 1, 1, tzinfo=UTC)),
        ("'infinity'::TIMESTAMP", "infinity"),
        ("'-infinity'::DATE", "-infinity"),
        ("DATE '10000-01-01'", "10000-01-01"),
        ("DATE '2024-02-29'", date(2024, 2, 29)),
        ("NULL::TIMESTAMP_NS", None),
    ],
)
def test_times_are_shown(sql: str, shown: object) -> None:
    with duckdb.connect() as duck:
        duck.execute("SET timezone = 'UTC'")
        one = duck.sql(
            f"SELECT {sql} AS v, [{sql}, NULL] AS l, {{'a b': {sql}}} AS s, MAP {{'k': {sql}}} AS m"
        ).to_arrow_table()
    (row,) = rows_of(one.combine_chunks().to_batches()[0])
    assert row == {"v": shown, "l": [shown, None], "s": {"a b": shown}, "m": [("k", shown)]}


def test_all_else_is_shown_as_pyarrow_does() -> None:
    for seed in range(60):
        table = random_table(seed, kinds=("int32", "text", "decimal", "date", "timestamp")).table
        for column in table.itercolumns():
            array = column.combine_chunks()
            assert values_of(array) == array.to_pylist()


def test_nulls_of_structs_lists_and_maps_stay_apart_from_empty_ones() -> None:
    type = pa.struct([("t", pa.timestamp("ns"))])
    assert values_of(pa.array([None, {"t": None}], type)) == [None, {"t": None}]
    assert values_of(pa.array([None, [], [None]], pa.list_(type))) == [None, [], [None]]
    map_type = pa.map_(pa.string(), pa.timestamp("ns"))
    assert values_of(pa.array([None, []], map_type)) == [None, []]
