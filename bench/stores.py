"""The stores that the benchmarks write to: a PostgreSQL server of their own, with fsync on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.measure import ROOT

#: Of the server that is started from the wheel; all else is PostgreSQL's default.
SETTINGS = {"shared_buffers": "128MB", "max_wal_size": "4GB"}


class Server:
    """A running PostgreSQL server; each project or table set gets a database."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def database(self) -> dict[str, Any]:
        """Make an empty database and return its host, port, user, password and dbname."""
        made: dict[str, Any] = self._store.create_database()
        return made

    def drop(self, database: dict[str, Any]) -> None:
        """Drop a database."""
        self._store.drop_database(database)

    def settle(self) -> None:
        """Write what is dirty, so that the next measured command does not."""
        with self._store.connect() as connection:
            connection.execute("CHECKPOINT")

    def version(self) -> str:
        """Return the server's version."""
        with self._store.connect() as connection:
            return str(connection.execute("SHOW server_version").fetchone()[0])


def conninfo(database: dict[str, Any]) -> str:
    """Return libpq's connection string."""
    from psycopg.conninfo import make_conninfo

    return make_conninfo("", **database)


def connection(database: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a connection in a profile."""
    renamed = {"dbname": "database"}
    return {renamed.get(name, name): value for name, value in database.items()}


@contextmanager
def server(dsn: str | None = None) -> Iterator[Server]:
    """Start a server, or use the one that ``dsn`` names (as a superuser)."""
    tests = str(ROOT / "tests")
    if tests not in sys.path:
        sys.path.insert(0, tests)
    from support.postgres import ExternalPostgres, PostgresServer

    if dsn:
        yield Server(ExternalPostgres(dsn))
        return
    store = PostgresServer(fsync=True, settings=SETTINGS)
    try:
        store.start()
        yield Server(store)
    finally:
        store.stop()
