"""``examples/seeknal-opentelemetry``, installed as a distribution, in whole runs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.cli import Cli
from support.examples import (
    PASSWORD,
    example_project,
    fail_writes_of,
    having,
    install_example,
    run_own_tests,
)

pytestmark = pytest.mark.xdist_group("telemetry_example")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example("seeknal-opentelemetry", tmp_path_factory.mktemp("telemetry") / "site")


@pytest.fixture
def seeknal(tmp_path: Path, site: Path) -> Cli:
    return example_project(tmp_path, site)


@attrs.define
class Collector:
    """What an OTLP collector was sent."""

    url: str = ""
    bodies: list[bytes] = attrs.field(factory=list)

    def spans(self) -> list[dict[str, Any]]:
        """Take the spans: plain values, and their service's name."""
        found = []
        for body in self.bodies:
            assert PASSWORD.encode() not in body
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                service = _values(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    found += [_span(span) | {"service": service} for span in scope.spans]
        self.bodies.clear()
        return found


def _span(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "trace": span.trace_id.hex(),
        "failed": span.status.code == 2,
        "message": span.status.message,
        "attributes": _values(span.attributes),
        "events": [(event.name, _values(event.attributes)) for event in span.events],
        "nanoseconds": span.end_time_unix_nano - span.start_time_unix_nano,
    }


def _values(attributes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [v.string_value for v in value.values] if kind == "array_value" else value
    return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes OTLP over HTTP."""
    taken = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            taken.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        taken.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield taken
        server.shutdown()


def by_target(spans: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {s["attributes"]["seeknal.node"]: s for s in spans if s["name"] == name}


def test_a_run_and_a_promotion_are_traces_of_their_hooks(
    seeknal: Cli, collector: Collector
) -> None:
    otlp = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    having(seeknal, otlp)("run", "--env", "dev")
    spans = collector.spans()
    (root,) = (span for span in spans if span["name"] == "seeknal.command")
    assert root["attributes"]["seeknal.project"] == "shop"
    assert root["attributes"]["seeknal.environment"] == "dev"
    assert {span["service"] for span in spans} == {"seeknal"}
    assert {s["parent"] for s in spans if s is not root} == {root["id"]}
    assert all(0 < s["nanoseconds"] <= root["nanoseconds"] for s in spans)
    assert not [s for s in spans if s["failed"]]
    assert {"seeknal.read_source", "seeknal.resolve_profile", "seeknal.namespace_for"} < {
        span["name"] for span in spans
    }
    doubled = by_target(spans, "seeknal.materialize")["transform.doubled"]["attributes"]
    assert (
        doubled.items()
        >= {
            "seeknal.hook": "materialize",
            "seeknal.environment": "dev",
            "seeknal.connection.name": "lake",
            "seeknal.connection.type": "folder",
            "seeknal.target": "sales.doubled",
            "seeknal.mode": "full",
            "seeknal.rows": 3,
            "seeknal.rows_written": 3,
            "seeknal.rows_after": 3,
        }.items()
    )

    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")
    having(seeknal, otlp)("env", "promote", "dev", OTEL_SERVICE_NAME="nightly")
    spans = collector.spans()
    (root,) = (span for span in spans if span["name"] == "seeknal.command")
    assert {span["service"] for span in spans} == {"nightly"}
    staged = by_target(spans, "seeknal.stage")
    assert staged["transform.doubled"]["attributes"]["seeknal.rows"] == 5
    # Staged by several threads, in one trace all the same.
    assert {span["parent"] for span in staged.values()} == {root["id"]}
    (publish,) = (span for span in spans if span["name"] == "seeknal.publish")
    assert sorted(publish["attributes"]["seeknal.targets"]) == ["sales.big", "sales.doubled"]
    assert publish["attributes"]["seeknal.environment"] == "prod"
    assert publish["attributes"]["seeknal.rows_after"] == 5 + 3


def test_a_failed_call_tells_why_without_a_secret(seeknal: Cli, collector: Collector) -> None:
    fail_writes_of(seeknal.cwd, "big")
    seeknal("run", "--env", "dev", code=1, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    spans = collector.spans()
    failed = by_target(spans, "seeknal.materialize")["transform.big"]
    assert failed["failed"] and failed["message"].endswith("is told to fail ***")
    assert failed["attributes"]["error.type"] == "seeknal_core.contract.errors.WriteRefused"
    ((event, exception),) = failed["events"]
    assert event == "exception"
    assert exception.keys() == {"exception.type", "exception.message"}
    assert [s["name"] for s in spans if s["failed"] and s is not failed] == ["seeknal.command"]


def test_a_command_joins_the_trace_of_what_started_it(seeknal: Cli, collector: Collector) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    seeknal(
        "run",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        TRACEPARENT=f"00-{trace}-{parent}-01",
    )
    spans = collector.spans()
    assert {span["trace"] for span in spans} == {trace}
    (root,) = (span for span in spans if span["name"] == "seeknal.command")
    assert root["parent"] == parent


def test_the_console_exporter_leaves_standard_output_to_the_command(seeknal: Cli) -> None:
    done = seeknal("run", "--env", "dev", "--json", OTEL_TRACES_EXPORTER="console")
    assert {target["status"] for target in done.json()["targets"]} == {"written"}
    assert '"name": "seeknal.materialize"' in done.err
    assert PASSWORD not in done.said


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "nightly"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"},
    ],
)
def test_nothing_is_said_where_nothing_is_asked_for(seeknal: Cli, environ: dict[str, str]) -> None:
    done = having(seeknal, environ)("run", "--env", "dev")
    assert "telemetry" not in done.said.lower() and "seeknal.materialize" not in done.said


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


@pytest.mark.parametrize("collector_in_trouble", ["refusing", "silent"])
def test_a_collector_in_trouble_costs_one_warning_and_seconds_at_most(
    collector_in_trouble: str, seeknal: Cli, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(collector_in_trouble)
    started = time.monotonic()
    seeknal("run", "--env", "dev", "--json")
    usual = time.monotonic() - started
    started = time.monotonic()
    done = seeknal("run", "--full-refresh", "--json", OTEL_EXPORTER_OTLP_ENDPOINT=url)
    # Two seconds for the collector, and as many for a machine that is busy.
    assert time.monotonic() - started < usual + 4
    assert {target["status"] for target in done.json()["targets"]} == {"written"}
    assert done.err.count("warning") == done.err.count("OpenTelemetry") == 1, done.err


def test_an_exporter_that_is_not_installed_costs_one_warning(seeknal: Cli) -> None:
    done = seeknal("run", "--env", "dev", OTEL_TRACES_EXPORTER="zipkin-of-old")
    assert "no installed package has the trace exporter 'zipkin-of-old'" in done.err
    assert done.err.count("OpenTelemetry") == 1


def test_the_commands_about_plugins_show_it(seeknal: Cli) -> None:
    listed = seeknal("plugins", "list", "--json").json()["plugins"]
    (shown,) = (one for one in listed if one["name"] == "opentelemetry")
    assert shown["distribution"] == "seeknal-opentelemetry"
    assert "seeknal-opentelemetry" in seeknal("plugins", "show", "opentelemetry").out


def test_its_own_tests_pass(site: Path) -> None:
    run_own_tests("seeknal-opentelemetry", site)
