"""New tables of catalogs that do not begin a table in two steps.

A new table is begun (``stage-create``), its files are placed, and one commit makes it.
S3 Tables and Glue refuse to begin one. There it is created at once, under a name of its
own (``orders_seeknal_new_1a2b3c4d``), its rows are committed to it, and it is renamed:
readers see no table, then all of it. Where the catalog renames nothing (Glue), it is
created under its own name, and is seen empty until its rows are committed.

Such a table has the property `ledger.BEGUN`, and its name is noted before it is created. Dropping it
is the fence: after that neither a commit nor a rename of it can land.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.exceptions import NoSuchTableError, ServerError, TableAlreadyExistsError

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.commit import capabilities, drop_table
from seeknal_iceberg.commit.one_table import OutcomeUnknown
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import (
    is_no,
    is_unanswered,
    refused_size,
    sentence,
    wait_of,
)
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.ledger import ledger, orphan_files, write_notes
from seeknal_iceberg.names import quote

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.sorting import SortOrder

log = logging.getLogger("seeknal")

Parts = tuple[str, ...]

#: Part of the name of a table that is renamed once its rows are in it.
MARK = "_seeknal_new_"
#: How many characters of the table's name come before that.
_KEPT = 200
#: How often a request is sent whose answer is lost.
_SENT = 3


class NoRename(Exception):
    """The catalog renames no table."""


@attrs.frozen(kw_only=True)
class NewTable:
    """What a table is created with."""

    schema: Schema
    spec: PartitionSpec
    order: SortOrder
    properties: dict[str, str]


def name_for(parts: Parts, write_id: str) -> Parts:
    """Return the name under which a write creates a table; as odd, and longer, than its own."""
    return (*parts[:-1], f"{parts[-1][:_KEPT]}{MARK}{write_id[:8]}")


def refuses_staging(error: Exception) -> bool:
    """Return whether a catalog may have refused to begin a table, and not this table."""
    if isinstance(error, ServerError):  # some catalogs wrap errors for what they don't support
        words = str(error).lower()
        return "stage" in words and "support" in words
    return is_no(error) and refused_size(error) is None


def create(
    context: ExecutionContext,
    catalog: Catalog,
    parts: Parts,
    write_id: str,
    wanted: NewTable,
    note: write_notes.Note,
) -> Table:
    """Create a table that is not finished, and return it.

    Args:
        parts: the name that it will have.
        note: gets the name under which it is created, before it is.

    Raises:
        TableAlreadyExistsError: the table is there, or its name is taken.
        Exception: as pyiceberg raises it, where the catalog refuses or fails.
    """
    renames = capabilities.of(context).renames
    if renames is not False:
        name = name_for(parts, write_id)
        # Where nothing says whether it can be renamed, that is tried before its rows come.
        first = name if renames else (*name[:-1], f"{name[-1]}_")
        made = _create(context, catalog, parts, first, write_id, wanted, note)
        if renames:
            return made
        try:
            note.add_begun(name)
            renamed = rename(context, catalog, made, name)
            if renamed is None:
                raise TableAlreadyExistsError(quote(name))
            return renamed
        except NoRename:
            drop(context, catalog, first, parts, (), ())
    return _create(context, catalog, parts, parts, write_id, wanted, note)


def _create(
    context: ExecutionContext,
    catalog: Catalog,
    parts: Parts,
    name: Parts,
    write_id: str,
    wanted: NewTable,
    note: write_notes.Note,
) -> Table:
    note.add_begun(name)
    marked = name if name == parts else name_for(parts, write_id)
    properties = {**wanted.properties, **ledger.begun_mark(context, parts, marked, write_id)}

    def is_ours(table: Table | None) -> bool:
        return table is not None and ledger.begun_by(context, name, table.metadata) == write_id

    failure: Exception | None = None
    for attempt in range(_SENT):
        try:
            return catalog.create_table(
                name,
                wanted.schema,
                partition_spec=wanted.spec,
                sort_order=wanted.order,
                properties=properties,
            )
        except TableAlreadyExistsError:
            found = catalogs.look(catalog, name)
            if found is None or not is_ours(found):
                raise
            if failure is not None:
                return found
            # From a killed staging whose note was lost with its machine.
            drop(context, catalog, name, parts, (), ())
            failure = TableAlreadyExistsError(quote(name))
        # A lost answer looks like any failure of any library below; the table tells.
        except Exception as error:
            if not is_unanswered(error, catalogs.of(context)):
                raise
            failure = error
            time.sleep(wait_of(error, 0.3 * 2**attempt))
            with contextlib.suppress(Exception):
                found = catalogs.look(catalog, name)
                if found is not None and is_ours(found):
                    return found
    assert failure is not None
    raise failure


def rename(context: ExecutionContext, catalog: Catalog, table: Table, parts: Parts) -> Table | None:
    """Rename a table to its own name, and find out whether that happened.

    Returns:
        The table under that name; None if another table has the name.

    Raises:
        NoRename: the catalog renames no table.
        WriteRefused: it refuses that name.
        OutcomeUnknown: it does not answer.
    """
    assert isinstance(catalog, PatientRestCatalog)
    uuid, name = table.metadata.table_uuid, quote(parts)
    failure: Exception | None = None
    for attempt in range(_SENT):
        try:
            catalog.rename(table.name(), parts)
            failure = None
        except Exception as error:  # noqa: BLE001 - no matter what it answers: the tables tell
            failure = error
            if not _is_answer(error):
                time.sleep(wait_of(error, 0.3 * 2**attempt))
        try:
            found = catalogs.look(catalog, parts)
            there = found is not None or catalogs.load(catalog, table.name()) is not None
        except Exception as error:  # noqa: BLE001 - the tables tell, as above
            failure = failure or error
            continue
        if found is not None:
            if found.metadata.table_uuid != uuid:
                return None
            capabilities.learn(context, renames=True)
            return found
        if failure is None or not there:
            continue
        if isinstance(failure, NoSuchTableError | NotImplementedError) or (
            is_no(failure) and capabilities.of(context).renames is None
        ):
            # The table to rename exists, so the catalog doesn't know the request.
            capabilities.learn(context, renames=False)
            raise NoRename(sentence(failure)) from failure
        # "It exists", of what is not there, may be an answer to the same request sent twice.
        taken = isinstance(failure, TableAlreadyExistsError) and attempt + 1 == _SENT
        if is_no(failure) or taken:
            raise WriteRefused(
                f"{name}: the catalog refuses to rename {quote(table.name())} to it: "
                f"{sentence(failure)}",
                "look at what the catalog says",
                target=name,
            ) from failure
    raise OutcomeUnknown(
        f"{name}: the catalog fell silent while the table got its name; whether it has it is "
        "not known",
        "run again: it finds out",
        target=name,
    ) from failure


def _is_answer(error: Exception) -> bool:
    return is_no(error) or isinstance(error, NoSuchTableError | TableAlreadyExistsError)


def drop(
    context: ExecutionContext,
    catalog: Catalog,
    name: Parts,
    parts: Parts,
    folders: Sequence[str],
    ids: Sequence[str],
) -> bool:
    """Drop a table that is not finished, with its files; return whether it was finished instead.

    Args:
        name: that under which it was created.
        parts: the name that it was to have.
        folders: where files of its write are.
        ids: what is in their names.

    Raises what pyiceberg raises, where the catalog fails or refuses.
    """
    table = catalogs.look(catalog, name)
    if table is None or ledger.begun_by(context, name, table.metadata) is None:
        return False
    drop_table.drop(context, catalog, name, table, quiet=True)
    if name != parts:
        # It may have got its name just before.
        found = catalogs.look(catalog, parts)
        if found is not None and found.metadata.table_uuid == table.metadata.table_uuid:
            return True
    with contextlib.suppress(Exception):  # most catalogs have deleted them
        orphan_files.delete(table.io, None, folders, ids)
    return False


def drop_noted(
    context: ExecutionContext, catalog: Catalog, parts: Parts, note: write_notes.Noted
) -> None:
    """Drop the unfinished tables that a dead write's note names."""
    for name in note.begun:
        drop(context, catalog, name, parts, note.folders, note.ids)


def drop_dead(context: ExecutionContext, catalog: Catalog, parts: Parts) -> None:
    """Drop the unfinished tables of dead writes of a target, and the notes of those writes."""
    folder = write_notes.notes_folder(context, parts)
    if not os.path.isdir(folder):
        return
    for path, note in write_notes.dead(folder):
        if note.begun:
            drop_noted(context, catalog, parts, note)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def without_unfinished(
    context: ExecutionContext, catalog: Catalog, parts: Parts, table: Table | None, write_id: str
) -> tuple[Table | None, Table | None]:
    """Check whether an existing table is one that a write has not finished.

    One of a dead write is dropped.

    Returns:
        The table, None if it is such a one; and that, where it is this write's.
    """
    if table is None:
        return None, None
    by = ledger.begun_by(context, parts, table.metadata)
    if by is None:
        return table, None
    if by == write_id:
        return None, table
    log.debug("%s: dropped, for a write that was killed has not finished it", quote(parts))
    drop(context, catalog, parts, parts, (), ())
    return None, None


def is_unfinished(context: ExecutionContext, parts: Parts, metadata: TableMetadata) -> bool:
    """Return whether a table was created, and has not got its first rows yet."""
    return ledger.begun_by(context, parts, metadata) is not None
