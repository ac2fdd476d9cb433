"""Delete what is kept for a promotion: tags, files, notes, and what was made for nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyiceberg.exceptions import ForbiddenError

from seeknal_core.contract.types import Batch, ExecutionContext, Target
from seeknal_iceberg.commit import (
    capabilities,
    drop_owned,
    dropped_files,
    fences,
    leftover_tags,
    many_tables,
    outcome,
    unfinished,
    updates,
)
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import embedded
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.files.parquet import folder_of
from seeknal_iceberg.ledger import orphan_files, write_notes
from seeknal_iceberg.ledger.staged_write import StagedWrite, undo_tag, write_id_of
from seeknal_iceberg.write.transactions import location_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

log = logging.getLogger("seeknal")

#: How often a tag is removed again where somebody else's commit came between.
_TRIES = 8


def discard(context: ExecutionContext, batch: Batch) -> None:
    """Delete what is kept for a promotion: undo data, and files that were not published."""
    context = outcome.unstoppable(context)
    with translating(catalogs.of(context)):
        catalog = catalogs.open_unmade(context)
        unsure = fences.settle(context, catalog, batch)
        tables = {target.key: _look(context, catalog, batch, target) for target in batch.targets}
        for table in tables.values():
            if table is not None:
                capabilities.saw(context, table.metadata)
        _untag(context, catalog, batch, tables)
        notes = []
        failure: Exception | None = None
        for target in batch.targets:
            write_id = write_id_of(context, target, batch.promotion)
            note = write_notes.read_staged(context, target.name.parts, write_id)
            if target.key in unsure and tables[target.key] is None:
                _keep(context, catalog, target, note)
                continue
            try:
                _discard(context, catalog, target, write_id, note, tables[target.key])
            except Exception as error:  # noqa: BLE001 - the others' files still go
                failure = failure or error
                continue
            if target.key not in unsure:
                notes.append((target.name.parts, write_id, note))
        unmake(context, [path for _, _, note in notes for path in note.made])
        for parts, write_id, _ in notes:
            write_notes.forget_staged(context, parts, write_id)
        if failure is not None:
            raise failure


def _look(
    context: ExecutionContext, catalog: Catalog, batch: Batch, target: Target
) -> Table | None:
    """Return a target's table; one that may not be read is absent if it was never published."""
    try:
        return catalogs.load(catalog, target.name.parts)
    except ForbiddenError:
        write_id = write_id_of(context, target, batch.promotion)
        note = write_notes.read_staged(context, target.name.parts, write_id)
        if note.folders and (target.staged is None or StagedWrite.of(target.staged).created):
            return None
        raise


def _keep(
    context: ExecutionContext, catalog: Catalog, target: Target, note: write_notes.Noted
) -> None:
    """Keep the files of a table that the catalog may still make, and say so."""
    drop_owned.drop_namespaces(context, catalog, note.namespaces)
    log.warning(
        "%s: the catalog has not answered the commit that makes it; its files stay until %s, "
        "in case the commit still lands, then: seeknal gc",
        target.name,
        note.until(),
    )


def _untag(
    context: ExecutionContext,
    catalog: Catalog,
    batch: Batch,
    tables: dict[str, Table | None],
) -> None:
    """Remove the tags and properties that keep undo data; where that fails, they stay.

    They do no harm, so that nothing waits for a catalog that won't remove them.
    """
    tagged = [
        table
        for target in batch.targets
        if (table := tables[target.key]) is not None
        and updates.keeps_undo(batch.promotion, table.metadata)
    ]
    # Where one of several moved, each is tried by itself.
    done = not tagged or _untag_some(context, catalog, batch.promotion, tagged)
    if not done and len(tagged) > 1:
        alone = [_untag_some(context, catalog, batch.promotion, [table]) for table in tagged]
        done = all(alone)
    if done and catalogs.is_sql(catalogs.of(context)):
        return  # others may say that a tag is removed, and keep it
    for name in leftover_tags.keep(context, catalog, batch.promotion, tagged):
        log.warning(
            "%s: the catalog keeps the tag %s, though it was asked to remove it; it does no "
            "harm, and seeknal gc asks again",
            name,
            undo_tag(batch.promotion),
        )


def _untag_some(
    context: ExecutionContext, catalog: Catalog, promotion: str, tables: Sequence[Table]
) -> bool:
    """Untag tables in one commit, again where somebody else's came between; return whether it did.

    Args:
        tables: as they were a moment ago, with the tag.
    """
    left = list(tables)
    for attempt in range(_TRIES):
        # If anything fails here, the tag stays, and that is said afterwards.
        try:
            if attempt:
                found = [catalogs.load(catalog, table.name()) for table in tables]
                left = [
                    table
                    for table in found
                    if table is not None and updates.keeps_undo(promotion, table.metadata)
                ]
            if not left:
                return True
            changes = [_untagging(promotion, table) for table in left]
            if many_tables.carry_out(
                context, catalog, changes, lambda: _are_untagged(catalog, promotion, tables)
            ):
                return True
        except Exception as error:
            log.debug("an undo tag stays", exc_info=error)
            return False
        if len(tables) > 1:
            return False
        time.sleep(0.05 * 2**attempt)
    return False


def _are_untagged(catalog: Catalog, promotion: str, tables: Sequence[Table]) -> bool:
    found = (catalogs.load(catalog, table.name()) for table in tables)
    return not any(
        table is not None and updates.keeps_undo(promotion, table.metadata) for table in found
    )


def _untagging(promotion: str, table: Table) -> many_tables.Change:
    requirements, made = updates.to_untag(promotion, table.metadata)
    return many_tables.Change(table=table, requirements=requirements, updates=made)


def _discard(
    context: ExecutionContext,
    catalog: Catalog,
    target: Target,
    write_id: str,
    note: write_notes.Noted,
    table: Table | None,
) -> None:
    folders, ids = list(note.folders), {write_id, *note.ids}
    since = None
    table = _drop_begun(context, catalog, target, write_id, note, table)
    if table is None and (note.begun or (target.staged and StagedWrite.of(target.staged).begun)):
        # Its files went with it.
        drop_owned.finish_drop(context, catalog, target.name.parts)
        drop_owned.drop_namespaces(context, catalog, note.namespaces)
        return
    if target.staged is not None:
        write = StagedWrite.of(target.staged)
        if write.folder:
            folders += [write.folder, write.metadata_folder]
        since = write.before.sequence if write.before is not None else None
        if table is not None and any(
            each.snapshot_id == write.snapshot_id for each in table.metadata.snapshots
        ):
            folders = []  # all that was placed is the table's
    elif table is not None:
        folders += [
            folder_of(table.metadata, write_id),
            f"{table.metadata.location.rstrip('/')}/metadata",
        ]
    elif not folders:
        # The note was lost with the machine that staged; the place of a new table can be told.
        place = location_of(catalog, catalogs.of(context), target.name.parts, write_id)
        if place is not None:
            folders += [f"{place}/data/seeknal-{write_id}", f"{place}/metadata"]
    _delete(catalog, target.name.parts, table, list(dict.fromkeys(folders)), sorted(ids), since)
    if target.staged is not None and StagedWrite.of(target.staged).created and table is None:
        drop_owned.finish_drop(context, catalog, target.name.parts)
    drop_owned.drop_namespaces(context, catalog, note.namespaces)


def _drop_begun(
    context: ExecutionContext,
    catalog: Catalog,
    target: Target,
    write_id: str,
    note: write_notes.Noted,
    table: Table | None,
) -> Table | None:
    """Drop a table that was created without rows and is not published; return what is there."""
    parts = target.name.parts
    names = list(note.begun)
    if not names and target.staged is None and capabilities.of(context).stages is False:
        # The note was lost with the machine that staged.
        names = [unfinished.name_for(parts, write_id), parts]
    for name in names:
        unfinished.drop(context, catalog, name, parts, note.folders, note.ids)
    return catalogs.look(catalog, parts) if names else table


def start_afresh(context: ExecutionContext, target: Target, write_id: str) -> None:
    """Delete what an earlier staging of the same write placed; its note is used further.

    Namespaces stay: another target of the promotion may be staged in them right now.
    """
    note = write_notes.read_staged(context, target.name.parts, write_id)
    if note.begun:
        unfinished.drop_noted(context, catalogs.open_unmade(context), target.name.parts, note)
    elif note.folders:
        catalog = catalogs.open_unmade(context)
        table = catalogs.load(catalog, target.name.parts)
        _delete(catalog, target.name.parts, table, note.folders, note.ids, None)


def give_up(context: ExecutionContext, target: Target, write_id: str) -> None:
    """Discard what a staging that failed has placed; where that fails, too, its note stays."""
    context = outcome.unstoppable(context)
    # The cause that kept the write from being staged may keep its files from being deleted.
    with contextlib.suppress(Exception):
        start_afresh(context, target, write_id)
        note = write_notes.read_staged(context, target.name.parts, write_id)
        drop_owned.drop_namespaces(context, catalogs.open_unmade(context), note.namespaces)
        unmake(context, note.made)
        write_notes.forget_staged(context, target.name.parts, write_id)


def _delete(
    catalog: Catalog,
    parts: tuple[str, ...],
    table: Table | None,
    folders: Sequence[str],
    ids: Sequence[str],
    since: int | None,
) -> None:
    """Delete the files of a write that no snapshot of the table names."""
    for folder in folders:
        io: FileIO = (
            table.io
            if table is not None
            else catalogs.io_at(catalog, parts, catalogs.root_of(folder), folder)
        )
        orphan_files.delete(io, table, [folder], ids, since)
        dropped_files.remove_empty(catalog, io, folder)


def unmake(context: ExecutionContext, made: Sequence[str]) -> None:
    """Remove a local catalog and folders that were made for what is discarded, if empty."""
    if not made:
        return
    connection = catalogs.of(context)
    if connection.sqlite_file in made:
        embedded.remove_unused(connection)
    for path in sorted(set(made), key=len, reverse=True):
        with contextlib.suppress(OSError):  # not empty, or not a folder
            os.rmdir(path)
