"""List and drop what an environment made: its tables with their files, and its namespaces.

A table or namespace counts as created by the environment if it has the mark of `ledger`. A
catalog has no index of these marks, so that listing loads every table.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchNamespaceError,
)

from seeknal_core.contract.types import ExecutionContext, Owned, OwnedKind, QualifiedName
from seeknal_iceberg.commit import drop_owned, dropped_files
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

log = logging.getLogger("seeknal")

Parts = tuple[str, ...]


def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """List the tables and namespaces that have the mark of this project and environment.

    A dropped table is also listed while not all of its files are deleted.
    """
    connection = catalogs.of(context)
    if catalogs.absent(connection):
        return ()
    with translating(connection):
        catalog = catalogs.open_catalog(context)
        namespaces = list(drop_owned.namespaces_below(context, catalog))
        found: set[Parts] = set()
        places: dict[Parts, str] = {}
        for parts, table in drop_owned.tables_of(context, catalog, namespaces):
            places[parts] = table.metadata.location
            if ledger.made_at(context, parts, table.metadata) is not None:
                found.add(parts)
        drop_owned.places_of_tables(context)[:] = [places]
        found |= {note.parts for note in dropped_files.unfinished(context)}
        ours = [levels for levels in namespaces if _is_our_namespace(context, catalog, levels)]
    tables = [_owned(context, OwnedKind.TABLE, parts) for parts in sorted(found)]
    ours.sort(key=lambda levels: (-len(levels), levels))
    return (*tables, *(_owned(context, OwnedKind.NAMESPACE, levels) for levels in ours))


def _owned(context: ExecutionContext, kind: OwnedKind, parts: Parts) -> Owned:
    identity = ""
    if kind is OwnedKind.TABLE:
        identity = catalogs.identity(catalogs.of(context), parts)
    return Owned(kind=kind, name=QualifiedName(parts=parts, quoted=quote(parts)), identity=identity)


def _is_our_namespace(context: ExecutionContext, catalog: Catalog, levels: Parts) -> bool:
    try:
        properties = catalog.load_namespace_properties(levels)
    except (NoSuchNamespaceError, ForbiddenError):
        return False
    return ledger.made_by(context).items() <= properties.items()


def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Drop a table that this project and environment made, or a namespace that is empty."""
    connection = catalogs.of(context)
    parts, name = owned.name.parts, str(owned.name)
    if owned.identity and owned.identity != catalogs.identity(connection, parts):
        raise drop_owned.refused(name, "was listed in another catalog than this one", "list again")
    if catalogs.absent(connection):
        return False
    with translating(connection, name):
        catalog = catalogs.open_catalog(context)
        if owned.kind is OwnedKind.TABLE:
            return drop_owned.drop_made(context, catalog, parts, name)
        return drop_owned.drop_namespace(context, catalog, parts)
