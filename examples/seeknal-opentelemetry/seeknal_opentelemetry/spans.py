"""Spans: one for the command, one below it for each call of a hook.

Attributes are names and counts, never a connection's option, a query or a row. Names are
not redacted: a password that is a common word would make other names of them. Messages
are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode

from seeknal_core.contract.errors import Interrupted
from seeknal_core.contract.types import Batch, ExecutionContext, Target, redact
from seeknal_opentelemetry import __version__
from seeknal_opentelemetry.setup import flush, set_up

_KEY = "seeknal_opentelemetry"


@contextmanager
def hook_span(hook: str, context: ExecutionContext) -> Iterator[Span]:
    """Make a span, current while the hook runs, and let it tell how the call ended."""
    root = _root(context)
    if not root.is_recording():
        # Nothing is configured, or this trace isn't sampled.
        yield trace.INVALID_SPAN
        return
    with _tracer().start_as_current_span(
        f"seeknal.{hook}",
        trace.set_span_in_context(root),
        kind=trace.SpanKind.CLIENT,
        # What they would record has not been redacted.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        put(span, hook=hook, environment=context.environment.name)
        if context.connection is not None:
            put(
                span,
                connection__name=context.connection.name,
                connection__type=context.connection.type,
            )
        try:
            yield span
        except BaseException as error:
            _fail(span, error)
            if not isinstance(error, Interrupted | KeyboardInterrupt):
                root.set_status(Status(StatusCode.ERROR, f"seeknal.{hook} failed"))
            raise


def put(span: Span, **attributes: str | int | list[str]) -> None:
    """Set attributes named ``seeknal.…``; a double underscore in a name stands for a dot."""
    if not span.is_recording():
        return
    for key, value in attributes.items():
        span.set_attribute(f"seeknal.{key.replace('__', '.')}", value)


def put_target(span: Span, target: Target) -> None:
    """Set a target's node, final name and mode."""
    put(span, node=target.node, target=str(target.name), mode=target.mode.value)
    if target.staged is not None:
        put(span, promotion=target.staged.promotion)


def put_batch(span: Span, batch: Batch) -> None:
    """Set a batch's promotion and the final names of its targets."""
    put(span, promotion=batch.promotion, targets=[str(target.name) for target in batch.targets])


def _fail(span: Span, error: BaseException) -> None:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    message = redact(str(error))
    span.set_status(Status(StatusCode.ERROR, message))
    span.set_attribute("error.type", kind)
    # The event that tracing tools show as an exception; no stack trace, which holds values.
    span.add_event("exception", {"exception.type": kind, "exception.message": message})


def _tracer() -> trace.Tracer:
    return trace.get_tracer("seeknal_opentelemetry", __version__)


def _root(context: ExecutionContext) -> Span:
    return context.resources.get(_KEY, lambda: _start(context), _end)


def _start(context: ExecutionContext) -> Span:
    set_up()
    root = _tracer().start_span(
        "seeknal.command", _parent(), start_time=int(context.started_at.timestamp() * 1e9)
    )
    put(
        root,
        project=context.project,
        environment=context.environment.name,
        run_id=context.run_id,
    )
    return root


def _end(root: Span) -> None:
    """End the command's span; what the command holds open is closed about now."""
    recorded = root.is_recording()
    root.end()
    if recorded:
        flush()


def _parent() -> Context | None:
    """Return the caller's trace, where a scheduler handed one down in the environment."""
    carrier = {
        name: os.environ[name.upper()]
        for name in ("traceparent", "tracestate")
        if os.environ.get(name.upper())
    }
    return propagate.extract(carrier) if carrier else None
