"""A stored output that changes between the last look at it and its staging is not published."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.distributions import install
from support.promotions import Shop

#: Changes a byte of what is staged, just before a store gets it.
_CHANGER = """
import os
from pathlib import Path

from seeknal_core.contract.hooks import hookimpl


def _change(snapshot):
    path = Path(snapshot.files[0])
    if os.environ.get("CHANGED") != snapshot.node:
        return
    content = bytearray(path.read_bytes())
    # Of the first data page, and the same each time: a node has two targets.
    content[4 + (len(content) - 4) // 8] = 0xA5
    path.chmod(0o644)
    path.write_bytes(content)


@hookimpl(wrapper=True)
def stage(snapshot):
    _change(snapshot)
    return (yield)


@hookimpl(wrapper=True)
def stage_targets(snapshots):
    for snapshot in snapshots:
        _change(snapshot)
    return (yield)
"""


@pytest.mark.parametrize("verify", ["counts", "checksum"])
def test_bytes_that_change_before_they_are_staged_are_not_published(
    promoted_shop: Shop, tmp_path: Path, verify: str
) -> None:
    shop = promoted_shop
    site = install(
        tmp_path / "changer",
        distribution="seeknal-changer",
        module="seeknal_changer",
        source=_CHANGER,
        entry_points={"seeknal.plugins": {"changer": "seeknal_changer"}},
    )
    path = f"{site}:{shop.seeknal.environ['PYTHONPATH']}"
    before = shop.seen()
    shop.become(2)
    shop.apply()
    ended = shop.promote("--verify", verify, code=4, CHANGED="transform.kept", PYTHONPATH=path)
    assert "the stored output of transform.kept was damaged" in ended.said
    assert "seeknal env apply dev --force" in ended.said
    assert shop.seen() == before
    assert all(not place.leftovers(undo=False) for place in shop.places)
    shop.seeknal("env", "apply", "dev", "--force")
    shop.promote(PYTHONPATH=path)
    assert shop.seen() != before
