"""A snapshot's columns change: the table follows, or the write is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, SchemaChange
from support.postgres_hooks import Database


def column(values: list[Any], kind: pa.DataType) -> pa.Table:
    return pa.table({"id": list(range(len(values))), "v": pa.array(values, kind)})


def declared(db: Database, name: str = "v") -> str:
    found: str = db.value(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = 's.t'::regclass AND attname = '{name}'"
    )
    return found


def test_a_new_column_is_added_and_old_rows_have_null(db: Database) -> None:
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    db.write(target, pa.table({"id": [1]}))
    db.write(target, pa.table({"id": [2], "more": ["x"], "tags": [["a"]]}))
    assert db.rows("SELECT id, more, tags FROM s.t ORDER BY id") == [
        (1, None, None),
        (2, "x", ["a"]),
    ]


WIDER: dict[str, tuple[pa.DataType, list[Any], pa.DataType, list[Any], str]] = {
    "int16 to int32": (pa.int16(), [1], pa.int32(), [2**31 - 1], "integer"),
    "int32 to int64": (pa.int32(), [1], pa.int64(), [2**63 - 1], "bigint"),
    "int64 to decimal": (pa.int64(), [2**60], pa.decimal128(38, 0), [Decimal(2**80)], "numeric(38,0)"),
    "int to scaled decimal": (pa.int32(), [1], pa.decimal128(5, 2), [Decimal("1.25")], "numeric(12,2)"),
    "float32 to float64": (pa.float32(), [1.5], pa.float64(), [0.1], "double precision"),
    "more digits": (
        pa.decimal128(5, 2), [Decimal("1.25")], pa.decimal128(9, 2), [Decimal("1234567.89")],
        "numeric(9,2)",
    ),
    "more scale": (
        pa.decimal128(5, 2), [Decimal("1.25")], pa.decimal128(5, 4), [Decimal("1.2345")],
        "numeric(7,4)",
    ),
    "date to timestamp": (
        pa.date32(), [19000], pa.timestamp("us"), [1], "timestamp without time zone",
    ),
    "list elements": (pa.list_(pa.int32()), [[1]], pa.list_(pa.int64()), [[2**40]], "bigint[]"),
}  # fmt: skip


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND])
@pytest.mark.parametrize("case", WIDER)
def test_a_wider_type_widens_the_column(db: Database, case: str, mode: Mode) -> None:
    old, first, new, second, kind = WIDER[case]
    target = db.target("s.t", mode)
    db.write(target, column(first, old))
    db.execute("CREATE INDEX ON s.t (v)", "COMMENT ON COLUMN s.t.v IS 'kept'")
    before = db.rows("SELECT v::text FROM s.t")
    db.write(target, column(second, new))
    assert declared(db) == kind
    expected = pa.array(second, new).to_pylist()
    found = [row[0] for row in db.rows("SELECT v FROM s.t ORDER BY ctid")]
    assert found[-1:] == expected
    assert len(found) == (2 if mode is Mode.APPEND else 1)
    if mode is Mode.APPEND and "date" not in case and "scale" not in case:
        assert db.rows("SELECT v::text FROM s.t")[:1] == before
    assert db.value("SELECT col_description('s.t'::regclass, 2)") == "kept"
    # The narrower type goes into the wider column, which stays as it is.
    db.write(target, column(first, old), content_key="narrow again")
    assert declared(db) == kind


CHANGED: dict[str, tuple[pa.DataType, list[Any], pa.DataType, list[Any]]] = {
    "text to int": (pa.int64(), [1], pa.string(), ["x"]),
    "int to text": (pa.string(), ["x"], pa.int64(), [1]),
    "float to int": (pa.int64(), [1], pa.float64(), [1.5]),
    "int64 to float": (pa.float64(), [1.5], pa.int64(), [2**60]),
    "decimal to float": (pa.float64(), [1.5], pa.decimal128(5, 2), [Decimal("1.25")]),
    "naive to aware": (pa.timestamp("us", "UTC"), [1], pa.timestamp("us"), [1]),
    "list to scalar": (pa.int64(), [1], pa.list_(pa.int64()), [[1]]),
    "bool to int": (pa.int64(), [1], pa.bool_(), [True]),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_type_the_column_cannot_hold_is_changed_in_full(db: Database, case: str) -> None:
    old, first, new, second = CHANGED[case]
    target = db.target("s.t")
    db.write(target, column(first, old))
    was = declared(db)
    result = db.write(target, column(second, new))
    assert [
        note for note in result.notes if f"column 'v' becomes {declared(db)}, was {was}" in note
    ]
    assert db.value("SELECT count(*) FROM s.t") == 1 and declared(db) != was


@pytest.mark.parametrize(
    ("kind", "old", "new", "value", "stored"),
    [
        ("jsonb", '{"a": 1}', pa.string(), '{"b": 2}', {"b": 2}),
        ("s.mood", "sad", pa.string(), "happy", "happy"),
        ("varchar(5)", "x", pa.string(), "12345", "12345"),
        ("numeric", "1", pa.decimal128(5, 2), Decimal("1.25"), Decimal("1.25")),
        ("s.positive", "1", pa.int32(), 7, 7),
        ("inet", "10.0.0.1", pa.string(), "10.0.0.2", None),
        ("uuid", "12345678-1234-5678-1234-567812345678", pa.binary(16), b"x" * 16, None),
        ("timestamptz[]", "{}", pa.list_(pa.timestamp("us", "UTC")), [0], None),
        ("citext_like", "x", pa.string(), "y", "y"),
    ],
)
def test_a_column_somebody_declared_is_filled_as_it_is(
    db: Database, kind: str, old: str, new: pa.DataType, value: object, stored: object
) -> None:
    kind = "text" if kind == "citext_like" else kind
    db.execute(
        "CREATE SCHEMA s",
        "CREATE TYPE s.mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN s.positive AS int CHECK (VALUE > 0)",
        f"CREATE TABLE s.t (id bigint PRIMARY KEY, v {kind})",
        f"INSERT INTO s.t VALUES (0, '{old}'), (1, '{old}')",
    )
    before = declared(db)
    db.write(db.target("s.t"), column([value], new), context=db.context(adopt=True))
    assert declared(db) == before
    assert db.value("SELECT count(*) FROM s.t") == 1
    if stored is not None:
        assert db.value("SELECT v FROM s.t") == stored
    assert db.value(f"SELECT v <> '{old}' FROM s.t")


def test_text_that_is_too_long_widens_a_varchar_and_is_never_cut(db: Database) -> None:
    db.execute("CREATE SCHEMA s", "CREATE TABLE s.t (id bigint, v varchar(5))")
    db.write(db.target("s.t"), column(["é2345"], pa.string()), context=db.context(adopt=True))
    assert declared(db) == "character varying(5)"
    db.write(db.target("s.t"), column(["123456"], pa.string()))
    assert declared(db) == "text"
    assert db.value("SELECT v FROM s.t") == "123456"


def test_a_check_that_the_rows_break_refuses_the_write(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, column([1], pa.int64()))
    db.execute("ALTER TABLE s.t ADD CHECK (v < 5)")
    with pytest.raises(WriteRefused, match="check constraint"):
        db.write(target, column([7], pa.int64()))
    assert db.rows("SELECT v FROM s.t") == [(1,)]


def test_a_generated_column_in_the_snapshot_is_refused(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, pa.table({"id": [1]}))
    db.execute("ALTER TABLE s.t ADD v bigint GENERATED ALWAYS AS (id * 2) STORED")
    with pytest.raises(WriteRefused, match="generated"):
        db.write(target, column([1], pa.int64()))


def test_a_view_that_stands_in_the_way_of_a_wider_type_is_named(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, column([1], pa.int32()))
    db.execute("CREATE VIEW s.report AS SELECT v FROM s.t")
    with pytest.raises(WriteRefused, match="report") as refused:
        db.write(target, column([2**40], pa.int64()))
    assert refused.value.hint
    assert db.rows("SELECT v FROM s.report") == [(1,)]


@pytest.mark.parametrize(
    "obstacle",
    [
        "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id))",
        "CREATE TRIGGER tr AFTER DELETE ON s.t FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ],
)
def test_what_a_rewritten_table_would_set_off_refuses_it(db: Database, obstacle: str) -> None:
    target = db.target("s.t")
    db.write(target, column([1], pa.int32()))
    db.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)", obstacle)
    with pytest.raises(WriteRefused, match="written anew") as refused:
        db.write(target, column([2**40], pa.int64()))
    assert "ALTER TABLE" in refused.value.hint


@pytest.mark.parametrize(
    "changed",
    [
        pa.table({"id": [1], "v": [1], "more": [1]}),
        pa.table({"id": [1]}),
        pa.table({"id": [1], "v": [Decimal("1.5")]}),
    ],
)
def test_fail_refuses_any_change_of_columns(db: Database, changed: pa.Table) -> None:
    target = db.target("s.t", on_schema_change=SchemaChange.FAIL)
    db.write(target, column([1], pa.int64()))
    with pytest.raises(WriteRefused, match="on_schema_change is fail"):
        db.write(target, changed)
    db.write(target, column([2], pa.int64()))
    assert db.rows("SELECT v FROM s.t") == [(2,)]


def test_a_not_null_column_that_the_snapshot_lost_is_refused(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, column([1], pa.int64()))
    db.execute("ALTER TABLE s.t ALTER v SET NOT NULL")
    with pytest.raises(WriteRefused, match="column 'v' is NOT NULL"):
        db.write(target, pa.table({"id": [1]}))
