"""The Iceberg backend comes in through the door that everybody's does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    Outsider,
    SourceContract,
    StagingContract,
)
from support.iceberg_outsider import IcebergOutsider
from support.processes import free_port


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="iceberg")


@pytest.fixture
def connection() -> Mapping[str, object]:
    return {"warehouse": "./warehouse"}


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    folder = tmp_path / "warehouse"
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{folder}/catalog.db",
        "warehouse": folder.as_uri(),
    }
    return IcebergOutsider(properties, folder)


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    return {"catalog": {"type": "rest", "uri": f"http://127.0.0.1:{free_port()}"}}


class TestEmbeddedCatalog(BackendContract, StagingContract, SourceContract, CleanupContract):
    """All of it, on the catalog that needs no server."""
