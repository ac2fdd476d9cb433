"""Throw away what is kept for a promotion: tags, files, notes, and what was made for nothing."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceNotEmptyError,
    NoSuchTableError,
    ValidationException,
)
from pyiceberg.io import load_file_io

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Batch, ExecutionContext, Target
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg import cleanup, embedded, fencing, outcome, pending, removal, together, updates
from seeknal_iceberg.failures import translating
from seeknal_iceberg.files import folder_of
from seeknal_iceberg.transactions import location_of
from seeknal_iceberg.waiting import Waiting, undo_tag, write_id_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

log = logging.getLogger("seeknal")

#: How often a tag is removed anew where somebody else's commit came between.
_TRIES = 8
_MOVED = (CommitFailedException, ValidationException)


def discard(context: ExecutionContext, batch: Batch) -> None:
    """Carry out the hook of the same name."""
    context = outcome.unstoppable(context)
    with translating(catalogs.of(context)):
        catalog = catalogs.open_unmade(context)
        unsure = fencing.settle(context, catalog, batch)
        tables = {target.key: catalogs.load(catalog, target.name.parts) for target in batch.targets}
        _untag(context, catalog, batch, tables)
        notes = []
        for target in batch.targets:
            write_id = write_id_of(context, target, batch.promotion)
            note = pending.read_staged(context, target.name.parts, write_id)
            if target.key in unsure and tables[target.key] is None:
                _keep(context, catalog, target, note)
                continue
            _discard(context, catalog, target, write_id, note, tables[target.key])
            if target.key not in unsure:
                notes.append((target.name.parts, write_id, note))
        unmake(context, [path for _, _, note in notes for path in note.made])
        for parts, write_id, _ in notes:
            pending.forget_staged(context, parts, write_id)


def _keep(context: ExecutionContext, catalog: Catalog, target: Target, note: pending.Noted) -> None:
    """Keep the files of a table that the catalog may still make, and say so."""
    drop_namespaces(context, catalog, note.namespaces)
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
    tag = undo_tag(batch.promotion)
    tagged = [
        (target, table)
        for target in batch.targets
        if (table := tables[target.key]) is not None and tag in table.metadata.refs
    ]
    if len(tagged) > 1 and together.at_once(context, catalog):
        changes = [_untagging(batch.promotion, table) for _, table in tagged]
        # Where one of them moved, each is tried by itself.
        with contextlib.suppress(*_MOVED, NoSuchTableError):
            together.commit(context, catalog, changes)
            return
    for target, table in tagged:
        _untag_one(context, catalog, batch.promotion, target, table)


def _untagging(promotion: str, table: Table) -> together.Change:
    requirements, made = updates.to_untag(promotion, table.metadata)
    return together.Change(table=table, requirements=requirements, updates=made)


def _untag_one(
    context: ExecutionContext, catalog: Catalog, promotion: str, target: Target, table: Table
) -> None:
    found: Table | None = table
    for attempt in range(_TRIES):
        if found is None or undo_tag(promotion) not in found.metadata.refs:
            return
        try:
            together.commit(context, catalog, [_untagging(promotion, found)])
            return
        except NoSuchTableError:
            return
        except _MOVED:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.05 * 2**attempt)
            found = catalogs.load(catalog, target.name.parts)


def _discard(
    context: ExecutionContext,
    catalog: Catalog,
    target: Target,
    write_id: str,
    note: pending.Noted,
    table: Table | None,
) -> None:
    folders, ids = list(note.folders), {write_id, *note.ids}
    since = None
    if target.staged is not None:
        waiting = Waiting.of(target.staged)
        if waiting.folder:
            folders += [waiting.folder, waiting.metadata_folder]
        since = waiting.before.sequence if waiting.before is not None else None
        published = table is not None and any(
            each.snapshot_id == waiting.snapshot_id for each in table.metadata.snapshots
        )
        if published:
            folders = []  # all that was placed is the table's
    elif table is not None:
        folders += [
            folder_of(table.metadata, write_id),
            f"{table.metadata.location.rstrip('/')}/metadata",
        ]
    elif not folders:
        # The note went with the machine that staged; the place of a new table can be told.
        place = location_of(catalog, catalogs.of(context), target.name.parts, write_id)
        if place is not None:
            folders += [f"{place}/data/seeknal-{write_id}", f"{place}/metadata"]
    _delete(catalog, table, list(dict.fromkeys(folders)), sorted(ids), since)
    if target.staged is not None and Waiting.of(target.staged).created and table is None:
        cleanup.finish_drop(context, catalog, target.name.parts)
    drop_namespaces(context, catalog, note.namespaces)


def start_afresh(context: ExecutionContext, target: Target, write_id: str) -> None:
    """Delete what an earlier staging of the same write placed; its note is gone on with.

    Namespaces stay: another target of the promotion may be staged in them right now.
    """
    note = pending.read_staged(context, target.name.parts, write_id)
    if note.folders:
        catalog = catalogs.open_unmade(context)
        table = catalogs.load(catalog, target.name.parts)
        _delete(catalog, table, note.folders, note.ids, None)


def give_up(context: ExecutionContext, target: Target, write_id: str) -> None:
    """Discard what a staging that failed has placed; where that fails, too, its note stays."""
    context = outcome.unstoppable(context)
    # Whatever kept the write from being staged may keep its files from being deleted.
    with contextlib.suppress(Exception):
        start_afresh(context, target, write_id)
        note = pending.read_staged(context, target.name.parts, write_id)
        drop_namespaces(context, catalogs.open_unmade(context), note.namespaces)
        unmake(context, note.made)
        pending.forget_staged(context, target.name.parts, write_id)


def _delete(
    catalog: Catalog,
    table: Table | None,
    folders: Sequence[str],
    ids: Sequence[str],
    since: int | None,
) -> None:
    """Delete the files of a write that no snapshot of the table names."""
    for folder in folders:
        io: FileIO = (
            table.io if table is not None else load_file_io(dict(catalog.properties), folder)
        )
        pending.delete(io, table, [folder], ids, since)
        removal.remove_empty(catalog, io, folder)


def drop_namespaces(
    context: ExecutionContext, catalog: Catalog, namespaces: Sequence[tuple[str, ...]]
) -> None:
    """Drop namespaces that were made for what is discarded, as far as they are empty."""
    for levels in sorted(namespaces, key=len, reverse=True):
        # Another target's tables may be in it by now, or somebody's.
        with contextlib.suppress(WriteRefused, NamespaceNotEmptyError):
            cleanup.drop_namespace(context, catalog, levels)


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
