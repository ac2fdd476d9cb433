"""Readers at every isolation level see the old rows or the new, never none or half."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import Interrupted, WriteRefused
from seeknal_core.types import Mode, Resources
from seeknal_postgres import plugin
from support.postgres_hooks import Database

OLD = pa.table({"id": [1, 2], "v": pa.array([1, 2], pa.int32())})
NEW = pa.table({"id": [2, 3], "v": pa.array([20, 30], pa.int32())})
WIDE = pa.table({"id": [2, 3], "v": pa.array([2**40, 30], pa.int64())})
QUERY = "SELECT id, v FROM s.t ORDER BY id"
OLD_ROWS = [(1, 1), (2, 2)]


@pytest.mark.parametrize("new", [NEW, WIDE, NEW.append_column("more", pa.array([1, 2]))])
@pytest.mark.parametrize("keys", [(), ("id",)])
def test_a_reader_with_an_older_view_sees_the_old_rows(
    db: Database, new: pa.Table, keys: tuple[str, ...]
) -> None:
    target = db.target("s.t", unique_keys=keys)
    db.write(target, OLD)
    with db.reader() as reader:
        db.write(target, new)
        assert reader.execute(QUERY).fetchall() == OLD_ROWS
    assert db.rows(QUERY) == list(zip(*new.select(["id", "v"]).to_pydict().values(), strict=True))


@pytest.mark.parametrize(
    ("mode", "fields"),
    [(Mode.APPEND, {}), (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)})],
)
@pytest.mark.parametrize("new", [NEW, WIDE])
def test_so_it_does_in_the_other_modes(
    db: Database, mode: Mode, fields: dict[str, Any], new: pa.Table
) -> None:
    target = db.target("s.t", mode, **fields)
    db.write(target, OLD)
    with db.reader() as reader:
        db.write(target, new)
        assert reader.execute(QUERY).fetchall() == OLD_ROWS


@pytest.mark.parametrize(
    "rows", [OLD, OLD.append_column("at", pa.array([[0]] * 2, pa.list_(pa.timestamp("us", "UTC"))))]
)
def test_a_reader_with_an_older_view_sees_a_new_table_whole(db: Database, rows: pa.Table) -> None:
    with db.reader() as reader:
        db.write(db.target("s.t"), rows)
        assert reader.execute(QUERY).fetchall() == OLD_ROWS


def test_readers_are_not_held_up_while_rows_are_replaced(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, OLD)
    with db.reader(QUERY) as reader:  # holds a lock on the table, as a report or a backup does
        started = time.monotonic()
        db.write(target, NEW)
        assert time.monotonic() - started < 5
        assert reader.execute(QUERY).fetchall() == OLD_ROWS


def test_a_change_of_columns_waits_for_readers_and_then_says_who_they_are(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, OLD)
    context = db.context(options={"lock_wait": 1})
    with db.reader(QUERY) as reader:
        with pytest.raises(WriteRefused, match=f"pid {reader.info.backend_pid}"):
            db.write(target, WIDE, context=context)
        assert reader.execute(QUERY).fetchall() == OLD_ROWS
    db.write(target, WIDE, context=context)


def test_a_writer_in_the_way_is_waited_for(db: Database) -> None:
    target = db.target("s.t")
    db.write(target, OLD)
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute("UPDATE s.t SET v = 5")
        timer = threading.Timer(2.5, other.commit)
        timer.start()
        db.write(target, NEW)
        timer.join()
    assert db.rows(QUERY) == [(2, 20), (3, 30)]


def test_no_reader_ever_sees_another_count_while_writes_go_on(db: Database) -> None:
    target = db.target("s.t")
    big = [pa.table({"id": range(5000), "v": pa.array([k] * 5000, pa.int32())}) for k in range(2)]
    db.write(target, big[0])
    done = threading.Event()
    seen: set[tuple[int, int, int]] = set()

    def watch() -> None:
        with psycopg.connect(autocommit=True, **db.dsn) as conn:  # type: ignore[arg-type]
            while not done.is_set():
                row = conn.execute("SELECT count(*), min(v), max(v) FROM s.t").fetchone()
                assert row is not None
                seen.add(row)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(6):
        db.write(target, big[(turn + 1) % 2])
    done.set()
    watcher.join()
    assert seen <= {(5000, 0, 0), (5000, 1, 1)}
    assert seen


def test_many_tables_are_written_at_once(db: Database) -> None:
    context = db.context(environment="dev", prefix="dev_")
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            target = db.target(f"s{number % 3}.t{number}", context=context)
            for rows in (OLD, NEW):
                db.write(target, rows, context=context)
        except BaseException as error:  # noqa: BLE001 - asserted below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.value("SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'dev\\_s_'") == 16
    assert db.value("SELECT count(*) FROM _seeknal_dev.targets WHERE generation = 2") == 16
    assert db.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'seeknal'") <= 8


def test_two_commands_may_make_one_target_at_once(db: Database) -> None:
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def write() -> None:
        resources = Resources()
        context = db.context(resources=resources)
        try:
            target = db.target("s.t", Mode.APPEND, context=context)
            barrier.wait()
            db.write(target, OLD, context=context, content_key="same")
        except BaseException as error:  # noqa: BLE001 - asserted below
            failures.append(error)
        resources.close()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.rows(QUERY) == OLD_ROWS


@pytest.mark.parametrize("what", ["a lock", "a slow server"])
def test_a_stop_ends_a_write_that_waits_and_changes_nothing(db: Database, what: str) -> None:
    target = db.target("s.t")
    db.write(target, OLD)
    db.execute(
        "CREATE FUNCTION s.slow() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'",
        "CREATE TRIGGER slow BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.slow()",
    )
    context = db.context()
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        if what == "a lock":
            other.execute("LOCK TABLE s.t")
        threading.Timer(0.5, context.cancellation.request).start()
        started = time.monotonic()
        with pytest.raises(Interrupted):
            plugin.materialize(context, target, db.snapshot(NEW))
        assert time.monotonic() - started < 5
    assert db.rows(QUERY) == OLD_ROWS
