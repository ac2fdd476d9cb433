"""Names of data sets, so that dev's table and production's are two and other tools' events meet ours.

OpenLineage's naming conventions (https://openlineage.io/docs/spec/naming) are followed
where a connection tells host, catalog or warehouse; any other store is named by what its
connection's ``bindings`` tell. Those are a whitelist and hold no secret. Names are not
redacted: a password that is a common word would make other names of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from seeknal_core.contract.types import Connection, ExecutionContext, Snapshot, Source, Target
from seeknal_openlineage.facts import DatasetName

#: The scheme of a store's namespace where it isn't the connection's type.
_SCHEMES = {"postgresql": "postgres"}


def target_dataset(context: ExecutionContext, target: Target) -> DatasetName:
    """Name a target's table: its final name, in the environment's store."""
    return _dataset(context, target.type, target.name.parts)


def source_dataset(context: ExecutionContext, source: Source) -> DatasetName:
    """Name what a source reads: a table, or a query by the digest of its text."""
    if source.query is not None:
        # Which tables a query reads is for the store to know.
        digest = hashlib.sha256(source.query.encode()).hexdigest()[:12]
        return _dataset(context, source.type, (f"query:{digest}",), whole=True)
    return _dataset(context, source.type, source.parts)


def columns_of(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    """Return names and Arrow types of a snapshot's columns."""
    return tuple((field.name, str(field.type)) for field in snapshot.schema)


def _dataset(
    context: ExecutionContext, type: str, parts: Sequence[str], *, whole: bool = False
) -> DatasetName:
    connection = context.connection
    if connection is None:
        return DatasetName(type, ".".join(parts))
    bindings = {key: value for key, value in connection.bindings().items() if value}
    if "host" in bindings and "database" in bindings:
        schema = bindings.get("schema")
        if len(parts) == 1 and schema and not whole:
            parts = (schema, *parts)
        parts = (bindings["database"], *parts)
    return DatasetName(_namespace(context, connection, bindings), ".".join(parts))


def _namespace(
    context: ExecutionContext, connection: Connection, bindings: Mapping[str, str]
) -> str:
    scheme = _SCHEMES.get(connection.type, connection.type)
    if "host" in bindings and "database" in bindings:
        port = bindings.get("port")
        return f"{scheme}://{bindings['host']}{f':{port}' if port else ''}"
    place = bindings.get("uri") or bindings.get("warehouse") or bindings.get("path")
    if place is None:
        # Nothing that OpenLineage has a convention for: all that tells two stores apart.
        more = [value for key, value in bindings.items() if key != "type"]
        return f"{scheme}://{'/'.join(more) or connection.name}"
    if "://" not in place:
        return f"file://{os.path.normpath(os.path.join(context.project_root, place))}"
    found = urlsplit(place)
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"
