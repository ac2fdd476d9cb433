"""Undo a publish: every table as it was, by compare-and-set on what was published."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs
from pyiceberg.exceptions import (
    BadRequestError,
    CommitFailedException,
    NoSuchTableError,
    ValidationException,
)

from seeknal_core.errors import BackendError, StaleStage, Unreachable
from seeknal_core.types import Batch, ExecutionContext, Target
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg import cleanup, fencing, outcome, pending, together, updates
from seeknal_iceberg.failures import translate, translating
from seeknal_iceberg.read import version_of
from seeknal_iceberg.waiting import Before, Waiting

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

#: How often an undo looks again where a table's metadata moved, but not its rows.
_TRIES = 5
_MOVED = (CommitFailedException, ValidationException, NoSuchTableError)


def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Carry out the hook of the same name."""
    context = outcome.unstoppable(context)
    connection = catalogs.of(context)
    if catalogs.absent(connection):
        return False
    with translating(connection):
        catalog = catalogs.open_catalog(context)
        fencing.settle(context, catalog, batch)
        return undo(context, catalog, batch, overwrite=overwrite)


@attrs.frozen(kw_only=True)
class _Item:
    """A target that is published, and its table."""

    target: Target
    waiting: Waiting
    table: Table

    def is_current(self) -> bool:
        return self.table.metadata.current_snapshot_id == self.waiting.snapshot_id


def undo(context: ExecutionContext, catalog: Catalog, batch: Batch, *, overwrite: bool) -> bool:
    """Undo what is published of a batch; tell whether there was something.

    Raises:
        StaleStage: somebody wrote one of the tables since; nothing is undone.
    """
    forget = True
    for attempt in range(_TRIES):
        found = _published(context, catalog, batch)
        if not found:
            return _finish_drops(context, catalog, batch) or attempt > 0
        if not overwrite:
            _refuse_written(found)
        _refuse_lost(found)
        try:
            _undo(context, catalog, batch, found, forget=forget)
            return True
        except _MOVED:
            time.sleep(0.1 * 2**attempt)
        except BadRequestError:
            # Not every catalog lets a snapshot be removed; its rows are out of sight all the same.
            if not forget:
                raise
            forget = False
        # A lost answer looks like any failure of any library below; the tables decide.
        except Exception as error:
            known = translate(error, catalogs.of(context))
            if attempt or not isinstance(known, Unreachable):
                raise
            time.sleep(0.5)
    raise StaleStage(
        f"{batch.targets[0].name}: other writers changed it again and again while it was undone",
        "run again when they are done",
        target=str(batch.targets[0].name),
    )


def _undo(
    context: ExecutionContext, catalog: Catalog, batch: Batch, found: list[_Item], *, forget: bool
) -> None:
    changed = [item for item in found if not item.waiting.created]
    for item in changed:
        # What was published is left over from here on; its publish removed the note of it.
        with outcome.note_of(context, item.target, item.waiting) as note:
            waiting = item.waiting
            note.add(waiting.folder, waiting.metadata_folder, waiting.write_id)
            note.set_sent(0.0, batch.promotion)
    if changed:
        changes = [_change(batch, item, forget=forget) for item in changed]
        together.commit(context, catalog, changes)
    for item in found:
        if item.waiting.created:
            cleanup.drop_made(context, catalog, item.target.name.parts, str(item.target.name))
            parts, write_id = item.target.name.parts, item.waiting.write_id
            if pending.read_staged(context, parts, write_id).sent:
                with outcome.note_of(context, item.target, item.waiting) as note:
                    note.set_sent(0.0)


def _published(context: ExecutionContext, catalog: Catalog, batch: Batch) -> list[_Item]:
    found = []
    for target in batch.targets:
        if target.staged is None:
            continue
        waiting = Waiting.of(target.staged)
        table = catalogs.load(catalog, target.name.parts)
        if table is not None and outcome.is_published(table.metadata, waiting, batch.promotion):
            found.append(_Item(target=target, waiting=waiting, table=table))
    return found


def _refuse_written(found: list[_Item]) -> None:
    moved = [
        f"{item.target.name} was written since it was published: version {item.waiting.version} "
        f"then, {version_of(item.table.metadata)} now"
        for item in found
        if not item.is_current()
    ]
    if moved:
        raise StaleStage("; ".join(moved), target=str(found[0].target.name))


def _refuse_lost(found: list[_Item]) -> None:
    """Refuse where the snapshot to go back to is gone, in spite of the tag on it."""
    for item in found:
        before = item.waiting.before
        if before is None or before.snapshot_id is None:
            continue
        if item.table.snapshot_by_id(before.snapshot_id) is None:
            raise BackendError(
                f"{item.target.name} cannot be undone: somebody removed its "
                f"iceberg_snapshot_id {before.snapshot_id}",
                "keep what is there: --abort=keep",
                target=str(item.target.name),
            )


def _change(batch: Batch, item: _Item, *, forget: bool) -> together.Change:
    before = item.waiting.before
    assert isinstance(before, Before)
    requirements, made = updates.to_revert(
        batch.promotion, item.waiting, before, item.table.metadata, forget=forget
    )
    return together.Change(table=item.table, requirements=requirements, updates=made)


def _finish_drops(context: ExecutionContext, catalog: Catalog, batch: Batch) -> bool:
    """Delete the files of tables that an earlier call dropped, where it was killed then."""
    finished = False
    for target in batch.targets:
        if target.staged is not None and Waiting.of(target.staged).created:
            finished = cleanup.finish_drop(context, catalog, target.name.parts) or finished
    return finished
