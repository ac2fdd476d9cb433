"""Modes append, upsert_by_key and incremental_by_time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import attrs
import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Interval, Mode, Snapshot, Target
from seeknal_postgres import plugin
from seeknal_postgres.write import planning
from seeknal_postgres.write import rows as write_rows
from support.postgres_hooks import Database
from support.postgres_promotions import Promotion

DAY = dt.timedelta(days=1)


def people(*pairs: tuple[int | None, str]) -> pa.Table:
    return pa.table(
        {"id": pa.array([p[0] for p in pairs], pa.int64()), "name": [p[1] for p in pairs]},
        schema=pa.schema([("id", pa.int64()), ("name", pa.string())]),
    )


def rows(db: Database) -> list[tuple[object, ...]]:
    return db.rows("SELECT * FROM s.t ORDER BY 1, 2")


def test_append_adds_the_rows_of_a_content_key_once(db: Database) -> None:
    target = db.target("s.t", Mode.APPEND)
    assert db.write(target, people((1, "a"))).rows_written == 1
    again = db.write(target, people((1, "a")))
    assert (again.rows_written, again.rows_after) == (0, 1)
    assert db.write(target, people((1, "a")), content_key="another").rows_written == 1
    assert db.write(target, people((2, "b"))).rows_after == 3
    assert rows(db) == [(1, "a"), (1, "a"), (2, "b")]


def test_append_adds_again_to_a_table_that_somebody_made_anew(db: Database) -> None:
    target = db.target("s.t", Mode.APPEND)
    db.write(target, people((1, "a")))
    db.execute("DROP TABLE s.t")
    assert db.write(target, people((1, "a"))).rows_written == 1
    db.execute("DROP TABLE s.t", "CREATE TABLE s.t (id bigint, name text)")
    with pytest.raises(WriteRefused, match="was not made by this project"):
        db.write(target, people((1, "a")))
    assert db.write(target, people((1, "a")), context=db.context(adopt=True)).rows_written == 1
    assert rows(db) == [(1, "a")]


def test_append_takes_new_columns_and_refuses_lost_ones(db: Database) -> None:
    target = db.target("s.t", Mode.APPEND)
    db.write(target, people((1, "a")))
    db.write(target, people((2, "b")).append_column("age", pa.array([7])))
    with pytest.raises(WriteRefused, match="column 'name' is no longer in the snapshot"):
        db.write(target, pa.table({"id": [3], "age": [8]}))
    assert rows(db) == [(1, "a", None), (2, "b", 7)]


@pytest.mark.parametrize(
    ("news", "indexed", "looked_up"), [(50, True, True), (500, True, False), (50, False, False)]
)
def test_few_rows_are_looked_up_by_the_index_of_the_key(
    db: Database, monkeypatch: pytest.MonkeyPatch, news: int, indexed: bool, looked_up: bool
) -> None:
    asked: list[bool] = []
    is_looked_up = write_rows.Rows.is_looked_up

    def noted(self: write_rows.Rows, conn: Any) -> bool:
        asked.append(is_looked_up(self, conn))
        return asked[-1]

    monkeypatch.setattr(write_rows.Rows, "is_looked_up", noted)
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    db.write(target, people(*((i, "old") for i in range(1000))))
    if indexed:
        db.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")
    db.execute("ANALYZE s.t")
    db.write(target, people(*((i * 2, "new") for i in range(news))))
    assert asked == [looked_up, looked_up]
    assert db.rows("SELECT name, count(*) FROM s.t GROUP BY 1 ORDER BY 1") == [
        ("new", news),
        ("old", 1000 - news),
    ]


def test_settings_of_one_statement_are_no_others(db: Database) -> None:
    query = (
        "SELECT current_setting('enable_hashjoin'), current_setting('enable_mergejoin'),"
        " current_setting('work_mem')"
    )
    with psycopg.connect(**db.dsn) as conn:  # type: ignore[arg-type]
        conn.execute("SET enable_mergejoin = off")
        conn.execute("SET work_mem = '5MB'")
        before = conn.execute(query).fetchone()
        with planning.by_index(conn):
            assert conn.execute(query).fetchone() == ("off", "off", "5MB")
        with planning.by_hashing(conn):
            assert conn.execute(query).fetchone() == ("on", "off", "32MB")
        assert conn.execute(query).fetchone() == before == ("on", "off", "5MB")
        conn.execute("SET work_mem = '1GB'")
        with planning.by_hashing(conn):
            assert conn.execute(query).fetchone() == ("on", "off", "1GB")


def test_upsert_updates_what_is_there_and_inserts_the_rest(db: Database) -> None:
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    db.write(target, people((1, "a"), (2, "b")))
    unchanged = db.value("SELECT ctid FROM s.t WHERE id = 1")
    result = db.write(target, people((1, "a"), (2, "B"), (3, "c")))
    assert (result.rows_written, result.rows_after) == (3, 3)
    assert rows(db) == [(1, "a"), (2, "B"), (3, "c")]
    assert db.value("SELECT ctid FROM s.t WHERE id = 1") == unchanged
    assert db.write(target, people()).rows_after == 3


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("bad", "words"),
    [(people((1, "a"), (1, "b")), "are duplicated"), (people((None, "a")), "NULL")],
)
def test_upsert_refuses_unusable_keys_before_writing(
    db: Database, bad: pa.Table, words: str, existing: bool
) -> None:
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    if existing:
        db.write(target, people((9, "z")))
    with pytest.raises(WriteRefused, match=words):
        db.write(target, bad)
    assert db.value("SELECT to_regclass('s.t') IS NOT NULL") == existing
    assert not existing or rows(db) == [(9, "z")]


def test_upsert_by_several_keys(db: Database) -> None:
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("name", "id"))
    db.write(target, people((1, "a")))
    db.write(target, people((1, "a"), (1, "b")))
    assert rows(db) == [(1, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("mode", "fields", "words"),
    [
        (Mode.UPSERT_BY_KEY, {}, "unique_keys"),
        (Mode.UPSERT_BY_KEY, {"unique_keys": ("idd",)}, "names 'idd'"),
        (Mode.INCREMENTAL_BY_TIME, {}, "time_column"),
        (Mode.INCREMENTAL_BY_TIME, {"time_column": "at"}, "names 'at'"),
        (Mode.INCREMENTAL_BY_TIME, {"time_column": "name"}, "not a date or timestamp"),
    ],
)
def test_a_mode_that_lacks_its_columns_is_refused(
    db: Database, mode: Mode, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(WriteRefused, match=words):
        db.write(db.target("s.t", mode, **fields), people((1, "a")))


TYPES = {
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}


def events(kind: str, *days: float) -> pa.Table:
    start = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    found: list[dt.date] = [start + day * DAY for day in days]
    if kind == "date":
        found = [day.date() for day in found if isinstance(day, dt.datetime)]
    elif kind == "timestamp":
        found = [day.replace(tzinfo=None) for day in found if isinstance(day, dt.datetime)]
    return pa.table(
        {"at": pa.array(found, TYPES[kind]), "n": pa.array([len(days)] * len(days), pa.int64())}
    )


def days_kept(db: Database) -> list[tuple[float, int]]:
    return db.rows(
        "SELECT (extract(epoch FROM at::timestamptz AT TIME ZONE 'UTC')"
        " - extract(epoch FROM timestamp '2024-03-01'))::float / 86400, n FROM s.t ORDER BY 1, 2"
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("kind", TYPES)
def test_incremental_replaces_the_days_that_the_rows_have(
    db: Database, kind: str, zone: str
) -> None:
    """Days are those of UTC, whatever the role's time zone is."""
    db.execute(f"ALTER ROLE CURRENT_USER SET timezone = '{zone}'", "SET timezone = 'UTC'")
    try:
        target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
        db.write(target, events(kind, 0, 1, 2, 3, 4))
        for _ in range(2):
            result = db.write(target, events(kind, 1, 3))
            assert result.rows_written == 2
            assert [note for note in result.notes if "1 rows" in note and "2024-03-03" in note]
            assert days_kept(db) == [(0, 5), (1, 2), (2, 5), (3, 2), (4, 5)]
        assert db.write(target, events(kind)).rows_after == 5
    finally:
        db.execute("ALTER ROLE CURRENT_USER RESET timezone")


def test_incremental_replaces_many_days_apart(db: Database) -> None:
    """More runs of days than conditions are written out for."""
    db.execute("SET timezone = 'UTC'")
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
    for kind in TYPES:
        db.execute("DROP TABLE IF EXISTS s.t")
        db.write(target, events(kind, *range(60)))
        db.write(target, events(kind, *range(0, 60, 2)))
        assert days_kept(db) == [(day, 60 if day % 2 else 30) for day in range(60)]


def test_incremental_cuts_days_at_midnight(db: Database) -> None:
    db.execute("SET timezone = 'UTC'")
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at", lookback=2 * DAY)
    db.write(target, events("timestamptz", 0.9, 1.0, 1.5, 2.0))
    db.write(target, events("timestamptz", 1.25, 1.75))
    assert days_kept(db) == [(0.9, 4), (1.25, 2), (1.75, 2), (2.0, 4)]


def _stage(db: Database, target: Target, snapshot: Snapshot) -> None:
    plugin.stage(db.context(), target, snapshot, "p1")


def _write(db: Database, target: Target, snapshot: Snapshot) -> None:
    plugin.materialize(db.context(), target, snapshot)


@pytest.mark.parametrize("promoted", [False, True])
def test_incremental_refuses_to_lose_rows_of_a_day(db: Database, promoted: bool) -> None:
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
    db.write(target, events("timestamp", 0.5, 1.5, 1.6))
    losing = db.snapshot(events("timestamp", 1.7, 2.5))
    write = _stage if promoted else _write
    with pytest.raises(WriteRefused, match="2024-03-02 has 2 rows there and 1 here") as raised:
        write(db, target, losing)
    assert "covers: {from: 2024-03-02, to: 2024-03-03}" in raised.value.hint
    assert days_kept(db) == [(0.5, 3), (1.5, 3), (1.6, 3)]


@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("kind", TYPES)
def test_incremental_replaces_what_is_covered(db: Database, kind: str, promoted: bool) -> None:
    db.execute("SET timezone = 'UTC'")
    covers = Interval(start=dt.datetime(2024, 3, 2), end=dt.datetime(2024, 3, 4))  # noqa: DTZ001
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at", covers=covers)
    plain = attrs.evolve(target, covers=None)
    db.write(plain, events(kind, 0, 1, 2, 3))
    with pytest.raises(WriteRefused, match=r"1 rows .* have a at outside of"):
        db.write(target, events(kind, 2, 3))
    for rows, kept in (
        (events(kind, 2), [(0, 4), (2, 1), (3, 4)]),
        (events(kind), [(0, 4), (3, 4)]),
    ):
        if promoted:
            wanted = [(target, db.snapshot(rows))]
            promotion = Promotion(
                db=db, context=db.context(), wanted=wanted, id=f"p-{rows.num_rows}"
            ).stage()
            batch = promotion.batch()
            plugin.publish(promotion.context, batch)
            assert days_kept(db) == kept
            assert plugin.revert(promotion.context, batch, False)
            assert days_kept(db) == [(day, 4) for day in range(4)]
        else:
            db.write(target, rows)
            assert days_kept(db) == kept


@pytest.mark.parametrize("existing", [False, True])
def test_incremental_refuses_null_time(db: Database, existing: bool) -> None:
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
    if existing:
        db.write(target, events("date", 0))
    bad = pa.table({"at": pa.array([None, dt.date(2024, 1, 1)], pa.date32()), "n": [1, 2]})
    with pytest.raises(WriteRefused, match=r"NULL in the time column \(at\)"):
        db.write(target, bad)
    assert db.value("SELECT to_regclass('s.t') IS NOT NULL") == existing
    assert not existing or db.value("SELECT count(*) FROM s.t") == 1


def test_incremental_keeps_the_children_of_rows_it_replaces(db: Database) -> None:
    target = db.target("s.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
    db.write(target, events("date", 0, 1).append_column("id", pa.array([1, 2])))
    db.execute(
        "ALTER TABLE s.t ADD PRIMARY KEY (id)",
        "CREATE TABLE s.child (t_id bigint REFERENCES s.t (id) ON DELETE CASCADE)",
        "INSERT INTO s.child VALUES (1), (2)",
    )
    db.write(target, events("date", 1, 2, 3).append_column("id", pa.array([2, 3, 4])))
    assert db.rows("SELECT id, n FROM s.t ORDER BY id") == [(1, 2), (2, 3), (3, 3), (4, 3)]
    assert db.rows("SELECT t_id FROM s.child ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize("mode", [Mode.UPSERT_BY_KEY, Mode.FULL])
@pytest.mark.parametrize("versions", [(0, 0), (0, 10**9), (10**9, 10**9)])
def test_a_key_that_stands_twice_is_refused_also_where_one_of_its_rows_is_there(
    db: Database, monkeypatch: pytest.MonkeyPatch, mode: Mode, versions: tuple[int, int]
) -> None:
    """An index of the table would notice neither, whatever the server's version."""
    monkeypatch.setattr(write_rows, "_MERGES", versions[0])
    monkeypatch.setattr(write_rows, "_MERGES_DELETIONS", versions[1])
    db.execute("CREATE SCHEMA s", "CREATE TABLE s.t (id bigint PRIMARY KEY, name text)")
    target = db.target("s.t", mode, unique_keys=("id",))
    context = db.context(adopt=True)
    db.write(target, pa.table({"id": [1, 2], "name": ["a", "b"]}), context=context)
    twice = pa.table({"id": [1, 1, 2], "name": ["a", "other", "b"]})
    with pytest.raises(WriteRefused, match="are duplicated"):
        db.write(target, twice)
    null = pa.table({"id": [1, None], "name": ["a", "b"]})
    with pytest.raises(WriteRefused, match="NULL in the key"):
        db.write(target, null)
    assert db.rows("SELECT id, name FROM s.t ORDER BY 1") == [(1, "a"), (2, "b")]
    changed = pa.table({"id": [2, 3], "name": ["B", "c"]})
    db.write(target, changed)
    kept = [(1, "a")] if mode is Mode.UPSERT_BY_KEY else []
    assert db.rows("SELECT id, name FROM s.t ORDER BY 1") == [*kept, (2, "B"), (3, "c")]


def test_a_table_with_rules_is_written_by_one_statement_after_another(db: Database) -> None:
    """MERGE takes no such table."""
    db.execute(
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint PRIMARY KEY, name text)",
        "CREATE TABLE s.log (id bigint)",
        "CREATE RULE noted AS ON UPDATE TO s.t DO ALSO INSERT INTO s.log VALUES (new.id)",
    )
    target = db.target("s.t", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    context = db.context(adopt=True)
    db.write(target, pa.table({"id": [1, 2], "name": ["a", "b"]}), context=context)
    db.write(target, pa.table({"id": [2, 3], "name": ["B", "c"]}))
    assert db.rows("SELECT id, name FROM s.t ORDER BY 1") == [(1, "a"), (2, "B"), (3, "c")]
