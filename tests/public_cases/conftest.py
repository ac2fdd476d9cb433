"""Fixtures of the public cases: those of the journeys."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.distributions import install
from support.promotions import Place, Shop, make_shop


@pytest.fixture
def promoted_shop(tmp_path: Path, postgres_dsn: dict[str, object]) -> Shop:
    """A small project with version 1 in production, over a database and a catalog."""
    return _shop(tmp_path, postgres_dsn, run=True)


@pytest.fixture
def empty_shop(tmp_path: Path, postgres_dsn: dict[str, object]) -> Shop:
    """The same before its first run."""
    return _shop(tmp_path, postgres_dsn, run=False)


def _shop(tmp_path: Path, postgres_dsn: dict[str, object], *, run: bool) -> Shop:
    places = [
        Place(name="warehouse", dsn=postgres_dsn),
        Place(name="lake", warehouse=tmp_path / "lake"),
    ]
    source = (Path(__file__).parents[1] / "support" / "seeknal_killer.py").read_text("utf-8")
    killer = install(
        tmp_path / "site",
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=source,
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )
    return make_shop(tmp_path, places, str(killer), run=run)
