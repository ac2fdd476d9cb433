"""Drop what this project and environment made: a table with its files, or an empty namespace.

A table is dropped first and its files after that: a note in the tool's own folder, written
before, names them, so that the same call again finishes what a killed one left. A REST
catalog deletes the files itself.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    BadRequestError,
    ForbiddenError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
    ValidationError,
)

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import drop_table, dropped_files, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import views
from seeknal_iceberg.connection.namespaces import is_gone, is_unlisted
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


log = logging.getLogger("seeknal")

Parts = tuple[str, ...]

#: A table that cannot be loaded for one of these is not ours: gone meanwhile, not to be
#: read by us, or broken.
_NOT_OURS = (
    NoSuchTableError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    ForbiddenError,
    FileNotFoundError,
    ValidationError,
)


def places_of_tables(context: ExecutionContext) -> list[dict[Parts, str]]:
    """Return the command's cache of the locations of the catalog's tables."""
    key = ("iceberg-places", catalogs.of(context))
    return context.resources.get(key, list, lambda _: None)


def namespaces_below(
    context: ExecutionContext, catalog: Catalog, parent: Parts = ()
) -> Iterator[Parts]:
    """Yield all namespaces below one, each once and after its parent."""
    nested = catalogs.of(context).catalog_type in ("rest", "sql")
    for levels in sorted(set(_children(catalog, parent))):
        yield levels
        if nested:
            yield from namespaces_below(context, catalog, levels)


def _children(catalog: Catalog, parent: Parts) -> list[Parts]:
    try:
        found = catalog.list_namespaces(parent)
    except (NoSuchNamespaceError, ForbiddenError):
        return []
    except BadRequestError:
        # Some REST catalogs have namespaces of one level and say so in this way.
        if not parent:
            raise
        return []
    # Some list all levels at once.
    depth = len(parent)
    return [tuple(each) for each in found if len(each) == depth + 1 and each[:depth] == parent]


def tables_of(
    context: ExecutionContext, catalog: Catalog, namespaces: Sequence[Parts]
) -> Iterator[tuple[Parts, Table]]:
    """Yield the tables of some namespaces that can be loaded, each with its name."""
    for levels in namespaces:
        context.cancellation.check()
        try:
            listed = catalog.list_tables(levels)
        except (NoSuchNamespaceError, ForbiddenError):
            continue
        for identifier in listed:
            context.cancellation.check()
            parts = (*levels, identifier[-1])
            try:
                yield parts, catalog.load_table(parts)
            except _NOT_OURS:
                continue


def refused(name: str, why: str, hint: str) -> WriteRefused:
    """Return the refusal to drop something, which stays."""
    return WriteRefused(f"{name} {why}", hint, target=name)


def drop_made(context: ExecutionContext, catalog: Catalog, parts: Parts, name: str) -> bool:
    """Drop a table that this project and environment made, with its files.

    Returns:
        Whether it was there, or files of it were.

    Raises:
        WriteRefused: it is not theirs any more, or another table shares its place.
    """
    unfinished.drop_dead(context, catalog, parts)
    table = catalogs.look(catalog, parts)
    finished = finish_drop(context, catalog, parts)
    if table is None:
        return finished
    location = ledger.made_at(context, parts, table.metadata)
    if location is None:
        if finished:
            return True
        raise refusals.stays(name)
    on_rest = isinstance(catalog, RestCatalog)
    if not on_rest and location != table.metadata.location.rstrip("/"):
        raise refusals.stays(
            name, f"was moved, and has files outside of where it was made ({location})"
        )
    _check_nobody_within(context, catalog, parts, table.metadata.location)
    if on_rest:
        # Loading the table queries the REST catalog, so this is the second check.
        drop_table.drop(context, catalog, parts, table)
    elif not _drop_with_files(context, catalog, parts, table):
        return False
    for places in places_of_tables(context):
        places.pop(parts, None)
    return True


def _drop_with_files(
    context: ExecutionContext, catalog: Catalog, parts: Parts, table: Table
) -> bool:
    note = dropped_files.Note.of(context, parts, table)
    note.write(context)
    try:
        catalog.drop_table(parts)
    except NoSuchTableError:
        # Somebody dropped or renamed it a moment ago: its files are theirs to judge.
        note.remove(context)
        return False
    except BaseException:
        left = catalogs.load(catalog, parts)
        if left is not None and str(left.metadata.table_uuid) == note.uuid:
            note.remove(context)
        raise
    dropped_files.finish(context, catalog, note)
    return True


def finish_drop(context: ExecutionContext, catalog: Catalog, parts: Parts) -> bool:
    """Delete the files of a table that an earlier call dropped; return whether there were any."""
    note = dropped_files.Note.find(context, parts)
    if note is None:
        return False
    places_of_tables(context).clear()
    try:
        _check_nobody_within(context, catalog, (), note.location)
    except WriteRefused:
        # It was not dropped after all, or was renamed before: its files are in use.
        note.remove(context)
        return False
    dropped_files.finish(context, catalog, note)
    return True


def _check_nobody_within(
    context: ExecutionContext, catalog: Catalog, parts: Parts, location: str
) -> None:
    """Check that no other table of the catalog has its files at this table's location.

    Raises:
        WriteRefused: one has; somebody registered it, or chose its place so.
    """
    memory = places_of_tables(context)
    if not memory:
        found = tables_of(context, catalog, list(namespaces_below(context, catalog)))
        memory.append({other: table.metadata.location for other, table in found})
    ours = location.rstrip("/") + "/"
    for other, place in memory[0].items():
        if other != parts and f"{place.rstrip('/')}/".startswith(ours):
            raise refused(
                quote(parts),
                f"is not dropped: {quote(other)} has its files in the same place",
                f"drop {quote(other)} first, if it has to go",
            )


def drop_namespace(context: ExecutionContext, catalog: Catalog, levels: Parts) -> bool:
    """Drop a namespace that this project and environment made; return whether it was there.

    Raises:
        WriteRefused: it is not theirs, or holds something.
    """
    name = quote(levels)
    try:
        properties = catalog.load_namespace_properties(levels)
        # Not every catalog looks at the levels below when it drops one.
        inside = [quote(child) for child in _children(catalog, levels)]
        inside += [quote((*levels, table[-1])) for table in catalog.list_tables(levels)]
        if isinstance(catalog, RestCatalog):
            inside += [quote((*levels, view[-1])) for view in catalog.list_views(levels)]
        else:
            inside += [quote((*levels, view)) for view in views.in_sql(catalog, levels)]
    except NoSuchNamespaceError:
        return False
    except ForbiddenError:
        if is_unlisted(catalog, levels):
            return False
        raise
    if not ledger.made_by(context).items() <= properties.items():
        raise refusals.stays(name)
    if inside:
        raise refused(
            name,
            f"is not empty: it holds {refusals.listed(sorted(inside))}",
            "move or drop what it holds, then run again",
        )
    try:
        catalog.drop_namespace(levels)
    except NoSuchNamespaceError:
        return True  # it was there a moment ago: an answer got lost, and it was asked again
    except NamespaceNotEmptyError:
        # Nothing can be seen in it, so it is what the catalog keeps of dropped tables.
        log.warning(
            "%s stays: nothing is listed in it, but the catalog still keeps tables that were "
            "dropped from it, until they expire there; their names may be taken again",
            name,
        )
        return False
    # A lost answer looks like any failure of any library below: is it gone?
    except Exception:
        if not is_gone(catalog, levels):
            raise
    return True


def drop_namespaces(
    context: ExecutionContext, catalog: Catalog, namespaces: Sequence[tuple[str, ...]]
) -> None:
    """Drop namespaces that were made for what is discarded, as far as they are empty."""
    for levels in sorted(namespaces, key=len, reverse=True):
        # Another target's tables may be in it by now, or somebody's.
        with contextlib.suppress(WriteRefused, NamespaceNotEmptyError):
            drop_namespace(context, catalog, levels)
