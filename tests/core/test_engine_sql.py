from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import ConfigError, EngineError, Interrupted
from seeknal_core.engine import check_statements
from seeknal_core.project.specs import EngineSettings
from support.engines import Lab, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def refusal(lab: Lab, *sql: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        lab.sql(sql)
    return caught.value


def test_the_last_select_is_the_output_and_temporary_things_help_it(lab: Lab) -> None:
    orders = lab.sql("SELECT i AS id, i * 2 AS amount FROM range(5) t(i)")
    result = lab.sql(
        [
            'CREATE TEMP TABLE big AS SELECT * FROM "source.orders" WHERE amount > 2',
            "CREATE OR REPLACE TEMPORARY VIEW v AS FROM big; CREATE TEMP MACRO plus(a) AS a + 1",
            "SELECT id, plus(amount) AS amount FROM v ORDER BY id DESC -- the end",
        ],
        source_orders=orders,
    )
    assert [(row["id"], row["amount"]) for row in rows(result)] == [(4, 9), (3, 7), (2, 5)]


def test_nodes_do_not_see_each_others_temporary_things(lab: Lab) -> None:
    lab.sql(["CREATE TEMP TABLE mine AS SELECT 1 AS a", "SELECT * FROM mine"])
    assert "mine" in refusal(lab, "SELECT * FROM mine").message


def test_sums_of_large_integers_stay_exact(lab: Lab) -> None:
    made = lab.sql(
        "SELECT sum(i) AS s, [sum(i)] AS l, {'a': sum(i)} AS t FROM (VALUES (9007199254740993), (2)) v(i)"
    )
    assert made.schema.field("s").type == pa.decimal128(38, 0)
    exact = Decimal(9007199254740995)
    assert rows(made) == [{"s": exact, "l": [exact], "t": {"a": exact}}]
    again = lab.sql('SELECT sum(s) AS s FROM "transform.a"', transform_a=made)
    assert rows(again)[0]["s"] == exact


def test_an_integer_of_39_digits_is_refused_by_its_column(lab: Lab) -> None:
    error = refusal(
        lab, "SELECT 1 AS fine, 170141183460469231731687303715884105727::HUGEINT AS huge"
    )
    assert "'huge'" in error.message
    assert "38 digits" in error.message


def test_a_column_without_type_is_stored_as_integer(lab: Lab) -> None:
    made = lab.sql("SELECT NULL AS n, [] AS l, 1 AS one")
    assert made.schema.field("n").type == pa.int32()
    assert made.schema.field("l").type.value_type == pa.int32()


@pytest.mark.parametrize(
    ("expression", "word"),
    [
        ("INTERVAL 1 DAY", "INTERVAL"),
        ("'10:00+01'::TIMETZ", "TIME WITH TIME ZONE"),
        ("union_value(k := 1)", "UNION"),
        ("[INTERVAL 1 DAY]", "INTERVAL[]"),
        ("{'a': INTERVAL 1 DAY}", "INTERVAL"),
        ("1::VARIANT", "VARIANT"),
    ],
)
def test_a_type_that_parquet_does_not_keep_is_refused_by_its_column(
    lab: Lab, expression: str, word: str
) -> None:
    error = refusal(lab, f"SELECT 1 AS fine, {expression} AS odd")
    assert "'odd'" in error.message
    assert word in error.message
    assert "cast" in error.hint


def test_two_columns_of_one_name_are_refused(lab: Lab) -> None:
    assert "'a'" in refusal(lab, "SELECT 1 AS a, 2 AS a").message
    assert "'A'" in refusal(lab, 'SELECT 1 AS a, 2 AS "A"').message


def test_zero_rows_keep_their_schema(lab: Lab) -> None:
    made = lab.sql("SELECT 1::BIGINT AS a, 'x' AS b WHERE false")
    assert made.row_count == 0
    assert len(made.files) == 1
    assert made.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert rows(made) == []


def test_enums_come_out_as_plain_strings_and_columns_as_nullable(lab: Lab) -> None:
    made = lab.sql("SELECT 'x'::ENUM('x', 'y') AS e, 1 AS a")
    assert made.schema == pa.schema([("e", pa.string()), ("a", pa.int32())])
    assert made.schema.metadata is None


def test_rows_keep_the_order_of_the_query(lab: Lab) -> None:
    made = lab.sql("SELECT i, sum(i) OVER () AS s FROM range(400000) t(i) ORDER BY i DESC")
    column = made.reader(["i"]).read_all()["i"].to_pylist()
    assert column == list(range(399999, -1, -1))


def test_a_pivot_is_an_output_like_any_other(lab: Lab) -> None:
    made = lab.sql("PIVOT (SELECT 'a' AS k, 2 AS v) ON k USING sum(v)")
    assert rows(made) == [{"a": Decimal(2)}]


def test_the_time_zone_is_utc_wherever_it_runs(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from support.engines import open_lab, rows\n"
        "with open_lab(Path(sys.argv[2])) as lab:\n"
        "    made = lab.sql(\"SELECT TIMESTAMPTZ '2024-01-01 00:30:00+00'::VARCHAR AS t\")\n"
        "    print(rows(made)[0]['t'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path)],
        env={**os.environ, "TZ": "America/New_York"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2024-01-01 00:30:00+00\n"


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("COPY (SELECT 1) TO 'x.csv'", "COPY"),
        ("ATTACH 'x.db'", "ATTACH"),
        ("SET threads = 1", "SET"),
        ("PRAGMA database_list", "PRAGMA"),
        ("INSTALL httpfs", "INSTALL"),
        ("LOAD httpfs", "LOAD"),
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("DELETE FROM t", "DELETE"),
        ("UPDATE t SET a = 1", "UPDATE"),
        ("DROP TABLE t", "DROP"),
        ("EXPORT DATABASE 'x'", "EXPORT"),
        ("IMPORT DATABASE 'x'", "IMPORT"),
        ("CALL pragma_version()", "CALL"),
        ("CHECKPOINT", "CHECKPOINT"),
        ("USE memory", "USE"),
        ("BEGIN", "BEGIN"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("CREATE SCHEMA s", "CREATE SCHEMA"),
        ("CREATE TEMP SEQUENCE s", "CREATE SEQUENCE"),
        ("CREATE SECRET (TYPE s3)", "CREATE SECRET"),
    ],
)
def test_a_statement_that_does_more_than_read_is_refused_by_its_name(
    lab: Lab, sql: str, word: str
) -> None:
    error = refusal(lab, sql, "SELECT 1 AS a")
    assert f"statement 1: {word} is not allowed" in error.message
    assert error.hint
    with pytest.raises(EngineError, match=word):
        check_statements(EngineSettings(), "transform.t", [f"{sql}; SELECT 1 AS a"])


@pytest.mark.parametrize("what", ["TABLE t AS SELECT 1", "VIEW t AS SELECT 1", "MACRO t(a) AS a"])
def test_what_other_nodes_would_see_must_be_temporary(lab: Lab, what: str) -> None:
    error = refusal(lab, f"/* why */ CREATE OR REPLACE {what}; SELECT 1 AS a")
    assert error.hint == f"write CREATE TEMP {what.split()[0]}"


def test_an_output_is_demanded(lab: Lab) -> None:
    assert "gives no rows" in refusal(lab, "CREATE TEMP TABLE t AS SELECT 1 AS a").message
    assert "no SQL" in refusal(lab, "-- nothing").message


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{file}'",
        'SELECT * FROM "{file}"',
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM \"read_blob\" ('{file}')",
        "SELECT * FROM READ_CSV_AUTO ('{file}')",
        "FROM glob('{folder}/*')",
        "FROM sniff_csv('{file}')",
        "FROM query_table('{file}')",
        "FROM query('FROM ''{file}''')",
        "FROM 's3://bucket/x.parquet'",
        "FROM 'https://example.org/x.csv'",
        "SELECT (SELECT count(*) FROM '{file}') AS n",
        "WITH x AS (FROM read_json('{file}')) FROM x",
        "FROM parquet_metadata('{snapshot}')",
        "FROM read_parquet('{snapshot}')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM ''{file}'''))",
        "CREATE TEMP TABLE x AS FROM read_csv('{file}'); FROM x",
        "CREATE TEMP VIEW x AS FROM '{file}'; FROM x",
        "CREATE TEMP MACRO x() AS TABLE FROM read_csv('{file}'); FROM x()",
    ],
)
def test_sql_reads_no_file_of_its_own(lab: Lab, sql: str) -> None:
    file = lab.root / "file.csv"
    file.write_text("a,b\nsecret,2\n")
    snapshot = lab.sql("SELECT 1 AS a").files[0]
    text = sql.format(file=file, folder=lab.root, snapshot=snapshot)
    error = refusal(lab, text)
    assert "declare the data as a source" in error.hint or "not allowed" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "sql",
    ["SELECT getenv('HOME') AS h", "SELECT write_log('x') AS a", "FROM truncate_duckdb_logs()"],
)
def test_sql_neither_looks_around_nor_writes_by_functions(lab: Lab, sql: str) -> None:
    refusal(lab, sql)


def test_a_statement_that_slipped_through_still_cannot_change_settings_or_leave_the_store(
    lab: Lab, tmp_path: Path
) -> None:
    from seeknal_core.engine.duckdb import DuckDBEngine

    assert isinstance(lab.engine, DuckDBEngine)
    import duckdb

    with lab.engine.cursor() as cursor:
        for sql in (
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "SET enable_external_access = true",
            f"ATTACH '{tmp_path}/x.db'",
            "LOAD httpfs",
            "SET threads = 1",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(sql)
    assert not (tmp_path / "out.csv").exists()


def test_a_wrong_column_is_told_with_node_line_and_candidates(lab: Lab) -> None:
    orders = lab.sql("SELECT 1 AS amount")
    with pytest.raises(EngineError) as caught:
        lab.sql('-- first\n\nSELECT\n  amuont\nFROM "source.orders"', source_orders=orders)
    assert caught.value.message.startswith("transform.t: line 4, at 'amuont': Binder Error")
    assert '"amount"' in caught.value.message
    assert caught.value.hint == "fix the SQL"


def test_lines_are_counted_through_all_statements_of_a_text(lab: Lab) -> None:
    text = "CREATE TEMP TABLE a AS SELECT 1 AS x;\n\nSELECT x,\n  y\nFROM a"
    assert "line 4, at 'y'" in refusal(lab, text).message
    text = "SELECT 1 AS x;\n\nSELEC 2"
    assert "line 3" in refusal(lab, text).message


def test_a_failing_cast_is_told_by_its_value(lab: Lab) -> None:
    message = refusal(lab, "SELECT\n CAST(a AS INT) AS a FROM (VALUES ('x')) t(a)").message
    assert "line 2" in message
    assert "'x'" in message


def test_a_missing_table_suggests_no_table_of_the_engine(lab: Lab) -> None:
    assert "pg_" not in refusal(lab, "SELECT a FROM nope").message


def test_no_error_shows_a_path_of_the_store(lab: Lab) -> None:
    made = lab.sql("SELECT 1 AS a")
    Path(made.files[0]).chmod(0o644)
    Path(made.files[0]).write_bytes(b"PAR1 not parquet at all PAR1")
    with pytest.raises(EngineError) as caught:
        lab.sql('SELECT * FROM "source.a"', source_a=made)
    assert str(lab.root) not in caught.value.message


def test_too_little_memory_is_told_with_the_setting_to_raise(tmp_path: Path) -> None:
    with open_lab(tmp_path, EngineSettings(memory_limit="40MB", threads=1)) as lab:
        error = refusal(lab, "SELECT list(i) AS l FROM range(30000000) t(i)")
    assert "out of memory" in error.message
    assert "memory_limit" in error.hint


def test_a_limit_nobody_understands_is_a_mistake_of_the_project(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="bananas"),
        open_lab(tmp_path, EngineSettings(memory_limit="60 bananas")),
    ):
        pass
    with (
        pytest.raises(ConfigError, match="quack"),
        open_lab(tmp_path, EngineSettings(name="quack")),
    ):
        pass


@pytest.mark.mounts
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    small = tmp_path / "target"
    small.mkdir()
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from support.engines import open_lab
from seeknal_core.contract.errors import EngineError
with open_lab(Path({str(tmp_path)!r})) as lab:
    try:
        lab.sql("SELECT random() AS a FROM range(3000000)")
    except EngineError as error:
        print(error.message, "|", error.hint, "|", [*lab.store.root.rglob("*.parquet")])
"""
    mount = f"mount -t tmpfs -o size=8m tmpfs {shlex.quote(str(small))}"
    run = f"{mount} && exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", run], capture_output=True, text=True)
    assert "transform.t: no space left on device | free space" in done.stdout, done.stderr
    assert done.stdout.strip().endswith("| []")


def test_a_request_to_stop_interrupts_a_running_query(lab: Lab) -> None:
    def stop() -> None:
        time.sleep(0.3)
        lab.cancellation.request()

    thread = threading.Thread(target=stop)
    thread.start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        lab.sql("SELECT count(*) AS n FROM range(100000000) a, range(10000) b")
    assert time.monotonic() - started < 5
    thread.join()
    with pytest.raises(Interrupted):
        lab.sql("SELECT 1 AS a")


def test_a_project_folder_may_have_any_name(tmp_path: Path) -> None:
    root = tmp_path / 'we \'ird [x]* "d"? ü'
    root.mkdir()
    with open_lab(root) as lab:
        made = lab.sql("SELECT 7 AS a", "source.o")
        again = lab.sql('SELECT a + 1 AS a FROM "source.o"', source_o=made)
        assert rows(again) == [{"a": 8}]


def test_nodes_run_at_the_same_time(lab: Lab) -> None:
    orders = lab.sql("SELECT i AS a FROM range(1000) t(i)")
    results: list[int] = []

    def work(n: int) -> None:
        made = lab.sql(f'SELECT a + {n} AS a FROM "source.o"', f"transform.t{n}", source_o=orders)
        results.append(made.row_count)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1000] * 8


def test_a_query_reads_snapshots_by_id_and_by_name(lab: Lab) -> None:
    orders = lab.sql("SELECT 9007199254740993::HUGEINT AS a")
    for name in ('"source.orders"', "source.orders", "orders"):
        reader = lab.engine.query(f"SELECT a AS x FROM {name}", {"source.orders": orders})
        assert reader.read_all().to_pylist() == [{"x": Decimal(9007199254740993)}]
    nested = lab.sql("SELECT {'orders': 7} AS source")
    reader = lab.engine.query(
        "SELECT o.source.orders AS x FROM orders o", {"source.orders": nested}
    )
    assert reader.read_all().to_pylist() == [{"x": 7}]
    with pytest.raises(EngineError, match="DROP is not allowed"):
        lab.engine.query("DROP TABLE orders", {"source.orders": orders})


def test_the_digest_is_of_the_rows_and_not_of_their_order(lab: Lab) -> None:
    base = lab.digest("SELECT * FROM (VALUES (1, 'a'), (2, NULL)) t(i, s)")
    assert base == lab.digest("SELECT * FROM (VALUES (2, NULL), (1, 'a')) t(i, s)")
    different = [
        "SELECT * FROM (VALUES (1, 'a'), (2, '')) t(i, s)",
        "SELECT * FROM (VALUES (1, NULL), (2, 'a')) t(i, s)",
        "SELECT * FROM (VALUES (1, 'a'), (2, NULL), (2, NULL)) t(i, s)",
        "SELECT * FROM (VALUES (1, 'a'), (2, NULL)) t(i, other)",
        "SELECT * FROM (VALUES (1::BIGINT, 'a'), (2, NULL)) t(i, s)",
    ]
    digests = {lab.digest(sql) for sql in different}
    assert base not in digests
    assert len(digests) == len(different)


def test_the_digest_counts_rows_that_occur_twice(lab: Lab) -> None:
    def twice(a: int, b: int) -> str:
        return lab.digest(f"SELECT * FROM (VALUES ({a}), ({a}), ({b}), ({b})) t(i)")

    assert twice(1, 2) != twice(3, 4)
    assert lab.digest("SELECT 'nan'::DOUBLE AS a") == lab.digest("SELECT 'nan'::DOUBLE AS a")


#: Longer than what is parsed beside the engine.
_LONG = ",\n".join(f"'branch {i:09d}'" for i in range(8_000))


def test_a_large_statement_is_run_as_a_small_one_is(lab: Lab) -> None:
    made = lab.sql(f"CREATE TEMP TABLE t AS SELECT 'x' AS a; FROM t WHERE a NOT IN ({_LONG})")
    assert rows(made) == [{"a": "x"}]
    error = refusal(lab, f"SELECT 1 AS a WHERE 'a' IN ({_LONG})\nAND missing = 1")
    assert "line 8001" in error.message
    assert "missing" in error.message
    error = refusal(lab, f"SELECT 1 AS a WHERE 'a' IN ({_LONG}) FROM FROM")
    assert "FROM" in error.message
    error = refusal(lab, f"SELECT {2**127 - 1}::HUGEINT AS big, 'a' IN ({_LONG}) AS b")
    assert "'big' holds an integer of more than 38 digits" in error.message


def test_what_a_large_statement_may_not_do_is_refused(lab: Lab) -> None:
    comment = "/* " + "x " * 90_000 + "*/"
    for sql, message in (
        (f"{comment} CREATE TABLE t AS SELECT 1", "would be seen by other nodes"),
        (f"{comment} COPY (SELECT 1) TO 'x'", "COPY is not allowed"),
        (f"SELECT {comment} * FROM \"READ_CSV\" ('x')", "reads files itself"),
        (f"SELECT 'a' IN ({_LONG}) FROM iceberg_scan('x')", "reads files itself"),
        (f"SELECT 'a' IN ({_LONG}) FROM query('SELECT 1')", "is not allowed"),
        (f"SELECT 'a' IN ({_LONG}); DELETE FROM t", "DELETE is not allowed"),
    ):
        assert message in refusal(lab, sql).message
