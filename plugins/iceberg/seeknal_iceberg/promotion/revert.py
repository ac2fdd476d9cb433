"""Undoes a publish: restores every table, by compare-and-set on what was published."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import StaleStage
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Batch, ExecutionContext, Target
from seeknal_iceberg.commit import capabilities, drop_owned, fences, many_tables, outcome, updates
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.ledger.staged_write import Before, StagedWrite
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.promotion import restore

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

log = logging.getLogger("seeknal")

#: How often an undo looks again where a table's metadata moved, but not its rows.
_TRIES = 5


def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Undo what is published of a batch."""
    context = outcome.unstoppable(context)
    connection = catalogs.of(context)
    if catalogs.absent(connection):
        return False
    with translating(connection):
        catalog = catalogs.open_catalog(context)
        fences.settle(context, catalog, batch)
        return undo(context, catalog, batch, overwrite=overwrite)


@attrs.frozen(kw_only=True)
class _Item:
    """A target that is published, and its table."""

    target: Target
    write: StagedWrite
    table: Table

    def is_current(self) -> bool:
        return self.table.metadata.current_snapshot_id == self.write.snapshot_id


def undo(context: ExecutionContext, catalog: Catalog, batch: Batch, *, overwrite: bool) -> bool:
    """Undo what is published of a batch; return whether there was something.

    Raises:
        StaleStage: somebody wrote one of the tables since; nothing is undone.
        BackendError: the catalog keeps failing, or refuses.
    """
    for attempt in range(_TRIES):
        found = _published(catalog, batch)
        if not found:
            _forget(context, catalog, batch)
            return _finish_drops(context, catalog, batch) or attempt > 0
        if not overwrite:
            _refuse_written(found)
        if _undo(context, catalog, batch, found, anew=attempt > 0):
            _forget(context, catalog, batch)
            return True
        time.sleep(0.1 * 2**attempt)
    raise StaleStage(
        f"{batch.targets[0].name}: other writers changed it again and again while it was undone",
        "run again when they are done",
        target=str(batch.targets[0].name),
    )


def _undo(
    context: ExecutionContext, catalog: Catalog, batch: Batch, found: list[_Item], *, anew: bool
) -> bool:
    """Undo what is published, and look whether it is undone; false where others were faster.

    Args:
        anew: an earlier attempt was not enough: where a reference should have gone, an
            empty snapshot takes its place.
    """
    changed = [item for item in found if not item.write.created]
    for item in changed:
        _note(context, batch, item)
    names = {item.target.key for item in changed}

    def is_undone() -> bool:
        return not any(item.target.key in names for item in _published(catalog, batch))

    if changed:
        changes = [_change(context, batch, item, anew=anew) for item in changed]
        if not many_tables.carry_out(context, catalog, changes, is_undone):
            return False
        # Some catalogs (Lakekeeper up to 0.7) say that a reference is removed, and keep it.
        emptied = [item for item in changed if _before(item).main is None]
        if emptied and not is_undone():
            return False
    for item in found:
        if item.write.created:
            drop_owned.drop_made(context, catalog, item.target.name.parts, str(item.target.name))
            _note(context, batch, item)
    return True


def _note(context: ExecutionContext, batch: Batch, item: _Item) -> None:
    """Note that what was published is left over; its publish removed the note of it."""
    with outcome.note_of(context, item.target, item.write) as note:
        write = item.write
        note.add(write.folder, write.metadata_folder, write.write_id)
        note.set_sent(0.0, batch.promotion)


def _forget(context: ExecutionContext, catalog: Catalog, batch: Batch) -> None:
    """Remove the snapshots and tags that an undone publish left; where that fails, they stay.

    Out of the readers' sight they do no harm. A call that was killed left some, too.
    """
    changes = []
    # If anything fails here, the tables are as they were.
    try:
        for item in _undone(catalog, batch):
            made = updates.to_forget(batch.promotion, item.write, item.table.metadata)
            if made is not None:
                changes.append(
                    many_tables.Change(table=item.table, requirements=made[0], updates=made[1])
                )
        if changes:
            many_tables.commit(context, catalog, changes)
    except Exception as error:
        log.debug("what an undone promotion left stays", exc_info=error)


def _undone(catalog: Catalog, batch: Batch) -> list[_Item]:
    """Return what is undone, but where a branch, a tag or a later snapshot leads to it by now."""
    found = []
    for target in batch.targets:
        write = StagedWrite.of(target.staged) if target.staged is not None else None
        if write is None or write.created or write.snapshot_id is None:
            continue
        table = catalogs.load(catalog, target.name.parts)
        if table is None or str(table.metadata.table_uuid) != write.uuid:
            continue
        metadata = table.metadata
        used = {ref.snapshot_id for ref in metadata.refs.values()}
        used |= {each.parent_snapshot_id or 0 for each in metadata.snapshots}
        published = outcome.is_published(metadata, write, batch.promotion)
        if not published and write.snapshot_id not in used:
            found.append(_Item(target=target, write=write, table=table))
    return found


def _published(catalog: Catalog, batch: Batch) -> list[_Item]:
    found = []
    for target in batch.targets:
        if target.staged is None:
            continue
        write = StagedWrite.of(target.staged)
        ask = catalogs.look if write.created else catalogs.load
        table = ask(catalog, target.name.parts)
        if table is not None and outcome.is_published(table.metadata, write, batch.promotion):
            found.append(_Item(target=target, write=write, table=table))
    return found


def _refuse_written(found: list[_Item]) -> None:
    for item in found:
        if not item.is_current():
            now = version_of(item.table.metadata)
            raise refusals.moved(item.target.name, "published", item.write.version, now)


def _before(item: _Item) -> Before:
    before = item.write.before
    assert isinstance(before, Before)
    return before


def _change(
    context: ExecutionContext, batch: Batch, item: _Item, *, anew: bool
) -> many_tables.Change:
    before, table = _before(item), item.table
    if before.snapshot_id is not None:
        hidden = table.snapshot_by_id(before.snapshot_id) is None
    else:
        hidden = anew or capabilities.of(context).history is False
    restored = None
    if hidden:
        name = str(item.target.name)
        restored = restore.restore(table, item.write, before, batch.promotion, name)
    requirements, made = updates.to_revert(item.write, before, table.metadata, restored)
    return many_tables.Change(table=table, requirements=requirements, updates=made)


def _finish_drops(context: ExecutionContext, catalog: Catalog, batch: Batch) -> bool:
    """Delete the files of tables that an earlier call dropped, where it was killed then."""
    finished = False
    for target in batch.targets:
        if target.staged is not None and StagedWrite.of(target.staged).created:
            finished = drop_owned.finish_drop(context, catalog, target.name.parts) or finished
    return finished
