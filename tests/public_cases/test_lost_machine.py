"""A machine that is lost in the middle of a promotion: every point, and both ways on.

The rest of `tests/journeys/test_lost_machine.py`, which has one point for each store.
"""

from __future__ import annotations

import pytest

from support.lost_machine import POINTS, finished_elsewhere
from support.promotions import Shop

_IN_THE_JOURNEYS = {("lake published", "--resume"), ("both published", "--abort")}


@pytest.fixture
def shop(promoted_shop: Shop) -> Shop:
    """Version 1 in production, over a database and a catalog; version 2 promoted before."""
    promoted_shop.become(2)
    promoted_shop.apply()
    return promoted_shop


@pytest.mark.parametrize(
    ("point", "way"),
    [
        (point, way)
        for point in POINTS
        for way in ("--resume", "--abort")
        if (point, way) not in _IN_THE_JOURNEYS
    ],
)
def test_another_folder_finishes_or_undoes_what_a_lost_one_began(
    shop: Shop, point: str, way: str
) -> None:
    finished_elsewhere(shop, point, way)
