"""The reference backend is held to the suite that it is the reference of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    Outsider,
    SourceContract,
    StagingContract,
)
from support.memory_outsider import MemoryOutsider

PASSWORD = "s3cret-word"


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="memory", plugin="seeknal_core.testing.memory:backend")


@pytest.fixture
def connection() -> Mapping[str, object]:
    return {"path": "store", "password": PASSWORD}


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    return MemoryOutsider(tmp_path / "store", PASSWORD)


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    return {"path": "no/such/folder/store", "password": PASSWORD}


@pytest.fixture
def rejected(outsider: Outsider) -> Mapping[str, object]:
    outsider.write(("there", "table"), pa.table({"id": [1]}))
    return {"path": "store", "password": "wr0ng-word"}


@pytest.fixture
def query() -> str:
    return "SELECT * FROM {table}"


@pytest.fixture
def writing_query() -> str:
    return "CREATE TABLE x AS SELECT * FROM {table}"


class TestMemory(BackendContract, StagingContract, SourceContract, CleanupContract):
    """All of it."""
