"""Write a snapshot into a table: one commit, that lands once, or not at all.

The shape of every write: look at the table, decide, place files that nobody
sees, and commit them together with schema, partitioning and ledger by
compare-and-set on the Iceberg snapshot that was looked at. Where somebody else
was faster the write looks again.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from typing import TYPE_CHECKING

from pyiceberg.exceptions import NoSuchNamespaceError, TableAlreadyExistsError

from seeknal_core.contract.errors import BackendError, StaleStage
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target, WriteResult
from seeknal_iceberg.commit import capabilities, drop_owned, fences, unfinished
from seeknal_iceberg.commit.one_table import REFUSED, commit
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import (
    check_hint,
    is_busy,
    is_no,
    is_unanswered,
    sentence,
    translating,
    wait_of,
)
from seeknal_iceberg.ledger import ledger, orphan_files, write_notes
from seeknal_iceberg.ledger.versions import mark_of, version_of
from seeknal_iceberg.source.rows import count, rows_after
from seeknal_iceberg.write.placement import Plan
from seeknal_iceberg.write.prepare import Preparation

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table, Transaction

#: How often a write looks again after somebody else's commit came between.
ATTEMPTS = 12
#: How often a commit is sent whose answer is lost or says that the catalog fails, and
#: after how many seconds without an answer it is not sent again.
UNANSWERED = 3
SILENCE = 40.0
#: How often it is sent to a catalog that says that it is busy (429, 503).
BUSY = 8


def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Make a table hold a snapshot, by the target's mode.

    Raises:
        WriteRefused, NamespaceRefused, Unreachable: see the hook's contract.
        StaleStage: other writers changed the table again and again meanwhile.
    """
    folder = write_notes.notes_folder(context, target.name.parts)
    with translating(catalogs.of(context), str(target.name)):
        write = _Write(context, target, snapshot, str(uuid.uuid4()), folder)
        try:
            return write.run()
        finally:
            write.note.close()


class _Write(Preparation):
    """A write that is committed at once."""

    _makes_namespace = False
    #: A commit of an earlier attempt may land still.
    may_land = False
    #: The metadata on which a commit conflicted, as the catalog said.
    _conflict = ""
    #: What it said, and how often it said so of a table that nobody had changed.
    _words: Exception | None = None
    _unchanged = 0

    def make_namespace(self, located: bool) -> None:
        """Make the namespace now only where the catalog has to be asked in it.

        Otherwise just before the commit: a value that is refused leaves none behind.
        """
        self._makes_namespace = located
        if not located:
            super().make_namespace(located)

    def run(self) -> WriteResult:
        """Try until the write has landed, is refused, or others were faster too often."""
        unanswered = busy = 0
        try:
            for attempt in range(ATTEMPTS):
                self.context.cancellation.check()
                began = time.monotonic()
                result = self._try(attempt)
                if isinstance(result, WriteResult):
                    return result
                if result is None:
                    time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2.0)))
                    continue
                # The catalog fails, which is no conflict with another writer.
                busy += is_busy(result)
                unanswered += not is_busy(result)
                if unanswered == UNANSWERED or busy == BUSY or time.monotonic() - began > SILENCE:
                    raise result
                time.sleep(wait_of(result, 0.5 * 2**unanswered))
            raise StaleStage(
                f"{self.name}: other writers changed it {ATTEMPTS} times while it was written",
                "run again when they are done",
                target=self.name,
            )
        except BaseException as error:
            # What does not answer would be waited for once more; the note stays.
            if not isinstance(error, Exception) or not is_unanswered(error, self.connection):
                self._give_up()
            raise

    def _give_up(self) -> None:
        """Delete what was placed, unless a commit may still name it: then the note stays."""
        if self.may_land and self.begun is None:
            return
        try:
            # Dropping it is the fence of what may still land.
            self._drop_begun()
            if self.placement.io is not None:
                self._delete_unused(self.placement.io, catalogs.look(self.catalog, self.parts))
            drop_owned.drop_namespaces(self.context, self.catalog, self.namespaces)
        except Exception:  # noqa: BLE001 - the cause of the failed write may keep files, too
            return  # The note stays, and the next write of the target deletes them.
        self.note.remove()

    def _drop_begun(self) -> None:
        """Drop the table that was created without rows, if any."""
        if self.begun is not None:
            unfinished.drop_noted(self.context, self.catalog, self.parts, self.note.noted)
            self.begun = None
            self.placement.forget()
            self.may_land = False

    def _delete_unused(self, io: FileIO, table: Table | None) -> None:
        """Delete the files of attempts that did not land and can land no more."""
        noted = self.note.noted
        orphan_files.delete(io, table, noted.folders, noted.ids, self.placement.since)

    def _refuse_false_conflict(self, table: Table) -> None:
        """Raise where the catalog reports conflicts of a table that nobody changes."""
        if not self._conflict or self._conflict != _place_of(table):
            return
        # Nobody changed the table: the catalog has no references but main (Nessie),
        # and takes what we require of another one for a conflict.
        capabilities.learn(self.context, history=False)
        self._unchanged += 1
        if self._unchanged == UNANSWERED:
            raise BackendError(
                f"{self.name}: the catalog refuses the commit, though nobody changed the "
                f"table: {sentence(self._words or ValueError())}",
                check_hint(self.connection),
                target=self.name,
            )

    def _try(self, attempt: int) -> WriteResult | Exception | None:
        """Inspect the table, place the files, and commit once.

        Returns:
            None if somebody else was faster; the failure after which it may still land.
        """
        there = catalogs.look(self.catalog, self.parts)
        there, own = unfinished.without_unfinished(
            self.context, self.catalog, self.parts, there, self.write_id
        )
        self.begun = own or self.begun
        plan = self.look(there)
        table = plan.table
        if table is None and self.begun is not None and attempt:
            rows = catalogs.load(self.catalog, self.begun.name())
            if rows is not None and ledger.has_landed(rows.metadata, self.write_id):
                return self._named(rows, plan)
        if table is not None:
            self._refuse_false_conflict(table)
            if attempt and ledger.has_landed(table.metadata, self.write_id):
                return self._landed(table, plan)
            if self.nothing_to_do(table):
                self._give_up()
                self._clean(table)
                return WriteResult(
                    rows_written=0,
                    rows_after=count(table),
                    version=version_of(table.metadata),
                    mark=mark_of(table.metadata),
                    notes=plan.notes,
                )
        try:
            transaction = self.begin(plan)
        except TableAlreadyExistsError:
            return None  # somebody made it a moment ago
        except NoSuchNamespaceError:
            if attempt:
                raise
            return None  # a write that failed made it, and removed it again
        self._stage(transaction, plan, attempt)
        if self._makes_namespace:
            super().make_namespace(located=True)
        return self._commit(transaction, plan)

    def _commit(self, transaction: Transaction, plan: Plan) -> WriteResult | Exception | None:
        """Commit once; returns what `_try` does."""
        # A KeyboardInterrupt in here leaves open whether it landed, too.
        before, self.may_land = self.may_land, True
        try:
            outcome = commit(
                transaction,
                self.catalog,
                self.connection,
                self.begun.name() if plan.table is None and self.begun else self.parts,
                self.write_id,
                self.name,
                fenced=fences.works(self.context),
            )
        except Exception as error:
            if isinstance(error, REFUSED) or is_no(error):
                self.may_land = before
            raise
        self.may_land = before or outcome.unanswered is not None
        if outcome.conflict is not None:
            self._conflict, self._words = _place_of(plan.table), outcome.conflict
        if outcome.table is not None:
            return self._named(outcome.table, plan)
        return outcome.unanswered

    def _named(self, table: Table, plan: Plan) -> WriteResult | None:
        """Rename a table that has its rows, where it was created under another name."""
        if plan.table is None and self.begun is not None:
            if self.begun.name() != self.parts:
                named = unfinished.rename(self.context, self.catalog, table, self.parts)
                if named is None:  # somebody made one a moment ago
                    self._drop_begun()
                    return None
                table = named
            self.begun = None
        return self._landed(table, plan)

    def _stage(self, transaction: Transaction, plan: Plan, attempt: int) -> None:
        """Put rows and ledger into the transaction."""
        entry = ledger.Entry.of(
            self.context,
            self.target,
            self.snapshot.content_key,
            self.snapshot.row_count,
            self.write_id,
        )
        metadata = transaction.table_metadata
        sets, removes = ledger.changes(
            metadata.properties,
            ledger.sequence_of(metadata) + 1,
            entry,
            replaces=self.mode.rule.replaces,
            appends=self.mode.rule.once,
        )
        if plan.table is None:
            sets[ledger.CREATED] = ledger.mark(self.context, self.parts, metadata)
        transaction.set_properties(sets)
        if removes:
            transaction.remove_properties(*removes)
        self.placement.put(transaction, plan, entry.summary(), attempt, may_land=self.may_land)

    def _landed(self, table: Table, plan: Plan) -> WriteResult:
        # What it required of the table has changed by itself: no earlier attempt can land.
        with contextlib.suppress(Exception):  # the note stays for the next write
            if self.placement.attempts > 1:
                self._delete_unused(table.io, table)
            self.note.remove()
        self._clean(table)
        return WriteResult(
            rows_written=self.snapshot.row_count,
            rows_after=rows_after(table),
            version=version_of(table.metadata),
            mark=mark_of(table.metadata),
            created=plan.table is None,
            notes=(*plan.notes, *self.placement.notes),
        )

    def _clean(self, table: Table) -> None:
        """Delete what killed writes of the target left."""
        with contextlib.suppress(Exception):  # the notes stay for the next write
            unfinished.drop_dead(self.context, self.catalog, self.parts)
            orphan_files.clean(self.notes_folder, table)


def _place_of(table: Table | None) -> str:
    return table.metadata_location if table is not None else ""
