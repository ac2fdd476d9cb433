"""A batch is staged unseen, published at once, and brought back exactly."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from typing import Any

import attrs
import psycopg
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, StaleStage, WriteRefused
from seeknal_core.types import Mode, Resources, SchemaChange
from seeknal_postgres import plugin
from seeknal_postgres.promotion import publishing
from support.postgres_hooks import Database
from support.postgres_promotions import (
    Promotion,
    catalog,
    contents,
    everything,
    ledger,
    leftovers,
    promotion,
    target_of,
    versions,
)

OLD = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
NEW = pa.table({"id": [2, 3, 4], "name": ["b", "C", "d"]})
OLD_ROWS = [(1, "a"), (2, "b"), (3, "c")]
NEW_ROWS = [(2, "b"), (3, "C"), (4, "d")]


def rows(db: Database, table: str = "s.t") -> list[tuple[Any, ...]]:
    return db.rows(f"SELECT id, name FROM {table} ORDER BY id, name")


def stamped(*days: str, name: str) -> pa.Table:
    at = pa.array(days).cast(pa.timestamp("us"))
    return pa.table({"id": range(len(days)), "at": at, "name": [name] * len(days)})


MODES: dict[str, tuple[Mode, dict[str, Any], pa.Table, pa.Table]] = {
    "full": (Mode.FULL, {}, OLD, NEW),
    "full, keyed": (Mode.FULL, {"unique_keys": ("id",)}, OLD, NEW),
    "full, keys that repeat": (
        Mode.FULL, {"unique_keys": ("id",)}, OLD, NEW,
    ),
    "full, to none": (Mode.FULL, {}, OLD, NEW.slice(0, 0)),
    "full, from none": (Mode.FULL, {}, OLD.slice(0, 0), NEW),
    "append": (Mode.APPEND, {}, OLD, NEW),
    "upsert": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}, OLD, NEW),
    "upsert, keys that repeat": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}, OLD, NEW),
    "upsert, only keys": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id", "name")}, OLD, NEW),
    "interval": (
        Mode.INCREMENTAL_BY_TIME, {"time_column": "at"},
        stamped("2024-01-01", "2024-01-02", "2024-01-03", name="old"),
        stamped("2024-01-02", "2024-01-02", "2024-01-04", name="new"),
    ),
    "interval, keyed": (
        Mode.INCREMENTAL_BY_TIME, {"time_column": "at", "unique_keys": ("id",)},
        stamped("2024-01-01", "2024-01-02", "2024-01-03", name="old"),
        stamped("2024-01-02", "2024-01-02", "2024-01-04", name="new"),
    ),
    "interval of nothing": (
        Mode.INCREMENTAL_BY_TIME, {"time_column": "at"},
        stamped("2024-01-01", name="old"), stamped("2024-01-02", name="new").slice(0, 0),
    ),
}  # fmt: skip


def attached(db: Database, case: str, old: pa.Table, mode: Mode, **fields: Any) -> None:
    """Make ``s.t`` with a column that no snapshot has."""
    db.write(target_of(db, "s.t", mode=mode, **fields), old)
    db.execute("ALTER TABLE s.t ADD note text DEFAULT 'new'", "UPDATE s.t SET note = 'old'")
    if case.endswith("repeat"):
        db.execute("INSERT INTO s.t VALUES (2, 'again'), (NULL, 'none'), (NULL, 'none')")


@pytest.mark.parametrize("case", MODES)
def test_a_mode_is_published_as_it_is_written_and_brought_back_exactly(
    db: Database, case: str
) -> None:
    mode, fields, old, new = MODES[case]
    attached(db, case, old, mode, **fields)
    db.write(target_of(db, "s.t", mode=mode, **fields), new)
    written = contents(db)["s.t"]
    db.execute("DROP TABLE s.t")
    attached(db, case, old, mode, **fields)
    before = everything(db)
    one = promotion(db, {"s.t": new}, mode=mode, **fields).stage()
    one.verify()
    assert everything(db) == before
    batch = one.batch()
    published = plugin.publish(one.context, batch)
    assert contents(db)["s.t"] == written
    state = plugin.inspect_target(one.context, db.target("s.t"))
    assert versions(published) == {batch.targets[0].key: state.version}
    assert published.targets[0].rows_after == len(written)
    assert not published.targets[0].created
    assert state.generation == 1
    assert plugin.publish(one.context, batch) == published
    assert plugin.prepare_publish(one.context, batch) is False
    assert not [table for table in leftovers(db) if table.startswith("stage_")]
    for undone in (True, False, False):
        assert plugin.revert(one.context, batch, False) is undone
    assert everything(db) == before
    assert plugin.inspect_target(one.context, db.target("s.t")).generation == 0
    for _ in range(2):
        plugin.discard(one.context, batch)
    assert leftovers(db) == []
    assert everything(db) == before


def test_the_record_of_a_target_that_was_brought_back_has_the_version_of_its_rows(
    db: Database,
) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW}).stage()
    plugin.publish(one.context, one.batch())
    plugin.revert(one.context, one.batch(1), False)
    state = plugin.inspect_target(one.context, db.target("s.t"))
    assert db.value("SELECT version FROM _seeknal_prod.targets") == state.version


def test_staging_shows_nothing_and_what_is_staged_can_be_counted(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW, "new.t": NEW}).stage()
    one.verify()
    assert rows(db) == OLD_ROWS
    assert db.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'new'") == 0
    for target in one.targets:
        assert target.staged is not None
        assert target.staged.promotion == one.id
    state = plugin.inspect_target(one.context, db.target("s.t"))
    base = [target.staged.base for target in one.targets if target.staged]
    assert base == [state.version, None]
    assert state.generation == 0


def test_staging_again_starts_afresh(db: Database) -> None:
    one = promotion(db, {"s.t": OLD}).stage()
    again = promotion(db, {"s.t": NEW}).stage()
    again.verify()
    assert len(leftovers(db)) == 1
    plugin.publish(again.context, again.batch())
    assert rows(db) == NEW_ROWS
    plugin.discard(one.context, one.batch(1))


def test_what_a_kill_after_the_commit_left_goes_when_the_publish_is_repeated(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW}).stage()
    with monkeypatch.context() as dying:
        dying.setattr(publishing, "_drop_stages", lambda *_: None)
        plugin.publish(one.context, one.batch(1))
    assert any("stage_" in name for name in leftovers(db))
    again = plugin.publish(one.context, one.batch(1))
    assert again.targets[0].rows_after == 3 and rows(db) == NEW_ROWS
    assert not any("stage_" in name for name in leftovers(db))
    assert plugin.revert(one.context, one.batch(1), False) and rows(db) == OLD_ROWS


def test_what_was_staged_is_found_by_its_names_alone(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW, "s.u": NEW}).stage()
    # The table that is there has one beside its rows for what undoes the publish.
    assert len(leftovers(db)) == 3
    plugin.discard(one.context, one.unstaged().batch(1))
    assert leftovers(db) == []


def test_a_ledger_that_was_made_for_nothing_goes_and_another_stays(db: Database) -> None:
    schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = '_seeknal_prod'"
    one = promotion(db, {"s.t": NEW}).stage()
    other = promotion(db, {"s.u": NEW}, id="p-2").stage()
    plugin.discard(one.context, one.batch(1))
    assert db.value(schemas) == 1
    other.verify()
    plugin.discard(other.context, other.batch(1))
    assert db.value(schemas) == 0
    plugin.discard(one.context, one.batch(1))
    assert plugin.revert(one.context, one.batch(1), False) is False
    assert db.value(schemas) == 0
    # The command goes on after that as before.
    one = one.stage()
    plugin.publish(one.context, one.batch())
    assert rows(db) == NEW_ROWS
    plugin.discard(one.context, one.batch(1))
    assert db.value(schemas) == 1


def test_new_tables_are_made_with_their_schema_and_go_with_it(db: Database) -> None:
    db.execute("CREATE SCHEMA had")
    before = catalog(db)
    one = promotion(db, {"a.t": OLD, "a.u": NEW, "had.t": OLD}).stage()
    published = plugin.publish(one.context, one.batch())
    assert [target.created for target in published.targets] == [True, True, True]
    assert rows(db, "a.t") == OLD_ROWS
    assert {str(owned.name) for owned in plugin.list_owned(one.context)} == {
        "a", "a.t", "a.u", "had.t",
    }  # fmt: skip
    assert leftovers(db) == []
    db.write(target_of(db, "a.t"), NEW)
    with pytest.raises(StaleStage, match=r"a\.t was changed .* published"):
        plugin.revert(one.context, one.batch(1), False)
    assert rows(db, "a.u") == NEW_ROWS
    assert plugin.revert(one.context, one.batch(1), True) is True
    assert catalog(db) == before
    assert ledger(db)["targets"] == []


def test_a_schema_that_somebody_uses_meanwhile_stays(db: Database) -> None:
    one = promotion(db, {"a.t": OLD}).stage()
    plugin.publish(one.context, one.batch())
    db.execute("CREATE TABLE a.mine (id int)")
    plugin.revert(one.context, one.batch(1), False)
    assert contents(db) == {"a.mine": []}
    assert [row[0] for row in db.rows("SELECT name FROM _seeknal_prod.schemas ORDER BY 1")] == [
        "_seeknal_prod", "a",
    ]  # fmt: skip


def test_a_new_table_that_something_hangs_on_is_not_dropped(db: Database) -> None:
    one = promotion(db, {"a.t": OLD, "a.u": OLD}).stage()
    plugin.publish(one.context, one.batch())
    db.execute("CREATE VIEW public.v AS SELECT * FROM a.t")
    for overwrite in (False, True):
        with pytest.raises(WriteRefused, match=r"view v|public\.v"):
            plugin.revert(one.context, one.batch(1), overwrite)
    assert rows(db, "a.t") == rows(db, "a.u") == OLD_ROWS
    db.execute("DROP VIEW public.v")
    assert plugin.revert(one.context, one.batch(1), False)


def test_a_new_table_has_the_rights_that_it_would_have_been_made_with(db: Database) -> None:
    db.execute(
        "CREATE SCHEMA s",
        "DROP ROLE IF EXISTS seeknal_reads",
        "CREATE ROLE seeknal_reads",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO seeknal_reads",
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    )
    try:
        one = promotion(db, {"s.t": OLD}).stage()
        stage = db.value("SELECT relname FROM pg_class WHERE relname LIKE 'stage\\_%'")
        assert not db.value(
            f"SELECT has_table_privilege('seeknal_reads', '_seeknal_prod.{stage}', 'SELECT')"
        )
        plugin.publish(one.context, one.batch())
        db.execute("CREATE TABLE s.plain (id int)")
        acl = "SELECT array(SELECT a::text FROM unnest(relacl) a ORDER BY 1) FROM pg_class"
        assert db.value(acl + " WHERE oid = 's.t'::regclass") == db.value(
            acl + " WHERE oid = 's.plain'::regclass"
        )
    finally:
        db.execute(
            "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC",
            "DROP OWNED BY seeknal_reads", "DROP ROLE seeknal_reads",
        )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO s.t VALUES (9, 'z')",
        "UPDATE s.t SET name = name",
        "ALTER TABLE s.t ADD PRIMARY KEY (id)",
        "ALTER TABLE s.t ADD more text",
        "DROP TABLE s.t",
        "DROP TABLE s.t; CREATE TABLE s.t (id bigint, name text)",
        "CREATE TABLE s.new (id int)",
    ],
)
def test_a_target_that_moved_since_it_was_staged_stops_the_whole_batch(
    db: Database, change: str
) -> None:
    db.write(target_of(db, "s.t"), OLD)
    db.write(target_of(db, "s.other"), OLD)
    one = promotion(db, {"s.other": NEW, "s.t": NEW, "s.new": NEW}).stage()
    batch = one.batch()
    db.execute(change)
    before = everything(db)
    with pytest.raises(StaleStage) as refused:
        plugin.publish(one.context, batch)
    name = "s.new" if "new" in change else "s.t"
    assert name in str(refused.value)
    if "INSERT" in change:
        now = plugin.inspect_target(one.context, db.target("s.t")).version
        assert one.targets[1].staged is not None
        assert str(now) in str(refused.value)
        assert str(one.targets[1].staged.base) in str(refused.value)
    assert everything(db) == before
    assert plugin.revert(one.context, batch, False) is False
    plugin.discard(one.context, batch)
    assert everything(db) == before
    assert leftovers(db) == []


def test_somebodys_write_after_the_publish_is_undone_only_on_demand(db: Database) -> None:
    db.write(target_of(db, "s.t", unique_keys=("id",)), OLD)
    one = promotion(db, {"s.t": NEW}, unique_keys=("id",)).stage()
    published = plugin.publish(one.context, one.batch())
    db.execute("UPDATE s.t SET name = 'theirs' WHERE id IN (3, 4)")
    now = plugin.inspect_target(one.context, db.target("s.t")).version
    with pytest.raises(StaleStage) as refused:
        plugin.revert(one.context, one.batch(1), False)
    assert str(now) in str(refused.value)
    assert published.targets[0].version in str(refused.value)
    assert rows(db) == [(2, "b"), (3, "theirs"), (4, "theirs")]
    assert plugin.revert(one.context, one.batch(1), True)
    assert rows(db) == OLD_ROWS


def test_an_append_is_taken_back_by_key_also_where_its_rows_were_changed(db: Database) -> None:
    db.write(target_of(db, "s.t", mode=Mode.APPEND), OLD)
    db.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")
    one = promotion(
        db, {"s.t": pa.table({"id": [7, 8], "name": ["x", "y"]})}, mode=Mode.APPEND
    ).stage()
    plugin.publish(one.context, one.batch())
    db.execute("UPDATE s.t SET name = 'theirs' WHERE id = 7")
    assert plugin.revert(one.context, one.batch(1), True)
    assert rows(db) == OLD_ROWS


def test_a_promotion_that_was_undone_is_not_published_any_more(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW}).stage()
    batch = one.batch()
    assert plugin.revert(one.context, batch, False) is False
    for call in (plugin.prepare_publish, plugin.publish):
        with pytest.raises(StaleStage, match="was undone"):
            call(one.context, batch)
    assert rows(db) == OLD_ROWS


def test_a_discarded_promotion_cannot_be_published_nor_undone(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW}).stage()
    plugin.discard(one.context, one.batch())
    with pytest.raises(StaleStage, match="gone"):
        plugin.publish(one.context, one.batch())
    one = one.stage()
    batch = one.batch()
    published = plugin.publish(one.context, batch)
    plugin.discard(one.context, batch)
    assert plugin.publish(one.context, batch) == published
    with pytest.raises(WriteRefused, match="thrown away"):
        plugin.revert(one.context, batch, False)
    assert rows(db) == NEW_ROWS


def test_a_prepared_publish_is_unseen_keeps_others_out_and_is_rolled_back_by_revert(
    db: Database,
) -> None:
    db.write(target_of(db, "s.t"), OLD)
    one = promotion(db, {"s.t": NEW, "a.t": NEW}).stage()
    batch = one.batch()
    before = everything(db)
    assert plugin.prepare_publish(one.context, batch) is True
    assert plugin.prepare_publish(one.context, batch) is True
    assert rows(db) == OLD_ROWS
    with psycopg.connect(**db.dsn) as writer:  # type: ignore[arg-type]
        writer.execute("SET lock_timeout = 200")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            writer.execute("INSERT INTO s.t VALUES (9, 'z')")
    assert plugin.revert(one.context, batch, False) is False
    assert everything(db) == before
    plugin.discard(one.context, batch)
    one = one.stage()
    assert plugin.prepare_publish(one.context, one.batch()) is True
    plugin.publish(one.context, one.batch())
    assert rows(db) == rows(db, "a.t") == NEW_ROWS


def test_the_end_of_the_command_rolls_a_prepared_publish_back(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    context = db.context(resources=Resources())
    one = promotion(db, {"s.t": NEW}, context=context).stage()
    assert plugin.prepare_publish(context, one.batch())
    context.resources.close()
    db.execute("INSERT INTO s.t VALUES (9, 'z')")
    assert rows(db) == [*OLD_ROWS, (9, "z")]


def test_an_append_adds_its_rows_once_however_often_it_is_promoted(db: Database) -> None:
    fields: dict[str, Any] = {"mode": Mode.APPEND}
    db.write(target_of(db, "s.t", **fields), OLD)
    for id in ("p-1", "p-2"):
        one = promotion(db, {"s.t": NEW}, id=id, **fields).stage()
        known = id == "p-2"
        [target] = one.targets
        assert target.staged is not None
        assert target.staged.rows == plugin.count_rows(one.context, target) == (0 if known else 3)
        batch = one.batch()
        plugin.publish(one.context, batch)
        assert db.value("SELECT count(*) FROM s.t") == 6
    assert plugin.revert(one.context, batch, False) is True
    assert db.value("SELECT count(*) FROM s.t") == 6
    plugin.discard(one.context, batch)
    assert db.write(target_of(db, "s.t", **fields), NEW).rows_written == 0


def test_an_append_that_was_undone_can_be_added_again(db: Database) -> None:
    fields: dict[str, Any] = {"mode": Mode.APPEND}
    db.write(target_of(db, "s.t", **fields), OLD)
    one = promotion(db, {"s.t": NEW}, **fields).stage()
    plugin.publish(one.context, one.batch())
    plugin.revert(one.context, one.batch(1), False)
    plugin.discard(one.context, one.batch(1))
    assert db.write(target_of(db, "s.t", **fields), NEW).rows_written == 3


@pytest.mark.parametrize("case", ["append", "upsert", "interval"])
def test_full_refresh_replaces_a_table_of_any_mode(db: Database, case: str) -> None:
    mode, fields, old, new = MODES[case]
    db.write(target_of(db, "s.t", mode=mode, **fields), old)
    before = everything(db)
    context = db.context(full_refresh=True)
    one = promotion(db, {"s.t": new}, mode=mode, context=context, **fields).stage()
    one.verify()
    # The refresh is what was staged, whatever a later command was called with.
    later = db.context()
    batch = one.batch()
    plugin.publish(later, batch)
    assert db.value("SELECT count(*) FROM s.t") == new.num_rows
    plugin.revert(later, batch, False)
    assert everything(db) == before


def test_a_full_refresh_forgets_what_was_appended_and_an_undoing_remembers_it(
    db: Database,
) -> None:
    fields: dict[str, Any] = {"mode": Mode.APPEND}
    for undone in (True, False):
        db.write(target_of(db, "s.t", **fields), OLD)
        context = db.context(full_refresh=True)
        one = promotion(db, {"s.t": NEW}, context=context, id=f"p-{undone}", **fields).stage()
        plugin.publish(one.context, one.batch())
        if undone:
            plugin.revert(one.context, one.batch(1), False)
        written = db.write(target_of(db, "s.t", **fields), OLD).rows_written
        assert written == (0 if undone else 3)


def test_of_two_promotions_at_once_one_is_stale(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    results: dict[str, object] = {}
    promotions = {
        id: promotion(
            db,
            {table: NEW},
            id=id,
            context=attrs.evolve(db.context(resources=Resources()), state_id=id),
        ).stage()
        for id, table in (("p-1", "s.t"), ("p-2", "a.u"))
    }
    barrier = threading.Barrier(2)

    def publish(id: str, one: Promotion) -> None:
        batch = one.batch()
        barrier.wait()
        try:
            results[id] = plugin.publish(one.context, batch)
        except BackendError as error:
            results[id] = error

    threads = [threading.Thread(target=publish, args=item) for item in promotions.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stale = [error for error in results.values() if isinstance(error, StaleStage)]
    assert len(stale) == 1, results
    assert "generation 1" in str(stale[0])
    for one in promotions.values():
        one.context.resources.close()
    assert plugin.inspect_target(db.context(), db.target("s.t")).generation == 1


def test_generations_are_counted_by_project(db: Database) -> None:
    for number, id in enumerate(("p-1", "p-2"), start=1):
        one = promotion(db, {"s.t": NEW}, id=id).stage()
        batch = one.batch()
        assert batch.generation == number
        with pytest.raises(StaleStage, match="generation"):
            plugin.publish(one.context, attrs.evolve(batch, generation=number + 1))
        plugin.publish(one.context, batch)
    other = attrs.evolve(db.context(), project="other")
    assert plugin.inspect_target(other, db.target("s.t")).generation == 0
    assert plugin.inspect_target(db.context(), db.target("absent.t")).generation == 2
    plugin.revert(one.context, batch, False)
    assert plugin.inspect_target(db.context(), db.target("s.t")).generation == 1


@pytest.mark.parametrize("keys", [(), ("id",)])
def test_a_reader_with_an_older_view_sees_old_rows_after_publish_and_after_revert(
    db: Database, keys: tuple[str, ...]
) -> None:
    query = "SELECT id, name FROM s.t ORDER BY id"
    db.write(target_of(db, "s.t", unique_keys=keys), OLD)
    with db.reader() as before:
        one = promotion(db, {"s.t": NEW, "s.u": NEW}, unique_keys=keys).stage()
        plugin.publish(one.context, one.batch())
        assert before.execute(query).fetchall() == OLD_ROWS
        assert before.execute("SELECT count(*) FROM s.u").fetchone() == (3,)
        with db.reader() as between:
            before.rollback()  # it has read s.u, and a lock on it stops its being dropped
            plugin.revert(one.context, one.batch(1), False)
            assert between.execute(query).fetchall() == NEW_ROWS
        assert rows(db) == OLD_ROWS


def test_a_table_staged_by_casts_is_whole_to_older_readers_too(db: Database) -> None:
    table = OLD.append_column("at", pa.array([[0]] * 3, pa.list_(pa.timestamp("us", "UTC"))))
    with db.reader() as reader:
        one = promotion(db, {"s.t": table}).stage()
        one.verify()
        plugin.publish(one.context, one.batch())
        assert reader.execute("SELECT count(*) FROM s.t").fetchone() == (3,)


def test_one_locked_table_of_sixty_leaves_all_as_they_were_and_says_who(db: Database) -> None:
    tables = [f"s.t{n:02}" for n in range(60)]
    for table in tables:
        db.write(target_of(db, table), OLD)
    context = db.context(options={"lock_wait": 1})
    one = promotion(db, dict.fromkeys(tables, NEW), context=context).stage()
    batch = one.batch()
    before = everything(db)
    with psycopg.connect(**db.dsn, application_name="a report") as other:  # type: ignore[arg-type]
        other.execute("UPDATE s.t41 SET name = name")
        started = time.monotonic()
        with pytest.raises(WriteRefused, match=r"s\.t41 stayed locked .*a report"):
            plugin.prepare_publish(context, batch)
        assert time.monotonic() - started < 10
        other.rollback()
    assert everything(db) == before
    started = time.monotonic()
    assert plugin.prepare_publish(context, batch)
    plugin.publish(context, batch)
    published = time.monotonic()
    assert plugin.revert(context, batch, False)
    reverted = time.monotonic()
    assert everything(db) == before
    plugin.discard(context, batch)
    assert leftovers(db) == []
    # Generous bounds: a mistake by table costs seconds.
    assert published - started < 4
    assert reverted - published < 4


def test_column_changes_come_with_the_publish_and_go_with_the_revert(db: Database) -> None:
    old = pa.table({"id": [1, 2], "v": pa.array([1, 2], pa.int32()), "d": [Decimal("1.5")] * 2})
    new = pa.table(
        {
            "id": [2, 3],
            "v": pa.array([2**40, 3], pa.int64()),
            "d": [Decimal("12345.25")] * 2,
            "more": ["x", None],
        }
    )
    db.write(target_of(db, "s.t"), old)
    db.execute(
        "ALTER TABLE s.t ADD made int GENERATED ALWAYS AS IDENTITY (START 100)",
        "ALTER TABLE s.t ADD twice bigint GENERATED ALWAYS AS (id * 2) STORED",
        "ALTER TABLE s.t ALTER v SET DEFAULT 5, ALTER d SET DEFAULT 1.5",
    )
    before = everything(db)
    with db.reader() as reader:
        one = promotion(db, {"s.t": new}).stage()
        one.verify()
        assert everything(db) == before
        plugin.publish(one.context, one.batch())
        assert db.rows("SELECT id, v, d, more, twice FROM s.t ORDER BY id") == [
            (2, 2**40, Decimal("12345.25"), "x", 4),
            (3, 3, Decimal("12345.25"), None, 6),
        ]
        assert reader.execute("SELECT id, v FROM s.t ORDER BY id").fetchall() == [(1, 1), (2, 2)]
        reader.rollback()
    with db.reader() as reader:
        plugin.revert(one.context, one.batch(1), False)
        assert reader.execute("SELECT id, v FROM s.t ORDER BY id").fetchall() == [(1, 1), (2, 2)]
    after = everything(db)
    assert after == before


@pytest.mark.parametrize("case", ["full, keyed", "append", "upsert", "interval, keyed"])
def test_a_new_column_comes_and_goes_in_every_mode(db: Database, case: str) -> None:
    mode, fields, old, new = MODES[case]
    db.write(target_of(db, "s.t", mode=mode, **fields), old)
    before = everything(db)
    new = new.append_column("more", pa.array(["x"] * new.num_rows))
    one = promotion(db, {"s.t": new}, mode=mode, **fields).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    assert db.value("SELECT count(*) FROM s.t WHERE more = 'x'") == new.num_rows
    plugin.revert(one.context, one.batch(1), False)
    assert everything(db) == before


def test_a_refused_schema_change_is_refused_when_it_is_staged(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    wider = NEW.append_column("more", pa.array([1, 2, 3]))
    with pytest.raises(WriteRefused, match="'more' is new"):
        promotion(db, {"s.t": wider}, on_schema_change=SchemaChange.FAIL).stage()
    assert leftovers(db) == []


def test_odd_names_survive(db: Database) -> None:
    odd = 'a "b" %s {c}; DROP TABLE x --é'
    table = pa.table({odd: [1, 2], "SELECT": [2, 3], "x" * 63: [3, None]})
    names = ['"Odd.schema""é"."Tab le"', f'"{"s" * 63}"."{"t" * 63}"']
    one = promotion(db, dict.fromkeys(names, table), unique_keys=(odd,)).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    before = everything(db)
    changed = table.set_column(1, "SELECT", pa.array([2, 9]))
    two = promotion(db, dict.fromkeys(names, changed), id="p-2", unique_keys=(odd,)).stage()
    two.verify()
    plugin.publish(two.context, two.batch())
    assert contents(db) != before["rows"]
    plugin.revert(two.context, two.batch(2), False)
    assert everything(db) == before
    for each in (one, two):
        plugin.discard(each.context, each.batch(1))
    assert leftovers(db) == []


def test_a_ledger_of_an_earlier_version_is_completed(db: Database) -> None:
    db.write(target_of(db, "s.t"), OLD)
    db.execute("DROP TABLE _seeknal_prod.promotions, _seeknal_prod.promotion_targets")
    fresh = db.context(resources=Resources())
    assert plugin.inspect_target(fresh, db.target("s.t")).generation == 0
    one = promotion(db, {"s.t": NEW}, context=fresh)
    plugin.discard(fresh, one.batch(1))
    assert plugin.revert(fresh, one.batch(1), False) is False
    one = one.stage()
    plugin.publish(fresh, one.batch())
    assert rows(db) == NEW_ROWS
    fresh.resources.close()


def test_deleting_the_environment_takes_all_of_a_promotion_with_it(db: Database) -> None:
    one = promotion(db, {"a.t": OLD}).stage()
    plugin.publish(one.context, one.batch())
    two = promotion(db, {"a.t": NEW, "b.t": NEW}, id="p-2").stage()
    plugin.publish(two.context, two.batch())
    for owned in plugin.list_owned(db.context()):
        plugin.drop_target(db.context(), owned)
    assert contents(db) == {}
    assert db.value("SELECT count(*) FROM pg_namespace WHERE nspname = '_seeknal_prod'") == 0
