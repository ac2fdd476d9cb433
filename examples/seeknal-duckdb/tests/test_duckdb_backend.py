"""The backend is held to the whole conformance suite."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
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


class DuckDBOutsider(Outsider):
    """Opens the file with DuckDB alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _open(self, *, writes: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        deadline = time.monotonic() + 10
        while True:
            # A reader asks again while the backend, in this very process, closes the file.
            with contextlib.suppress(duckdb.ResourceInUseException, duckdb.IOException):
                there = writes or self._path.exists()
                database = duckdb.connect(str(self._path) if there else ":memory:")
                break
            assert time.monotonic() < deadline, f"{self._path} is in use"
            time.sleep(0.005)
        with database:
            yield database

    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        with self._open() as database:
            try:
                columns = database.execute(f"DESCRIBE {_quoted(*parts)}").fetchall()
            except duckdb.CatalogException:
                return None
            # An INTERVAL stands for a duration, and a UUID for its bytes, not for a text.
            readable = {
                "INTERVAL": "epoch_us({0}) AS {0}",
                "UUID": "from_hex(replace({0}::VARCHAR, '-', '')) AS {0}",
            }
            names = [readable.get(one[1], "{0}").format(_quoted(one[0])) for one in columns]
            found = database.sql(
                f"SELECT {', '.join(names)} FROM {_quoted(*parts)}"
            ).to_arrow_table()
            for index, one in enumerate(columns):
                if one[1] == "INTERVAL":
                    span = found.column(index).cast(pa.duration("us"))
                    found = found.set_column(index, one[0], span)
            return found

    def objects(self) -> frozenset[str]:
        with self._open() as database:
            found = database.execute(
                "SELECT 'schema ' || schema_name FROM duckdb_schemas() "
                "WHERE NOT internal AND database_name = current_database() UNION ALL "
                "SELECT 'table ' || schema_name || '.' || table_name FROM duckdb_tables()"
            ).fetchall()
            if any(name == "table _seeknal.ledger" for (name,) in found):
                found += database.execute("SELECT kind || key FROM _seeknal.ledger").fetchall()
            return frozenset(name for (name,) in found)

    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        with self._open(writes=True) as database:
            table = _quoted(*parts)
            database.register("theirs", rows)
            database.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(parts[0])}")
            database.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM theirs LIMIT 0")
            database.execute(f"INSERT INTO {table} BY NAME FROM theirs")


def _quoted(*parts: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


@pytest.fixture(scope="session")
def backend() -> Backend:
    return Backend(type="duckdb")


@pytest.fixture
def connection() -> Mapping[str, object]:
    return {"path": "warehouse.duckdb", "wait": 10.0}


@pytest.fixture
def outsider(tmp_path: Path) -> Outsider:
    return DuckDBOutsider(tmp_path / "warehouse.duckdb")


@pytest.fixture
def unreachable() -> Mapping[str, object]:
    return {"path": "no/such/folder/warehouse.duckdb"}


@pytest.fixture
def query() -> str:
    return "SELECT * FROM {table}"


@pytest.fixture
def writing_query() -> str:
    return "CREATE TABLE x AS SELECT * FROM {table}"


class TestDuckDB(BackendContract, StagingContract, SourceContract, CleanupContract):
    """All of it."""
