"""Fixtures of the Iceberg backend's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.iceberg import Bench

if TYPE_CHECKING:
    from support.lake import LakeServer


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An embedded catalog that nobody has made yet."""
    made = Bench({"warehouse": "./warehouse"}, tmp_path)
    yield made
    made.close()


@pytest.fixture
def rest(lake: LakeServer, tmp_path: Path) -> Iterator[Bench]:
    """A REST catalog over S3."""
    made = Bench({"catalog": lake.catalog_options()}, tmp_path)
    yield made
    made.close()
