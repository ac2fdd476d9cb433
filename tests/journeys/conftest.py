"""One project over both stores, as a team would have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write
from support.journeys import NODES, ORDERS, write_orders
from support.lake import LakeServer


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
    return Cli(cwd=shop, environ={"HOME": str(tmp_path / "home")})


@pytest.fixture
def rest_lake(lake: LakeServer) -> dict[str, str]:
    """The pyiceberg properties of the REST catalog."""
    return lake.catalog_options()
