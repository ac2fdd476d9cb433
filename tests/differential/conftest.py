"""Fixtures of the differential tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.iceberg import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An embedded catalog that nobody has made yet."""
    made = Bench({"warehouse": "./warehouse"}, tmp_path)
    yield made
    made.close()
