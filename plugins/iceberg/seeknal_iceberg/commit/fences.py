"""Fences: they keep a commit from succeeding after its files were deleted.

A process that was killed, or got no answer, may have sent a commit that the catalog
still carries out, minutes later. Every commit of a publish requires a tag of ours on
its table, which is set just before and goes with the commit. Removing the tag fences the
commit off: a catalog that applies it later finds the tag missing and refuses. Only then
is it known for good whether the commit landed, and its files may be deleted.

- A commit of a run requires, which costs nothing, that a tag of its name is *not* there.
  Normally the next write of the table fences it off by moving main. Where there is none,
  ``seeknal gc`` sets the tag, which stays until `write_notes.LATEST` has passed.
- A table without a snapshot cannot be tagged. Its fence is an empty snapshot on main.
- A table that a commit makes has nothing to put a fence on: its files stay until
  `write_notes.LATEST` has passed.
- A SQL catalog is changed by this process itself: nothing is on its way anywhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import RemoveSnapshotRefUpdate, SetSnapshotRefUpdate

from seeknal_core.contract.errors import Unreachable
from seeknal_core.contract.types import Batch, ExecutionContext, Target
from seeknal_iceberg.commit import capabilities, many_tables, outcome, unfinished
from seeknal_iceberg.commit.one_table import LOST_ANSWER, MOVED, send
from seeknal_iceberg.commit.updates import fence_tag, head_is
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_no, is_unanswered, wait_of
from seeknal_iceberg.ledger import write_notes
from seeknal_iceberg.ledger.staged_write import StagedWrite, same_table

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata

#: How often a fence is tried where the catalog fails or another writer was faster.
_TRIES = 6


def needed(context: ExecutionContext) -> bool:
    """Return whether commits of the call's catalog are carried out by another process."""
    return catalogs.of(context).catalog_type != "sql"


def works(context: ExecutionContext) -> bool:
    """Return whether a tag can fence a commit off: not where the catalog keeps none."""
    return needed(context) and capabilities.of(context).history is not False


def is_set(metadata: TableMetadata, promotion: str) -> bool:
    """Return whether a table has the fence of a promotion's commit."""
    return fence_tag(promotion) in metadata.refs


def to_set(promotion: str, write: StagedWrite, table: Table) -> many_tables.Change:
    """Return the change that sets the tag which a publish requires."""
    assert write.before is not None
    base = write.before.snapshot_id
    tag = fence_tag(promotion)
    made = cast(Any, SetSnapshotRefUpdate)(ref_name=tag, type=SnapshotRefType.TAG, snapshot_id=base)
    requirements = (same_table(write.uuid), head_is(base), head_is(None, tag))
    return many_tables.Change(table=table, requirements=requirements, updates=(made,))


@attrs.define(kw_only=True)
class _Item:
    target: Target
    write: StagedWrite
    sent: float
    bare: bool = False
    table: Table | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        return self.target.name.parts


def settle(context: ExecutionContext, catalog: Catalog, batch: Batch) -> frozenset[str]:
    """Make sure that no commit of a publish can land any more, so that the tables show its outcome.

    Returns:
        The targets, by key, for which something may land nevertheless: a commit that
        makes a table, or the tag of a fence.

    Raises:
        Unreachable: the catalog does not answer; commits may still land.
    """
    if not needed(context):
        return frozenset()
    items = []
    for target in batch.targets:
        if target.staged is None:
            continue
        write = StagedWrite.of(target.staged)
        if write.snapshot_id is not None:
            noted = write_notes.read_staged(context, target.name.parts, write.write_id)
            items.append(_Item(target=target, write=write, sent=noted.sent, bare=noted.bare))
    for item in items:
        ask = catalogs.look if item.write.created else catalogs.load
        item.table = ask(catalog, item.parts)
    unsure = {item.target.key for item in items if _may_land(batch, item)}
    _cut(context, catalog, batch, items)
    for item in items:
        if item.write.begun:
            # Once it is dropped, nothing of it can land.
            _drop_begun(context, catalog, batch, item)
            unsure.discard(item.target.key)
        elif item.write.created:
            if _wait(catalog, batch, item):
                unsure.discard(item.target.key)
        elif item.sent and (item.bare or not _tagged(item)):
            unsure.discard(item.target.key)
            _move(catalog, batch, item)
    for item in items:
        if item.sent and item.table is not None and item.target.key not in unsure:
            with outcome.note_of(context, item.target, item.write) as note:
                note.set_sent(0.0)
    return frozenset(unsure)


def _may_land(batch: Batch, item: _Item) -> bool:
    if not 0 < time.time() - item.sent < write_notes.LATEST:
        return False
    if item.table is None:
        return item.write.created
    metadata = item.table.metadata
    if outcome.is_published(metadata, item.write, batch.promotion):
        return False
    return not item.write.created and not is_set(metadata, batch.promotion)


def _tagged(item: _Item) -> bool:
    return item.write.before is not None and item.write.before.snapshot_id is not None


def _cut(context: ExecutionContext, catalog: Catalog, batch: Batch, items: Sequence[_Item]) -> None:
    """Remove the tags of a batch, and look whether they are gone."""
    failure: Exception | None = None
    failures = 0
    standing: list[_Item] = []
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(wait_of(failure, 0.1 * 2**attempt))
        standing = [
            item
            for item in items
            if item.table is not None and is_set(item.table.metadata, batch.promotion)
        ]
        if not standing:
            return
        failure = None
        try:
            tables = [item.table for item in standing if item.table is not None]
            tag = fence_tag(batch.promotion)
            many_tables.commit(context, catalog, [_removing(tag, table) for table in tables])
        except MOVED as error:
            failure = error
        # A lost answer looks like any failure of any library below; the tags tell.
        except Exception as error:
            failures += 1
            if not is_unanswered(error, catalogs.of(context)) or failures == many_tables.SENT:
                if any(item.sent for item in standing):
                    raise
                return  # no commit is on its way: the tag does no harm
            failure = error
        for item in standing:
            item.table = catalogs.load(catalog, item.parts)
        if failure is None:
            # Some catalogs (Lakekeeper up to 0.7) say that a tag is removed, and keep it.
            for item in standing:
                if item.table is not None and is_set(item.table.metadata, batch.promotion):
                    assert item.write.before is not None
                    base = (item.write.uuid, item.write.before.snapshot_id)
                    move_main(catalog, item.parts, base)
            return
    if any(item.sent for item in standing):
        raise failure or Unreachable("the catalog keeps a tag that was removed")


def _drop_begun(context: ExecutionContext, catalog: Catalog, batch: Batch, item: _Item) -> None:
    """Drop a table that was created without rows, unless it is published."""
    table, write = item.table, item.write
    if table is not None and outcome.is_published(table.metadata, write, batch.promotion):
        return
    unfinished.drop(
        context,
        catalog,
        write.begun,
        item.parts,
        (write.folder, write.metadata_folder),
        (write.write_id,),
    )
    item.table = catalogs.look(catalog, item.parts)


def _wait(catalog: Catalog, batch: Batch, item: _Item) -> bool:
    """Wait a while for a commit that makes a table, and return whether it landed."""
    while 0 < time.time() - item.sent < LOST_ANSWER:
        table = catalogs.look(catalog, item.parts)
        if table is not None and outcome.is_published(table.metadata, item.write, batch.promotion):
            return True
        time.sleep(0.5)
    return False


def _move(catalog: Catalog, batch: Batch, item: _Item) -> None:
    """Fence off a commit that no tag fences, by an empty snapshot where it begins."""
    table, before = item.table, item.write.before
    if table is None or before is None or str(table.metadata.table_uuid) != item.write.uuid:
        return
    if not outcome.is_published(table.metadata, item.write, batch.promotion):
        item.table = move_main(catalog, item.parts, (item.write.uuid, before.snapshot_id))


def move_main(catalog: Catalog, parts: tuple[str, ...], base: write_notes.Base) -> Table | None:
    """Put an empty snapshot on main, if it is still where a commit requires it to be.

    Returns:
        The table as it is then.
    """
    for attempt in range(_TRIES):
        table = catalogs.load(catalog, parts)
        if table is None or write_notes.base_of(table) != base:
            return table
        transaction = table.transaction()
        with transaction.update_snapshot(branch=MAIN_BRANCH).fast_append():
            pass
        try:
            return send(transaction)
        except MOVED:
            time.sleep(0.1 * 2**attempt)
        # A lost answer looks like any failure of any library below; the next look tells.
        except Exception as error:
            if attempt + 1 >= many_tables.SENT:
                raise
            time.sleep(wait_of(error, 0.3 * 2**attempt))
    raise Unreachable(f"{'.'.join(parts)}: other writers changed it again and again")


def bar(context: ExecutionContext, catalog: Catalog, table: Table, write_id: str) -> bool:
    """Set the tag that keeps a run's commit from landing; return whether it is there.

    Not where the table has no snapshot, or moved meanwhile.
    """
    head = table.metadata.current_snapshot_id
    tag = fence_tag(write_id)
    if head is None or tag in table.metadata.refs:
        return head is not None
    made = cast(Any, SetSnapshotRefUpdate)(ref_name=tag, type=SnapshotRefType.TAG, snapshot_id=head)
    same = (same_table(str(table.metadata.table_uuid)), head_is(head), head_is(None, tag))
    change = many_tables.Change(table=table, requirements=same, updates=(made,))

    def is_there() -> bool:
        found = catalogs.load(catalog, table.name())
        return found is not None and tag in found.metadata.refs

    if works(context):
        try:
            if many_tables.carry_out(context, catalog, [change], is_there) and is_there():
                return True
        except Exception as error:
            if not is_no(error):
                raise
    # Some catalogs take a tag, and don't keep it.
    base = write_notes.base_of(table)
    moved = move_main(catalog, table.name(), base)
    return moved is not None and write_notes.base_of(moved) != base


def remove(
    context: ExecutionContext, catalog: Catalog, promotion: str, table: Table
) -> Table | None:
    """Remove the fence of a promotion from a table, if it is there; return the table then."""
    tag = fence_tag(promotion)

    def is_gone() -> bool:
        found = catalogs.load(catalog, table.name())
        return found is None or tag not in found.metadata.refs

    for _ in range(_TRIES):
        found = catalogs.load(catalog, table.name())
        if found is None or tag not in found.metadata.refs:
            return found
        # Where it stays, it fences off what can't land any more: no harm.
        with contextlib.suppress(Exception):
            if many_tables.carry_out(context, catalog, [_removing(tag, found)], is_gone):
                break
    return catalogs.load(catalog, table.name())


def _removing(tag: str, table: Table) -> many_tables.Change:
    metadata = table.metadata
    requirements = (
        same_table(str(metadata.table_uuid)),
        head_is(metadata.refs[tag].snapshot_id, tag),
    )
    removed = cast(Any, RemoveSnapshotRefUpdate)(ref_name=tag)
    return many_tables.Change(table=table, requirements=requirements, updates=(removed,))
