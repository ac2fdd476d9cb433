"""A machine that is lost in the middle of a promotion, and how another folder goes on."""

from __future__ import annotations

import shutil

from support.promotions import Shop

#: By what is lost: the hooks that are counted, and the call that the process dies at.
POINTS = {
    "staging": ("stage", "after:2"),
    "verified": ("prepare_publish", "before:1"),
    "prepared": ("publish", "before:1"),
    "lake published": ("publish", "after:1"),
    "both published": ("publish", "after:2"),
}


def lose(shop: Shop, point: str, *command: str) -> None:
    """Kill a command at a point, and lose the folder that it wrote into."""
    hooks, at = POINTS[point]
    shop.seeknal(*command, code=-9, SEEKNAL_KILL_HOOKS=hooks, SEEKNAL_KILL_AT=at)
    shutil.rmtree(shop.root / "target")


def finished_elsewhere(shop: Shop, point: str, way: str) -> None:
    """Lose the folder at a point; another one resumes or aborts, and nothing is left over."""
    lose(shop, point, "env", "promote", "dev")
    said = shop.seeknal("env", "status", "prod", code=5).said
    assert "promotion of 'dev' into 'prod'" in said and "seeknal state recover" in said
    if point != "staging":
        # A run would write over what has to be finished or undone.
        assert "seeknal state recover" in shop.seeknal("run", code=3).said
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
