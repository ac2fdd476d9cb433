"""Ways of answering of Iceberg REST catalogs, each a layer of a `CatalogProxy`.

A layer gets a request and passes it on, changed or not; what comes back it may change, too.
`support.catalog_in_mode` names them, and puts those of a whole catalog together.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

import attrs

from support.catalog_proxy import CUT, Answer, Request, Send

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


# Dropping.


@attrs.frozen
class NoPurge:
    """Refuses to drop a table with its files."""

    status: int

    def __call__(self, request: Request, send: Send) -> Answer:
        if not purges(request, Asked.of(request)):
            return send(request)
        if self.status == 403:
            return refusal(403, "Unable to purge entity: purge is disabled", "ForbiddenException")
        return refusal(self.status, "purgeRequested=true is not supported")


def must_purge(request: Request, send: Send) -> Answer:
    """Drop no table without its files."""
    asked = Asked.of(request)
    if request.method == "DELETE" and asked.what == "table" and not purges(request, asked):
        return refusal(400, "purge must be requested to drop a table")
    return send(request)


def dropped_without_files(request: Request) -> Request:
    """Return a request that drops a table, as one that keeps its files."""
    path = request.path.partition("?")[0]
    return attrs.evolve(request, path=f"{path}?purgeRequested=False")


class SoftDelete:
    """Keeps dropped tables for a while: their namespace is not empty, their name is free."""

    def __init__(self) -> None:
        self._kept: set[tuple[str, ...]] = set()

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if request.method != "DELETE":
            return send(request)
        if asked.what == "table":
            answer = send(dropped_without_files(request))
            if answer.status in (200, 204):
                self._kept.add(asked.levels)
            return answer
        if asked.what == "namespace" and self._holds(asked.levels):
            return refusal(409, "Namespace is not empty", "NamespaceNotEmptyException")
        return send(request)

    def _holds(self, levels: tuple[str, ...]) -> bool:
        return any(kept[: len(levels)] == levels for kept in self._kept)


class AsyncPurge:
    """Drops a table at once, and deletes its files a moment later.

    Args:
        delete: deletes all files at a location.
    """

    def __init__(self, delete: Callable[[str], None], after: float = 0.3) -> None:
        self._delete, self._after = delete, after
        self._timers: list[threading.Timer] = []

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if not purges(request, asked):
            return send(request)
        path = request.path.partition("?")[0]
        location = body_of(send(asking(request, "GET", path))).get("metadata", {}).get("location")
        answer = send(dropped_without_files(request))
        if answer.status in (200, 204) and location:
            timer = threading.Timer(self._after, self._delete, (location,))
            timer.start()
            self._timers.append(timer)
        return answer

    def close(self) -> None:
        """Wait for what is to be deleted."""
        for timer in self._timers:
            timer.join()


# What is seen.


def hides(request: Request, send: Send) -> Answer:
    """Answer 403 for what is not there, as for what may not be seen."""
    answer, asked = send(request), Asked.of(request)
    known = asked.what in ("namespace", "tables", "table", "credentials", "views", "properties")
    if answer.status == 404 and known:
        return refusal(403, "Principal is not authorized for this operation", "ForbiddenException")
    return answer


def _one_snapshot(body: Any) -> None:
    metadata = body["metadata"]
    current = metadata.get("current-snapshot-id")
    metadata["snapshots"] = [
        each for each in metadata.get("snapshots") or () if each["snapshot-id"] == current
    ]
    metadata["snapshot-log"] = [
        each for each in metadata.get("snapshot-log") or () if each["snapshot-id"] == current
    ]
    refs = metadata.get("refs") or {}
    metadata["refs"] = {name: ref for name, ref in refs.items() if name == "main"}


class OneSnapshot:
    """Keeps a table's current snapshot and the reference ``main``, and knows no others.

    Args:
        strict: refuse what is about others, as later versions of Nessie do. 0.99
            answers 200, does nothing of it, and takes each requirement of another reference
            for met; moving ``main`` back to an older snapshot it answers in the same way.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        changes = changes_of(request, asked)
        for change in changes:
            why = _why_not_of_main(change) if self._strict else _why_never(change)
            if why:
                return refusal(*why)
        if changes:
            body = body_of(request)
            for change in body.get("table-changes") or [body]:
                change["requirements"] = [
                    each for each in change["requirements"] if each.get("ref", "main") == "main"
                ]
                added = _added(change)
                change["updates"] = [u for u in change["updates"] if _is_done(u, added)]
            request = with_table(request, body)
        answer = send(request)
        if answer.status == 200 and has_table(asked, answer):
            body = body_of(answer)
            _one_snapshot(body)
            return with_body(answer, body)
        return answer


def _added(change: Mapping[str, Any]) -> set[int]:
    return {
        update["snapshot"]["snapshot-id"]
        for update in change["updates"]
        if update["action"] == "add-snapshot"
    }


def _is_done(update: Mapping[str, Any], added: set[int]) -> bool:
    if update["action"] == "set-snapshot-ref":
        return bool(update["ref-name"] == "main") and update["snapshot-id"] in added
    return bool(update["action"] != "remove-snapshot-ref")


def _why_never(change: Mapping[str, Any]) -> tuple[int, str, str] | None:
    """Say what Nessie refuses at any version: that snapshots are removed."""
    if any(update["action"] == "remove-snapshots" for update in change["updates"]):
        message = "Nessie Catalog does not allow external snapshot management"
        return 500, message, "UnsupportedOperationException"
    return None


def _why_not_of_main(change: Mapping[str, Any]) -> tuple[int, str, str] | None:
    """Say why a later Nessie refuses a change, None where it doesn't."""
    for required in change.get("requirements", ()):
        if required["type"] == "assert-ref-snapshot-id" and required["ref"] != "main":
            return 409, "Requirement failed: ref must be 'main'", "CommitFailedException"
    added = _added(change)
    for update in change["updates"]:
        if update["action"] not in ("set-snapshot-ref", "remove-snapshot-ref"):
            continue
        if update["ref-name"] != "main":
            return 400, "only the snapshot-ref 'main' is supported", "IllegalStateException"
        if update["action"] == "set-snapshot-ref" and update["snapshot-id"] not in added:
            return 400, "Snapshot ID mismatch", "IllegalStateException"
    return _why_never(change)


# Names.


class AnyCase:
    """Takes names that differ in case for one; what is made keeps the case it was made in."""

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if request.method == "POST" and asked.what in ("namespaces", "tables"):
            body = body_of(request)
            if asked.what == "namespaces":
                levels = tuple(body["namespace"])
                found, _ = self._spelt(request, send, asked.head, levels, "")
                if found != levels and [*map(str.lower, found)] == [*map(str.lower, levels)]:
                    return refusal(409, "Namespace already exists", "AlreadyExistsException")
                body["namespace"] = [*found[: len(levels) - 1], levels[-1]]
            else:
                levels, name = self._spelt(request, send, asked.head, asked.levels, body["name"])
                if name != body["name"]:
                    return refusal(409, "Table already exists", "AlreadyExistsException")
                request = attrs.evolve(request, path=path_of(asked.head, levels, "tables"))
            return send(with_table(request, body))
        if asked.what in ("rename", "transaction"):
            return send(with_table(request, self._body(request, send, asked)))
        if not asked.levels:
            return send(request)
        answer = send(request)
        if answer.status != 404:
            return answer
        levels, name = self._spelt(request, send, asked.head, asked.levels, asked.table)
        if (levels, name) == (asked.levels, asked.table):
            return answer
        rest = request.path.partition("?")[0].split("/namespaces/")[1].split("/")[1:]
        if asked.table:
            rest[1] = quote(name, safe="")
        query = request.path.partition("?")
        path = path_of(asked.head, levels, *rest) + query[1] + query[2]
        return send(attrs.evolve(request, path=path))

    def _body(self, request: Request, send: Send, asked: Asked) -> Any:
        body = body_of(request)
        named = [change["identifier"] for change in body.get("table-changes", ())]
        named += [body["source"]] if "source" in body else []
        for each in named:
            levels, name = self._spelt(
                request, send, asked.head, tuple(each["namespace"]), each["name"]
            )
            each.update(namespace=list(levels), name=name)
        return body

    def _spelt(
        self, request: Request, send: Send, head: str, levels: tuple[str, ...], table: str
    ) -> tuple[tuple[str, ...], str]:
        """Return a name as it was made, as far as it is there."""
        known: tuple[str, ...] = ()
        for level in levels:
            query = "?" + urlencode({"parent": "\x1f".join(known)}) if known else ""
            listed = body_of(send(asking(request, "GET", f"{head}/namespaces{query}")))
            found = [each[-1] for each in listed.get("namespaces", ())]
            known = (*known, _like(level, found))
        if table:
            listed = body_of(send(asking(request, "GET", path_of(head, known, "tables"))))
            table = _like(table, [each["name"] for each in listed.get("identifiers", ())])
        return known, table


def _like(name: str, found: Sequence[str]) -> str:
    if name in found:
        return name
    return next((other for other in found if other.lower() == name.lower()), name)


@attrs.frozen
class NewNames:
    """Refuses names of new namespaces and tables that do not fit.

    Args:
        fits: tells whether a name does.
        says: the refusal.
    """

    fits: Callable[[str], bool]
    says: str
    levels: int = 99

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if request.method == "POST" and asked.what == "namespaces":
            levels = body_of(request)["namespace"]
            if len(levels) > self.levels or not all(map(self.fits, levels)):
                return refusal(400, self.says)
        made = request.method == "POST" and asked.what == "tables"
        if made and not self.fits(body_of(request)["name"]):
            return refusal(400, self.says)
        listed = request.method == "GET" and asked.what == "namespaces"
        if listed and self.levels == 1 and "parent" in query_of(request):
            return refusal(400, "namespaces have one level")
        return send(request)


@attrs.frozen
class Prefix:
    """Puts an id of its own between ``/v1/`` and what is asked for; warehouses have names.

    Args:
        id: what paths begin with.
        base: the path at which the catalog begins; elsewhere is nothing, said in no words.
        warehouses: a name and the location that the server knows.
    """

    id: str
    base: str = ""
    warehouses: Mapping[str, str] = attrs.field(factory=dict)
    _server: list[str] = attrs.field(factory=list, init=False)

    def __call__(self, request: Request, send: Send) -> Answer:
        if not request.path.startswith(f"{self.base}/v1/"):
            return Answer(status=404)
        request = attrs.evolve(request, path=request.path.removeprefix(self.base))
        asked = Asked.of(request)
        if asked.what == "config":
            return self._config(request, send)
        if asked.what == "token":
            return send(request)
        head = f"/v1/{self.id}"
        if asked.head != head:
            return refusal(404, f"no warehouse at {asked.head}", "NotFoundException")
        if not self._server:
            self._config(asking(request, "GET", "/v1/config"), send)
        return send(attrs.evolve(request, path=f"/v1{self._server[0]}{request.path[len(head) :]}"))

    def _config(self, request: Request, send: Send) -> Answer:
        query = query_of(request)
        name = query.get("warehouse", "")
        if self.warehouses:
            if name and name not in self.warehouses:
                return refusal(404, f"Warehouse {name} not found", "NoSuchWarehouseException")
            name = self.warehouses.get(name, next(iter(self.warehouses.values())))
        path = "/v1/config" + ("?" + urlencode({"warehouse": name}) if name else "")
        answer = send(asking(request, "GET", path))
        if answer.status != 200:
            return answer
        body = body_of(answer)
        server = (body.get("overrides") or {}).get("prefix")
        self._server[:] = [f"/{server}" if server else ""]
        body["overrides"] = {**(body.get("overrides") or {}), "prefix": self.id}
        return with_body(answer, body)


# Commits.


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
        body = body_of(answer)
        endpoints = body.pop("endpoints", None)
        if self.listed and endpoints:
            body["endpoints"] = [each for each in endpoints if "transactions" not in each]
        return with_body(answer, body)


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


# Bodies.


def nulls(request: Request, send: Send) -> Answer:
    """Write ``null`` for every optional field that is not there, or empty."""
    asked, answer = Asked.of(request), send(request)
    if answer.status != 200 or not answer.body:
        return answer
    body = body_of(answer)
    optional: Sequence[str] = ()
    if has_table(asked, answer):
        optional = ("config", "storage-credentials", "metadata-location")
        for name in ("partition-statistics", "statistics", "refs", "snapshot-log", "metadata-log"):
            if not body["metadata"].get(name):
                body["metadata"][name] = None
        for each in body["metadata"].get("snapshots") or ():
            each.setdefault("parent-snapshot-id", None)
    elif asked.what == "config":
        optional = ("defaults", "overrides", "endpoints")
    elif asked.what in ("namespace", "namespaces", "tables", "views"):
        optional = ("properties", "next-page-token")
    for name in optional:
        if not body.get(name):
            body[name] = None
    return with_body(answer, body)


def _add_null_credentials(body: Any) -> None:
    if "metadata" in body:
        body.setdefault("storage-credentials", None)


def _add_endpoint(config: Mapping[str, str]) -> Callable[[Any], None]:
    def change(body: Any) -> None:
        body["config"] = {**(body.get("config") or {}), **config}

    return change


def endpoint_with_tables(config: Mapping[str, str]) -> Callable[[Request, Send], Answer]:
    """Return the layer that says with each table where its storage is, and gives no keys."""
    return editing(_add_endpoint(config), "table", "tables", "register")


#: Lakekeeper up to 0.7 writes this beside each table.
null_credentials = editing(_add_null_credentials, "table", "tables", "register")


class RemoteSigning:
    """Offers to sign requests to the storage, to clients that ask for credentials.

    Args:
        config: what each table's configuration says; the address of the signer is added.
    """

    def __init__(self, config: Mapping[str, str]) -> None:
        self._config = dict(config)

    def __call__(self, request: Request, send: Send) -> Answer:
        asked, answer = Asked.of(request), send(request)
        wanted = {k.lower(): v for k, v in request.headers.items()}.get(
            "x-iceberg-access-delegation", ""
        )
        if answer.status != 200 or not has_table(asked, answer) or wanted in ("", "none"):
            return answer
        body = body_of(answer)
        signing = {
            "s3.remote-signing-enabled": "true",
            "s3.signer": "S3V4RestSigner",
            "s3.signer.uri": f"http://{request.headers.get('Host', '')}/",
            "s3.signer.endpoint": "v1/aws/s3/sign",
            "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
        }
        body["config"] = {**(body.get("config") or {}), **self._config, **signing}
        return with_body(answer, body)


def references_stay(request: Request, send: Send) -> Answer:
    """Answer 200 to a commit that removes a reference, and keep it; fail where its snapshot goes.

    As Lakekeeper does up to 0.7: removing both in one commit breaks a foreign key there.
    """
    asked = Asked.of(request)
    changes = changes_of(request, asked)
    if not changes:
        return send(request)
    body = body_of(request)
    for change in body.get("table-changes") or [body]:
        kinds = {update["action"] for update in change["updates"]}
        if {"remove-snapshot-ref", "remove-snapshots"} <= kinds:
            return refusal(500, "Error fetching or modifying Lakekeeper data", "InternalError")
        change["updates"] = [
            update
            for update in change["updates"]
            if update["action"] != "remove-snapshot-ref" or update["ref-name"] == "main"
        ]
    return send(with_table(request, body))


def strict_updates(request: Request, send: Send) -> Answer:
    """Refuse what Nessie can't read: a schema without ``last-column-id``, properties set twice."""
    for change in changes_of(request, Asked.of(request)):
        updates = change["updates"]
        if any(u["action"] == "add-schema" and u.get("last-column-id") is None for u in updates):
            return refusal(500, "HTTP 400 Bad Request", "WebApplicationException")
        for action in ("set-properties", "set-location"):
            if sum(update["action"] == action for update in updates) > 1:
                return refusal(500, f"Found multiple updates of type {action}", "RuntimeException")
    return send(request)


class Locations:
    """Wants a new table's location to be below the warehouse, empty, and apart from others'.

    Args:
        warehouse: all locations are below it.
        is_empty: tells whether there are no files at a location.
        chosen_here: the client may choose none at all.
    """

    def __init__(
        self, warehouse: str, is_empty: Callable[[str], bool], *, chosen_here: bool = False
    ) -> None:
        self._warehouse = warehouse.rstrip("/") + "/"
        self._is_empty, self._chosen_here = is_empty, chosen_here
        self._places: dict[str, str] = {}

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if request.method == "POST" and asked.what == "tables":
            why = self._refused(body_of(request).get("location"))
            if why:
                return refusal(400, why)
        answer = send(request)
        place = body_of(answer).get("metadata", {}).get("location") if answer.body else None
        if request.method == "GET" and asked.what == "table" and place:
            self._places[f"{asked.levels}{asked.table}"] = place.rstrip("/") + "/"
        if request.method == "DELETE" and asked.what == "table" and answer.status in (200, 204):
            self._places.pop(f"{asked.levels}{asked.table}", None)
        return answer

    def _refused(self, location: str | None) -> str:
        if not location:
            return ""
        if self._chosen_here:
            return "a location can't be chosen"
        place = location.rstrip("/") + "/"
        if not place.startswith(self._warehouse):
            return f"location {location} is not below {self._warehouse}"
        if not self._is_empty(location):
            return f"location {location} is not empty"
        for other in self._places.values():
            if place.startswith(other) or other.startswith(place):
                return f"location {location} overlaps with {other}"
        return ""


def no_staged_create(request: Request, send: Send) -> Answer:
    """Make no table in two steps."""
    asked = Asked.of(request)
    if request.method == "POST" and asked.what == "tables" and body_of(request).get("stage-create"):
        return refusal(400, "stage-create is not supported")
    return send(request)
