"""Waits for a catalog over HTTP: how long, how often, and what the user is told.

Requests that only read are sent again while the server is busy (429, 502, 503, 504) or the
connection fails, with pauses as the server wishes them (Retry-After). A commit is sent
once: whether it landed is asked of the table (`commit.one_table`). All of it ends: after
`READ_TOTAL` seconds the failure is the answer, and a server that has been silent for as
long is given `SILENT_TOTAL` seconds from then on, until it answers again.
"""

from __future__ import annotations

import itertools
import logging
import random
import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import attrs
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,
    ConnectTimeout,
    InvalidHeader,
    RequestException,
    SSLError,
    Timeout,
)
from urllib3.exceptions import MaxRetryError, NewConnectionError

from seeknal_core.contract.types import Cancellation, redact
from seeknal_iceberg.connection.errors import seconds_of

#: Seconds to connect, and to wait for a byte, of a catalog over HTTP.
HTTP_TIMEOUT = (5.0, 45.0)
#: Seconds to wait for a byte of an answer to a request that may be sent again.
READ_TIMEOUT = 40.0
#: Seconds in which a request that may be sent again has to be answered, retries included.
READ_TOTAL = 60.0
#: The same, for a server that did not answer in this time before.
SILENT_TOTAL = 5.0
#: How often a request that may be sent twice is sent to a server that answers 500.
_FAILURES = 3
#: How often a server is tried that refuses connections.
_CONNECTS = 4
#: Seconds after which the user hears what is waited for.
TOLD_AFTER = 10.0
#: What a header's value may hold.
_SENDABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: Answers of a server that is busy, or of a proxy whose server is away.
_BUSY = frozenset({429, 502, 503, 504})

log = logging.getLogger("seeknal")


class Patience:
    """What one command has learnt of its servers, and the watch over what it waits for.

    Args:
        cancellation: ends a pause at once.
    """

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._lock = threading.Lock()
        self._silent: set[str] = set()
        self._waiting: dict[int, _Wait] = {}
        self._numbers = itertools.count()
        self._woken = threading.Event()
        self._closed = False
        self._watch: threading.Thread | None = None

    def total(self, server: str) -> float:
        """Return the seconds that a server is given to answer a request."""
        return SILENT_TOTAL if server in self._silent else READ_TOTAL

    def heard(self, server: str, *, answers: bool) -> None:
        """Learn whether a server answers."""
        with self._lock:
            (self._silent.discard if answers else self._silent.add)(server)

    def begin(self, what: str) -> int:
        """Begin to wait; after a while the user is told for what. Return a number for `end`."""
        number = next(self._numbers)
        with self._lock:
            self._waiting[number] = _Wait(what=what, since=time.monotonic())
            if self._watch is None and not self._closed:
                self._watch = threading.Thread(target=self._tell, daemon=True)
                self._watch.start()
        return number

    def end(self, number: int) -> None:
        """End what `begin` began."""
        with self._lock:
            self._waiting.pop(number, None)

    def pause(self, seconds: float) -> None:
        """Sleep, unless the user stops the command meanwhile.

        What goes on after that (undoing, tidying) is waited for.

        Raises:
            Interrupted: the user stopped it.
        """
        if self._cancellation.requested:
            time.sleep(seconds)
            return
        woken = threading.Event()
        remove = self._cancellation.on_request(woken.set)
        try:
            woken.wait(seconds)
        finally:
            remove()
        self._cancellation.check()

    def close(self) -> None:
        """End the watch."""
        self._closed = True
        self._woken.set()

    def _tell(self) -> None:
        while not self._woken.wait(min(1.0, TOLD_AFTER / 2)):
            now = time.monotonic()
            with self._lock:
                late = [
                    wait
                    for wait in self._waiting.values()
                    if not wait.told and now - wait.since >= TOLD_AFTER
                ]
                for wait in late:
                    wait.told = True
            for what in sorted({wait.what for wait in late}):
                log.warning("waiting for %s", redact(what))


@attrs.define(kw_only=True)
class _Wait:
    what: str
    since: float
    told: bool = False


class PatientAdapter(HTTPAdapter):
    """An HTTP adapter whose requests end, and are repeated where that is safe."""

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request, and again where nothing can come of it twice."""
        _check_headers(request)
        server = urlsplit(request.url or "").netloc
        repeats = is_repeatable(request)
        if not repeats:
            server += " commits"  # a catalog may answer what is asked, and no commit
        total = self._patience.total(server)
        deadline = time.monotonic() + total
        connect, read = HTTP_TIMEOUT
        if repeats:
            read = min(read, READ_TIMEOUT)
        what = f"the catalog {server.partition(' ')[0]}: {request.method} {request.path_url}"
        number = self._patience.begin(what)
        try:
            for attempt in itertools.count():
                left = max(deadline - time.monotonic(), 0.1) if repeats else total
                kwargs["timeout"] = (min(connect, left), min(read, left))
                answer, failure = self._once(request, args, kwargs)
                if answer is not None:
                    self._patience.heard(server, answers=True)
                    again = answer.status_code in _BUSY or (
                        answer.status_code == 500
                        and request.method != "DELETE"  # who drops looks for it
                        and attempt + 1 < _FAILURES
                    )
                    if not again or not repeats:
                        return answer
                elif isinstance(failure, Timeout) and (
                    not repeats or time.monotonic() >= deadline - 0.2
                ):
                    self._patience.heard(server, answers=False)
                    # Looking for the commit is no reason to wait as long again.
                    self._patience.heard(server.partition(" ")[0], answers=False)
                pause = _pause(attempt, answer)
                unsent = isinstance(failure, ConnectionError) and _never_sent(failure)
                if (
                    not (repeats or unsent)
                    or (unsent and attempt + 1 >= _CONNECTS)
                    or isinstance(failure, SSLError)
                    or time.monotonic() + pause > deadline
                ):
                    if answer is not None:
                        return answer
                    assert failure is not None
                    raise failure
                self._patience.pause(pause)
        finally:
            self._patience.end(number)
        raise AssertionError("unreachable")

    def _once(
        self, request: PreparedRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Response | None, RequestException | None]:
        try:
            answer = super().send(request, *args, **kwargs)
            answer.content  # noqa: B018 - reads it, so that an answer cut off fails here
            return answer, None
        except (ConnectionError, ChunkedEncodingError, Timeout) as error:
            return None, error


def _check_headers(request: PreparedRequest) -> None:
    """Refuse headers that can't be sent, which the libraries below do with the value in the text.

    Raises:
        InvalidHeader: naming the header only.
    """
    for name, value in request.headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if not _SENDABLE.fullmatch(text):
            raise InvalidHeader(f"the header {name} has characters that can't be sent")


def is_repeatable(request: PreparedRequest) -> bool:
    """Return whether a request may be sent twice without anything happening twice."""
    if request.method in ("GET", "HEAD", "DELETE"):
        return True
    path = (request.path_url or "").partition("?")[0].rstrip("/")
    body = request.body if isinstance(request.body, bytes) else str(request.body or "").encode()
    return (
        path.endswith("/oauth/tokens")
        # Where it was made by the first, the second is refused as there already.
        or path.endswith("/namespaces")
        or (path.endswith("/tables") and b'"stage-create":true' in body)
        or (path.endswith("/transactions/commit") and body == b'{"table-changes":[]}')
    )


def _pause(attempt: int, answer: Response | None) -> float:
    backoff: float = min(0.25 * 2.0**attempt, 8.0) * random.uniform(0.5, 1.0)
    if answer is None:
        return backoff
    header: str | None = answer.headers.get("Retry-After")
    return seconds_of(header, backoff)


def _never_sent(error: ConnectionError) -> bool:
    """Return whether a request failed before its first byte was sent."""
    if isinstance(error, ConnectTimeout):
        return True
    reason = error.args[0] if error.args else None
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    return isinstance(reason, NewConnectionError)
