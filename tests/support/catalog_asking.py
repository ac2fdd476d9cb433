"""What a request asks an Iceberg REST catalog for, and how answers are written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import attrs

from support.catalog_proxy import Answer, Request, Send

_PATH = re.compile(
    r"(?P<head>.*?/v1(?:/.+?)?)/(?P<rest>(?:namespaces|tables/rename|transactions/commit|config"
    r"|oauth/tokens)(?:/.*)?)"
)


@attrs.frozen(kw_only=True)
class Asked:
    """What a request asks a catalog for, read from its path.

    ``what`` is one of: config, token, namespaces, namespace, properties, tables, table,
    credentials, register, views, rename, transaction, other.
    """

    what: str
    head: str
    levels: tuple[str, ...] = ()
    table: str = ""

    @classmethod
    def of(cls, request: Request) -> Asked:
        """Read a request's path."""
        match = _PATH.fullmatch(request.path.partition("?")[0].rstrip("/"))
        if match is None:
            return cls(what="other", head="")
        head, rest = match["head"], match["rest"].split("/")
        whole = {
            ("config",): "config",
            ("oauth", "tokens"): "token",
            ("namespaces",): "namespaces",
            ("tables", "rename"): "rename",
            ("transactions", "commit"): "transaction",
        }
        if tuple(rest) in whole:
            return cls(what=whole[tuple(rest)], head=head)
        levels = tuple(unquote(rest[1]).split("\x1f"))
        if len(rest) == 2:
            return cls(what="namespace", head=head, levels=levels)
        if len(rest) == 3:
            return cls(what=rest[2], head=head, levels=levels)
        what = rest[4] if len(rest) > 4 else "table"
        return cls(what=what, head=head, levels=levels, table=unquote(rest[3]))


def path_of(head: str, levels: Sequence[str], *rest: str) -> str:
    """Return the path of a namespace, or of what is in it."""
    return "/".join([f"{head}/namespaces/{quote(chr(31).join(levels), safe='')}", *rest])


def refusal(status: int, message: str, kind: str = "BadRequestException") -> Answer:
    """Return an error as the specification writes it."""
    body = json.dumps({"error": {"message": message, "type": kind, "code": status}})
    return Answer(status=status, headers={"Content-Type": "application/json"}, body=body.encode())


def body_of(message: Request | Answer) -> Any:
    """Return a body as JSON; an empty mapping where it is none."""
    try:
        return json.loads(message.body)
    except ValueError:
        return {}


def with_body(answer: Answer, body: object) -> Answer:
    """Return an answer with another body."""
    return attrs.evolve(answer, body=json.dumps(body).encode())


def with_table(request: Request, body: object) -> Request:
    """Return a request with another body."""
    return attrs.evolve(request, body=json.dumps(body).encode())


def asking(request: Request, method: str, path: str, body: object = None) -> Request:
    """Return another request of the same client."""
    content = json.dumps(body).encode() if body is not None else b""
    return attrs.evolve(request, method=method, path=path, body=content)


def query_of(request: Request) -> dict[str, str]:
    """Return a request's query."""
    return {key: values[-1] for key, values in parse_qs(request.path.partition("?")[2]).items()}


def changes_of(request: Request, asked: Asked) -> list[dict[str, Any]]:
    """Return the changes of tables that a request commits."""
    if request.method != "POST" or asked.what not in ("table", "transaction"):
        return []
    body = body_of(request)
    changes: list[dict[str, Any]] = body.get("table-changes") or [body]
    return [change for change in changes if "updates" in change]


def purges(request: Request, asked: Asked) -> bool:
    """Tell whether a request drops a table with its files."""
    wanted = query_of(request).get("purgeRequested", "").lower() == "true"
    return request.method == "DELETE" and asked.what == "table" and wanted


def has_table(asked: Asked, answer: Answer) -> bool:
    """Tell whether an answer carries a table."""
    return asked.what in ("table", "tables", "register") and b'"metadata"' in answer.body


def without_endpoint(answer: Answer, word: str, *, listed: bool) -> Answer:
    """Return a catalog's configuration without the endpoints that have a word in them.

    Args:
        listed: whether the others are listed; else there is no list.
    """
    body = body_of(answer)
    endpoints = body.pop("endpoints", None)
    if listed and endpoints:
        body["endpoints"] = [each for each in endpoints if word not in each]
    return with_body(answer, body)


def editing(change: Callable[[Any], None], *whats: str) -> Callable[[Request, Send], Answer]:
    """Return the layer that changes the body of answers."""

    def layer(request: Request, send: Send) -> Answer:
        asked, answer = Asked.of(request), send(request)
        if answer.status != 200 or asked.what not in whats or not answer.body:
            return answer
        body = body_of(answer)
        change(body)
        return with_body(answer, body)

    return layer
