"""Which names and places of tables a catalog takes, each way a layer of a `CatalogProxy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import attrs

from support.catalog_asking import (
    Asked,
    asking,
    body_of,
    path_of,
    query_of,
    refusal,
    with_body,
    with_table,
    without_endpoint,
)
from support.catalog_proxy import Answer, Request, Send


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


@attrs.frozen
class NoStagedCreate:
    """Makes no table in two steps.

    Args:
        status: the answer to who begins one.
    """

    status: int = 400

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        made = request.method == "POST" and asked.what == "tables"
        if made and body_of(request).get("stage-create"):
            return refusal(self.status, "Stage create is not supported", "MalformedRequest")
        return send(request)


@attrs.frozen
class NoRename:
    """Renames no table.

    Args:
        listed: whether `/v1/config` lists the endpoints; this one is not among them.
    """

    listed: bool = False

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if asked.what == "rename":
            return refusal(501, "rename is not supported", "UnsupportedOperationException")
        answer = send(request)
        if asked.what != "config" or answer.status != 200:
            return answer
        return without_endpoint(answer, "rename", listed=self.listed)
