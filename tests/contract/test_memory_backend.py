"""The reference backend is held to the suite that it is the reference of."""

from __future__ import annotations

import pytest

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    SourceContract,
    StagingContract,
)
from seeknal_core.testing.contracts.links import ChangeTests, LinkTests
from support.memory_fixtures import *  # noqa: F403 - fixtures


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="memory", plugin="seeknal_core.testing.memory:backend")


class TestMemory(
    BackendContract, StagingContract, SourceContract, CleanupContract, LinkTests, ChangeTests
):
    """All of it."""
