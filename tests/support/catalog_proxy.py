"""A proxy in front of a real HTTP server, with rules for how it answers.

A rule pairs a question (which requests) with an action (what becomes of them). Actions
are functions of an `Exchange`, so that new ways of answering are a few lines each::

    with CatalogProxy(lake.uri) as proxy:
        proxy.rule(commits("orders"), drop(landed=True), times=1)
        proxy.rule(reads(), answer(503, {"Retry-After": "1"}), times=2)

The first rule that fits and is not used up decides; where none fits, the request is
forwarded. Every request is kept in `CatalogProxy.requests`.

Layers stand between the rules and the server: each sees what is forwarded, and changes the
request or its answer (see `support.catalog_layers`).
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import attrs

#: Headers that belong to one connection, and are not passed on.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})


@attrs.frozen(kw_only=True)
class Request:
    """A request as it reached the proxy."""

    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; empty where it is none."""
        return self.body.decode("utf-8", "replace")


@attrs.frozen(kw_only=True)
class Answer:
    """An answer: the server's, or one that an action made up."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""


#: The answer of a layer that wants the connection to be cut.
CUT = Answer(status=0)

#: How a layer passes a request on.
Send = Callable[[Request], Answer]
#: What stands between the rules and the server, and answers requests in its way.
Layer = Callable[[Request, Send], Answer]


class Exchange:
    """One request on its way: an action forwards it, answers it, or cuts it off."""

    def __init__(self, proxy: CatalogProxy, handler: http.server.BaseHTTPRequestHandler) -> None:
        self._proxy = proxy
        self._handler = handler
        self.answered = False
        self.request = Request(
            method=handler.command,
            path=handler.path,
            headers=dict(handler.headers.items()),
            body=_body_of(handler),
        )

    def forward(self) -> Answer:
        """Send the request through the layers to the server, and return what is answered."""
        return self._proxy.send(self.request)

    def answer(self, answer: Answer, *, cut_to: int | None = None) -> None:
        """Send an answer to the client.

        Args:
            cut_to: send that many bytes of the body only, though all were promised.
        """
        if self.answered:
            return
        if answer is CUT:
            self.cut()
            return
        self.answered = True
        handler = self._handler
        handler.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        if self.request.method == "HEAD":
            # It says how long the body would be.
            for name in ("Content-Length", "content-length"):
                if name in answer.headers:
                    handler.send_header(name, answer.headers[name])
        elif answer.status != 204:
            handler.send_header("Content-Length", str(len(answer.body)))
        if cut_to is not None:
            handler.send_header("Connection", "close")
        handler.end_headers()
        if self.request.method != "HEAD":
            handler.wfile.write(answer.body if cut_to is None else answer.body[:cut_to])
        handler.wfile.flush()
        if cut_to is not None:
            self.cut()

    def cut(self) -> None:
        """Reset the client's connection."""
        self.answered = True
        handler = self._handler
        handler.close_connection = True
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            handler.wfile.flush()
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()

    def wait_for_end(self, seconds: float = 300.0) -> None:
        """Say nothing until the client gives up or the proxy is closed."""
        deadline = time.monotonic() + seconds
        self._handler.close_connection = True
        self._handler.connection.settimeout(0.2)
        while time.monotonic() < deadline and not self._proxy.closed.is_set():
            try:
                if not self._handler.connection.recv(1):
                    return
            except TimeoutError:
                continue
            except OSError:
                return


def _body_of(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        pass  # trailers
    return body


Question = Callable[[Request], bool]
Action = Callable[[Exchange], None]


@attrs.define(kw_only=True)
class Rule:
    """Which requests an action is for, and how many of them; None for all."""

    question: Question
    action: Action
    left: int | None
    used: int = 0


class CatalogProxy:
    """A proxy that listens on a port of its own.

    Args:
        upstream: address of the server, as ``http://host:port/``.
        layers: what answers in the server's way, the client's side first.
        port: to listen on; 0 for a free one.
    """

    def __init__(self, upstream: str, layers: Sequence[Layer] = (), *, port: int = 0) -> None:
        self._layers = tuple(layers)
        self._more: tuple[Layer, ...] = ()
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        self.upstream = (parts.hostname, parts.port or 80)
        self.requests: list[Request] = []
        self.closed = threading.Event()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def rule(self, question: Question, action: Action, times: int | None = None) -> Rule:
        """Add a rule, after those that are there."""
        rule = Rule(question=question, action=action, left=times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def behave(self, *layers: Layer) -> None:
        """Add layers, on the client's side of those that are there, until `heal`."""
        with self._lock:
            self._more = (*layers, *self._more)

    def heal(self) -> None:
        """Forget all rules, and the layers of `behave`: the server answers as it is."""
        with self._lock:
            self._rules.clear()
            self._more = ()

    def count(self, question: Question) -> int:
        """Count the requests so far that a question fits."""
        return sum(question(request) for request in list(self.requests))

    def send(self, request: Request, past: int = 0) -> Answer:
        """Send a request through the layers, the first ones left out, to the server."""
        layers = (*self._more, *self._layers)
        if past < len(layers):
            return layers[past](request, lambda changed: self.send(changed, past + 1))
        connection = http.client.HTTPConnection(*self.upstream, timeout=120)
        try:
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in _HOP
            }
            connection.request(request.method, request.path, request.body or None, headers)
            response = connection.getresponse()
            return Answer(
                status=response.status, headers=dict(response.getheaders()), body=response.read()
            )
        finally:
            connection.close()

    def close(self) -> None:
        """Stop listening and let go of requests that are held."""
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> CatalogProxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _chosen(self, request: Request) -> Action:
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule.left != 0 and rule.question(request):
                    rule.used += 1
                    if rule.left is not None:
                        rule.left -= 1
                    return rule.action
        return forward

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                self.wfile = self.connection.makefile("wb", 65536)

            def handle_one_request(self) -> None:
                # The client may be gone by the time that its answer comes.
                with contextlib.suppress(OSError, ValueError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def handle_expect_100(self) -> bool:
                # The body comes after this only, or a second later.
                super().handle_expect_100()
                self.wfile.flush()
                return True

            def _go(self) -> None:
                exchange = Exchange(proxy, self)
                proxy._chosen(exchange.request)(exchange)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _go

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


# Questions.


def path(pattern: str, *methods: str) -> Question:
    """Return whether a request's path holds a pattern and its method is one of some."""
    compiled = re.compile(pattern)
    return lambda request: (
        (not methods or request.method in methods) and compiled.search(request.path) is not None
    )


def reads(pattern: str = "") -> Question:
    """Return whether a request changes nothing."""
    return path(pattern, "GET", "HEAD")


def commits(table: str = "") -> Question:
    """Return whether a request commits to tables, to one of a name where one is given.

    Commits that only set or remove references are none: see `commits_references`.
    """
    return lambda request: _is_commit(request, table) and not _only_references(request)


def commits_references(table: str = "") -> Question:
    """Return whether a request only sets or removes references of tables."""
    return lambda request: _is_commit(request, table) and _only_references(request)


def changes_of(request: Request) -> list[dict[str, object]]:
    """Return the changes of tables that a request asks for; none where it is no commit."""
    try:
        body = json.loads(request.body)
    except ValueError:
        return []
    if not isinstance(body, dict):
        return []
    changes: list[dict[str, object]] = body.get("table-changes") or [body]
    return [change for change in changes if "updates" in change]


def _is_commit(request: Request, table: str) -> bool:
    where = request.path.partition("?")[0].rstrip("/")
    changes = changes_of(request)
    if request.method != "POST" or not changes:
        return False
    if where.endswith("/transactions/commit"):
        names = [change["identifier"]["name"] for change in changes]  # type: ignore[index]
        return not table or table in names
    named = re.search(r"/tables/([^/]+)$", where)
    return named is not None and table in ("", named[1])


def _only_references(request: Request) -> bool:
    kinds = {
        update["action"]
        for change in changes_of(request)
        for update in change["updates"]  # type: ignore[attr-defined]
    }
    return kinds <= {"set-snapshot-ref", "remove-snapshot-ref"}


# Actions.


def forward(exchange: Exchange) -> None:
    """Forward a request, and give back the server's answer."""
    exchange.answer(exchange.forward())


def drop(*, landed: bool) -> Action:
    """Cut the connection, after the server has done what was asked, or without asking it."""

    def act(exchange: Exchange) -> None:
        if landed:
            exchange.forward()
        exchange.cut()

    return act


def answer(
    status: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    *,
    landed: bool = False,
) -> Action:
    """Answer in the server's place, after it has done what was asked, or without asking it."""
    text = body if body is not None else _error(status)
    content = text.encode() if isinstance(text, str) else text

    def act(exchange: Exchange) -> None:
        if landed:
            exchange.forward()
        made = {"Content-Type": "application/json", **(headers or {})}
        exchange.answer(Answer(status=status, headers=made, body=content))

    return act


def _error(status: int) -> str:
    message = {"message": f"the proxy says {status}", "type": "ProxyError", "code": status}
    return json.dumps({"error": message})


def twice(exchange: Exchange) -> None:
    """Send a request two times, as a load balancer does that retries; give the second answer."""
    exchange.forward()
    exchange.answer(exchange.forward())


def delay(seconds: float) -> Action:
    """Forward a request, and give back its answer so many seconds later."""

    def act(exchange: Exchange) -> None:
        found = exchange.forward()
        time.sleep(seconds)
        exchange.answer(found)

    return act


def truncate(length: int) -> Action:
    """Forward a request, and give back the first bytes of its answer only."""

    def act(exchange: Exchange) -> None:
        exchange.answer(exchange.forward(), cut_to=length)

    return act


def short(length: int) -> Action:
    """Forward a request, and give back the first bytes of its answer as if they were all."""

    def act(exchange: Exchange) -> None:
        found = exchange.forward()
        exchange.answer(attrs.evolve(found, body=found.body[:length]))

    return act


def silence(exchange: Exchange) -> None:
    """Take a request, and never say anything."""
    exchange.wait_for_end()


class Hold:
    """Hold a request back until it is released; the client is cut off, or waits.

    Args:
        client: how the client is answered at once: an action that does not forward, or
            None where it waits for the server's answer.
    """

    def __init__(self, client: Action | None = None) -> None:
        self._client = client
        self._gate = threading.Event()
        self._done = threading.Event()
        self.reached = threading.Event()
        self.answer: Answer | None = None

    def __call__(self, exchange: Exchange) -> None:
        """Act."""
        self.reached.set()
        if self._client is None:
            self._go(exchange)
            assert self.answer is not None
            exchange.answer(self.answer)
            return
        # In a thread of its own: the client's next request may come by the same connection.
        threading.Thread(target=self._go, args=(exchange,), daemon=True).start()
        self._client(exchange)

    def _go(self, exchange: Exchange) -> None:
        self._gate.wait(300)
        self.answer = exchange.forward()
        self._done.set()

    def release(self) -> Answer:
        """Let the request go on to the server, and return what that answers."""
        self._gate.set()
        assert self._done.wait(60)
        assert self.answer is not None
        return self.answer
