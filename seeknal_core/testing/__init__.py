"""The conformance suite for backends: ``pip install "seeknal-core[testing]"``.

A backend's authors write one class and three fixtures::

    import pytest
    from seeknal_core.testing import (
        Backend, BackendContract, CleanupContract, Outsider, SourceContract, StagingContract,
    )

    class MyOutsider(Outsider):
        ...  # three methods: read, objects, write

    @pytest.fixture(scope="session")
    def backend() -> Backend:
        return Backend(type="mystore")

    @pytest.fixture
    def connection(tmp_path) -> dict[str, object]:
        return {"path": str(tmp_path / "store")}

    @pytest.fixture
    def outsider(connection) -> Outsider:
        return MyOutsider(connection)

    class TestMyBackend(BackendContract, StagingContract, SourceContract, CleanupContract):
        pass

``backend``
    which backend: its type, as installed. Takes no arguments, for it is asked while tests
    are collected: tests of hooks that the backend lacks are left out.
``connection``
    the mapping of a connection as in a profile, to a fresh, empty store or place of its
    own, for each test. Relative paths are relative to ``tmp_path``, the project's folder.
``outsider``
    an `Outsider` that looks at that store without the backend.

Five more fixtures are optional; tests that need them are left out where they are not given:
``unreachable`` and ``rejected``, connections whose store does not answer, and whose
credentials are wrong; ``query``, a query over a table, with ``{table}`` for the table as
users write it; ``writing_query``, one that would write; ``secrets``, the strings of
``connection`` that nobody may see (by default those whose keys say so).

``pytest --seeknal-report FILE`` writes what passed as JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seeknal_core.testing.backend import Backend as Backend
    from seeknal_core.testing.bench import Bench as Bench
    from seeknal_core.testing.contracts import BackendContract as BackendContract
    from seeknal_core.testing.contracts import CleanupContract as CleanupContract
    from seeknal_core.testing.contracts import SourceContract as SourceContract
    from seeknal_core.testing.contracts import StagingContract as StagingContract
    from seeknal_core.testing.outsider import Outsider as Outsider

_PLACES = {
    "Backend": "backend",
    "Bench": "bench",
    "BackendContract": "contracts",
    "CleanupContract": "contracts",
    "SourceContract": "contracts",
    "StagingContract": "contracts",
    "Outsider": "outsider",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    # Every pytest run loads this package for its plugin; only contracts need pyarrow.
    from importlib import import_module

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return found
