"""Answers that get lost, come late, or say no, each a layer of a `CatalogProxy`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import attrs

from support.catalog_asking import (
    Asked,
    body_of,
    changes_of,
    refusal,
    with_body,
    without_endpoint,
)
from support.catalog_proxy import CUT, Answer, Request, Send


@attrs.frozen
class NoMultiTable:
    """Commits one table at a time.

    Args:
        status: the answer to a commit of several.
        listed: whether `/v1/config` lists the endpoints; this one is not among them.
    """

    status: int
    listed: bool = False

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if asked.what == "transaction":
            return refusal(self.status, "not supported", "UnsupportedOperationException")
        answer = send(request)
        if asked.what != "config" or answer.status != 200:
            return answer
        return without_endpoint(answer, "transactions", listed=self.listed)


@attrs.frozen
class ListsEndpoints:
    """Lists its endpoints in the answer to the request for the configuration."""

    endpoints: Sequence[str]

    def __call__(self, request: Request, send: Send) -> Answer:
        answer = send(request)
        if Asked.of(request).what != "config" or answer.status != 200:
            return answer
        return with_body(answer, {**body_of(answer), "endpoints": list(self.endpoints)})


@attrs.frozen
class SmallBodies:
    """Takes no body over a number of bytes."""

    limit: int

    def __call__(self, request: Request, send: Send) -> Answer:
        if len(request.body) > self.limit:
            return Answer(status=413, body=b"Request body is too large")
        return send(request)


@attrs.frozen
class Slow:
    """Answers what changes something after a while."""

    seconds: float

    def __call__(self, request: Request, send: Send) -> Answer:
        answer = send(request)
        if changes_of(request, Asked.of(request)):
            time.sleep(self.seconds)
        return answer


class Sometimes:
    """Answers some requests in another way: the first, and each so-manieth after it.

    Args:
        answers: taken in turn; each is an answer in place of the server's.
        of: which requests.
        every: how many such requests pass from one to the next.
        landed: whether the server does first what is asked, and well.
        most: how often at most.
    """

    def __init__(
        self,
        answers: Sequence[Answer],
        of: Callable[[Request, Asked], bool],
        *,
        every: int,
        landed: bool,
        most: int = 999,
    ) -> None:
        self._answers, self._of = answers, of
        self._every, self._landed, self._most = every, landed, most
        self._lock = threading.Lock()
        self._seen = self._used = 0

    def __call__(self, request: Request, send: Send) -> Answer:
        if not self._of(request, Asked.of(request)):
            return send(request)
        with self._lock:
            chosen = self._seen % self._every == 0 and self._used < self._most
            self._seen += 1
            answer = self._answers[self._used % len(self._answers)]
            self._used += chosen
        if not chosen:
            return send(request)
        if self._landed:
            done = send(request)
            if done.status >= 300:
                return done
        return answer


def is_commit(request: Request, asked: Asked) -> bool:
    """Tell whether a request commits to tables."""
    return bool(changes_of(request, asked))


def is_change(request: Request, asked: Asked) -> bool:
    """Tell whether a request changes something."""
    asks = ("namespaces", "tables", "table", "transaction", "rename", "namespace")
    if request.method == "POST" and asked.what == "transaction":
        return is_commit(request, asked)
    return request.method in ("POST", "DELETE") and asked.what in asks


def is_any(request: Request, asked: Asked) -> bool:
    """Tell whether a request is none for a token."""
    return asked.what != "token"


def failures(*statuses: int) -> list[Answer]:
    """Return answers of a server, or of what stands before it, that failed; 0 cuts."""
    return [
        CUT if not status else refusal(status, "the proxy lost the answer", "InternalServerError")
        for status in statuses
    ]


def waits(*statuses: int) -> list[Answer]:
    """Return answers of a busy server, which ask the client to come again in a second."""
    return [
        attrs.evolve(each, headers={**each.headers, "Retry-After": "1"})
        for each in failures(*statuses)
    ]


class ExpiringTokens:
    """Gives tokens that are good for so many requests.

    The server's own token is inside of each, so that it works before any server.
    """

    def __init__(self, uses: int) -> None:
        self._uses = uses
        self._left: dict[str, int] = {}
        self._lock = threading.Lock()

    def __call__(self, request: Request, send: Send) -> Answer:
        if Asked.of(request).what == "token":
            answer = send(request)
            body = body_of(answer)
            if "access_token" in body:
                with self._lock:
                    issued = str(len(self._left))
                    self._left[issued] = self._uses
                body["access_token"] = f"{body['access_token']}~{issued}"
                answer = with_body(answer, body)
            return answer
        given = next(
            (value for name, value in request.headers.items() if name.lower() == "authorization"),
            "",
        )
        token, _, number = given.partition("~")
        with self._lock:
            left = self._left.get(number, 0)
            self._left[number] = left - 1
        if left <= 0:
            return refusal(401, "The token has expired", "NotAuthorizedException")
        kept = {k: v for k, v in request.headers.items() if k.lower() != "authorization"}
        return send(attrs.evolve(request, headers={**kept, "Authorization": token}))
