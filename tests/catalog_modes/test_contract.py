"""The conformance suite on a REST catalog, in the mode that ``SEEKNAL_CATALOG_MODE`` names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    Outsider,
    SourceContract,
    StagingContract,
)
from support.catalog_modes import ModedCatalog
from support.iceberg_outsider import IcebergOutsider
from support.processes import free_port


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="iceberg")


@pytest.fixture
def connection(moded: ModedCatalog) -> Mapping[str, object]:
    return {"catalog": moded.catalog_options()}


@pytest.fixture
def outsider(moded: ModedCatalog) -> Outsider:
    return IcebergOutsider(moded.direct_options())


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    return {"catalog": {"type": "rest", "uri": f"http://127.0.0.1:{free_port()}"}}


class TestRestCatalog(BackendContract, StagingContract, SourceContract, CleanupContract):
    """All of it, on a REST catalog."""
