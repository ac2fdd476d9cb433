"""Sources: a table or a query, in one view, streamed, exact or refused."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, Interrupted
from seeknal_core.types import Source
from seeknal_postgres import plugin
from support.postgres_hooks import Database


def test_a_projection_reads_the_named_columns_in_their_order(db: Database) -> None:
    db.execute("CREATE TABLE public.t AS SELECT 1 AS a, 'x'::text AS b, 2::int8 AS c")
    assert db.read(parts=("t",), columns=("c", "a")).to_pydict() == {"c": [2], "a": [1]}
    with pytest.raises(BackendError, match="no column 'bb'") as refused:
        db.read(parts=("t",), columns=("bb",))
    assert "did you mean 'b'" in refused.value.hint


def test_a_query_is_run_by_the_server(db: Database) -> None:
    db.execute("CREATE TABLE public.t AS SELECT generate_series(1, 10) AS a")
    query = (
        "WITH big AS (SELECT a FROM t WHERE a > 8) SELECT a, '{%s}' AS b FROM big ORDER BY a -- end"
    )
    assert db.read(query=query).to_pydict() == {"a": [9, 10], "b": ["{%s}"] * 2}
    assert db.read(query="SELECT 1 AS a;\n").to_pydict() == {"a": [1]}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS a; DROP TABLE public.t",
        "SELECT 1) AS q; DROP TABLE public.t; --",
        "DELETE FROM public.t",
        "WITH gone AS (DELETE FROM public.t RETURNING *) SELECT * FROM gone",
        "DROP TABLE public.t",
        "SELECT nextval('public.counter')",
        "",
        "SELECT * FROM public.t FOR UPDATE",
    ],
)
def test_what_is_not_one_statement_that_only_reads_is_refused(db: Database, query: str) -> None:
    db.execute("CREATE TABLE public.t AS SELECT 1 AS a", "CREATE SEQUENCE public.counter")
    with pytest.raises(BackendError) as refused:
        db.read(query=query)
    assert "SELECT" in refused.value.hint
    assert db.value("SELECT count(*) FROM public.t") == 1


def test_types_without_a_counterpart_come_as_text(db: Database) -> None:
    db.execute("CREATE TYPE public.mood AS ENUM ('sad')", "CREATE DOMAIN public.d AS int")
    found = db.read(
        query="""SELECT '{"b": 1,  "a": 2}'::json AS j, '{"b":1}'::jsonb AS jb, 'sad'::mood AS e,
        '10.0.0.1'::inet AS i, '1 day 2 hours'::interval AS iv, '[1,3)'::int4range AS r,
        ARRAY['sad'::mood] AS ea, 7::d AS d, row(1, 'x') AS c, '10:00+02'::time with time zone AS tz,
        ARRAY[1.50::numeric] AS na"""
    )
    assert found.to_pylist() == [
        {
            "j": '{"b": 1,  "a": 2}', "jb": '{"b": 1}', "e": "sad", "i": "10.0.0.1/32",
            "iv": "1 day 02:00:00", "r": "[1,3)", "ea": ["sad"], "d": 7, "c": "(1,x)",
            "tz": "10:00:00+02", "na": ["1.50"],
        }
    ]  # fmt: skip


def test_a_type_of_the_users_that_is_called_like_one_of_the_servers_comes_as_text(
    db: Database,
) -> None:
    db.execute(
        "CREATE TYPE public.date AS ENUM ('abcd')",
        "CREATE TYPE public.uuid AS (a int, b pg_catalog.text)",
        "CREATE TYPE public.numeric AS ENUM ('x')",
        "CREATE TYPE public.text AS ENUM ('y')",
        "CREATE TABLE public.time (a int)",
        "INSERT INTO public.time VALUES (1)",
    )
    query = """SELECT 'abcd'::public.date AS d, row(1, 'x')::public.uuid AS u,
        'x'::public.numeric AS n, 'y'::public.text AS t, w,
        ARRAY['abcd'::public.date] AS ds, ARRAY['y'::public.text] AS ts FROM public.time w"""
    expected = {
        "d": "abcd", "u": "(1,x)", "n": "x", "t": "y", "w": "(1)", "ds": ["abcd"], "ts": ["y"],
    }  # fmt: skip
    assert db.read(query=query).to_pylist() == [expected]
    declared = dict.fromkeys(expected, "string")
    texts = {**expected, "ds": "{abcd}", "ts": "{y}"}
    assert db.read(query=query, declared=declared).to_pylist() == [texts]


@pytest.mark.parametrize(
    "value", ["'[0:2]={1,2,3}'::int[]", "'[5:5]={x}'::text[]", "'[-1:0]={1,2}'::numeric[]"]
)
def test_an_array_that_does_not_begin_at_1_is_refused_or_read_as_text(
    db: Database, value: str
) -> None:
    query = f"SELECT '{{1}}'::int[] AS a, {value} AS b UNION ALL SELECT NULL, '{{}}'"
    with pytest.raises(BackendError, match="column 'b' holds an array that does not begin") as told:
        db.read(query=query)
    assert "varchar" in told.value.hint
    read = db.read(query=query, declared={"b": "string"}).column("b").to_pylist()
    assert read == [value.split("'")[1], "{}"]
    assert db.read(query="SELECT '0 2'::int2vector AS v").to_pylist() == [{"v": "0 2"}]


def test_text_in_no_encoding_is_refused_and_can_be_read_as_bytes(db: Database) -> None:
    db.execute(
        "DROP DATABASE IF EXISTS no_encoding",
        "CREATE DATABASE no_encoding ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0",
    )
    with psycopg.connect(autocommit=True, **{**db.dsn, "dbname": "no_encoding"}) as admin:  # type: ignore[arg-type]
        admin.execute("SET client_encoding TO 'SQL_ASCII'")
        admin.execute(b"CREATE TABLE t AS SELECT '\xe9'::text AS a, '{\xe9}'::text[] AS b")
    context = db.context(options={"dbname": "no_encoding"})
    for column, value in (("a", b"\xe9"), ("b", b"{\xe9}")):
        with pytest.raises(BackendError, match="not in the encoding") as told:
            db.read(context=context, query=f"SELECT {column} FROM t")
        way = re.sub(r"\bx\b", column, told.value.hint.split(": ")[1])
        found = db.read(context=context, query=f"SELECT {way} FROM t").to_pylist()
        assert found == [{column: value}]


def test_numbers_are_exact_and_get_a_type_that_lasts(db: Database) -> None:
    found = db.read(
        query="""SELECT 12345678901234567890.12::numeric(30, 2) AS a, sum(x) AS b, avg(x) AS c,
        max(x)::numeric(5, -2) AS d, NULL::numeric AS e FROM generate_series(1::bigint, 2) x"""
    )
    assert found.schema.types == [
        pa.decimal128(30, 2),
        pa.decimal128(38, 9),
        pa.decimal128(38, 18),
        pa.decimal128(7, 0),
        pa.decimal128(38, 9),
    ]
    assert found.to_pylist() == [
        {"a": Decimal("12345678901234567890.12"), "b": 3, "c": Decimal("1.5"), "d": 0, "e": None}
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "'NaN'::numeric",
        "'Infinity'::numeric",
        "1e38::numeric",
        "(1 / 3::numeric(60, 50))::numeric(60, 50)",
        "'infinity'::date",
        "'-infinity'::date",
        "'infinity'::timestamp",
        "'-infinity'::timestamptz",
        "ARRAY['infinity'::timestamptz]",
        "ARRAY[ARRAY[1, 2], ARRAY[3, 4]]",
    ],
)
def test_a_value_that_arrow_cannot_hold_is_refused_by_column(db: Database, expression: str) -> None:
    with pytest.raises(BackendError, match="column 'odd'") as refused:
        db.read(query=f"SELECT 1 AS fine, {expression} AS odd")
    assert refused.value.hint


MIDNIGHT = dt.datetime(1, 1, 1)  # noqa: DTZ001 - a timestamp without time zone


def test_dates_are_right_far_from_today(db: Database) -> None:
    found = db.read(query="SELECT '0001-01-01'::date AS a, '0001-01-01'::timestamp AS b")
    assert found.to_pylist() == [{"a": dt.date(1, 1, 1), "b": MIDNIGHT}]


def test_two_columns_of_one_name_are_refused(db: Database) -> None:
    with pytest.raises(BackendError, match="two columns the name 'a'"):
        db.read(query="SELECT 1 AS a, 2 AS a")


def test_views_partitions_and_odd_names_are_read(db: Database) -> None:
    db.execute(
        'CREATE SCHEMA "Odd S"',
        'CREATE TABLE "Odd S".p (a int) PARTITION BY LIST (a)',
        'CREATE TABLE "Odd S".p1 PARTITION OF "Odd S".p DEFAULT',
        'INSERT INTO "Odd S".p VALUES (5)',
        'CREATE VIEW "Odd S"."v ""1" AS SELECT a AS "A b" FROM "Odd S".p',
    )
    assert db.read(parts=("Odd S", 'v "1')).to_pydict() == {"A b": [5]}


def test_a_table_without_schema_is_looked_for_in_the_connections(db: Database) -> None:
    db.execute("CREATE SCHEMA mart", "CREATE TABLE mart.t AS SELECT 7 AS a")
    context = db.context(options={"schema": "mart"})
    assert db.read(context=context, parts=("t",)).to_pydict() == {"a": [7]}
    assert db.read(context=context, query="SELECT a FROM t").to_pydict() == {"a": [7]}


def test_a_table_that_is_missing_is_named(db: Database) -> None:
    with pytest.raises(BackendError, match=r"s\.nope"):
        db.read(parts=("s", "nope"))


def test_the_view_is_the_one_from_when_it_was_opened(db: Database) -> None:
    db.execute("CREATE TABLE public.t AS SELECT generate_series(1, 3) AS a")
    source = Source(node="source.s", type="postgresql", parts=("t",), watermark="a")
    with plugin.read_source(db.context(), source) as stream:
        db.execute("INSERT INTO public.t VALUES (4)", "DELETE FROM public.t WHERE a = 1")
        assert stream.open().read_all().to_pydict() == {"a": [1, 2, 3]}
        first = stream.version
    with plugin.read_source(db.context(), source) as stream:
        assert stream.version != first
    assert first == "a=3:3"


def test_without_a_watermark_there_is_no_version(db: Database) -> None:
    source = Source(node="source.s", type="postgresql", query="SELECT 1 AS a")
    with plugin.read_source(db.context(), source) as stream:
        assert stream.version is None


def test_identity_is_the_same_as_a_targets(db: Database) -> None:
    db.execute("CREATE TABLE public.t AS SELECT 1 AS a")
    source = Source(node="source.s", type="postgresql", parts=("t",))
    with plugin.read_source(db.context(), source) as stream:
        target = plugin.inspect_target(db.context(), db.target("public.t"))
        assert stream.identity == target.identity


def test_rows_come_in_batches_and_a_failure_in_the_middle_is_told(db: Database) -> None:
    source = Source(
        node="source.s",
        type="postgresql",
        query="SELECT g, repeat('x', 100) AS t, 1 / (g - 900000) AS bad FROM generate_series(1, 1000000) g",
    )
    with plugin.read_source(db.context(), source) as stream:
        reader = stream.open()
        sizes: list[int] = []
        with pytest.raises(BackendError, match="division by zero"):
            sizes.extend(batch.nbytes for batch in reader)
    assert len(sizes) > 1
    assert max(sizes) < 64 * 2**20


def test_a_stop_ends_a_read(db: Database) -> None:
    context = db.context()
    source = Source(
        node="source.s",
        type="postgresql",
        query="SELECT a FROM generate_series(1, 10000) a, generate_series(1, 10000) b",
    )
    with plugin.read_source(context, source) as stream:
        reader = stream.open()
        reader.read_next_batch()
        context.cancellation.request()
        with pytest.raises(Interrupted):
            reader.read_all()


def test_a_slip_in_a_select_is_said_as_the_server_says_it(db: Database) -> None:
    with pytest.raises(BackendError) as refused:
        db.read(query="SELECT 1 AS one WERE true ORDER")
    assert "syntax error" in str(refused.value)
    assert "only reads" not in str(refused.value)
