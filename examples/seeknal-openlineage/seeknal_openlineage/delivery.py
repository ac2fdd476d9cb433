"""Send events from a thread of their own, so that no hook ever waits for a collector.

The thread imports the client, makes events of facts and sends them in order. A
command that ends waits for it while it makes progress, and not for long. After the first
failure nothing more is sent: one warning, and the command goes on as without lineage.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from seeknal_core.contract.types import redact
from seeknal_openlineage.facts import Outcome, Write

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient

#: How long the end of a command waits while no event gets through, and in all; seconds.
STALLED, LONGEST = 2.0, 10.0
#: More events than a command of thousands of tables makes; past it they are dropped.
_MOST = 20_000


class Delivery:
    """The events of one command on their way."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Write, Outcome | None] | None] = queue.SimpleQueue()
        self._sent = 0
        self._failure = ""
        self._warned = False
        self._lock = threading.Lock()
        # A daemon: an unreachable collector does not keep a process from ending.
        self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
        self._thread.start()

    def put(self, write: Write, outcome: Outcome | None) -> None:
        """Queue the first event of a write (no outcome) or its last; never blocks."""
        if self._failure or self._queue.qsize() >= _MOST:
            return
        self._queue.put((write, outcome))

    def close(self) -> None:
        """Wait until everything is sent, or nothing goes through any more."""
        self._queue.put(None)
        last, sent = time.monotonic(), self._sent
        until = last + LONGEST
        while self._thread.is_alive() and not self._failure:
            self._thread.join(0.02)
            now = time.monotonic()
            if self._sent != sent:
                last, sent = now, self._sent
            if now - last > STALLED or now > until:
                self.fail("the collector does not answer in time")

    def fail(self, message: str) -> None:
        """Give up, and say so once."""
        with self._lock:
            self._failure = self._failure or message
            if self._warned:
                return
            self._warned = True
        text = redact(" ".join(self._failure.split()))[:300]
        sys.stderr.write(
            f"warning: OpenLineage events of this command are missing or incomplete: {text}\n"
        )

    def _work(self) -> None:
        try:
            client = _client(self)
            if client is None:
                self._failure = "not configured"
                return
            from seeknal_openlineage.events import run_event

            while (item := self._queue.get()) is not None and not self._failure:
                client.emit(run_event(*item))
                self._sent += 1
            if not client.close(STALLED):
                self.fail("the collector does not answer in time")
        except Exception as error:  # noqa: BLE001 - lineage never breaks a run
            self.fail(f"{type(error).__name__}: {error}")


class _Warnings(logging.Handler):
    """Make the first warning of the client ours, and keep the others from the terminal.

    Some transports log a failure and go on as if nothing had happened.
    """

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(logging.WARNING)
        self._delivery = delivery

    def emit(self, record: logging.LogRecord) -> None:
        self._delivery.fail(record.getMessage())


def _client(delivery: Delivery) -> OpenLineageClient | None:
    """Return the client as OpenLineage's own configuration says, or None for nowhere."""
    from openlineage.client import OpenLineageClient

    logger = logging.getLogger("openlineage")
    logger.handlers = [one for one in logger.handlers if not isinstance(one, _Warnings)]
    logger.addHandler(_Warnings(delivery))
    client: Any = OpenLineageClient()
    transport = client.transport
    if transport.kind == "console":
        if not (client.config.transport or {}).get("type"):
            return None  # a file without a transport: the client's default, not the user's wish
        _show_on_console()
    location = client.config.facets.source_code_location
    if not location.disabled and location.repo_url is None:
        location.repo_url = _repository()
        location.disabled = location.repo_url is None
    return client  # type: ignore[no-any-return]  # Any, for the attributes above that it does not declare


def _show_on_console() -> None:
    """Let the console transport, which logs, be seen: on standard error, beside ``--json``."""
    logger = logging.getLogger("openlineage.client.transport.console")
    if not logger.isEnabledFor(logging.INFO) or not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _repository() -> str | None:
    """Return the project's git remote without the password that may stand in it.

    The client would send it as it is.
    """
    from urllib.parse import urlsplit, urlunsplit

    from openlineage.client.git import get_git_repo_url

    try:
        url = get_git_repo_url()
        if not url or "://" not in url:
            return url
        found = urlsplit(url)
        return urlunsplit(found._replace(netloc=found.netloc.rpartition("@")[2]))
    except Exception:  # noqa: BLE001 - only a facet less
        return None
