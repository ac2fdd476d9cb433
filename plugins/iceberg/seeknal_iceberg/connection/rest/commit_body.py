"""The body of a commit, as the oldest readers of the specification take it.

pyiceberg sends what the specification allows today. Nessie 0.99 refuses two updates of
one kind (``set-properties``, ``set-location``) in one commit, and ``add-schema`` without
``last-column-id``, which the specification once required. Both mean the same when there
is one of each, so every catalog gets them so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pyiceberg.table import CommitTableRequest, Namespace, TableIdentifier
from pyiceberg.table.update import AddSchemaUpdate

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.update import TableRequirement, TableUpdate

#: The most bytes of a request that every catalog takes: Lakekeeper's limit.
MOST = 2 * 1024 * 1024

Body = dict[str, Any]


def body_of(
    name: tuple[str, ...],
    metadata: TableMetadata,
    requirements: Sequence[TableRequirement],
    updates: Sequence[TableUpdate],
) -> Body:
    """Return the request that commits to one table.

    Args:
        metadata: the table's as it is, or that of a new table before its first rows.
    """
    request = CommitTableRequest(
        identifier=TableIdentifier(namespace=Namespace(root=list(name[:-1])), name=name[-1]),
        requirements=tuple(requirements),
        updates=tuple(updates),
    )
    body: Body = json.loads(request.model_dump_json())
    body["requirements"] = _each_once(body["requirements"])
    last = metadata.last_column_id
    for update, sent in zip(updates, body["updates"], strict=True):
        if isinstance(update, AddSchemaUpdate):
            last = max(last, update.schema_.highest_field_id)
            sent["last-column-id"] = last
    body["updates"] = _merged(body["updates"])
    return body


def encoded(body: object) -> bytes:
    """Return a body as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def groups(bodies: Sequence[Body]) -> list[list[int]]:
    """Split a commit of several tables into requests that a catalog takes.

    Returns:
        The positions of the bodies in each request; one that is too large goes alone.
    """
    found: list[list[int]] = []
    size = MOST
    for number, body in enumerate(bodies):
        length = len(encoded(body)) + 1
        if size + length > MOST - 64:  # what stands around them
            found.append([])
            size = 0
        found[-1].append(number)
        size += length
    return found


def _each_once(values: Iterable[Body]) -> list[Body]:
    found: list[Body] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _merged(updates: Iterable[Body]) -> list[Body]:
    """Return updates with one of each kind that an old reader takes once only."""
    made: list[Body] = []
    sets: dict[str, str] = {}
    removes: dict[str, None] = {}
    location: Body | None = None
    for update in updates:
        action = update["action"]
        if action == "set-properties":
            sets |= update["updates"]
            for name in update["updates"]:
                removes.pop(name, None)
        elif action == "remove-properties":
            for name in update["removals"]:
                sets.pop(name, None)
                removes[name] = None
        elif action == "set-location" and location is not None:
            location["location"] = update["location"]
        else:
            if action == "set-location":
                location = update
            made.append(update)
    if sets:
        made.append({"action": "set-properties", "updates": sets})
    if removes:
        made.append({"action": "remove-properties", "removals": list(removes)})
    return made
