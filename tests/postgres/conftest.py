"""An empty database for each test of the PostgreSQL backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from seeknal_core.types import Resources
from support.postgres import PostgresStore
from support.postgres_hooks import Database


@pytest.fixture(scope="module")
def module_dsn(postgres_server: PostgresStore) -> Iterator[dict[str, object]]:
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture
def db(module_dsn: dict[str, object], tmp_path: Path) -> Iterator[Database]:
    """The module's database, emptied, and the hooks on it."""
    resources = Resources()
    with psycopg.connect(autocommit=True, **module_dsn) as admin:  # type: ignore[arg-type]
        _empty(admin)
        yield Database(dsn=module_dsn, admin=admin, folder=tmp_path, resources=resources)
        resources.close()


def _empty(admin: psycopg.Connection) -> None:
    found = admin.execute(
        "SELECT nspname FROM pg_namespace"
        " WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
    ).fetchall()
    for (schema,) in found:
        admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    admin.execute("CREATE SCHEMA public")
