"""What a run says and does about tables that somebody else changed, in both stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from support.cli import write
from support.modes import KEEPING, MODES, count, details, in_each_mode, run, statuses
from support.promotions import ROWS, Shop


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """A table in each mode and store, in production."""
    return in_each_mode(promoted_shop)


def test_rows_that_somebody_changed_are_written_again_or_refused(shop: Shop) -> None:
    shop.database.execute("DELETE FROM shop.whole WHERE id <= 3")
    shop.database.execute("UPDATE shop.merged SET amount = -1 WHERE id = 1")
    shop.database.execute("TRUNCATE shop.added")
    shop.database.execute("ALTER TABLE shop.daily DROP COLUMN amount")
    wanted = {f"shop.{t}": "refused" if t in KEEPING else "written" for t in MODES}
    wanted |= {f"lake.shop.{t}": "unchanged" for t in MODES}
    assert run(shop, code=3) == wanted
    assert count(shop, "whole") == count(shop, "merged") == ROWS
    # Refused until somebody says what is to become of them.
    assert run(shop, code=3)["shop.added"] == "refused"
    assert set(details(shop)) == {f"shop.{t}" for t in KEEPING}
    assert run(shop, "--select", "added", "--adopt")["shop.added"] == "taken over as it is"
    assert run(shop, "--select", "daily", "--full-refresh", "--yes")["shop.daily"] == "written"
    assert set(run(shop).values()) == {"unchanged"}


def test_what_leaves_the_rows_alone_is_no_change(shop: Shop) -> None:
    shop.database.execute("VACUUM FULL shop.whole")
    shop.database.execute("ALTER TABLE shop.merged ADD COLUMN note text")
    shop.database.execute(
        "ALTER TABLE shop.added ADD COLUMN at timestamptz DEFAULT clock_timestamp()"
    )
    said = shop.seeknal("run", "--json")
    assert set(statuses(said).values()) == {"unchanged"}
    assert "somebody else" not in said.err
    shop.database.execute("SELECT pg_stat_reset()")
    said = shop.seeknal("run", "--json")
    assert set(statuses(said).values()) == {"unchanged"}
    assert "somebody else" not in said.err
    assert details(shop) == {}


def test_rows_that_somebody_added_stay_where_the_mode_keeps_rows(shop: Shop) -> None:
    for table in MODES:
        shop.database.execute(f"INSERT INTO shop.{table} VALUES (99, 99, '2023-01-01')")
    said = shop.seeknal("run", "--json")
    found = statuses(said)
    assert [found[f"shop.{t}"] for t in MODES] == ["written", "written", "unchanged", "unchanged"]
    assert "shop.whole: somebody else changed it" in said.err
    assert "1 row of others went" in said.err
    assert "shop.merged: somebody else changed it since it was written: " in said.err
    assert said.err.count("of others went") == 1
    assert "it is applied again" in said.err
    assert (
        "shop.added: somebody else changed it since it was written: rows: 1 inserted; they stay"
        in said.err
    )
    assert [count(shop, t) for t in MODES] == [ROWS, ROWS + 1, ROWS + 1, ROWS + 1]
    again = shop.seeknal("run", "--json")
    assert set(statuses(again).values()) == {"unchanged"}
    assert "somebody else" not in again.err


def test_a_table_that_somebody_made_anew_is_left_alone_until_it_is_adopted(shop: Shop) -> None:
    for table in MODES:
        shop.database.execute(f"DROP TABLE shop.{table}")
        shop.database.execute(f"CREATE TABLE shop.{table} (id bigint, other text)")
    found = run(shop, code=3)
    assert {found[f"shop.{t}"] for t in MODES} == {"refused"}
    run(shop, "--adopt", "--full-refresh", "--yes")
    assert set(run(shop).values()) == {"unchanged"}
    assert count(shop, "added") == ROWS


def test_a_catalogs_tables_are_looked_at_too(shop: Shop) -> None:
    with shop.lake.catalog() as catalog:
        for table in MODES:
            catalog.load_table(f"shop.{table}").delete("id <= 3")
    found = run(shop, code=3)
    assert [found[f"lake.shop.{t}"] for t in MODES] == ["written", "written", "refused", "refused"]
    assert run(shop, "--select", "added", "--adopt")["lake.shop.added"] == "taken over as it is"
    assert run(shop, "--select", "daily", "--full-refresh", "--yes")["lake.shop.daily"] == "written"
    assert set(run(shop).values()) == {"unchanged"}


def test_what_another_checkout_wrote_is_left_alone_until_the_state_is_recovered(
    shop: Shop, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(shop.root, other, ignore=shutil.ignore_patterns("id"))
    write(other, {"data/orders.csv": "id,amount\n7,70\n"})
    elsewhere = attrs.evolve(shop.seeknal, cwd=other)
    elsewhere("run")
    said = shop.seeknal("run", code=3).said
    assert "another checkout" in said
    assert "seeknal state recover" in said
    shop.seeknal("state", "recover")
    write(shop.root, {"data/orders.csv": "id,amount\n7,70\n"})
    assert set(run(shop).values()) == {"unchanged"}


def test_a_promotion_over_a_changed_table_names_a_command_that_works(shop: Shop) -> None:
    write(shop.root, shop.node("whole", "SELECT id, amount + 1 AS amount FROM source.orders"))
    shop.apply()
    shop.database.execute("DELETE FROM shop.merged WHERE id = 1")
    said = shop.promote(code=3).said
    assert "shop.merged was changed by somebody else (rows: 1 deleted)" in said
    assert "seeknal run writes it again" in said
    shop.seeknal("run", "--select", "merged")
    shop.promote()


def test_a_full_refresh_says_how_many_rows_go_and_asks(shop: Shop) -> None:
    shop.database.execute("DELETE FROM shop.daily")
    asked = shop.seeknal("run", "--full-refresh", code=2).err
    kept = ("shop.merged", "shop.added", "lake.shop.merged", "lake.shop.added", "lake.shop.daily")
    said = [line.split(" (")[0] for line in asked.splitlines() if f" has {ROWS} rows: " in line]
    assert sorted(said) == sorted(kept)
    assert "Next: answer with --yes: seeknal run --full-refresh --yes" in asked
    # The tables are what they were: nothing was written.
    assert count(shop, "daily") == 0 and count(shop, "whole") == ROWS
    assert set(run(shop, "--full-refresh", "--yes").values()) == {"written"}
    # Nothing goes: a table in mode full, and one that has no rows.
    assert run(shop, "--select", "whole", "--full-refresh")["shop.whole"] == "written"
    shop.database.execute("DELETE FROM shop.added")
    assert " shop.added " not in shop.seeknal("run", "--full-refresh", code=2).err
