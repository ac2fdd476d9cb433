"""A query over an Iceberg table: the core runs it, and the scan leaves out what it can."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.engine.duckdb import DuckDBEngine
from seeknal_core.engine.pushing import pushed
from seeknal_core.errors import BackendError, EngineError
from seeknal_core.project.specs import EngineSettings
from seeknal_core.types import Cancellation, Condition, Scan, Source, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.source.options import IcebergSourceOptions
from support.iceberg import Bench

Asked = list[tuple[tuple[str, ...] | None, tuple[Condition, ...]]]


class Asking:
    """Runs queries over a table as the core does, and keeps what the scan is asked for."""

    def __init__(self, bench: Bench, engine: DuckDBEngine) -> None:
        self.bench = bench
        self.engine = engine
        self.asked: Asked = []

    def __call__(
        self,
        target: Target,
        sql: str,
        *,
        columns: Sequence[str] | None = None,
        narrowed: bool = True,
        options: IcebergSourceOptions | None = None,
    ) -> pa.Table:
        source = Source(
            node="source.x", type="iceberg", parts=target.name.parts, query=sql, options=options
        )
        with plugin.read_source(self.bench.context, source) as stream:
            scan = stream.scan
            assert scan is not None

            def open(
                wanted: tuple[str, ...] | None, where: tuple[Condition, ...]
            ) -> pa.RecordBatchReader:
                self.asked.append((wanted, where))
                return scan.open(wanted, where) if narrowed else scan.open(wanted, ())

            kept = Scan(schema=scan.schema, names=scan.names, open=open)
            with self.engine.query_over("source.x", sql, columns, kept) as reader:
                return reader.read_all()


@pytest.fixture
def ask(bench: Bench, tmp_path: Path) -> Iterator[Asking]:
    engine = DuckDBEngine(
        EngineSettings(), tmp_path, tmp_path / "store", tmp_path / "scratch", Cancellation()
    )
    yield Asking(bench, engine)
    engine.close()


@pytest.fixture
def orders(bench: Bench) -> Target:
    target = bench.target()
    rows = {"id": [1, 2, 3, 4], "name": ["a", "b", None, "b"], "qty": [1.5, 2.5, None, 4.0]}
    bench.write(target, pa.table(rows))
    return target


@pytest.mark.parametrize(
    ("sql", "columns", "where"),
    [
        ("SELECT name FROM orders WHERE id > 1", ("id", "name"), [("id", ">", 1)]),
        ("SELECT name FROM sales.orders o WHERE 3 >= o.id", ("id", "name"), [("id", "<=", 3)]),
        ("SELECT count(*) AS n FROM orders", ("id",), []),
        ("SELECT * FROM orders WHERE name IS NOT NULL", None, [("name", "is not null", None)]),
        ("SELECT id FROM orders WHERE id IN (1, 2) AND qty > 1", ("id", "qty"),
         [("id", "in", (1, 2)), ("qty", ">", 1)]),
        ("SELECT id FROM orders WHERE id > 1 OR name = 'a'", ("id", "name"), []),
        ("SELECT id + 1 AS id FROM orders WHERE id > 1", ("id",), []),
        ("SELECT orders FROM orders", None, []),
        ("FROM orders", None, []),
        ("SELECT COLUMNS('i.*') FROM orders", None, []),
        ("SELECT id FROM orders WHERE id > 2 UNION ALL SELECT id FROM orders", ("id",), []),
        ("WITH orders AS (SELECT * FROM sales.orders) SELECT id FROM orders", None, []),
        ("SELECT id FROM orders a JOIN sales.orders b USING (id) WHERE id > 1", None, []),
        ("SELECT id FROM orders USING SAMPLE 100% WHERE id > 1", None, None),
        ("SELECT (SELECT max(id) FROM orders) AS m, id FROM orders WHERE id > 1", ("id",), []),
    ],
)  # fmt: skip
def test_columns_and_plain_conditions_are_handed_to_the_scan(
    ask: Asking, orders: Target, sql: str, columns: Any, where: Any
) -> None:
    if where is None:
        with pytest.raises(EngineError):
            ask(orders, sql)
        return
    rows = ask(orders, sql).to_pylist()
    ((wanted, conditions),) = ask.asked
    assert wanted == columns
    assert [(each.column, each.operator, each.value) for each in conditions] == where
    assert sorted(rows, key=repr) == sorted(ask(orders, sql, narrowed=False).to_pylist(), key=repr)


def test_a_query_gives_what_sql_says(ask: Asking, orders: Target) -> None:
    assert ask(
        orders, "SELECT name, sum(qty) AS s FROM orders WHERE id < 9 GROUP BY ALL ORDER BY s"
    ).to_pylist() == [{"name": "a", "s": 1.5}, {"name": "b", "s": 6.5}, {"name": None, "s": None}]
    assert ask(orders, "SELECT count(*) AS n FROM orders a, orders b").to_pylist() == [{"n": 16}]
    twice = "WITH x AS (SELECT * FROM orders) SELECT count(*) AS n FROM x a JOIN x b USING (id)"
    assert ask(orders, twice).to_pylist() == [{"n": 4}]
    pivot = ask(orders, "PIVOT orders ON name USING sum(id)")
    assert pivot.num_rows == 4
    assert ask(orders, "SELECT id, name FROM orders LIMIT 0").schema.names == ["id", "name"]
    renamed = ask(orders, "SELECT id AS a, name AS b FROM orders", columns=("b",))
    assert renamed.schema.names == ["b"]
    huge = ask(orders, "SELECT sum(id) AS s FROM orders")
    assert huge.schema.field("s").type == pa.decimal128(38, 0)


def test_a_filter_holds_beside_a_query(ask: Asking, orders: Target) -> None:
    options = IcebergSourceOptions(filter="id >= 2")
    found = ask(orders, "SELECT count(*) AS n FROM orders WHERE id < 4", options=options)
    assert found.to_pylist() == [{"n": 2}]


def test_a_query_reads_the_snapshot_that_is_named(
    ask: Asking, bench: Bench, orders: Target
) -> None:
    first = bench.table(orders).current_snapshot().snapshot_id
    bench.write(orders, {"id": [9], "other": [1]})
    old = IcebergSourceOptions(snapshot_id=first)
    assert ask(orders, "SELECT max(id) AS m FROM orders", options=old).to_pylist() == [{"m": 4}]
    with pytest.raises(EngineError, match="other"):
        ask(orders, "SELECT other FROM orders", options=old)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM customers", "reads customers"),
        ("SELECT * FROM sales.order", "'sales.order' is not an input"),
        ("SELECT * FROM '/etc/passwd'", "'/etc/passwd' is not an input"),
        ("SELECT * FROM 'x.parquet'", "'x.parquet' is not an input"),
        ("SELECT * FROM read_text('/etc/passwd')", "reads files itself"),
        ("SELECT * FROM orders; SELECT 1", "several statements"),
        ("DELETE FROM orders", "DELETE is not allowed"),
        ("COPY orders TO 'x.csv'", "COPY is not allowed"),
        ("CREATE TEMP TABLE x AS SELECT 1", "gives no rows"),
        ("SET memory_limit = '1GB'", "SET is not allowed"),
        ("SELECT idd FROM orders", "line 1, at 'idd'"),
        ("SELEC 1", "SELEC"),
    ],
)
def test_a_query_sees_its_table_and_nothing_else(
    ask: Asking, orders: Target, tmp_path: Path, sql: str, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        ask(orders, sql)
    stored = tmp_path / "store" / "x.parquet"
    pq.write_table(pa.table({"a": [1]}), stored)
    with pytest.raises(EngineError):
        ask(orders, f"SELECT * FROM '{stored}'")


def test_what_fails_in_the_store_is_said_in_its_own_words(
    ask: Asking, bench: Bench, orders: Target
) -> None:
    for file in bench.table(orders).scan().plan_files():
        Path(file.file.file_path.removeprefix("file://")).unlink()
    with pytest.raises(BackendError):
        ask(orders, "SELECT id FROM orders")


NAN = float("nan")
VALUES: dict[str, tuple[pa.DataType, list[Any], list[str]]] = {
    "i": (pa.int32(), [-5, 0, 3, 2**31 - 1], ["-5", "0", "3", "2.5", "2147483648", "'3'"]),
    "l": (pa.int64(), [-(2**63), 7, 2**63 - 1], ["7", "-7", "9223372036854775808", "7.0"]),
    "f": (pa.float64(), [-1.5, 0.0, -0.0, NAN, float("inf")], ["0", "-1.5", "1e300", "0.5"]),
    "d": (pa.decimal128(10, 2), [Decimal("-1.50"), Decimal("0.00"), Decimal("9.99")],
          ["0", "-1.5", "9.99", "9.995", "12345678901"]),
    "s": (pa.string(), ["", "a", "B", "é", "a" * 40], ["''", "'a'", "'B'", "'é'", "'" + "a" * 39 + "'"]),
    "b": (pa.bool_(), [True, False], ["true", "false"]),
    "t": (pa.date32(), [date(1969, 12, 31), date(2024, 2, 29)],
          ["'2024-02-29'", "DATE '1970-01-01'", "TIMESTAMP '2024-02-29 00:00:00'"]),
    "z": (pa.timestamp("us"), [datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("1960-01-01T00:00:00.000001")],
          ["'2024-01-01'", "TIMESTAMP '2024-01-01 00:00:00'", "'1960-01-01 00:00:00.000001'",
           "DATE '2024-01-01'"]),
    "y": (pa.timestamp("us", tz="UTC"), [datetime(2024, 1, 1, tzinfo=UTC)],
          ["'2024-01-01 00:00:00'", "'2024-01-01 00:00:00+02'", "TIMESTAMP '2023-12-31 23:00:00'"]),
}  # fmt: skip


def test_random_conditions_give_the_rows_of_a_whole_scan(ask: Asking, bench: Bench) -> None:
    draw = random.Random(9)
    target = bench.target("sales.random", partition_by=("b",))
    columns = {
        name: pa.array([draw.choice([*values, None]) for _ in range(60)], type)
        for name, (type, values, _) in VALUES.items()
    }
    columns["n"] = pa.array(range(60), pa.int32())
    bench.write(target, pa.table(columns))
    pushed_down = 0
    for _ in range(90):
        conjuncts = []
        for _ in range(draw.choice([1, 1, 2])):
            name = draw.choice(list(VALUES))
            literals = VALUES[name][2]
            operator = draw.choice(["=", "<>", "<", "<=", ">", ">=", "in", "null", "between"])
            if operator == "in":
                conjuncts.append(f"{name} IN ({', '.join(draw.sample(literals, 2))})")
            elif operator == "null":
                conjuncts.append(f"{name} IS {draw.choice(['', 'NOT'])} NULL")
            elif operator == "between":
                conjuncts.append(
                    f"{name} BETWEEN {draw.choice(literals)} AND {draw.choice(literals)}"
                )
            else:
                conjuncts.append(f"{name} {operator} {draw.choice(literals)}")
        sql = f"SELECT n FROM random WHERE {' AND '.join(conjuncts)} ORDER BY n"
        try:
            whole = ask(target, sql, narrowed=False).to_pylist()
        except EngineError:
            continue  # SQL can't compare the two
        pushed_down += len(ask.asked[-1][1])
        assert ask(target, sql).to_pylist() == whole, sql
    assert pushed_down > 60


def test_a_name_in_two_cases_and_odd_sql_push_nothing() -> None:
    assert pushed("SELECT a FROM t WHERE a > 1", "t", ["a", "A"]).columns is None
    assert pushed("SELECT a FROM t WHERE a > 1", "t", ["a", "A"]).where == ()
    assert pushed("SELECT a FROM u AS t WHERE a > 1", "t", ["a"]).where == ()
    assert pushed("SELECT a FROM t AS t(b) WHERE a > 1", "t", ["a"]).where == ()
    assert pushed("SELECT b AS a FROM t WHERE a > 1", "t", ["a", "b"]).where == ()
