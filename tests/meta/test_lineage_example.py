"""``examples/seeknal-openlineage``, installed as a distribution, in whole runs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli
from support.examples import (
    PASSWORD,
    example_project,
    fail_writes_of,
    having,
    install_example,
    run_own_tests,
)

pytestmark = pytest.mark.xdist_group("lineage_example")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example("seeknal-openlineage", tmp_path_factory.mktemp("lineage") / "site")


@pytest.fixture
def seeknal(tmp_path: Path, site: Path) -> Cli:
    return example_project(tmp_path, site)


@pytest.fixture
def to_file(tmp_path: Path) -> dict[str, str]:
    """The variables that send events to a file."""
    return {
        "OPENLINEAGE__TRANSPORT__TYPE": "file",
        "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(tmp_path / "events.ndjson"),
        "OPENLINEAGE__TRANSPORT__APPEND": "true",
    }


@pytest.fixture
def events(tmp_path: Path) -> Any:
    """Take the events out of the file."""

    def take() -> list[dict[str, Any]]:
        file = tmp_path / "events.ndjson"
        text = file.read_text("utf-8")
        assert PASSWORD not in text
        file.unlink()
        return [json.loads(line) for line in text.splitlines()]

    return take


def ended(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the last event of each write, by node; each has had a first one."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_run.setdefault(event["run"]["runId"], []).append(event)
    assert all(len(run) == 2 and run[0]["eventType"] == "START" for run in by_run.values())
    return {run[1]["run"]["facets"]["seeknal"]["node"]: run[1] for run in by_run.values()}


def test_a_run_and_a_promotion_tell_names_rows_and_inputs_of_their_environment(
    seeknal: Cli, to_file: dict[str, str], events: Any
) -> None:
    having(seeknal, to_file)("run", "--env", "dev")
    found = ended(events())
    assert found.keys() == {"transform.doubled", "transform.big"}
    doubled = found["transform.doubled"]
    assert doubled["eventType"] == "COMPLETE"
    assert doubled["job"]["namespace"] == "shop.dev"
    assert doubled["job"]["name"] == "transform.doubled/folder::sales.doubled"
    assert doubled["run"]["facets"]["seeknal"]["environment"] == "dev"
    (output,) = doubled["outputs"]
    lake = f"file://{seeknal.cwd}"
    assert output["namespace"] == f"{lake}/dev-lake"
    assert output["name"] == "sales.doubled"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert [f["name"] for f in output["facets"]["schema"]["fields"]] == ["n", "double"]
    # Also through a node between.
    for node in found.values():
        assert [one["name"] for one in node["inputs"]] == ["raw.stored"]
        assert node["inputs"][0]["namespace"] == output["namespace"]

    having(seeknal, to_file)("env", "plan", "dev")
    having(seeknal, to_file)("env", "apply", "dev")
    having(seeknal, to_file)("env", "promote", "dev")
    found = ended(events())
    production = {event["job"]["namespace"] for event in found.values()}
    assert production == {"shop.prod"}
    doubled = found["transform.doubled"]
    facet = doubled["run"]["facets"]["seeknal"]
    assert (facet["operation"], facet["production"]) == ("publish", True)
    (output,) = doubled["outputs"]
    assert output["namespace"] == f"{lake}/lake"
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 5
    assert facet["rowsAfter"] == 5


def test_a_failed_write_tells_why_without_a_secret(
    seeknal: Cli, to_file: dict[str, str], events: Any
) -> None:
    fail_writes_of(seeknal.cwd, "big")
    having(seeknal, to_file)("run", "--env", "dev", code=1)
    found = ended(events())
    assert found["transform.doubled"]["eventType"] == "COMPLETE"
    assert found["transform.big"]["eventType"] == "FAIL"
    message = found["transform.big"]["run"]["facets"]["errorMessage"]["message"]
    assert message.startswith("WriteRefused: ") and "told to fail" in message and "***" in message


def test_nothing_is_said_where_nothing_is_configured_or_lineage_is_off(
    seeknal: Cli, to_file: dict[str, str], tmp_path: Path
) -> None:
    plain = seeknal("run", "--json", "--env", "dev")
    assert "lineage" not in plain.said.lower() and "eventType" not in plain.said
    off = having(seeknal, to_file)("run", "--full-refresh", OPENLINEAGE_DISABLED="true")
    assert "lineage" not in off.said.lower()
    assert not (tmp_path / "events.ndjson").exists()


def test_the_console_transport_leaves_standard_output_to_the_command(seeknal: Cli) -> None:
    done = seeknal("run", "--json", "--env", "dev", OPENLINEAGE__TRANSPORT__TYPE="console")
    assert {target["status"] for target in done.json()["targets"]} == {"written"}
    kinds = Counter(
        json.loads(line)["eventType"] for line in done.err.splitlines() if line.startswith("{")
    )
    assert kinds == {"START": 2, "COMPLETE": 2}


@pytest.fixture
def refusing() -> str:
    """A collector's address where nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Failing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_error(401)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def denying() -> Iterator[str]:
    """A collector that knows nobody."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("collector", ["refusing", "silent", "denying"])
def test_a_collector_in_trouble_costs_one_warning_and_seconds_at_most(
    collector: str, seeknal: Cli, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(collector)
    started = time.monotonic()
    plain = seeknal("run", "--env", "dev", "--json")
    usual = time.monotonic() - started
    started = time.monotonic()
    done = seeknal("run", "--env", "dev", "--json", "--full-refresh", OPENLINEAGE_URL=url)
    # Two seconds for the collector, and as many for a machine that is busy.
    assert time.monotonic() - started < usual + 4
    rows = [{t["name"]: t["rows_after"] for t in one.json()["targets"]} for one in (plain, done)]
    assert rows[0] == rows[1] == {"sales.doubled": 3, "sales.big": 1}
    assert done.err.count("OpenLineage") == 1, done.err
    assert done.err.count("warning") == 1, done.err


def test_the_commands_about_plugins_show_it(seeknal: Cli) -> None:
    (shown,) = (
        one
        for one in seeknal("plugins", "list", "--json").json()["plugins"]
        if one["name"] == "openlineage"
    )
    assert shown["distribution"] == "seeknal-openlineage"
    assert "openlineage" in seeknal("plugins", "show", "openlineage").out


def test_its_own_tests_pass(site: Path) -> None:
    run_own_tests("seeknal-openlineage", site)
