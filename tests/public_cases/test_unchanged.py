"""Tables that somebody else changed, in every way and mode: the heavy part of the journeys."""

from __future__ import annotations

import pytest
from pyiceberg.types import StringType

from support.cli import write
from support.modes import KEEPING, MODES, count, details, in_each_mode, run, statuses
from support.promotions import ROWS, Shop


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """A table in each mode and store, in production."""
    return in_each_mode(promoted_shop)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM shop.{t} WHERE id <= 3",
        "UPDATE shop.{t} SET amount = -1 WHERE id = 1",
        "TRUNCATE shop.{t}",
        "ALTER TABLE shop.{t} DROP COLUMN amount",
        "ALTER TABLE shop.{t} ALTER COLUMN amount TYPE numeric(30,2)",
    ],
)
def test_rows_that_somebody_changed_in_the_database_are_written_again_or_refused(
    shop: Shop, change: str
) -> None:
    for table in MODES:
        shop.database.execute(change.format(t=table))
    wanted = {f"shop.{t}": "refused" if t in KEEPING else "written" for t in MODES}
    wanted |= {f"lake.shop.{t}": "unchanged" for t in MODES}
    plan = shop.seeknal("env", "plan", "prod", "--json").json()
    planned = {one["name"]: one["writing"] for one in plan["targets"] if one["name"] in wanted}
    assert planned == {
        name: {"written": "write"}.get(status, status) for name, status in wanted.items()
    }
    assert run(shop, code=3) == wanted
    assert count(shop, "whole") == count(shop, "merged") == ROWS
    # Refused until somebody says what is to become of them.
    assert run(shop, code=3)["shop.added"] == "refused"
    assert set(details(shop)) == {f"shop.{t}" for t in KEEPING}
    taken = run(shop, "--select", "added", "--adopt")
    assert taken["shop.added"] in ("taken over as it is", "unchanged")
    assert run(shop, "--select", "daily", "--full-refresh", "--yes")["shop.daily"] == "written"
    assert set(run(shop).values()) == {"unchanged"}
    assert count(shop, "daily") == ROWS


@pytest.mark.parametrize(
    "harmless",
    [
        "VACUUM FULL shop.{t}",
        "ALTER TABLE shop.{t} ADD COLUMN note text",
        "ALTER TABLE shop.{t} ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "SELECT pg_stat_reset()",
        "CLUSTER shop.{t} USING {t}_id",
    ],
)
def test_what_leaves_the_rows_alone_is_no_change(shop: Shop, harmless: str) -> None:
    for table in MODES:
        shop.database.execute(f"CREATE INDEX {table}_id ON shop.{table} (id)")
        shop.database.execute(harmless.format(t=table))
    said = shop.seeknal("run", "--json")
    assert set(statuses(said).values()) == {"unchanged"}
    assert "somebody else" not in said.err
    assert details(shop) == {}


def test_a_restored_backup_is_adopted_without_adding_rows_twice(shop: Shop) -> None:
    for table in MODES:
        shop.database.execute(f"CREATE TABLE shop.copy AS TABLE shop.{table}")
        shop.database.execute(f"DROP TABLE shop.{table}")
        shop.database.execute(f"ALTER TABLE shop.copy RENAME TO {table}")
    assert "restored a backup" in shop.seeknal("run", code=3).said
    found = run(shop, "--adopt")
    assert found["shop.added"] == found["shop.daily"] == "taken over as it is"
    assert found["shop.whole"] == "written"
    assert [count(shop, t) for t in MODES] == [ROWS] * 4
    assert set(run(shop).values()) == {"unchanged"}


def test_a_table_that_is_missing_is_written_unless_its_rows_are_in_no_snapshot(shop: Shop) -> None:
    for table in MODES:
        shop.database.execute(f"DROP TABLE shop.{table}")
    found = run(shop, code=3)
    assert [found[f"shop.{t}"] for t in MODES] == ["written", "written", "refused", "refused"]
    run(shop, "--full-refresh", "--yes")
    assert set(run(shop).values()) == {"unchanged"}


def test_a_rollback_of_a_catalogs_table_by_hand_is_noticed(shop: Shop) -> None:
    write(shop.root, {"data/orders.csv": "id,amount\n50,1\n"})
    shop.seeknal("run")
    with shop.lake.catalog() as catalog:
        for table in MODES:
            held = catalog.load_table(f"shop.{table}")
            first = held.metadata.snapshots[0].snapshot_id
            held.manage_snapshots().set_current_snapshot(snapshot_id=first).commit()
    found = run(shop, code=3)
    assert [found[f"lake.shop.{t}"] for t in MODES] == ["written", "written", "refused", "refused"]


def test_rows_appended_to_a_catalogs_table_stay_where_the_mode_keeps_rows(shop: Shop) -> None:
    with shop.lake.catalog() as catalog:
        for table in MODES:
            held = catalog.load_table(f"shop.{table}")
            held.append(held.scan().to_arrow().slice(0, 1))
    found = run(shop)
    assert [found[f"lake.shop.{t}"] for t in MODES] == [
        "written", "written", "unchanged", "unchanged",
    ]  # fmt: skip


def test_a_catalogs_table_that_somebody_altered(shop: Shop) -> None:
    with shop.lake.catalog() as catalog:
        for table in MODES:
            with catalog.load_table(f"shop.{table}").update_schema() as update:
                update.add_column("note", StringType())
    assert set(run(shop).values()) == {"unchanged"}
    with shop.lake.catalog() as catalog:
        for table in KEEPING:
            with catalog.load_table(f"shop.{table}").update_schema() as update:
                update.delete_column("amount")
    assert run(shop, code=3)["lake.shop.added"] == "refused"


def test_an_apply_refuses_a_plan_whose_targets_somebody_changed_since(shop: Shop) -> None:
    shop.seeknal("run", "--env", "dev", "--all-targets")
    shop.seeknal("env", "plan", "dev")
    shop.database.execute("DELETE FROM dev_shop.whole")
    said = shop.seeknal("env", "apply", "dev", code=3).said
    assert "dev_shop.whole: 20 rows then, 0 now" in said or "20 deleted" in said
    shop.seeknal("env", "plan", "dev")
    assert "1 written" in shop.seeknal("env", "apply", "dev").said
    assert "as written" in shop.seeknal("env", "status", "dev", "--exit-code").said


def test_an_exact_look_needs_no_mark(shop: Shop) -> None:
    shop.database.execute("ALTER SYSTEM SET track_counts = off")
    shop.database.execute("SELECT pg_reload_conf()")
    try:
        shop.database.execute("SELECT pg_sleep(0.2)")
        shop.database.execute("DELETE FROM shop.whole WHERE id = 1")
        assert run(shop)["shop.whole"] == "written"
        assert run(shop, "--exact")["shop.whole"] == "unchanged"
    finally:
        shop.database.execute("ALTER SYSTEM RESET track_counts")
        shop.database.execute("SELECT pg_reload_conf()")
