"""One project over both stores, as a team would have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write
from support.distributions import install
from support.journeys import NODES, ORDERS, write_orders
from support.lake import LakeServer
from support.promotions import Place, Shop, make_shop


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The project's folder, without a profile."""
    root = tmp_path / "shop"
    write(root, NODES)
    write_orders(root, ORDERS)
    return root


@pytest.fixture
def seeknal(shop: Path, tmp_path: Path) -> Cli:
    """The command, in the project."""
    return Cli(cwd=shop, environ={"HOME": str(tmp_path / "home")}, warm=True)


@pytest.fixture
def rest_lake(lake: LakeServer) -> dict[str, str]:
    """The pyiceberg properties of the REST catalog."""
    return lake.catalog_options()


@pytest.fixture
def killer(tmp_path: Path) -> Path:
    """A path on which the plugin that kills, or waits, is installed."""
    source = (Path(__file__).parents[1] / "support" / "seeknal_killer.py").read_text("utf-8")
    return install(
        tmp_path / "site",
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=source,
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )


@pytest.fixture
def promoted_shop(tmp_path: Path, postgres_dsn: dict[str, object], killer: Path) -> Shop:
    """A small project with version 1 in production, over a database and a catalog."""
    places = [
        Place(name="warehouse", dsn=postgres_dsn),
        Place(name="lake", warehouse=tmp_path / "lake"),
    ]
    return make_shop(tmp_path, places, str(killer))
