"""Publishes staged writes: new tables first, then the existing ones, by compare-and-set.

Nobody reads a new table yet, and dropping it undoes it, so those come first.
The existing tables of a catalog that can do it change in one commit. Elsewhere
they change one after the other, and where one has moved meanwhile those before
it are brought back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyiceberg.io import load_file_io
from pyiceberg.table import StagedTable

from seeknal_core.contract.errors import BackendError, StaleStage, Unreachable
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Batch, ExecutionContext, Published
from seeknal_iceberg.commit import capabilities, fences, many_tables, outcome, unfinished, updates
from seeknal_iceberg.commit.one_table import MOVED, OutcomeUnknown
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import (
    is_busy,
    is_unanswered,
    sentence,
    translate,
    translating,
    wait_of,
)
from seeknal_iceberg.connection.namespaces import ensure_namespace, missing_levels
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.promotion import revert
from seeknal_iceberg.promotion.staged_batch import Item, StagedBatch
from seeknal_iceberg.write import transactions

if TYPE_CHECKING:
    pass

log = logging.getLogger("seeknal")

#: Seconds between the looks for a commit whose answer was lost.
LOOKS = (0.2, 0.5, 1.0, 2.0)


def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Commit the staged writes of a batch: all of them, or none stays."""
    with translating(catalogs.of(context)):
        return _Publish(context, batch).run()


class _Publish(StagedBatch):
    """One publish: look at all tables, refuse, commit, and undo what cannot stay."""

    def run(self) -> Published:
        """Publish all, or leave all as they were."""
        open = [item for item in self.items if not self.is_done(item)]
        try:
            for item in open:
                self.check(item)
            created = [item for item in open if item.write.created]
            changed = [item for item in open if not item.write.created]
            self._set_fences(changed)
            for item in created:
                if item.write.begun:
                    self._finish(item)
                else:
                    self._commit([item])
                self.look_again(item)
            for group in self._groups(changed):
                self._commit(group)
        except Unreachable:
            raise  # it may have gone through: the same call again finds out
        # After any error, no table of the batch stays changed alone.
        except Exception:
            unstopped = outcome.unstoppable(self.context)
            revert.undo(unstopped, self.catalog, self.batch, overwrite=False)
            raise
        for item in self.items:
            self._forget_note(item)
        return Published(targets=tuple(self.published(item) for item in self.items))

    def _groups(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """Return existing tables as they are committed to: all at once, or one by one."""
        if items and many_tables.at_once(self.context, self.catalog):
            return [items]
        return [[item] for item in items]

    def _is_fenced(self, item: Item) -> bool:
        before = item.write.before
        fits = before is not None and before.snapshot_id is not None
        return fits and fences.works(self.context)

    def _keeps_history(self) -> bool:
        return capabilities.of(self.context).history is True

    def _set_fences(self, changed: Sequence[Item]) -> None:
        """Set the tags that the commits require, where a commit may land late."""
        promotion = self.batch.promotion

        def is_set(item: Item) -> bool:
            return item.table is not None and fences.is_set(item.table.metadata, promotion)

        for group in self._groups([item for item in changed if self._is_fenced(item)]):
            missing = [item for item in group if not is_set(item)]
            if not missing:
                continue
            changes = [
                fences.to_set(promotion, item.write, item.table)
                for item in missing
                if item.table is not None
            ]
            try:
                self._sent(missing, changes, is_set)
            except BackendError as error:
                moved = isinstance(error, StaleStage) and any(
                    self.moved(item) is not None for item in missing
                )
                if isinstance(error, Unreachable) or moved or self._keeps_history():
                    raise
                # Some catalogs refuse every reference but main, or call it a conflict.
                log.debug("no tag can be set", exc_info=error)
                capabilities.learn(self.context, history=False)
                return
            if capabilities.of(self.context).history is None:
                # Some catalogs take a tag, and don't keep it.
                kept = self.landed(missing[:1], is_set)
                capabilities.learn(self.context, history=kept)

    def _forget_note(self, item: Item) -> None:
        """Remove a note, unless undoing needs to know of namespaces or folders made for this."""
        parts, write_id = item.target.name.parts, item.write.write_id
        note = write_notes.read_staged(self.context, parts, write_id)
        if note.there and not note.namespaces and not note.made:
            write_notes.forget_staged(self.context, parts, write_id)
        elif note.there:
            with outcome.note_of(self.context, item.target, item.write) as kept:
                kept.is_published()

    def _commit(self, items: Sequence[Item]) -> None:
        """Commit for some targets at once, and know the outcome of it.

        Raises:
            StaleStage, BackendError: none of them landed.
            Unreachable: it is not known whether they did.
        """
        self._sent(items, [self._change(item) for item in items], self.is_done)
        self._note_sent(items, 0.0)

    def _finish(self, item: Item) -> None:
        """Commit the rows of a table that was created without them, and give it its name.

        Raises:
            StaleStage, BackendError: it is not published.
            Unreachable: it is not known whether it is.
        """
        parts = item.target.name.parts
        if not self.has_rows(item):
            self._sent([item], [self._change(item)], self.has_rows)
        if item.begun is not None and item.begun.name() != parts:
            named = unfinished.rename(self.context, self.catalog, item.begun, parts)
            if named is None:
                made = catalogs.load(self.catalog, parts)
                now = version_of(made.metadata) if made is not None else None
                raise refusals.moved(item.name, "staged", None, now)
            item.table, item.begun = named, None
        self._note_sent([item], 0.0)

    def _sent(
        self,
        items: Sequence[Item],
        changes: Sequence[many_tables.Change],
        is_done: Callable[[Item], bool],
    ) -> None:
        """Note that a commit is on its way, and send it; the note stays if it landed."""
        self._note_sent(items, time.time())
        try:
            self._send(items, changes, is_done)
        except Unreachable:
            raise  # the notes stay: what undoes or discards it fences it off
        except Exception:
            self._note_sent(items, 0.0)
            raise

    def _note_sent(self, items: Sequence[Item], sent: float) -> None:
        """Note that a commit is on its way, where another process carries it out."""
        if self.connection.catalog_type == "sql":
            return
        for item in items:
            with outcome.note_of(self.context, item.target, item.write) as note:
                bare = not item.write.created and not self._is_fenced(item)
                note.set_sent(sent, self.batch.promotion, bare=bare)

    def _send(
        self,
        items: Sequence[Item],
        changes: Sequence[many_tables.Change],
        is_done: Callable[[Item], bool],
    ) -> None:
        for left in reversed(range(many_tables.BUSY)):
            try:
                many_tables.commit(self.context, self.catalog, changes)
                return
            except MOVED as error:
                if self.landed(items, is_done):
                    return
                name = items[0].name if len(items) == 1 else "a table of the batch"
                raise StaleStage(
                    f"{name} was changed by somebody else while it was published",
                    target=items[0].name,
                ) from error
            # A lost answer looks like any failure of any library below; the tables decide.
            except Exception as error:
                if left and is_busy(error):
                    # It says when to retry: by then it has carried the commit out, or never will.
                    time.sleep(wait_of(error, 1.0))
                    if self.landed(items, is_done):
                        return
                    continue
                if self._looked_for(items, error, is_done):
                    return
                raise (translate(error, self.connection, items[0].name) or error) from error

    def _looked_for(
        self, items: Sequence[Item], error: Exception, is_done: Callable[[Item], bool]
    ) -> bool:
        """Find out whether a commit landed whose answer was not understood."""
        unanswered = is_unanswered(error, self.connection)
        known = translate(error, self.connection, items[0].name)
        looked = False
        for pause in LOOKS if unanswered else LOOKS[:1]:
            time.sleep(pause)
            try:
                if self.landed(items, is_done):
                    return True
                looked = True
            except Exception:  # noqa: BLE001 - a failure here only means that there is no answer yet
                continue
        if looked and not unanswered:
            return False
        raise OutcomeUnknown(
            f"{known or f'{items[0].name}: the catalog fails: {sentence(error)}'}; whether the "
            "commit went through is not known",
            target=items[0].name,
        ) from error

    def _change(self, item: Item) -> many_tables.Change:
        if item.table is not None:
            requirements, made = updates.to_publish(
                self.context,
                self.batch,
                item.target,
                item.write,
                item.table.metadata,
                fenced=self._is_fenced(item),
                tells=fences.needed(self.context) and not self._keeps_history(),
                tags=capabilities.of(self.context).history is not False,
            )
            return many_tables.Change(table=item.table, requirements=requirements, updates=made)
        self._make_namespace(item)
        parts = item.target.name.parts
        requirements, made = updates.to_publish(
            self.context,
            self.batch,
            item.target,
            item.write,
            None,
            fenced=False,
            tells=False,
            tags=False,
        )
        if item.begun is not None:
            return many_tables.Change(table=item.begun, requirements=requirements, updates=made)
        table = StagedTable(
            identifier=transactions.identifier(self.connection, parts),
            metadata=item.write.new_metadata(),
            metadata_location=f"{item.write.metadata_folder}/unknown",
            io=self.io_of(item) or load_file_io({}, item.write.location),
            catalog=self.catalog,
        )
        return many_tables.Change(table=table, requirements=requirements, updates=made)

    def _make_namespace(self, item: Item) -> None:
        parts = item.target.name.parts
        missing = missing_levels(self.catalog, parts[:-1])
        if missing:
            with outcome.note_of(self.context, item.target, item.write) as note:
                note.add_namespaces(missing)
            ensure_namespace(
                self.catalog, self.connection, parts[:-1], ledger.made_by(self.context)
            )
