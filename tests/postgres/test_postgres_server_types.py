"""Columns of the server's own types: written exactly or refused, and read back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import Mode
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import promotion, target_of

SETUP = (
    "CREATE EXTENSION IF NOT EXISTS hstore SCHEMA public",
    "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public",
    "CREATE TYPE public.pair AS (a int, b text)",
    "CREATE TYPE public.mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN public.small AS int4range CHECK (upper(VALUE) < 100)",
)
#: A type, a value as the server prints it, and one that it does not take.
TYPES = {
    "int4range": ("[1,3)", "[3,1)"),
    "numrange": ("[1.5,2.50)", "x"),
    "tsrange": ('["2024-01-01 00:00:00","2024-01-02 00:00:00")', "x"),
    "tstzrange": ('["2024-01-01 00:00:00+00",)', "x"),
    "daterange": ("[2024-01-01,2024-02-01)", "x"),
    "int4multirange": ("{[1,3),[5,7)}", "{1}"),
    "bit(3)": ("101", "1011"),
    "bit varying(5)": ("101", "101101"),
    "time with time zone": ("10:00:00+02", "x"),
    "interval": ("1 day 02:00:00", "x"),
    "public.hstore": ('"a"=>"1", "b"=>NULL', "a=>"),
    "public.citext": ("Abc", None),
    "public.pair": ("(1,x)", "(x,1)"),
    "public.mood": ("sad", "glad"),
    "public.small": ("[1,3)", "[1,300)"),
    "inet": ("10.0.0.1/32", "10.0.0"),
    "cidr": ("10.0.0.0/8", "10.0.0.1/8"),
    "macaddr": ("08:00:2b:01:02:03", "08"),
    "jsonb": ('{"a": 1}', "{"),
    "tsvector": ("'a' 'b'", None),
    "tsquery": ("'a' & 'b'", "&"),
    "point": ("(1,2)", "1"),
    "box": ("(2,2),(1,1)", "1"),
    "uuid": ("0d5a0d30-8f5c-4a3e-9c3c-2d1f6f0c7a11", "x"),
    "pg_lsn": ("16/B374D848", "x"),
    "integer[]": ("{{1,2},{3,4}}", "{{1},{2,3}}"),
    "text[]": ('{a,"b c",NULL}', "{a"),
    "character(5)": ("ab", None),
}


@pytest.fixture
def types(db: Database) -> Database:
    db.execute(*SETUP)
    return db


def rows_of(value: str) -> pa.Table:
    return pa.table({"id": [1, 2], "v": pa.array([value, None], pa.string())})


def read_text(db: Database) -> list[Any]:
    return [row[0] for row in db.rows("SELECT v::text FROM s.t ORDER BY id")]


def made(db: Database, kind: str) -> None:
    db.execute("CREATE SCHEMA s", f"CREATE TABLE s.t (id bigint PRIMARY KEY, v {kind})")


def adopting(db: Database) -> Any:
    return db.context(adopt=True)


@pytest.mark.parametrize("kind", TYPES)
def test_text_goes_into_a_column_of_the_servers_types_and_comes_back(
    types: Database, kind: str
) -> None:
    value, bad = TYPES[kind]
    made(types, kind)
    target = target_of(types, "s.t")
    types.write(target, rows_of(value), context=adopting(types))
    assert read_text(types) == [value, None]
    # And comes back as text, where Arrow has no type of it.
    declared = {"v": "string"} if kind.endswith("[]") else {}
    found = types.read(query="SELECT v FROM s.t ORDER BY id", declared=declared)
    plain = found.column("v").to_pylist()
    assert str(plain[0]) == value
    assert plain[1] is None
    if bad is None:
        return
    for context in (types.context(), types.context(full_refresh=True)):
        with pytest.raises(WriteRefused, match=r"s\.t: column 'v' holds a value that its type"):
            types.write(target, rows_of(bad), context=context)
    assert read_text(types) == [value, None]


def test_text_of_all_types_is_promoted_and_brought_back(types: Database) -> None:
    kinds = {f"c{place}": kind for place, kind in enumerate(TYPES)}
    columns = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
    types.execute("CREATE SCHEMA s", f"CREATE TABLE s.t (id bigint PRIMARY KEY, {columns})")
    values = {name: [None, TYPES[kind][0]] for name, kind in kinds.items()}
    rows = pa.table({"id": [1, 2], **{k: pa.array(v, pa.string()) for k, v in values.items()}})
    for mode in (Mode.FULL, Mode.UPSERT_BY_KEY, Mode.APPEND):
        types.execute("TRUNCATE s.t", "INSERT INTO s.t (id) VALUES (9)")
        given = promotion(
            types, {"s.t": rows}, id=f"p-{mode.value}", mode=mode, unique_keys=("id",)
        )
        given = attrs.evolve(given, context=adopting(types)).stage()
        given.verify()
        batch = given.batch()
        plugin.publish(given.context, batch)
        assert types.value("SELECT count(*) FROM s.t WHERE c0 IS NOT NULL") == 1
        plugin.revert(given.context, batch, overwrite=False)
        assert types.rows("SELECT id FROM s.t") == [(9,)]
        plugin.discard(given.context, batch)


def test_arrays_of_money_are_numbers_exact_or_refused(types: Database) -> None:
    made(types, "money[]")
    target = target_of(types, "s.t")

    def rows(*texts: str) -> pa.Table:
        return pa.table({"id": [1], "v": pa.array([[*texts, None]], pa.list_(pa.string()))})

    types.write(target, rows("1.50", "-2000"), context=adopting(types))
    assert types.value("SELECT v::numeric[]::text FROM s.t") == "{1.50,-2000.00,NULL}"
    assert types.read(parts=("s", "t")).column("v").to_pylist() == [["1.50", "-2000.00", None]]
    for text in ("1.505", "$1.50", "x"):
        with pytest.raises(WriteRefused, match="column 'v' holds a value that its type") as told:
            types.write(target, rows(text))
        assert "number" in told.value.hint
    whole = pa.table({"id": [1], "v": ["{{1.5},{2}}"]})
    types.write(target, whole)
    assert types.value("SELECT v::numeric[]::text FROM s.t") == "{{1.50},{2.00}}"


def test_a_value_that_is_too_long_for_a_name_is_refused(types: Database) -> None:
    made(types, "name")
    with pytest.raises(WriteRefused, match="identifier too long") as told:
        types.write(target_of(types, "s.t"), rows_of("a" * 64), context=adopting(types))
    assert "63 bytes" in told.value.hint


def test_money_and_arrays_of_numbers_are_exact_or_refused(types: Database) -> None:
    types.execute(
        "CREATE SCHEMA s", "CREATE TABLE s.t (id int PRIMARY KEY, m money, n numeric(5,2)[])"
    )
    target = target_of(types, "s.t")

    def rows(money: str, number: str) -> pa.Table:
        return pa.table(
            {
                "id": pa.array([1], pa.int32()),
                "m": pa.array([Decimal(money)], pa.decimal128(20, 3)),
                "n": pa.array([[number, None]], pa.list_(pa.string())),
            }
        )

    types.write(target, rows("12.500", "1.5"), context=adopting(types))
    assert types.rows("SELECT m::numeric, n FROM s.t") == [
        (Decimal("12.50"), [Decimal("1.50"), None])
    ]
    found = types.read(parts=("s", "t")).to_pylist()[0]
    assert (found["m"], found["n"]) == (Decimal("12.5"), ["1.50", None])
    for money, number, column in (("12.505", "1", "m"), ("1.000", "1.005", "n")):
        with pytest.raises(WriteRefused, match=f"column '{column}' holds a value .*exactly"):
            types.write(target, rows(money, number))
    assert types.rows("SELECT m::numeric FROM s.t") == [(Decimal("12.50"),)]


def test_char_n_has_no_trailing_blanks(db: Database) -> None:
    db.execute(
        "CREATE TABLE public.t AS SELECT 'BUILDING'::char(10) AS seg, ARRAY['a'::char(3)] AS list,"
        " 'x '::varchar AS kept"
    )
    found = db.read(parts=("t",)).to_pylist()
    assert found == [{"seg": "BUILDING", "list": ["a"], "kept": "x "}]


def test_numbers_of_all_sizes_are_read_exactly_or_refused(db: Database) -> None:
    db.execute(
        "CREATE TABLE public.n AS SELECT * FROM (VALUES (35000000000::numeric), (1/3.0), (NULL)) v(x)",
        "CREATE TABLE public.big AS SELECT 2::numeric ^ 256 - 1 AS x",
        "CREATE DOMAIN public.dn AS numeric(60, 2)",
        "CREATE TABLE public.wide AS SELECT (10::numeric ^ 40)::dn AS x",
    )
    found = db.read(parts=("n",)).column("x").to_pylist()
    assert found == [Decimal("35000000000"), Decimal("0.33333333333333333333"), None]
    big = str(2**256 - 1)
    for table, text in (("big", big), ("wide", "1" + 40 * "0" + ".00")):
        with pytest.raises(BackendError, match="column 'x'") as refused:
            db.read(parts=(table,))
        assert "varchar" in refused.value.hint
        read = db.read(parts=(table,), declared={"x": "string"}).column("x").to_pylist()
        assert [Decimal(each) for each in read] == [Decimal(text)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused_or_read_as_text(db: Database, value: str) -> None:
    db.execute(
        f"CREATE TABLE public.t AS SELECT '{value}'::numeric AS x, ARRAY['{value}'::numeric] AS a"
    )
    with pytest.raises(BackendError, match="column 'x'"):
        db.read(parts=("t",))
    found = db.read(parts=("t",), declared={"x": "string"}).to_pylist()
    assert found == [{"x": value, "a": [value]}]


def test_a_declared_decimal_is_a_promise(db: Database) -> None:
    db.execute(
        "CREATE TABLE public.t AS SELECT 1.50::numeric AS a, 7::bigint AS b, 3.00::numeric AS c,"
        " 2.5::money AS m"
    )
    declared = {"a": "decimal(10,2)", "b": "decimal", "c": "integer", "m": "decimal(9,2)"}
    found = db.read(parts=("t",), declared=declared)
    assert found.schema.types == [
        pa.decimal128(10, 2), pa.decimal128(38, 9), pa.int64(), pa.decimal128(9, 2)
    ]  # fmt: skip
    assert found.to_pylist() == [{"a": Decimal("1.50"), "b": 7, "c": 3, "m": Decimal("2.50")}]
    for column, kind in (("a", "decimal(10,0)"), ("a", "integer"), ("b", "decimal(1,1)")):
        with pytest.raises(BackendError, match=f"column '{column}'"):
            db.read(parts=("t",), declared={column: kind})
