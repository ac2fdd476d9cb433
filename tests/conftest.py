"""Fixtures for all tests: real stores, each started at most once per worker and always stopped."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.lake import LakeServer
    from support.postgres import PostgresStore

#: Tests with a REST catalog alone, and those in this way of answering.
_MODE = "SEEKNAL_CATALOG_MODE"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what makes no sense for the account that runs it; begin with what is long."""
    senseless = {"ordinary_user" if os.geteuid() == 0 else "root"}
    if not _may_mount():
        senseless.add("mounts")
    left_out = [item for item in items if any(map(item.get_closest_marker, senseless))]
    if os.environ.get(_MODE):
        left_out += [item for item in items if item not in left_out and not _has_mode(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = _begun_with_long_ones(items, workers)


def _has_mode(item: pytest.Item) -> bool:
    """Tell whether a test's catalog is in the mode that the variable names."""
    return bool({"lake", "moded"} & set(getattr(item, "fixturenames", ())))


def _begun_with_long_ones(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order `items` so that each worker begins with its share of the long ones.

    xdist's ``worksteal`` gives each worker one run of neighbours to begin with and takes from
    the ends of what is left, so what stands first in a run is never waited for in the end.
    """
    long = [item for item in items if item.get_closest_marker("long")]
    short = [item for item in items if not item.get_closest_marker("long")]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        size = (len(items) - len(ordered)) // (workers - worker)
        share = long[worker::workers]
        others = max(size - len(share), 0)
        ordered += share + short[:others]
        del short[:others]
    return ordered + short


def _may_mount() -> bool:
    """Tell whether this account may mount a file system in a namespace of its own."""
    program = shutil.which("unshare")
    if program is None:
        return False
    command = [program, "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a strict run in which a test was skipped: it would look like a success."""
    if _skipped_in_strict_run(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why a strict run failed."""
    count = _skipped_in_strict_run(config)
    if count:
        terminalreporter.write_line(
            f"{count} skipped: SEEKNAL_TEST_STRICT allows none", red=True, bold=True
        )


def _skipped_in_strict_run(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("SEEKNAL_TEST_STRICT"):
        return 0
    return len(reporter.stats.get("skipped", ()))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresStore]:
    """A PostgreSQL server: ``SEEKNAL_TEST_POSTGRES`` if set, else one from the wheel."""
    from support.postgres import ExternalPostgres, PostgresServer

    given = os.environ.get("SEEKNAL_TEST_POSTGRES")
    if given:
        yield ExternalPostgres(given)
        return
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def postgres_dsn(postgres_server: PostgresStore) -> Iterator[dict[str, object]]:
    """A fresh database: host, port, user, password and dbname, as psycopg names them."""
    dsn = postgres_server.create_database()
    yield dsn
    postgres_server.drop_database(dsn)


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeServer]:
    """An S3 service with an Iceberg REST catalog, in the mode that a variable names."""
    from support.lake import LakeServer

    server = LakeServer()
    mode = os.environ.get(_MODE)
    try:
        server.start()
        if not mode:
            yield server
            return
        from support.catalog_modes import moded_lake

        with moded_lake(server, mode, tmp_path_factory.mktemp("catalog")) as moded:
            yield moded
    finally:
        server.stop()


@pytest.fixture
def lake_namespace() -> str:
    """A namespace name that no other test uses; not created yet."""
    return f"ns_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def sqlite_lake(tmp_path: Path) -> dict[str, str]:
    """The pyiceberg properties of an empty catalog in SQLite, its files beside it."""
    warehouse = tmp_path / "warehouse"
    warehouse.mkdir()
    return {
        "type": "sql",
        "uri": f"sqlite:///{warehouse}/catalog.db",
        "warehouse": warehouse.as_uri(),
    }
