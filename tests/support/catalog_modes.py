"""Ways in which Iceberg catalogs answer, each as rules of a `CatalogProxy`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from support.catalog_proxy import (
    Answer,
    CatalogProxy,
    Exchange,
    Request,
    answer,
    changes_of,
    forward,
    path,
)

Mode = Callable[[CatalogProxy], None]


def error(status: int, message: str, kind: str = "ProxyError") -> str:
    """Return the body of a catalog's error."""
    return json.dumps({"error": {"message": message, "type": kind, "code": status}})


#: What Nessie 0.99 takes once in a commit.
_ONCE = ("set-properties", "remove-properties", "set-location", "assign-uuid")


def flaw_for_old_readers(request: Request) -> str:
    """Say what of a commit Nessie 0.99 can't read; nothing where it can."""
    for change in changes_of(request):
        updates: list[Mapping[str, Any]] = change["updates"]  # type: ignore[assignment]
        kinds = Counter(update["action"] for update in updates)
        for kind in _ONCE:
            if kinds[kind] > 1:
                return f"Found multiple updates of type {kind}"
        for update in updates:
            if update["action"] == "add-schema" and "last-column-id" not in update:
                return (
                    "Cannot build AddSchema, some of required attributes are not set [lastColumnId]"
                )
    return ""


def old_reader(proxy: CatalogProxy) -> None:
    """Refuse, as Nessie 0.99 does by a 500, what older readers of the specification can't read."""
    proxy.rule(
        lambda request: bool(flaw_for_old_readers(request)),
        lambda exchange: answer(500, body=error(500, flaw_for_old_readers(exchange.request)))(
            exchange
        ),
    )


def together_refused(status: int) -> Mode:
    """Refuse commits of several tables, also one of nothing, as Glue and Hive do."""

    def mode(proxy: CatalogProxy) -> None:
        proxy.rule(path("/transactions/commit", "POST"), answer(status))

    return mode


def lists_endpoints(*endpoints: str) -> Mode:
    """Name the endpoints in the answer to the request for the configuration."""

    def configured(exchange: Exchange) -> None:
        found = exchange.forward()
        body = {**json.loads(found.body), "endpoints": list(endpoints)}
        exchange.answer(attrs.evolve(found, body=json.dumps(body).encode()))

    def mode(proxy: CatalogProxy) -> None:
        proxy.rule(path("/v1/config"), configured)

    return mode


def takes_at_most(size: int) -> Mode:
    """Refuse requests with larger bodies, as Lakekeeper does above 2 MB."""

    def mode(proxy: CatalogProxy) -> None:
        proxy.rule(lambda request: len(request.body) > size, answer(413, body="too large"))

    return mode


def purge_refused(status: int) -> Mode:
    """Refuse to delete a dropped table's files: Polaris by 403, Glue by 400."""

    def mode(proxy: CatalogProxy) -> None:
        proxy.rule(path("purgeRequested=[Tt]rue", "DELETE"), answer(status))

    return mode


def one_snapshot(*, nessie: bool) -> Mode:
    """Show the current snapshot of a table alone, and keep no reference but main.

    Args:
        nessie: the configuration says that it is one.
    """

    def mode(proxy: CatalogProxy) -> None:
        if nessie:
            proxy.rule(path("/v1/config"), _is_nessie)
        proxy.rule(path("/tables"), _current_only)
        proxy.rule(path("/transactions/commit"), _current_only)

    return mode


def _is_nessie(exchange: Exchange) -> None:
    found = exchange.forward()
    body = json.loads(found.body)
    body["overrides"]["nessie.is-nessie-catalog"] = "true"
    exchange.answer(attrs.evolve(found, body=json.dumps(body).encode()))


def _current_only(exchange: Exchange) -> None:
    changes = changes_of(exchange.request)
    if any(map(_goes_back, changes)):
        exchange.answer(Answer(status=400, body=error(400, "no such snapshot").encode()))
        return
    if changes:
        for change in changes:
            for kind, name in (("updates", "ref-name"), ("requirements", "ref")):
                listed: list[Mapping[str, Any]] = change[kind]  # type: ignore[assignment]
                change[kind] = [one for one in listed if one.get(name, "main") == "main"]
        body = json.loads(exchange.request.body)
        body = {"table-changes": changes} if "table-changes" in body else changes[0]
        exchange.request = attrs.evolve(exchange.request, body=json.dumps(body).encode())
    found = exchange.forward()
    answered = json.loads(found.body) if found.body else {}
    metadata = answered.get("metadata")
    if metadata:
        current = metadata.get("current-snapshot-id")
        for name in ("snapshots", "snapshot-log"):
            metadata[name] = [
                one for one in metadata.get(name, ()) if one["snapshot-id"] == current
            ]
        refs = metadata.get("refs") or {}
        metadata["refs"] = {name: ref for name, ref in refs.items() if name == "main"}
        found = attrs.evolve(found, body=json.dumps(answered).encode())
    exchange.answer(found)


def _goes_back(change: Mapping[str, Any]) -> bool:
    """Tell whether a change sets main to a snapshot that it doesn't add."""
    added = [one["snapshot"]["snapshot-id"] for one in change["updates"] if "snapshot" in one]
    return any(
        one["action"] == "set-snapshot-ref"
        and one["ref-name"] == "main"
        and one["snapshot-id"] not in added
        for one in change["updates"]
    )


def references_stay(proxy: CatalogProxy) -> None:
    """Answer that a reference is removed, and keep it, as Lakekeeper does up to 0.7."""

    def act(exchange: Exchange) -> None:
        changes = changes_of(exchange.request)
        for change in changes:
            listed: list[Mapping[str, Any]] = change["updates"]  # type: ignore[assignment]
            change["updates"] = [one for one in listed if one["action"] != "remove-snapshot-ref"]
        body = json.loads(exchange.request.body)
        body = {"table-changes": changes} if "table-changes" in body else changes[0]
        exchange.request = attrs.evolve(exchange.request, body=json.dumps(body).encode())
        forward(exchange)

    proxy.rule(lambda request: "remove-snapshot-ref" in request.text, act)


def removals_fail(proxy: CatalogProxy) -> None:
    """Fail where a commit removes snapshots, as Lakekeeper does up to 0.7 with a reference."""
    proxy.rule(lambda request: '"remove-snapshots"' in request.text, answer(500))


def hides(proxy: CatalogProxy) -> None:
    """Forbid to ask for what is absent."""

    def act(exchange: Exchange) -> None:
        found = exchange.forward()
        if found.status == 404:
            headers = {"Content-Type": "application/json"}
            found = Answer(status=403, headers=headers, body=error(403, "not allowed").encode())
        exchange.answer(found)

    proxy.rule(path("/namespaces"), act)


def any_case(proxy: CatalogProxy) -> None:
    """Take names that differ in case for one: all are kept in lower case."""

    def act(exchange: Exchange) -> None:
        request = exchange.request
        exchange.request = attrs.evolve(request, path=request.path.lower())
        forward(exchange)

    proxy.rule(path("/namespaces/"), act)


def plain_names(proxy: CatalogProxy) -> None:
    """Take names of lower-case letters and digits, and namespaces of one level."""

    def is_odd(request: Request) -> bool:
        if request.method != "POST" or not request.path.endswith(("/namespaces", "/tables")):
            return False
        body = json.loads(request.body)
        levels = body.get("namespace") or []
        names = [*levels, *([body["name"]] if "name" in body else [])]
        return len(levels) > 1 or any(not name.isalnum() or not name.islower() for name in names)

    proxy.rule(is_odd, answer(400, body=error(400, "the name is not allowed")))
