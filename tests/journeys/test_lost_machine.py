"""A machine that is lost in the middle of a promotion, with its whole ``target/``."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from support.promotions import Shop

#: By what is lost: the hooks that are counted, and the call that the process dies at.
POINTS = {
    "staging": ("stage", "after:2"),
    "verified": ("prepare_publish", "before:1"),
    "prepared": ("publish", "before:1"),
    "lake published": ("publish", "after:1"),
    "both published": ("publish", "after:2"),
}


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """Version 1 in production, over a database and a catalog; version 2 promoted before."""
    promoted_shop.become(2)
    promoted_shop.apply()
    return promoted_shop


def lose(shop: Shop, point: str, *command: str) -> None:
    """Kill a command at a point, and lose the folder that it wrote into."""
    hooks, at = POINTS[point]
    shop.seeknal(*command, code=-9, SEEKNAL_KILL_HOOKS=hooks, SEEKNAL_KILL_AT=at)
    shutil.rmtree(shop.root / "target")


@pytest.mark.parametrize("way", ["--resume", "--abort"])
@pytest.mark.parametrize("point", POINTS)
def test_another_folder_finishes_or_undoes_what_a_lost_one_began(
    shop: Shop, point: str, way: str
) -> None:
    lose(shop, point, "env", "promote", "dev")
    said = shop.seeknal("env", "status", "prod", code=5).said
    assert "promotion of 'dev' into 'prod'" in said and "seeknal state recover" in said
    said = shop.seeknal("state", "recover", code=5).said
    assert "seeknal env promote dev prod --resume (or --abort)" in said
    shop.seeknal("run", code=5)
    assert "--resume" in shop.seeknal("env", "status", "prod", code=5).said
    if way == "--abort":
        shop.promote("--abort")
        shop.expect(1)
        assert shop.leftovers(undo=True) == []
        return
    if point == "staging":
        # What was staged is not known to be whole: going on begins anew, and dev is lost.
        shop.promote("--resume", code=3)
        shop.expect(1)
        assert shop.leftovers(undo=True) == []
        return
    shop.promote("--resume")
    shop.expect(2)
    assert shop.leftovers() == []
    shop.seeknal("env", "status", "prod")
    shop.seeknal("env", "rollback", "prod")
    shop.expect(1)
    assert shop.leftovers(undo=True) == []


def test_a_promotion_that_was_done_is_rolled_back_from_another_folder(shop: Shop) -> None:
    shop.promote()
    shop.expect(2)
    shutil.rmtree(shop.root / "target")
    shop.seeknal("state", "recover")
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
    said = shop.seeknal("state", "recover", code=5).said
    assert "rollback of 'prod'" in said
    shop.seeknal("env", "rollback", "prod")
    shop.expect(1)
    assert shop.leftovers(undo=True) == []


def test_a_promotion_that_another_folder_began_is_not_overtaken(shop: Shop) -> None:
    lose(shop, "lake published", "env", "promote", "dev")
    shop.seeknal("run", "--env", "dev")
    said = shop.promote("--force", code=3).said
    assert "seeknal state recover" in said


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
