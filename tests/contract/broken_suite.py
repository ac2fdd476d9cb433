"""The suite over every broken backend; not collected by itself: `test_broken_backends.py` runs it.

Each broken backend is held to the themes in which a test is to notice it.
"""

from __future__ import annotations

from typing import Any

import pytest

from seeknal_core.testing import Backend, contracts
from support.broken import Broken, all_broken
from support.memory_fixtures import *  # noqa: F403 - fixtures

_CONTRACTS = (
    contracts.BackendContract,
    contracts.StagingContract,
    contracts.SourceContract,
    contracts.CleanupContract,
)


def themes(broken: Broken) -> tuple[type, ...]:
    """Return the suite's classes that hold a test which is to notice."""
    bases = {cls for contract in _CONTRACTS for cls in contract.__mro__}
    return tuple(
        sorted((cls for cls in bases if broken.red & set(vars(cls))), key=lambda cls: cls.__name__)
    )


def suite(broken: Broken) -> type:
    """Return the test class of a broken backend."""

    def backend(self: object) -> Backend:
        return Backend(type="memory", plugin=broken.plugin)

    body: dict[str, Any] = {"backend": pytest.fixture(backend)}
    return type(f"Test{broken.name}", themes(broken), body)


for _broken in all_broken().values():
    globals()[f"Test{_broken.name}"] = suite(_broken)
