"""The PostgreSQL backend comes in through the door that everybody's does."""

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
from support.postgres import PostgresStore
from support.postgres_outsider import PostgresOutsider
from support.processes import free_port


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="postgresql")


@pytest.fixture
def connection(postgres_dsn: Mapping[str, object]) -> Mapping[str, object]:
    return postgres_dsn


@pytest.fixture
def outsider(postgres_dsn: Mapping[str, object]) -> Outsider:
    return PostgresOutsider(postgres_dsn)


@pytest.fixture
def unreachable(postgres_server: PostgresStore) -> Mapping[str, object]:
    return {**postgres_server.dsn(), "host": "127.0.0.1", "port": free_port()}


@pytest.fixture
def rejected(postgres_dsn: Mapping[str, object]) -> Mapping[str, object]:
    return {**postgres_dsn, "user": "nobody-of-that-name", "password": "wr0ng-word"}


@pytest.fixture
def query() -> str:
    return "SELECT * FROM {table}"


@pytest.fixture
def writing_query() -> str:
    return "WITH gone AS (DELETE FROM {table} RETURNING *) SELECT * FROM gone"


class TestPostgres(BackendContract, StagingContract, SourceContract, CleanupContract):
    """All of it."""
