"""Set up the SDK as OpenTelemetry's environment variables say, where nobody has done so.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/: with
``OTEL_TRACES_EXPORTER`` or an OTLP endpoint, spans are exported; with neither, nothing
is set up, though the specification's default exporter is ``otlp``: a plugin that is
merely installed must not look for a collector.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from seeknal_core.contract.types import redact

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

#: How long the end of a command waits for spans to be sent; seconds.
FLUSH_SECONDS = 2.0

_lock = threading.Lock()
_done = False
_given_up = False
_warned = False


def set_up() -> None:
    """Set up the SDK, once in a process."""
    global _done
    with _lock:
        if _done or not _wanted():
            return
        _done = True
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return  # opentelemetry-instrument, or a program that Seeknal runs in
    try:
        provider = _provider()
    except ImportError as error:
        warn(f"{error}; pip install 'seeknal-opentelemetry[sdk]'")
    except Exception as error:  # noqa: BLE001 - tracing never breaks a run
        warn(f"{type(error).__name__}: {error}")
    else:
        trace.set_tracer_provider(provider)
        atexit.register(flush)


def flush() -> None:
    """Send what waits, within a bounded time; after a failure, not again."""
    global _given_up
    provider: Any = trace.get_tracer_provider()
    if _given_up or not hasattr(provider, "force_flush"):
        return
    # Exporters try again for up to a minute, whatever time-out they are given; a daemon
    # thread does not keep the process from ending.
    thread = threading.Thread(target=_force_flush, args=(provider,), daemon=True)
    thread.start()
    thread.join(FLUSH_SECONDS)
    if thread.is_alive():
        warn("the collector does not answer in time")


def warn(message: str) -> None:
    """Say once that spans are missing, and give up on waiting for the collector."""
    global _given_up, _warned
    with _lock:
        _given_up = True
        if _warned:
            return
        _warned = True
    text = redact(" ".join(message.split()))[:300]
    sys.stderr.write(f"warning: OpenTelemetry spans are missing or incomplete: {text}\n")


def _wanted() -> bool:
    environ = os.environ
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if exporters := environ.get("OTEL_TRACES_EXPORTER", "").strip().lower():
        return exporters != "none"
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return any(environ.get(name) for name in endpoints)


def _provider() -> TracerProvider:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))
    # The environment's names win.
    resource = Resource({SERVICE_NAME: "seeknal"}).merge(_from_environment())
    # Its own atexit handler would wait for a collector as long as the exporter likes.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "").split(",") or ["otlp"]:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip() or "otlp")))
    return provider


def _from_environment() -> Any:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    found = Resource.create()
    attributes = dict(found.attributes)
    if str(attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        del attributes[SERVICE_NAME]
    return Resource(attributes, found.schema_url)


def _exporter(name: str) -> SpanExporter:
    """Return an exporter by the name that its distribution registers."""
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        # Standard output belongs to the command: --json is one document.
        return ConsoleSpanExporter(out=sys.stderr)
    from importlib.metadata import entry_points

    if name == "otlp":
        protocol = (
            os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}.get(
            protocol, protocol
        )
    entries = list(entry_points(group="opentelemetry_traces_exporter", name=name))
    if not entries:
        raise ImportError(f"no installed package has the trace exporter {name!r}")
    exporter: SpanExporter = entries[0].load()()
    return exporter


def _force_flush(provider: Any) -> None:
    try:
        provider.force_flush(int(FLUSH_SECONDS * 1000))
    except Exception as error:  # noqa: BLE001 - tracing never breaks a run
        warn(f"{type(error).__name__}: {error}")


class _Warnings(logging.Handler):
    """Make the first warning of the SDK ours, and keep the others from the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())
