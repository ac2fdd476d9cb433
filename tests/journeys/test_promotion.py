"""Promotion over both stores: all of it or none, whatever fails."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from support.cli import write
from support.promotions import Shop, wait_for


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """Version 1 in production, over a database and an embedded catalog."""
    return promoted_shop


def test_a_promotion_brings_everything_into_both_stores_and_a_rollback_takes_it_back(
    shop: Shop,
) -> None:
    old = shop.seen()
    shop.become(2)
    shop.apply()
    assert shop.seen() == old
    document = json.loads(shop.promote("--json").out)
    assert {n["id"]: n["rows"] for n in document["nodes"]} == {
        "transform.kept": "shipped",
        "transform.keyed": "rebuilt",
        "transform.new2": "shipped",
    }
    assert all(target["staged"] for target in document["targets"])
    shop.expect(2)
    assert shop.leftovers() == []
    assert shop.promote().out.count("nothing to promote") == 1

    shop.seeknal("env", "rollback", "prod")
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []
    assert "rolled back" in shop.seeknal("run", code=3).said
    shop.become(1)
    targets = shop.seeknal("run", "--json").json()["targets"]
    assert {target["status"] for target in targets} == {"unchanged"}


def test_one_promotion_after_another_keeps_the_way_back_of_the_last_only(shop: Shop) -> None:
    for number in (2, 3):
        shop.become(number)
        shop.apply()
        shop.promote()
        shop.expect(number)
    tables = [name for name in shop.database.tables() if name.startswith("_seeknal_prod.undo_")]
    assert 0 < len(tables) <= 3
    shop.seeknal("env", "rollback", "prod")
    shop.expect(2)
    assert shop.leftovers(undo=True) == []


def test_half_of_a_dev_table_deleted_before_promoting_is_found_and_nothing_published(
    shop: Shop,
) -> None:
    shop.become(2)
    shop.apply()
    old = shop.seen()
    shop.database.execute("DELETE FROM dev_shop.kept WHERE id > 10")
    said = shop.promote(code=4).said
    assert "dev_shop.kept holds 10 rows; 20 were written" in said
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []


def test_a_production_table_dropped_by_hand_is_no_no_change(shop: Shop) -> None:
    shop.apply()
    # Dev's link to it is a view, which goes along.
    shop.database.execute("DROP TABLE shop.kept CASCADE")
    assert "shop.kept is missing" in shop.promote(code=3).said
    assert "missing" in shop.seeknal("env", "status", "prod", "--exit-code", code=3).out
    shop.seeknal("run")
    shop.expect(1)


def test_a_table_that_somebody_rewrote_is_drift_in_either_store(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    shop.database.execute("UPDATE shop.kept SET amount = 0")
    with shop.lake.catalog() as catalog:
        table = catalog.load_table(("shop", "keyed"))
        table.append(table.scan().to_arrow().slice(0, 1))
    old = shop.seen()
    said = shop.promote(code=3).said
    assert "shop.kept was changed by somebody else" in said
    assert "lake.shop.keyed was changed" in said or "shop.keyed was changed" in said
    assert shop.seen() == old
    shop.promote("--force")
    assert shop.database.seen()["shop.kept"][0] == (("id", 1), ("amount", 12))


def test_a_lock_on_one_table_keeps_every_table_of_both_stores_old(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    old = shop.seen()
    with psycopg.connect(**shop.database.dsn) as other:  # type: ignore[arg-type]
        other.execute("LOCK TABLE shop.keyed IN SHARE ROW EXCLUSIVE MODE")
        said = shop.promote(code=1).said
    assert "shop.keyed" in said and "pid" in said
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []
    shop.promote()
    shop.expect(2)


def test_a_row_that_somebody_inserts_between_stage_and_publish_is_not_lost(
    shop: Shop, tmp_path: Path
) -> None:
    shop.become(2)
    shop.apply()
    go = tmp_path / "go"
    running = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"checksum:{go}")
    wait_for(Path(f"{go}.reached"))
    shop.database.execute("INSERT INTO shop.kept VALUES (99, 99)")
    between = shop.seen()
    go.touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 3, out + err
    assert "shop.kept" in err
    assert shop.seen() == between
    assert shop.leftovers(undo=True) == []


def test_a_node_that_fails_leaves_production_alone(shop: Shop) -> None:
    shop.become(2)
    write(shop.root, shop.node("bad", "SELECT error('no luck') AS x FROM source.orders"))
    shop.seeknal("env", "plan", "dev")
    shop.seeknal("env", "apply", "dev", code=1)
    old = shop.seen()
    assert "not applied wholly" in shop.promote(code=3).said
    assert shop.seen() == old


def test_definitions_other_than_the_applied_ones_are_not_promoted(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    shop.become(3)
    assert "not the ones that 'dev' was applied with" in shop.promote(code=3).said


def test_production_that_moved_since_the_plan_is_refused(shop: Shop) -> None:
    shop.become(2)
    shop.apply()
    shop.become(1)
    write(shop.root, shop.node("other", "SELECT 1 AS one"))
    shop.seeknal("run")
    (shop.root / "seeknal" / "other.sql").unlink()
    shop.become(2)
    assert "has moved since 'dev' was planned" in shop.promote(code=3).said


def test_two_people_are_kept_apart_and_other_environments_do_not_wait(
    shop: Shop, tmp_path: Path
) -> None:
    shop.become(2)
    shop.apply()
    go = tmp_path / "go"
    first = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"stage:{go}")
    wait_for(Path(f"{go}.reached"))
    assert "in use by pid" in shop.promote(code=1).said
    assert "in use by pid" in shop.seeknal("env", "apply", "dev", code=1).said
    assert "in use by pid" in shop.seeknal("run", code=1).said
    shop.seeknal("run", "--env", "other")
    go.touch()
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err
    shop.expect(2)


def test_two_checkouts_that_promote_at_once_do_not_publish_over_one_another(
    shop: Shop, tmp_path: Path
) -> None:
    import shutil

    import attrs

    from support.cli import Cli

    shop.become(2)
    shop.apply()
    copy = tmp_path / "copy"
    shutil.copytree(shop.root, copy)
    (copy / "target" / "state" / "id").unlink()
    other = attrs.evolve(shop, root=copy, seeknal=Cli(cwd=copy, environ=shop.seeknal.environ))
    go = tmp_path / "go"
    first = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"stage:{go}")
    wait_for(Path(f"{go}.reached"))
    said = other.promote(code=3).said
    assert "another state folder" in said and "seeknal state recover" in said
    go.touch()
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err
    shop.expect(2)
    assert [name for name in shop.leftovers() if "copy" not in name] == []


def test_ctrl_c_in_the_middle_of_staging_takes_everything_back(shop: Shop, tmp_path: Path) -> None:
    import signal

    shop.become(2)
    shop.apply()
    old = shop.seen()
    go = tmp_path / "go"
    running = shop.seeknal.start("env", "promote", "dev", SEEKNAL_WAIT=f"stage:{go}")
    wait_for(Path(f"{go}.reached"))
    running.send_signal(signal.SIGINT)
    go.touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    assert "Traceback" not in err
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []
    shop.promote()
    shop.expect(2)
