"""The PostgreSQL backend comes in through the door that everybody's does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
import pytest
from psycopg import sql

from seeknal_core.testing import (
    Backend,
    BackendContract,
    CleanupContract,
    Outsider,
    SourceContract,
    StagingContract,
)
from seeknal_core.testing.contracts.links import ChangeTests, LinkTests
from support.postgres import PostgresStore
from support.postgres_outsider import PostgresOutsider
from support.processes import free_port


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="postgresql")


@pytest.fixture(scope="module")
def database(postgres_server: PostgresStore) -> Iterator[Mapping[str, object]]:
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def connection(database: Mapping[str, object]) -> Mapping[str, object]:
    """An empty database: the module's, emptied, for a new one takes half a second."""
    with psycopg.connect(autocommit=True, **database) as admin:  # type: ignore[arg-type]
        found = admin.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"
            " AND nspname NOT IN ('information_schema', 'public')"
        ).fetchall()
        for (schema,) in found:
            admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    return database


@pytest.fixture
def outsider(connection: Mapping[str, object]) -> Outsider:
    return PostgresOutsider(connection)


@pytest.fixture
def unreachable(postgres_server: PostgresStore) -> Mapping[str, object]:
    return {**postgres_server.dsn(), "host": "127.0.0.1", "port": free_port()}


@pytest.fixture
def rejected(connection: Mapping[str, object]) -> Mapping[str, object]:
    return {**connection, "user": "nobody-of-that-name", "password": "wr0ng-word"}


@pytest.fixture
def query() -> str:
    return "SELECT * FROM {table}"


@pytest.fixture
def writing_query() -> str:
    return "WITH gone AS (DELETE FROM {table} RETURNING *) SELECT * FROM gone"


class TestPostgres(
    BackendContract, StagingContract, SourceContract, CleanupContract, LinkTests, ChangeTests
):
    """All of it."""
