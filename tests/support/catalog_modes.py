"""Ways in which Iceberg catalogs answer, each as rules of a `CatalogProxy`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from support.catalog_proxy import CatalogProxy, Exchange, Request, answer, changes_of, path

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
