"""Catalog servers of others, each started at most once, and a lake below them.

They need Java and Maven; where those are missing nothing here is collected, and it is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from support import java_servers

if TYPE_CHECKING:
    from support.java_servers import CatalogServer
    from support.lake import LakeServer

_WHY = java_servers.missing()
collect_ignore_glob = ["test_*.py"] if _WHY else []


def pytest_report_header() -> str:
    """Say why nothing runs here."""
    return f"tests/catalogs: {_WHY or 'Nessie, Iceberg REST server, Spark'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it again at the end, where it is seen."""
    if _WHY:
        terminalreporter.write_line(f"tests/catalogs did not run: {_WHY}", yellow=True, bold=True)


@pytest.fixture(scope="session", params=["iceberg", "nessie"])
def server(request: pytest.FixtureRequest, lake: LakeServer) -> Iterator[CatalogServer]:
    """A catalog server; one at a time."""
    kinds: dict[str, type[CatalogServer]] = {
        kind.name: kind for kind in (java_servers.IcebergServer, java_servers.NessieServer)
    }
    made = kinds[request.param](lake)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Take it for no failure that nothing ran here because Java is not there."""
    if _WHY and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK
