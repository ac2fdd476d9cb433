"""Deletes leftovers of killed commands: files, tags and notes, once no commit can name them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyiceberg.exceptions import ForbiddenError

from seeknal_core.contract.types import ExecutionContext, Swept
from seeknal_iceberg.commit import drop_owned, dropped_files, fences, leftover_tags, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import sentence, translating
from seeknal_iceberg.ledger import orphan_files, write_notes
from seeknal_iceberg.names import quote
from seeknal_iceberg.promotion import discard

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table


def sweep(context: ExecutionContext, promotions: tuple[str, ...], dry_run: bool) -> Swept:
    """Delete what killed writes and forgotten promotions left, and report what stays."""
    writes = list(_notes(context, "pending"))
    staged = [
        (path, note)
        for path, note in _notes(context, "staged")
        if note.promotion and note.promotion not in promotions
    ]
    dropped = list(dropped_files.unfinished(context))
    tags = list(leftover_tags.noted(context))
    found = len(writes) + len(staged) + len(dropped) + len(tags)
    if not found or dry_run:
        return Swept(removed=found)
    kept = []
    connection = catalogs.of(context)
    with translating(connection):
        catalog = catalogs.open_unmade(context)
        for path, note in writes:
            kept += _write(context, catalog, path, note)
        for path, note in staged:
            kept += _staged(context, catalog, path, note)
        for each in dropped:
            drop_owned.finish_drop(context, catalog, each.parts)
        if tags:
            kept += leftover_tags.sweep(context, catalog)
    return Swept(removed=found - len(kept), kept=tuple(kept))


def _notes(context: ExecutionContext, kind: str) -> Iterator[tuple[str, write_notes.Noted]]:
    """Yield dead notes on tables of the call's connection, and their paths."""
    root = os.path.join(context.target_dir, f"iceberg-{kind}")
    if not os.path.isdir(root):
        return
    for entry in sorted(os.listdir(root)):
        folder = os.path.join(root, entry)
        for path, note in write_notes.dead(folder):
            if note.parts and folder == write_notes.notes_folder(context, note.parts, kind):
                yield path, note


def _write(
    context: ExecutionContext, catalog: Catalog, path: str, note: write_notes.Noted
) -> list[str]:
    """Delete what a write left that commits at once; say what stays."""
    try:
        table = catalogs.load(catalog, note.parts)
    except ForbiddenError as error:
        return [_unseen(note, error)]
    write_id = os.path.basename(path).removesuffix(".json")
    if note.begun:
        unfinished.drop_noted(context, catalog, note.parts, note)
        _forget(path)
        return []
    if fences.needed(context) and not note.is_fenced(table):
        if table is None or not fences.bar(context, catalog, table, write_id):
            return [_stays(note)]
        _delete(catalog, table, note)
        if note.is_fenced(catalogs.load(catalog, note.parts)):
            _forget(path)
            return []
        return [
            f"{quote(note.parts)}: a tag that fences off a commit which was not answered "
            f"stays until {note.until()}"
        ]
    if table is not None:
        table = fences.remove(context, catalog, write_id, table)
    _delete(catalog, table, note)
    _forget(path)
    return []


def _staged(
    context: ExecutionContext, catalog: Catalog, path: str, note: write_notes.Noted
) -> list[str]:
    """Delete what a promotion left that the state does not know any more; say what stays."""
    try:
        table = catalogs.load(catalog, note.parts)
    except ForbiddenError as error:
        return [_unseen(note, error)]
    if note.begun:
        unfinished.drop_noted(context, catalog, note.parts, note)
        drop_owned.drop_namespaces(context, catalog, note.namespaces)
        discard.unmake(context, note.made)
        _forget(path)
        return []
    recent = 0 < time.time() - note.sent < write_notes.LATEST and fences.needed(context)
    if table is None and recent:
        return [_stays(note)]
    if table is not None and fences.is_set(table.metadata, note.promotion):
        table = fences.remove(context, catalog, note.promotion, table)
        recent = False
    if table is not None and recent and note.bare:
        # No tag fences it off, so the table has to be moved from where the commit begins.
        for base in note.bases:
            table = fences.move_main(catalog, note.parts, base)
        recent = False
    _delete(catalog, table, note)
    drop_owned.drop_namespaces(context, catalog, note.namespaces)
    if recent and any(uuid for uuid, _ in note.bases):
        # The tag may still come, set by a request that was not answered.
        return [f"{quote(note.parts)}: a tag of ours is looked for until {note.until()}"]
    discard.unmake(context, note.made)
    _forget(path)
    return []


def _unseen(note: write_notes.Noted, error: Exception) -> str:
    return (
        f"{quote(note.parts)}: files of ours may be left: the catalog doesn't let us look "
        f"({sentence(error)})"
    )


def _stays(note: write_notes.Noted) -> str:
    return (
        f"{quote(note.parts)}: the files of a commit that was not answered stay until "
        f"{note.until()}, in case it still lands"
    )


def _delete(catalog: Catalog, table: Table | None, note: write_notes.Noted) -> None:
    for folder in note.folders:
        io = (
            table.io
            if table is not None
            else catalogs.io_at(catalog, note.parts, catalogs.root_of(folder), folder)
        )
        orphan_files.delete(io, table, [folder], note.ids)
        dropped_files.remove_empty(catalog, io, folder)


def _forget(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    for folder in (os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(folder)
