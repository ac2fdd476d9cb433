"""Ways of answering of Iceberg REST catalogs, each a layer of a `CatalogProxy`.

A layer gets a request and passes it on, changed or not; what comes back it may change, too.
`support.catalog_modes` names them, and puts those of a whole catalog together.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from support.catalog_asking import (
    Asked,
    asking,
    body_of,
    changes_of,
    editing,
    has_table,
    purges,
    refusal,
    with_body,
    with_table,
)
from support.catalog_proxy import Answer, Request, Send

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
        path = request.path.partition("?")[0]
        if request.method == "POST" and path.endswith("/tables"):
            # The tests' server makes a table again in the place that it had; others don't.
            self.close()
        if not purges(request, asked):
            return send(request)
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


class BegunAgain:
    """Give a table that is begun again another identity, and refuse a commit with the first one.

    As Lakekeeper does, which keeps what is begun. A server that keeps nothing takes any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[tuple[tuple[str, ...], str], str] = {}

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        for change in changes_of(request, asked):
            if not any(each["type"] == "assert-create" for each in change["requirements"]):
                continue
            named = change.get("identifier") or {"namespace": asked.levels, "name": asked.table}
            place = (tuple(named["namespace"]), str(named["name"]))
            given = [u["uuid"] for u in change["updates"] if u["action"] == "assign-uuid"]
            with self._lock:
                known = self._begun.get(place)
            if known is not None and given and given[0] != known:
                return refusal(409, "Cannot reassign uuid", "CommitFailedException")
        answer = send(request)
        if request.method == "POST" and asked.what == "tables" and answer.status == 200:
            body = body_of(request)
            if body.get("stage-create"):
                made = json.loads(answer.body)["metadata"]["table-uuid"]
                with self._lock:
                    self._begun[(asked.levels, body["name"])] = made
        return answer


#: What Nessie 0.99 takes once in a commit.
_ONCE = ("set-properties", "remove-properties", "set-location", "assign-uuid")


def flaw_for_old_readers(request: Request) -> str:
    """Say what of a commit Nessie 0.99 can't read; nothing where it can."""
    for change in changes_of(request, Asked.of(request)):
        updates = change["updates"]
        if any(u["action"] == "add-schema" and u.get("last-column-id") is None for u in updates):
            return "Cannot build AddSchema, some of required attributes are not set [lastColumnId]"
        for action in _ONCE:
            if sum(update["action"] == action for update in updates) > 1:
                return f"Found multiple updates of type {action}"
    return ""


def strict_updates(request: Request, send: Send) -> Answer:
    """Refuse what Nessie can't read: a schema without ``last-column-id``, properties set twice."""
    flaw = flaw_for_old_readers(request)
    return refusal(500, flaw, "RuntimeException") if flaw else send(request)


def removals_fail(request: Request, send: Send) -> Answer:
    """Fail where a commit removes snapshots, as Lakekeeper does up to 0.7 with a reference."""
    changes = changes_of(request, Asked.of(request))
    if any(
        update["action"] == "remove-snapshots" for each in changes for update in each["updates"]
    ):
        return refusal(500, "Error fetching or modifying Lakekeeper data", "InternalError")
    return send(request)


def _say_nessie(body: Any) -> None:
    body["overrides"]["nessie.is-nessie-catalog"] = "true"


#: Says in the configuration that the catalog is Nessie.
is_nessie = editing(_say_nessie, "config")
