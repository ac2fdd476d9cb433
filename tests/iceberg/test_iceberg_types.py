"""Types: what the engine's Parquet holds comes back equal, or is refused by column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, Snapshot
from seeknal_iceberg import plugin
from support.contexts import snapshot_of
from support.iceberg import Bench
from support.parquet import before_footer, field_ids

#: Of each type a value, in DuckDB's words; its Iceberg type; whether its bytes are copied.
TYPES = [
    ("(-128)::TINYINT", "int", True),
    ("255::UTINYINT", "int", True),
    ("(-32768)::SMALLINT", "int", True),
    ("65535::USMALLINT", "int", True),
    ("(-2147483648)::INTEGER", "int", True),
    ("9007199254740993::BIGINT", "long", True),
    ("(-9223372036854775807)::BIGINT", "long", True),
    ("4294967295::UINTEGER", "long", False),
    ("18446744073709551615::UBIGINT", "decimal(20, 0)", False),
    ("1.5::DECIMAL(3,1)", "decimal(3, 1)", True),
    ("12345678.25::DECIMAL(18,2)", "decimal(18, 2)", True),
    ("(-99999999999999999999999999999999999.25)::DECIMAL(38,2)", "decimal(38, 2)", True),
    ("99999999999999999999999999999999999999::DECIMAL(38,0)", "decimal(38, 0)", True),
    ("'inf'::FLOAT", "float", True),
    ("'-inf'::DOUBLE", "double", True),
    ("(-0.0)::DOUBLE", "double", True),
    ("'nan'::DOUBLE", "double", True),
    ("true", "boolean", True),
    ("''::VARCHAR", "string", True),
    ("'🦆 é\\0'::VARCHAR", "string", True),
    ("repeat('x', 1000000)", "string", True),
    ("'\\x00\\xFF'::BLOB", "binary", True),
    ("DATE '0001-01-01'", "date", True),
    ("DATE '1850-06-01'", "date", True),
    ("TIME '23:59:59.999999'", "time", True),
    ("TIMESTAMP '1850-06-01 01:02:03.000004'", "timestamp", True),
    ("TIMESTAMP_S '2024-01-01 00:00:01'", "timestamp", True),
    ("TIMESTAMP_MS '2024-01-01 00:00:01.002'", "timestamp", False),
    ("TIMESTAMP_NS '2024-01-01 00:00:00.000001'", "timestamp", False),
    ("TIMESTAMPTZ '2024-01-01 00:00:00+05'", "timestamptz", True),
    ("'red'::ENUM('red', 'green')", "string", True),
    ("'{\"a\": 1}'::JSON", "string", False),
    ("uuid()", "uuid", True),
    ("[1, NULL, 3]", "list<int>", True),
    ("[[1], [], NULL]", "list<list<int>>", True),
    ("[{'a': [1::BIGINT], 'b': NULL::VARCHAR}]", None, True),
    ("{'a': 1, 'b': {'c': 'x'}}", None, True),
    ("{'a': 4294967295::UINTEGER}", None, False),
    ("MAP {'k': 1, 'l': NULL}", "map<string, int>", True),
    ("MAP {'k': {'x': [1.5::DECIMAL(9,2)]}}", None, True),
]


@pytest.fixture
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def copied(duck: duckdb.DuckDBPyConnection, sql: str, path: Path) -> Snapshot:
    duck.execute(f"COPY ({sql}) TO '{path}'")
    return snapshot_of([str(path)], content_key=sql)


@pytest.mark.parametrize(("value", "type", "exact"), TYPES)
def test_each_type_comes_back_equal(
    bench: Bench,
    tmp_path: Path,
    duck: duckdb.DuckDBPyConnection,
    value: str,
    type: str | None,
    exact: bool,
) -> None:
    path = tmp_path / "s.parquet"
    sql = f"SELECT 1 AS id, {value} AS c UNION ALL SELECT 2, NULL UNION ALL SELECT 3, {value}"
    snapshot = copied(duck, sql, path)
    target = bench.target()
    result = bench.write(target, snapshot)
    assert result.rows_after == 3
    column = bench.inspect(target).columns[1]
    if type is not None:
        assert column.type == type
    (stored,) = bench.data_files()
    assert (before_footer(stored) == before_footer(path)) is exact
    assert None not in field_ids(stored)
    found = bench.read(target)
    duck.register("found", found)
    different = duck.sql(
        f"SELECT count(*) FROM (SELECT id, c::VARCHAR AS c FROM '{path}') AS a "
        "JOIN (SELECT id, c::VARCHAR AS c FROM found) AS b USING (id) "
        "WHERE a.c IS DISTINCT FROM b.c"
    ).fetchall()
    assert different == [(0,)], found["c"].to_pylist()
    assert bench.read(target, columns=("c",)).num_rows == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("INTERVAL 1 DAY", "is an INTERVAL"),
        ("TIMETZ '10:00:00+02'", "TIME WITH TIME ZONE"),
        ("NULL", "has no type"),
        ("'infinity'::TIMESTAMP", "infinite"),
        ("'-infinity'::TIMESTAMPTZ", "infinite"),
        ("'infinity'::DATE", "infinite"),
        ("TIMESTAMP_NS '2024-01-01 00:00:00.000000001'", "does not fit timestamp[us] exactly"),
    ],
)
def test_what_iceberg_does_not_have_is_refused_by_column(
    bench: Bench, tmp_path: Path, duck: duckdb.DuckDBPyConnection, value: str, words: str
) -> None:
    snapshot = copied(duck, f"SELECT 1 AS id, {value} AS bad", tmp_path / "s.parquet")
    with pytest.raises(WriteRefused) as caught:
        bench.write(bench.target(), snapshot)
    assert words in str(caught.value)
    assert "'bad'" in str(caught.value)
    assert "CAST" in caught.value.hint
    assert not bench.inspect(bench.target()).exists
    assert list(bench.data_files()) == []
    assert plugin.list_owned(bench.context) == ()


def test_all_columns_that_iceberg_does_not_have_are_named(bench: Bench) -> None:
    rows = pa.table({"a": pa.nulls(1), "b": pa.array([1], pa.duration("s")), "c": [1]})
    with pytest.raises(WriteRefused, match=r"'a'.*'b'"):
        bench.write(bench.target(), rows)


def test_columns_that_differ_in_case_only_are_refused(bench: Bench) -> None:
    with pytest.raises(WriteRefused, match="differ in case only"):
        bench.write(bench.target(), {"id": [1], "ID": [2]})


def test_years_past_9999_come_back(
    bench: Bench, tmp_path: Path, duck: duckdb.DuckDBPyConnection
) -> None:
    sql = "SELECT TIMESTAMP '99999-01-01' AS t, DATE '99999-01-01' AS d"
    target = bench.target()
    bench.write(target, copied(duck, sql, tmp_path / "s.parquet"))
    found = bench.read(target)
    assert found["t"].cast(pa.int64()).to_pylist() == [3093496444800000000]
    assert found["d"].cast(pa.int32()).to_pylist() == [35804357]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["a", None]).dictionary_encode(),
        pa.array(["a", None], pa.large_string()),
        pa.array([b"ab", None], pa.binary(2)),
        pa.array([1.5, None], pa.float16()) if hasattr(pa, "float16") else pa.array([1.5, None]),
        pa.array([[1, 2], None], pa.list_(pa.int32(), 2)),
        pa.array([0, None], pa.time32("s")),
        pa.array([0, None], pa.timestamp("us", "Europe/Berlin")),
        pa.array([[0], None], pa.list_(pa.timestamp("us", "Asia/Tokyo"))),
    ],
    ids=lambda array: str(array.type),
)
def test_arrows_own_types_come_back(bench: Bench, array: pa.Array) -> None:
    target = bench.target()
    bench.write(target, pa.table({"id": [1, 2], "c": array}))
    more = array.slice(0, 1)
    if isinstance(more, pa.DictionaryArray):
        more = more.dictionary_decode()
    bench.write(attrs.evolve(target, mode=Mode.APPEND), {"id": [3], "c": more})
    expected = [*array.to_pylist(), array.to_pylist()[0]]
    # Others read it, too, with pyiceberg itself.
    for found in (bench.read(target), bench.table(target).scan().to_arrow()):
        assert found.sort_by("id")["c"].to_pylist() == expected


def test_a_thousand_columns_come_back(bench: Bench) -> None:
    rows = pa.table({f"c{number}": [number] for number in range(1000)})
    target = bench.target()
    bench.write(target, rows)
    assert bench.read(target).to_pylist() == rows.to_pylist()


def test_not_null_of_the_parquet_is_no_promise_of_the_table(bench: Bench, tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    pq.write_table(pa.table({"id": [1]}, schema=schema), tmp_path / "s.parquet")
    target = bench.target()
    bench.write(target, snapshot_of([str(tmp_path / "s.parquet")], content_key="k"))
    bench.write(target, {"id": pa.array([None], pa.int64())})
    assert bench.rows(target) == [{"id": None}]
