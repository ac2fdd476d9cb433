"""Columns that leave, and types that change: written, promoted, brought back."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, SchemaChange, Target
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import Promotion

FULL = pa.table({"id": [1, 2], "name": ["a", "b"], "city": ["x", "y"]})
LESS = FULL.select(["id", "name"])

#: A value of each simple type, as PostgreSQL prints it.
VALUES: Mapping[str, pa.Array] = {
    "boolean": pa.array([True, None]),
    "smallint": pa.array([1, None], pa.int16()),
    "integer": pa.array([1, None], pa.int32()),
    "bigint": pa.array([1, None], pa.int64()),
    "real": pa.array([1.5, None], pa.float32()),
    "double": pa.array([1.5, None], pa.float64()),
    "numeric": pa.array([Decimal("1.50"), None], pa.decimal128(10, 2)),
    "numeric of more scale": pa.array([Decimal("1.500"), None], pa.decimal128(38, 3)),
    "text": pa.array(["one", None]),
    "date": pa.array([dt.date(2024, 1, 2), None]),
    "timestamp": pa.array([dt.datetime(2024, 1, 2, 3), None], pa.timestamp("us")),  # noqa: DTZ001
    "timestamptz": pa.array([dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC), None]),
    "time": pa.array([dt.time(3, 4), None]),
    "bytea": pa.array([b"one", None]),
    "list": pa.array([[1], None], pa.list_(pa.int64())),
}

#: The default run tries some pairs; with this variable set, all.
ALL = bool(os.environ.get("SEEKNAL_TEST_ALL_TYPES"))
SOME = tuple(VALUES) if ALL else ("bigint", "numeric of more scale", "timestamptz", "list")
OLD = tuple(VALUES) if ALL else ("text", "numeric")


def promoted(db: Database, target: Target, rows: pa.Table, name: str = "p-1") -> Promotion:
    wanted = [(target, db.snapshot(rows))]
    promotion = Promotion(db=db, context=db.context(), wanted=wanted, id=name).stage()
    plugin.publish(promotion.context, promotion.batch())
    return promotion


def declared(db: Database, table: str = "s.t") -> dict[str, str]:
    return dict(
        db.rows(
            "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute"
            f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    )


@pytest.mark.parametrize("old", OLD)
def test_any_type_becomes_any_other_and_comes_back(db: Database, old: str) -> None:
    """In mode full: by a write, by a promotion, and by its rollback."""
    target = db.target("s.t")
    db.admin.prepare_threshold = None  # A prepared statement fails once its types changed.
    for number, new in enumerate(SOME):
        db.execute("DROP TABLE IF EXISTS s.t")
        before = pa.table({"id": [1, 2], "v": VALUES[old]})
        after = pa.table({"id": [1, 2], "v": VALUES[new]})
        db.write(target, before)
        types, rows = declared(db), db.rows("SELECT * FROM s.t ORDER BY id")
        db.execute("DROP TABLE IF EXISTS s.other")
        db.write(db.target("s.other"), after)
        wanted = db.rows("SELECT id, v::text FROM s.other ORDER BY id")
        promotion = promoted(db, target, after, f"p-{number}")
        try:
            assert plugin.checksum(db.context(), target).rows == 2
            got = db.rows("SELECT id, v FROM s.t ORDER BY id")
            assert len(got) == 2 and got[1][1] is None
        finally:
            assert plugin.revert(promotion.context, promotion.batch(), False)
        assert (declared(db), db.rows("SELECT * FROM s.t ORDER BY id")) == (types, rows), new
        plugin.discard(promotion.context, promotion.batch())
        db.write(target, after)
        kind = declared(db)["v"]
        same = f"SELECT id, v::{kind}::text FROM s.other ORDER BY id"
        assert db.rows("SELECT id, v::text FROM s.t ORDER BY id") == db.rows(same), (new, wanted)


@pytest.mark.parametrize("promotes", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_column_that_left_is_kept_and_set_to_null(
    db: Database, keyed: bool, promotes: bool
) -> None:
    target = db.target("s.t", unique_keys=("id",) if keyed else ())
    db.write(target, FULL)
    # What others added is theirs, and survives a write by key.
    db.execute("ALTER TABLE s.t ADD COLUMN theirs text", "UPDATE s.t SET theirs = 'kept'")
    before = db.rows("SELECT * FROM s.t ORDER BY id")
    if promotes:
        promotion = promoted(db, target, LESS)
        [(staged, _)] = promotion.wanted
        assert staged.staged is not None
        notes = staged.staged.notes
    else:
        notes = db.write(target, LESS).notes
    assert any("'city' left the node: it is kept, and set to NULL" in note for note in notes)
    assert any("'theirs' was not made by Seeknal" in note for note in notes)
    theirs = "kept" if keyed else None
    expected = [(1, "a", None, theirs), (2, "b", None, theirs)]
    assert db.rows("SELECT * FROM s.t ORDER BY id") == expected
    if promotes:
        assert plugin.revert(promotion.context, promotion.batch(), False)
        assert db.rows("SELECT * FROM s.t ORDER BY id") == before


@pytest.mark.parametrize("keyed", [False, True])
def test_sync_drops_what_left_and_is_ours(db: Database, keyed: bool) -> None:
    target = db.target(
        "s.t", unique_keys=("id",) if keyed else (), on_schema_change=SchemaChange.SYNC
    )
    db.write(target, FULL)
    db.execute("ALTER TABLE s.t ADD COLUMN theirs text")
    notes = db.write(target, LESS).notes
    assert any("'city' left the node: it is dropped" in note for note in notes)
    assert set(declared(db)) == {"id", "name", "theirs"}
    db.write(target, FULL)
    assert db.rows("SELECT city FROM s.t ORDER BY 1") == [("x",), ("y",)]


def test_a_promotion_drops_what_left_when_it_cannot_be_undone_any_more(db: Database) -> None:
    target = db.target("s.t", on_schema_change=SchemaChange.SYNC)
    db.write(target, FULL)
    promotion = promoted(db, target, LESS)
    assert db.rows("SELECT * FROM s.t ORDER BY id") == [(1, "a", None), (2, "b", None)]
    assert plugin.revert(promotion.context, promotion.batch(), False)
    assert db.rows("SELECT * FROM s.t ORDER BY id") == [(1, "a", "x"), (2, "b", "y")]
    plugin.discard(promotion.context, promotion.batch())
    assert "city" in declared(db)
    again = promoted(db, target, LESS, "p-2")
    plugin.discard(again.context, again.batch())
    assert set(declared(db)) == {"id", "name"}


def test_without_a_list_a_column_is_somebody_elses(db: Database) -> None:
    target = db.target("s.t", on_schema_change=SchemaChange.SYNC)
    db.write(target, FULL)
    db.execute("DELETE FROM _seeknal_prod.columns")
    notes = db.write(target, LESS).notes
    assert any("'city' was not made by Seeknal" in note for note in notes)
    assert "city" in declared(db)


def test_a_column_made_anew_by_somebody_is_theirs(db: Database) -> None:
    target = db.target("s.t", on_schema_change=SchemaChange.SYNC)
    db.write(target, FULL)
    db.execute("ALTER TABLE s.t DROP COLUMN city", "ALTER TABLE s.t ADD COLUMN city text")
    db.write(target, LESS)
    assert "city" in declared(db)


def test_not_null_is_refused(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, FULL)
    db.execute("ALTER TABLE s.t ALTER COLUMN city SET NOT NULL")
    with pytest.raises(WriteRefused, match="'city' is NOT NULL in the table and not") as raised:
        db.write(target, LESS)
    assert "on_schema_change: sync" in raised.value.hint


HANGING = {
    "view": "CREATE VIEW s.hangs AS SELECT v FROM s.t",
    "materialized view": "CREATE MATERIALIZED VIEW s.hangs AS SELECT v FROM s.t",
    "policy": "CREATE POLICY hangs ON s.t USING (v > 0)",
    "generated column": "ALTER TABLE s.t ADD COLUMN hangs bigint GENERATED ALWAYS AS (v + 1) STORED",
    "trigger": (
        "CREATE FUNCTION s.hangs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER hangs BEFORE UPDATE OF v ON s.t FOR EACH ROW EXECUTE FUNCTION s.hangs()"
    ),
    "foreign key": (
        "CREATE TABLE s.p (v bigint PRIMARY KEY); INSERT INTO s.p VALUES (5);"
        "ALTER TABLE s.t ADD CONSTRAINT hangs FOREIGN KEY (v) REFERENCES s.p (v)"
    ),
    "default": "ALTER TABLE s.t ALTER COLUMN v SET DEFAULT 7",
    "check": "ALTER TABLE s.t ADD CONSTRAINT hangs CHECK (v > 0)",
    "index": "CREATE INDEX hangs ON s.t ((v % 2))",
}


@pytest.mark.parametrize("promotes", [False, True])
@pytest.mark.parametrize("what", HANGING)
def test_what_hangs_on_a_column_is_named(db: Database, what: str, promotes: bool) -> None:
    target = db.target("s.t")
    db.write(target, pa.table({"id": [1], "v": [5]}))
    db.execute(HANGING[what])
    days = pa.table({"id": [1], "v": [dt.date(2024, 1, 1)]})
    write = promoted if promotes else Database.write
    with pytest.raises(WriteRefused, match=r"column 'v'") as raised:
        write(db, target, days)
    assert raised.value.hint
    assert db.rows("SELECT id, v FROM s.t") == [(1, 5)]


@pytest.mark.parametrize("promotes", [False, True])
def test_indexes_constraints_and_defaults_follow_where_they_can(
    db: Database, promotes: bool
) -> None:
    target = db.target("s.t")
    db.write(target, pa.table({"id": [1], "v": ["5"]}))
    db.execute(
        "ALTER TABLE s.t ALTER COLUMN v SET NOT NULL, ADD UNIQUE (v)",
        "CREATE INDEX also ON s.t (v)",
        "COMMENT ON COLUMN s.t.v IS 'kept'",
        "GRANT SELECT (v) ON s.t TO PUBLIC",
    )
    numbers = pa.table({"id": [1, 2], "v": [5, 6]})
    if promotes:
        promoted(db, target, numbers)
    else:
        db.write(target, numbers)
    assert declared(db)["v"] == "bigint"
    assert db.rows("SELECT id, v FROM s.t ORDER BY 1") == [(1, 5), (2, 6)]
    assert db.value("SELECT count(*) FROM pg_indexes WHERE tablename = 't'") == 2
    assert db.value("SELECT col_description('s.t'::regclass, 2)") == "kept"


MODES: dict[str, tuple[Mode, dict[str, Any]]] = {
    "append": (Mode.APPEND, {}),
    "upsert": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}),
    "incremental": (Mode.INCREMENTAL_BY_TIME, {"time_column": "at"}),
}


def dated(id: int, v: object) -> pa.Table:
    at = pa.array([dt.date(2024, 1, id)])
    return pa.table({"id": [id], "at": at, "v": pa.array([v])})


@pytest.mark.parametrize("promotes", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_modes_that_keep_rows_cast_them(db: Database, mode: str, promotes: bool) -> None:
    kind, fields = MODES[mode]
    target = db.target("s.t", kind, **fields)
    db.write(target, dated(1, "15"))
    if promotes:
        promotion = promoted(db, target, dated(2, 16))
    else:
        db.write(target, dated(2, 16))
    assert declared(db)["v"] == "bigint"
    assert db.rows("SELECT id, v FROM s.t ORDER BY 1") == [(1, 15), (2, 16)]
    if promotes:
        assert plugin.revert(promotion.context, promotion.batch(), False)
        assert db.rows("SELECT id, v FROM s.t") == [(1, "15")]


@pytest.mark.parametrize("promotes", [False, True])
@pytest.mark.parametrize(
    ("value", "new", "words"),
    [
        ("x1", 16, "invalid input syntax"),
        ("007", 16, "007 would become 7"),
        (1.5, 16, "1.5 would become 2"),
        ("2024-01-01 05:00", dt.date(2024, 1, 2), "would become 2024-01-01"),
        (True, dt.date(2024, 1, 2), "cannot cast type boolean to date"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_does_not_fit_is_refused(
    db: Database, mode: str, value: object, new: object, words: str, promotes: bool
) -> None:
    kind, fields = MODES[mode]
    target = db.target("s.t", kind, **fields)
    db.write(target, dated(1, value))
    types = declared(db)
    write = promoted if promotes else Database.write
    with pytest.raises(WriteRefused, match=words) as raised:
        write(db, target, dated(2, new))
    assert "--full-refresh" in raised.value.hint
    assert declared(db) == types and db.value("SELECT count(*) FROM s.t") == 1
    context = db.context(full_refresh=True)
    db.write(target, dated(2, new), context=context)
    assert db.value("SELECT count(*) FROM s.t") == 1 and declared(db) != types


def test_a_reader_who_began_earlier_sees_rows(db: Database) -> None:
    """In REPEATABLE READ, while a type is changed: never an empty table."""
    target = db.target("s.t")
    db.write(target, pa.table({"id": [1, 2], "v": ["5", "6"]}))
    with psycopg.connect(**cast(Any, db.dsn)) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT 1 FROM pg_class").fetchall()
        db.write(target, pa.table({"id": [1, 2, 3], "v": [5, 6, 7]}))
        found = reader.execute("SELECT count(*) FROM s.t").fetchone()
        assert found is not None and found[0] in (2, 3)
