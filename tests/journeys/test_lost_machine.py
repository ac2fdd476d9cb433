"""A machine that is lost in the middle of a promotion, with its whole ``target/``."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from support.lost_machine import POINTS, finished_elsewhere, lose
from support.promotions import Place, Shop, make_shop


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """Version 1 in production, over a database and a catalog; version 2 promoted before."""
    promoted_shop.become(2)
    promoted_shop.apply()
    return promoted_shop


@pytest.mark.parametrize(
    ("point", "way"), [("lake published", "--resume"), ("both published", "--abort")]
)
def test_another_folder_finishes_or_undoes_what_a_lost_one_began(
    shop: Shop, point: str, way: str
) -> None:
    """One point for each store; the others are in `tests/public_cases`."""
    finished_elsewhere(shop, point, way)


def test_a_promotion_that_was_done_is_rolled_back_from_another_folder(shop: Shop) -> None:
    shop.promote()
    shop.expect(2)
    shutil.rmtree(shop.root / "target")
    assert "keeps documents" not in shop.seeknal("state", "recover").said
    shop.seeknal("env", "rollback", "prod")
    shop.expect(1)
    assert shop.leftovers(undo=True) == []


def test_a_rollback_of_a_lost_folder_is_finished(shop: Shop) -> None:
    shop.promote()
    shop.seeknal(
        "env",
        "rollback",
        "prod",
        code=-9,
        SEEKNAL_KILL_HOOKS="revert",
        SEEKNAL_KILL_AT="after:1",
    )
    shutil.rmtree(shop.root / "target")
    before = shop.seen()
    assert "a rollback of 'dev' into 'prod'" in shop.seeknal("run", code=3).said
    assert shop.seen() == before
    said = shop.seeknal("state", "recover", code=5).said
    assert "rollback of 'prod'" in said
    shop.seeknal("env", "rollback", "prod")
    shop.expect(1)
    assert shop.leftovers(undo=True) == []


def test_a_promotion_that_another_folder_began_is_not_overtaken(shop: Shop) -> None:
    lose(shop, "lake published", "env", "promote", "dev")
    shop.seeknal("run", "--env", "dev")
    before = shop.seen()
    for command in (
        ("env", "promote", "dev", "--force"),
        ("run",),
        ("run", "--full-refresh", "--yes"),
        ("run", "--select", "source.orders+"),
    ):
        assert "seeknal state recover" in shop.seeknal(*command, code=3).said
    assert shop.seen() == before


def test_the_way_from_a_recovered_folder_to_the_next_promotion_is_no_circle(shop: Shop) -> None:
    shutil.rmtree(shop.root / "target")
    shop.seeknal("state", "recover")
    shop.seeknal("state", "recover", "--env", "dev")
    for _ in range(3):
        ended = shop.promote(code=None)
        if ended.code == 0:
            break
        assert ended.code == 3, ended.said
        commands = re.findall(r"seeknal ([^&(,\n]+)", ended.said.rpartition("Next: ")[2])
        for command in commands:
            shop.seeknal(*shlex.split(command))
    else:
        pytest.fail("the hints lead in a circle")
    shop.expect(2)


def test_a_project_without_documents_says_what_cannot_be_known(
    tmp_path: Path, killer: Path
) -> None:
    """Iceberg catalogs keep none: half a promotion looks like a whole one."""
    shop = make_shop(tmp_path, [Place(name="lake", warehouse=tmp_path / "lake")], str(killer))
    shutil.rmtree(shop.root / "target")
    said = shop.seeknal("state", "recover").said
    assert "no store of these targets keeps documents of promotions" in said


def test_gc_sweeps_a_staging_that_only_the_store_remembers(shop: Shop) -> None:
    hooks, at = POINTS["staging"]
    shop.promote(code=-9, SEEKNAL_KILL_HOOKS=hooks, SEEKNAL_KILL_AT=at)
    (shop.root / "target" / "state" / "promotions" / "prod.current.json").unlink()
    assert shop.leftovers(undo=True) != []
    shop.seeknal("gc", "--dry-run")
    assert shop.leftovers(undo=True) != []
    shop.seeknal("gc")
    shop.expect(1)
    assert shop.leftovers(undo=True) == []
    shop.promote()
    shop.expect(2)


def test_gc_leaves_what_another_folder_stages_and_says_what_is_unfinished(shop: Shop) -> None:
    lose(shop, "lake published", "env", "promote", "dev")
    shop.seeknal("run", "--env", "dev")
    before = shop.seen()
    said = shop.seeknal("gc").said
    assert "is not finished: seeknal state recover" in said
    assert shop.seen() == before
    shop.seeknal("state", "recover", code=5)
    shop.promote("--abort")
    shop.expect(1)
