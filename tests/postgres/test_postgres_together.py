"""Many small targets by one call: one transaction for those that can, the rest one by one."""

from __future__ import annotations

from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Mode, Origin
from seeknal_postgres import plugin
from seeknal_postgres.connection import locks
from support.postgres_hooks import Database

ROWS = pa.table({"id": pa.array([1, 2], pa.int64()), "note": ["a", None]})
MORE = pa.table({"id": pa.array([2, 3], pa.int64()), "note": ["b", "c"]})


def written_by(db: Database, *tables: str) -> list[str]:
    """Return the number of the transaction that wrote each table's rows."""
    found = [db.rows(f"SELECT DISTINCT xmin::text FROM {table}") for table in tables]
    return [row[0] for rows in found for row in rows]


def test_small_tables_are_written_in_one_transaction(db: Database) -> None:
    old, new, added = (
        db.target("sales.old"),
        db.target("sales.new"),
        db.target("sales.added", Mode.APPEND),
    )
    db.write(old, ROWS)
    db.write(added, ROWS)
    snapshots = tuple(db.snapshot(MORE, content_key=f"k-{place}") for place in range(3))
    results = plugin.materialize_targets(db.context(), (old, new, added), snapshots)
    assert [result.rows_after for result in results] == [2, 2, 4]
    assert [result.created for result in results] == [False, True, False]
    last = written_by(
        db, "sales.old", "sales.new", "(SELECT xmin, * FROM sales.added WHERE id > 2)"
    )
    assert len(set(last)) == 1
    for target, result in zip((old, new, added), results, strict=True):
        assert plugin.inspect_target(db.context(), target).version == result.version


def test_what_needs_more_than_copying_goes_alone(db: Database) -> None:
    keyed = db.target("sales.keyed", Mode.UPSERT_BY_KEY, unique_keys=("id",))
    widened, plain = db.target("sales.widened"), db.target("sales.plain")
    for target in (keyed, widened, plain):
        db.write(target, ROWS)
    wider = MORE.append_column("more", pa.array([1.5, 2.5]))
    snapshots = (db.snapshot(MORE), db.snapshot(wider), db.snapshot(MORE))
    results = plugin.materialize_targets(db.context(), (keyed, widened, plain), snapshots)
    assert [result.rows_after for result in results] == [3, 2, 2]
    assert db.rows("SELECT id, note FROM sales.keyed ORDER BY 1") == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]
    assert db.rows("SELECT id, more FROM sales.widened ORDER BY 1") == [(2, 1.5), (3, 2.5)]
    assert len(set(written_by(db, "sales.keyed", "sales.widened", "sales.plain"))) >= 3


@pytest.mark.timeout(30)
def test_a_table_that_is_locked_keeps_no_other_waiting_for_long(db: Database) -> None:
    free, locked = db.target("sales.free"), db.target("sales.locked")
    for target in (free, locked):
        db.write(target, ROWS)
    with psycopg.connect(**db.dsn) as other:  # type: ignore[arg-type]
        other.execute(sql.SQL("LOCK TABLE sales.locked IN ROW EXCLUSIVE MODE"))
        snapshots = (db.snapshot(MORE), db.snapshot(MORE, content_key="k-2"))
        with pytest.raises(BackendError):
            plugin.materialize_targets(db.context(), (free, locked), snapshots)
        assert db.rows("SELECT id FROM sales.free ORDER BY 1") == [(1,), (2,)]
        held = db.value("SELECT count(*) FROM pg_locks WHERE relation = 'sales.free'::regclass")
        assert held == 0


def test_a_table_that_somebody_changes_meanwhile_is_not_written_together(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = db.target("sales.one"), db.target("sales.two")
    for target in targets:
        db.write(target, ROWS)
    lock_all = locks.lock_all

    def late(*given: Any) -> None:
        db.execute("ALTER TABLE sales.two ADD COLUMN theirs int")
        lock_all(*given)

    monkeypatch.setattr(locks, "lock_all", late)
    snapshots = (db.snapshot(MORE), db.snapshot(MORE, content_key="k-2"))
    with pytest.raises(BackendError, match="being changed by somebody else"):
        plugin.materialize_targets(db.context(), targets, snapshots)
    assert db.rows("SELECT id FROM sales.one ORDER BY 1") == [(1,), (2,)]


def test_small_tables_are_staged_in_one_transaction_beside_those_that_need_more(
    db: Database,
) -> None:
    plain, new = db.target("sales.plain"), db.target("sales.new")
    document = db.target("sales.document")
    db.execute("CREATE SCHEMA sales", "CREATE TABLE sales.document (id bigint, note jsonb)")
    db.write(plain, ROWS)
    context = db.context(adopt=True)
    json = pa.table({"id": pa.array([1], pa.int64()), "note": ['{"a": 1}']})
    snapshots = (db.snapshot(MORE), db.snapshot(ROWS), db.snapshot(json))
    staged = plugin.stage_targets(context, (plain, new, document), snapshots, "p-1")
    places = [str(one.data["table"]) for one in staged]
    by = written_by(db, *places)
    assert by[0] == by[1] != by[2]
    assert [one.rows for one in staged] == [2, 2, 1]
    assert staged[1].base is None
    assert staged[0].base == plugin.inspect_target(db.context(), plain).version


def test_a_link_keeps_its_rights_where_its_rows_have_to_be_cast(db: Database) -> None:
    """Such rows go alone, after the others; the link makes way for them only then."""
    production, dev = db.context(), db.context(environment="dev", prefix="dev_")
    db.write(db.target("s.t"), ROWS)
    target = db.target("s.t")
    identity = plugin.inspect_target(production, target).identity
    origin = Origin(name=target.name, identity=identity, environment="prod", content_key="k")
    link = db.target("s.t", context=dev)
    plugin.link_target(dev, link, origin)
    db.execute("GRANT SELECT ON dev_s.t TO PUBLIC")
    stored = pa.array([b"0123456789abcdef"], pa.binary(16))
    id = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    ids = pa.table({"ids": pa.ListArray.from_arrays([0, 1], id)})
    snapshots = (db.snapshot(ids, content_key="k-1"), db.snapshot(MORE, content_key="k-2"))
    plugin.materialize_targets(dev, (link, db.target("s.other", context=dev)), snapshots)
    assert db.value("SELECT ids[1]::text FROM dev_s.t") == "30313233-3435-3637-3839-616263646566"
    assert db.value("SELECT has_table_privilege('public', 'dev_s.t', 'SELECT')")
