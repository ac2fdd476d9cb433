"""A promotion that the version before today's layout left unfinished is gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.earlier_version import BEFORE_ROOMS, earlier
from support.promotions import Shop


@pytest.fixture
def shop(promoted_shop: Shop, tmp_path: Path) -> Shop:
    """Version 1 in production and 2 in dev; what kills is written as that version wants it."""
    killer = tmp_path / "site" / "seeknal_killer.py"
    text = killer.read_text("utf-8").replace(
        "seeknal_core.contract.hooks", "seeknal_core.hookspecs"
    )
    killer.write_text(text, "utf-8")
    return promoted_shop


@pytest.mark.parametrize("ends", ["--resume", "--abort", "--abort=keep"])
@pytest.mark.parametrize(
    ("hooks", "at"),
    [("stage,stage_targets", "after:1"), ("publish", "before:1"), ("publish", "after:1")],
    ids=["staged", "verified", "half published"],
)
def test_an_unfinished_promotion_ends_as_it_would_have(
    shop: Shop, tmp_path: Path, hooks: str, at: str, ends: str
) -> None:
    former = earlier(shop.seeknal, tmp_path / "earlier", BEFORE_ROOMS)
    before = shop.seen()
    shop.become(2)
    former("env", "plan", "dev")
    former("env", "apply", "dev")
    kill = {"SEEKNAL_KILL_HOOKS": hooks, "SEEKNAL_KILL_AT": at}
    former("env", "promote", "dev", code=-9, **kill)
    left = shop.seen()
    shop.seeknal("run", code=5)
    shop.promote(ends)
    assert not list(shop.root.glob("target/state/promotions/*.current.json"))
    if ends == "--resume":
        assert [len(tables) for tables in shop.seen().values()] == [3, 3]
        shop.seeknal("env", "rollback", "prod")
    if ends == "--abort=keep":
        assert shop.seen() == left
    else:
        assert shop.seen() == before


def test_a_promotion_of_that_version_is_rolled_back(shop: Shop, tmp_path: Path) -> None:
    former = earlier(shop.seeknal, tmp_path / "earlier", BEFORE_ROOMS)
    before = shop.seen()
    shop.become(2)
    former("run", "--env", "dev")
    former("env", "promote", "dev")
    shop.seeknal("env", "rollback", "prod")
    assert shop.seen() == before
