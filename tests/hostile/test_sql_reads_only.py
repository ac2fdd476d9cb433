"""A node's SQL reads its inputs and writes nothing, whoever wrote it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.types import Snapshot
from seeknal_core.engine import statements
from seeknal_core.engine.binding import Binder
from seeknal_core.engine.duckdb import DuckDBEngine
from seeknal_core.engine.protocol import NodeVariables
from seeknal_core.project.specs import Audit, EngineSettings, PythonNode, SqlNode
from support.cli import Cli, write
from support.engines import HERE, Lab, open_lab, rows

PIVOT = "PIVOT (SELECT 'a' AS k, 2 AS v) ON k USING sum(v)"

#: ``{out}`` is the stored snapshot of another node, ``{file}`` a file that holds a secret.
WRITES = {
    "copy of a pivot": f"COPY ({PIVOT}) TO '{{out}}' (FORMAT parquet)",
    "explain analyze copy": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
    "explain analyze copy of a pivot": f"EXPLAIN ANALYZE COPY ({PIVOT}) TO '{{out}}'",
    "prepare": "PREPARE p AS COPY (SELECT 1) TO '{out}'",
    "prepare of a pivot": f"PREPARE p AS {PIVOT}",
    "execute": "EXECUTE p",
    "insert": "INSERT INTO t SELECT 1",
    "insert of a pivot": f"INSERT INTO t {PIVOT}",
    "with insert": "WITH i AS (SELECT 1) INSERT INTO t FROM i",
    "with insert of a pivot": f"WITH i AS ({PIVOT}) INSERT INTO t FROM i",
    "update": "WITH i AS (SELECT 1 a) UPDATE t SET a = 2",
    "merge": "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
    "call": "CALL force_checkpoint()",
    "connect": "CONNECT 'x'; SELECT 1 AS a",
    "a resource": "CREATE EXTERNAL RESOURCE x; SELECT 1 AS a",
    "a surrogate": "SELECT '\ud800' AS a",
    "copy in a cte": "WITH i AS (COPY (SELECT 1) TO '{out}') SELECT 1 AS a",
    "copy in a nested cte": (
        "SELECT * FROM (WITH i AS (WITH j AS (COPY (SELECT 1) TO '{out}') FROM j) FROM i)"
    ),
    "copy beside a pivot": f"WITH p AS ({PIVOT}), i AS (COPY (SELECT 1) TO '{{out}}') FROM p",
    "insert in a cte": "WITH i AS (INSERT INTO t VALUES (1) RETURNING a) FROM i",
    "delete in a cte": "WITH i AS (DELETE FROM t RETURNING a) FROM i",
    "copy in a table": (
        "CREATE TEMP TABLE x AS WITH i AS (COPY (SELECT 1) TO '{out}') SELECT 1 AS a; FROM x"
    ),
    "copy in a view": (
        "CREATE TEMP VIEW x AS WITH i AS (COPY (SELECT 1) TO '{out}') SELECT 1 AS a; FROM x"
    ),
    "copy in a macro": (
        "CREATE TEMP MACRO x() AS TABLE WITH i AS (COPY (SELECT 1) TO '{out}') SELECT 1; FROM x()"
    ),
    "copy in a pivot's list": (
        "PIVOT (SELECT 'a' AS k, 2 AS v)"
        " ON k IN (WITH i AS (COPY (SELECT 1) TO '{out}') SELECT 'a') USING sum(v)"
    ),
}

READS = {
    "a path": "FROM '{out}'",
    "a quoted path": 'FROM "{out}"',
    "a path of two parts": 'FROM "{stem}".parquet',
    "a path in a subquery": "SELECT (SELECT count(*) FROM '{out}') AS n",
    "a path in a condition": "SELECT 1 AS a WHERE EXISTS (FROM '{out}')",
    "a path in order and limit": "SELECT 1 AS a ORDER BY (SELECT a FROM '{out}') LIMIT 1",
    "a path in a limit": "SELECT 1 AS a LIMIT (SELECT a FROM '{out}')",
    "a path in a join": "SELECT 1 AS a FROM range(1) JOIN '{out}' ON true",
    "a path after union": "SELECT 1 AS a UNION ALL FROM '{out}'",
    "a path that is described": "DESCRIBE '{out}'",
    "a path that is summarized": "FROM (SUMMARIZE '{out}')",
    "a path that is pivoted": "PIVOT '{out}' ON a USING count(*)",
    "a path in a pivot's list": (
        "PIVOT (SELECT 'a' AS k, 2 AS v) ON k IN (SELECT a::VARCHAR FROM '{out}') USING sum(v)"
    ),
    "a path in a pivot's expression": (
        "PIVOT (SELECT 'a' AS k, 2 AS v) ON k || (SELECT a FROM '{out}') USING sum(v)"
    ),
    "a cte that hides its own path": 'WITH "{out}" AS (FROM \'{out}\') FROM "{out}"',
    "a recursive cte's first part": (
        'WITH RECURSIVE "{out}" AS (FROM \'{out}\' UNION FROM "{out}") FROM "{out}"'
    ),
    "a cte of another branch": '(FROM \'{out}\') UNION ALL (WITH "{out}" AS (SELECT 1) FROM "{out}")',
    "a view that comes later": "CREATE TEMP TABLE x AS FROM '{out}';"
    ' CREATE TEMP VIEW "{out}" AS SELECT 1; FROM x',
    "a view of the path's name": "CREATE TEMP VIEW \"{out}\" AS SELECT 1; FROM histogram('{out}', a)",
    "histogram of a path": "FROM histogram('{out}', a)",
    "histogram by names": "FROM histogram(col_name := a, source := '{out}')",
    "a table": "CREATE TEMP TABLE x AS FROM '{out}'; FROM x",
    "a pivoted table": "CREATE TEMP TABLE x AS PIVOT '{out}' ON a USING count(*); FROM x",
    "a view": "CREATE TEMP VIEW x AS FROM read_parquet('{out}'); FROM x",
    "a recursive view": (
        "CREATE TEMP RECURSIVE VIEW x(a) AS SELECT 1 UNION SELECT a FROM '{out}'; FROM x"
    ),
    "a macro": "CREATE TEMP MACRO x() AS (SELECT max(a) FROM '{out}'); SELECT x() AS a",
    "a macro's second body": (
        "CREATE TEMP MACRO x(a) AS TABLE SELECT 1, (a, b) AS TABLE FROM '{out}'; FROM x(1, 2)"
    ),
    "a macro that takes a table": "CREATE TEMP MACRO x(t) AS TABLE FROM query_table(t); FROM x('{out}')",
    "a macro of a reader's name": (
        "CREATE TEMP MACRO read_parquet(a) AS a; FROM read_parquet('{out}')"
    ),
    "text": "SELECT content FROM read_text('{file}')",
    "a macro's parameter for a table": (
        "CREATE TEMP MACRO x(t) AS TABLE FROM histogram(t, a); FROM x('{out}')"
    ),
    "a macro's default for a table": (
        "CREATE TEMP MACRO x(t := '{out}') AS (SELECT max(bin) FROM histogram_values(t, a));"
        " SELECT x() AS a"
    ),
    "a macro's parameter below a cte of its name": (
        "CREATE TEMP MACRO x(t) AS TABLE WITH t AS (SELECT 1 AS a) FROM histogram_values(t, a);"
        " FROM x('{out}')"
    ),
    "histogram of a path below a macro of its name": (
        "CREATE TEMP MACRO histogram(t) AS TABLE SELECT 1; FROM system.main.histogram('{out}', a)"
    ),
    # Checked alone, the body holds a cast of a text to a type named FROM\xa0.
    "a blank that is a letter in the check": (
        "CREATE TEMP MACRO x(t := E'\\'') /* ' */ AS TABLE"
        " SELECT *, E'\\'' AS q, FROM\xa0'{out}'; FROM x()"
    ),
    "a path after the name of a recurring cte": 'WITH "{out}" AS (SELECT 1) FROM recurring."{out}"',
    "text below a macro": "CREATE TEMP MACRO range(a) AS a; SELECT * FROM read_text('{file}')",
    "another scan": "FROM parquet_scan('{out}')",
    "sql in a text": "FROM query('FROM ''{out}''')",
    "a pointer": "FROM arrow_scan(1, 2, 3)",
    "sniffing": "FROM sniff_csv('{file}')",
    "listing": "FROM glob('{folder}/**')",
}

LOOKS = {
    "a setting": "SELECT current_setting('temp_directory') AS a",
    "a setting of a schema": "SELECT system.main.current_setting('allowed_directories') AS a",
    "a setting by a dot": "SELECT ('temp_directory').current_setting() AS a",
    "a setting as a default": (
        "CREATE TEMP MACRO x(a := current_setting('temp_directory')) AS a; SELECT x() AS a"
    ),
    "a setting in a column": (
        "CREATE TEMP TABLE x(a INT, b VARCHAR AS (current_setting('temp_directory'))); FROM x"
    ),
    "the settings": "FROM duckdb_settings()",
    "the settings as a view": "FROM pg_settings",
    "the query": "SELECT current_query() AS a",
    "the query of a window": "SELECT max(current_query()) OVER () AS a",
    "views and their files": "FROM duckdb_views()",
    "views as a view": "SELECT sql AS a FROM duckdb_views",
    "a view's text": "SELECT pg_get_viewdef(1) AS a",
    "sqlite's catalog": "FROM sqlite_master",
    "information_schema": "FROM information_schema.views",
    "pg_catalog": "FROM pg_catalog.pg_class",
    "databases": "FROM pragma_database_list",
    "show": "SHOW ALL TABLES",
    "show in from": "FROM (SHOW DATABASES)",
    "which secret": "FROM which_secret('s3://x', 's3')",
    "getenv": "SELECT getenv('HOME') AS a",
    "a cte of a catalog's name": "WITH pg_settings AS (FROM pg_settings) FROM pg_settings",
    "metadata": "FROM parquet_metadata('{out}')",
    "logs": "FROM duckdb_logs",
    "a plan": "SELECT json_serialize_plan('FROM ''{out}''') AS a",
}

ATTACKS = {**WRITES, **READS, **LOOKS}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


@pytest.fixture
def attack(lab: Lab) -> Callable[[str], str]:
    """Return SQL with its places filled in; afterwards the victim must be as it was."""
    (lab.root / "secret.csv").write_text("a\nhunter2\n")
    victim = lab.sql("SELECT 1 AS a").files[0]

    def filled(sql: str) -> str:
        return sql.format(
            out=victim,
            stem=victim.removesuffix(".parquet"),
            file=lab.root / "secret.csv",
            folder=lab.root,
        )

    return filled


def refused(do: Callable[[], object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        do()
    message = caught.value.message
    assert "hunter2" not in message
    assert caught.value.line > 0, message
    assert f"line {caught.value.line}" in message
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", ATTACKS)
def test_a_node_neither_writes_nor_reads_beside_its_inputs(
    lab: Lab, attack: Callable[[str], str], name: str
) -> None:
    victim = Path(attack("{out}"))
    before = victim.read_bytes(), sorted(lab.root.rglob("*.parquet"))
    sql = attack(ATTACKS[name])
    error = refused(lambda: lab.sql(sql))
    assert error.message.startswith("transform.t: line ")
    refused(lambda: lab.engine.query(sql, {}).read_all())
    assert (victim.read_bytes(), sorted(lab.root.rglob("*.parquet"))) == before


@pytest.mark.parametrize("name", ["copy of a pivot", "a path", "a setting", "copy in a cte"])
def test_audits_python_nodes_and_the_search_for_names_are_held_to_the_same(
    lab: Lab, attack: Callable[[str], str], name: str
) -> None:
    sql = attack(ATTACKS[name])
    victim = Path(attack("{out}"))
    before = victim.read_bytes()
    made = lab.sql("SELECT 1 AS a")
    audit = Audit(type="custom_sql", sql=sql)
    node = SqlNode(name="t", location=HERE, sql="SELECT 1", sql_location=HERE, audits=(audit,))
    refused(lambda: lab.engine.run_audits(node, made, {}))

    def asks(ctx: NodeVariables) -> object:
        return ctx.sql(sql)  # type: ignore[attr-defined]

    python = PythonNode(name="p", location=HERE, load=lambda: asks, qualname="asks", inputs=())
    with pytest.raises(EngineError):
        lab.python(python)
    binder = Binder()
    assert binder.bind("transform.t", [sql], {}, []) is None
    binder.close()
    assert victim.read_bytes() == before


def test_the_refusal_names_the_line_of_the_whole_text(lab: Lab) -> None:
    error = refused(
        lambda: lab.sql(
            "-- é\nCREATE TEMP VIEW v AS\n  SELECT 1 AS a,\n 'é' AS b;\n"
            "/* so */ CREATE TEMP MACRO m(x)\n\n AS TABLE\n SELECT a,\n"
            "  (SELECT max(content) FROM read_text('x')) FROM v;\nFROM m(1)"
        )
    )
    assert error.message == "transform.t: line 9, statement 2: read_text() reads files itself"
    assert error.line == 9


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('WITH "a.b" AS (SELECT 1 AS x) FROM "a.b" UNION ALL FROM "A.B"', [{"x": 1}] * 2),
        (
            "CREATE TEMP MACRO f(a, b := 2) AS a + b; CREATE TEMP MACRO g(z) AS TABLE"
            ' SELECT f(id) AS x FROM "source.o" WHERE id = z; FROM g(1)',
            [{"x": 3}],
        ),
        (
            "CREATE TEMP FUNCTION g(z) AS TABLE (SELECT 1 AS x, (z)),\n"
            " (z, y) AS TABLE (SELECT 3 AS x); FROM g(1, 2)",
            [{"x": 3}],
        ),
        (
            "CREATE TEMP RECURSIVE VIEW r(n) AS SELECT 1 UNION ALL SELECT n + 1 FROM r"
            " WHERE n < 3; FROM r",
            [{"n": 1}, {"n": 2}, {"n": 3}],
        ),
        ("CREATE TEMP TABLE t(a INT NOT NULL, b DECIMAL(3, 2)); FROM temp.t", []),
        ('CREATE TEMP TABLE t("a ; b") AS (SELECT 1 -- x\n); FROM t', [{"a ; b": 1}]),
        ("CREATE TEMP TABLE t AS SELECT 1 AS a WITH NO DATA; FROM t", []),
        (
            'PIVOT (FROM "source.o") AS s JOIN range(2) r(j) ON s.id = r.j\n'
            " ON id % 2, j IN (1 AS one) USING count(*) AS n",
            None,
        ),
        (
            'WITH p AS (PIVOT (PIVOT "source.o" ON id USING count(*)) ON "0" USING count(*))'
            " FROM p",
            None,
        ),
        ('PIVOT "source.o" ON id IN (SELECT 1) USING count(*)', None),
        (
            "CREATE TEMP TABLE t AS SELECT 1 AS a; CREATE TEMP MACRO m() AS TABLE"
            " SELECT count FROM histogram('t', a); FROM m()",
            [{"count": 1}],
        ),
        ("SELECT\xa0'a\xa0b' AS \"é\xa0e\" /* don't */", [{"é\xa0e": "a\xa0b"}]),
        ("SELECT user AS u, current_date IS NULL AS d", [{"u": "duckdb", "d": False}]),
        ('SELECT column_name AS c FROM (DESCRIBE "source.o")', [{"c": "id"}]),
        ("CREATE TEMP TABLE t AS SELECT 1 AS a; SELECT count FROM histogram(t, a)", [{"count": 1}]),
    ],
)
def test_what_reads_inputs_alone_is_left_as_it_is(
    lab: Lab, sql: str, expected: list[dict[str, object]] | None
) -> None:
    orders = lab.sql("SELECT i AS id FROM range(3) t(i)")
    found = rows(lab.sql(sql, source_o=orders))
    if expected is not None:
        assert found == expected


def test_a_query_too_deep_for_python_is_checked_to_its_end() -> None:
    sums = "+".join(["1"] * 400)
    statements.check("t", [f"SELECT {sums} AS a"])
    refused(lambda: statements.check("t", [f"SELECT (SELECT max(a) FROM 'x.csv') + {sums} AS a"]))


def test_what_hides_behind_many_constants_is_found() -> None:
    many = ", ".join(f"'{n} \"}}}}'" for n in range(5_000))
    statements.check("t", [f"SELECT 'a' IN ({many}) AS a"])
    refused(lambda: statements.check("t", [f"SELECT 'a' IN ({many}, getenv('x')) AS a"]))


def test_a_spill_folder_opens_nothing_that_lies_in_it(tmp_path: Path) -> None:
    """``temp_directory: /`` made the whole file system readable."""
    (tmp_path / "secret.csv").write_text("a\nhunter2\n")
    with open_lab(tmp_path, EngineSettings(temp_directory=str(tmp_path))) as lab:
        assert isinstance(lab.engine, DuckDBEngine)
        (own,) = tmp_path.glob("seeknal-spill-*")
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        with lab.engine.cursor() as cursor, pytest.raises(duckdb.PermissionException):
            cursor.execute(f"FROM read_csv('{tmp_path}/secret.csv')")
    assert not list(tmp_path.glob("seeknal-spill-*"))


def test_an_untrusted_node_has_an_instance_that_sees_its_inputs_alone(tmp_path: Path) -> None:
    with open_lab(tmp_path, untrusted=True) as lab:
        assert isinstance(lab.engine, DuckDBEngine)
        mine, other = lab.sql("SELECT 1 AS a"), lab.sql("SELECT 2 AS a")
        again = lab.sql('SELECT a + 1 AS a FROM "source.x"', source_x=mine)
        assert rows(again) == [{"a": 2}]
        asked = lab.engine.query("SELECT a FROM x", {"source.x": mine}).read_all()
        assert asked.to_pylist() == [{"a": 1}]
        # As if the check had let it pass.
        with (
            lab.engine._reading({"source.x": mine}) as instance,
            lab.engine.cursor(instance) as cursor,
        ):
            lab.engine._name_inputs("transform.t", cursor, {"source.x": mine})
            assert cursor.execute('FROM "source.x"').fetchall() == [(1,)]
            for sql in (
                f"FROM read_parquet('{other.files[0]}')",
                f"COPY (SELECT 1) TO '{other.files[0]}'",
                f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
                f"FROM glob('{tmp_path}/**')",
                "SET enable_external_access = true",
            ):
                with pytest.raises(duckdb.Error):
                    cursor.execute(sql).fetchall()
        assert not (tmp_path / "out.csv").exists()
        assert [path.name for path in (tmp_path / "target/tmp/run").iterdir()] in ([], ["spill"])


def test_a_large_untrusted_query_streams_from_its_own_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seeknal_core.engine.streaming.LARGE", 0)
    with open_lab(tmp_path, untrusted=True) as lab:
        numbers: Snapshot = lab.stream(pa.table({"id": range(10)}))
        passed = lab.sql('SELECT id FROM "source.s" WHERE id > 7', source_s=numbers)
        assert rows(passed) == [{"id": 8}, {"id": 9}]


def test_check_run_and_query_refuse_a_write_with_file_and_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "seeknal_project.yml": "name: p\n",
            "seeknal/fine.yml": "kind: transform\nname: fine\ntransform: SELECT 1 AS a\n",
            "seeknal/bad.yml": "kind: transform\nname: bad\ntransform: |\n  SELECT 1 AS a;\n"
            f"\n  COPY ({PIVOT})\n  TO 'out.csv';\n",
        },
    )
    seeknal = Cli(cwd=tmp_path, warm=True)
    checked = seeknal("check", code=2)
    assert "bad.yml:6" in checked.said
    assert "COPY is not allowed" in checked.said
    ran = seeknal("run", "--env", "dev", code=None)
    assert ran.code != 0
    assert not list(tmp_path.rglob("out.csv"))
    seeknal("run", "--env", "dev", "--select", "transform.fine")
    half = seeknal("run", "--env", "dev", "--vars", '{"x": "\\ud800"}', code=2)
    assert "half a character" in half.said
    asked = seeknal("query", "--env", "dev", f"COPY ({PIVOT}) TO 'out.csv'", code=None)
    assert asked.code != 0
    assert "COPY is not allowed" in asked.said
    assert not list(tmp_path.rglob("out.csv"))
