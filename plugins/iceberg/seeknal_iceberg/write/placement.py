"""Place the rows of a write where nobody sees them, and name them in its transaction."""

from __future__ import annotations

import logging
import os
import uuid
from typing import TYPE_CHECKING

import attrs
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from seeknal_core.contract.errors import BackendError, SeeknalError
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import is_refused, sentence
from seeknal_iceberg.files.parquet import Layout, Placer, folder_of
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.write import options, rewrites
from seeknal_iceberg.write.evolution import Changes
from seeknal_iceberg.write.iceberg_snapshot import (
    add_snapshot,
    data_files,
    is_readable,
    metadata_folder,
)
from seeknal_iceberg.write.modes.interface import Replaced, WriteMode

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table import Transaction

log = logging.getLogger("seeknal")


@attrs.frozen(kw_only=True)
class Plan:
    """What one look at the table decided; ``table`` is None if there is none."""

    table: Table | None
    changes: Changes
    notes: tuple[str, ...] = ()


class Placement:
    """The files of one write, over all of its attempts.

    Args:
        note: names the places of the files before they are placed.
        commit_id: the id that the manifests are named by; None for one of its own per attempt.

    Raises:
        WriteRefused: the snapshot has rows that the mode cannot place.
    """

    def __init__(
        self,
        context: ExecutionContext,
        target: Target,
        snapshot: Snapshot,
        mode: WriteMode,
        note: write_notes.Note,
        write_id: str,
        replaced: Replaced | None,
        commit_id: uuid.UUID | None,
    ) -> None:
        self.context = context
        self.target = target
        self.name = str(target.name)
        self.snapshot = snapshot
        self.mode = mode
        self.note = note
        self.write_id = write_id
        self.commit_id = commit_id
        self.connection = catalogs.of(context)
        self.replaced = replaced
        self.placers: list[Placer] = []
        self.placed: list[DataFile] | None = None
        #: The placed files hold values of the rows that they replace.
        self.carries = False
        #: How often rows were put into a transaction, and the table's last sequence number
        #: before the first time.
        self.attempts = 0
        self.since: int | None = None
        self.io: FileIO | None = None
        #: The table's snapshot cannot be read, and the new one takes nothing of it over.
        self.starts_anew = False
        #: Notes for the user on rows that stay.
        self.notes: tuple[str, ...] = ()

    def forget(self) -> None:
        """Begin again: the placed files were deleted with their table."""
        self.placed, self.io = None, None

    def put(
        self,
        transaction: Transaction,
        plan: Plan,
        summary: dict[str, str],
        attempt: int = 0,
        *,
        may_land: bool = False,
    ) -> None:
        """Place the rows, and put them into the transaction as one Iceberg snapshot.

        Args:
            summary: goes into that snapshot's summary.
            attempt: a write that looks again counts up; what fits is kept.
            may_land: a commit of an earlier attempt may land still, so its files stay.
        """
        exact = plan.changes.exact and transaction.table_metadata.spec().is_unpartitioned()
        exact = exact and self._keeps_files()
        placer, commit_id = self._placer(transaction, plan, attempt, may_land)
        try:
            # Before anything is placed: it may be refused.
            found = self._rewrites(transaction, plan)
            if self.placed is None or self.carries or found.carried is not None:
                self.placed = placer.place(
                    self.snapshot, plan.changes.names, exact=exact, carried=found.carried
                )
                self.carries = found.carried is not None
            remaining = placer.write(found.remaining, found.nulls)
            removed, added = found.removed, [*self.placed, *remaining]
            self.notes = found.notes
            add_snapshot(transaction, added, removed, summary, commit_id, self.starts_anew)
        except SeeknalError:
            raise
        # A damaged file can raise any exception in its reader.
        except Exception as error:
            table = plan.table
            if table is None or is_refused(error, self.connection):
                raise
            if isinstance(error, FileNotFoundError) or not is_readable(table):
                raise self._is_damaged(error) from error
            raise

    def _keeps_files(self) -> bool:
        """Return whether the snapshot's files may be the table's: not sorted, and not too large."""
        own = options.of(self.target.options)
        most = own.target_file_size
        if own.sort_order or not isinstance(most, int):
            return not own.sort_order
        return all(os.path.getsize(file) <= most for file in self.snapshot.files)

    def _is_damaged(self, error: Exception) -> BackendError:
        return BackendError(
            f"{self.name}: its current snapshot cannot be read: {sentence(error)}",
            "replace the table by the node's rows: the same command with --full-refresh",
            target=self.name,
        )

    def _rewrites(self, transaction: Transaction, plan: Plan) -> rewrites.Rewrites:
        """Return the files that go, and the rows of them that stay.

        Raises:
            WriteRefused: rows would be lost that the snapshot does not stand for.
        """
        nothing = rewrites.Rewrites(removed=(), remaining=())
        if plan.table is None:
            return nothing
        if self.mode.rule.replaces:
            return attrs.evolve(nothing, removed=self._all_files(plan.table))
        names, metadata = plan.changes.names, transaction.table_metadata
        replaced = self.mode.replaced(self.replaced, names, metadata)
        retyped = {name: type for name, type, _ in plan.changes.retypes}
        if replaced is None and not retyped:
            return nothing
        return rewrites.plan(
            plan.table,
            replaced or rewrites.Nothing(),
            dict(names),
            metadata.schema(),
            retyped=frozenset(retyped),
            carries=(*plan.changes.left, *plan.changes.others) if self.mode.carries else (),
            target=self.name,
        )

    def _all_files(self, table: Table) -> tuple[DataFile, ...]:
        """Return every data file of a table's current snapshot, none where it begins again.

        Raises:
            BackendError: the snapshot cannot be read, and nobody asked to replace it.
        """
        snapshot = table.current_snapshot()
        if snapshot is None or self.starts_anew:
            return ()
        try:
            return data_files(table, snapshot)
        # As above.
        except Exception as error:
            if is_refused(error, self.connection):
                raise
            if not self.context.full_refresh:
                raise self._is_damaged(error) from error
        self.starts_anew = True
        log.warning(
            "%s: its current snapshot (iceberg_snapshot_id %s) cannot be read: the table is "
            "replaced without it, and undoing that leads back to what cannot be read",
            self.name,
            snapshot.snapshot_id,
        )
        return ()

    def _placer(
        self, transaction: Transaction, plan: Plan, attempt: int, may_land: bool
    ) -> tuple[Placer, uuid.UUID]:
        """Return where to place, and the commit's id; what fits of earlier attempts is kept."""
        metadata = transaction.table_metadata
        if self.placers and self.placers[-1].layout != Layout.of(metadata):
            if not may_land:
                for placer in self.placers:
                    placer.discard()
            self.placed = None
        # Of its own for each attempt: an earlier one may be in a commit that is on its way.
        commit_id = self.commit_id or uuid.uuid4()
        self.attempts += 1
        if self.attempts == 1 and plan.table is not None:
            self.since = ledger.sequence_of(plan.table.metadata)
        self.note.add(
            folder_of(metadata, self.write_id),
            metadata_folder(metadata),
            str(commit_id),
            base=write_notes.base_of(plan.table),
        )
        self.io = transaction._table.io
        placer = Placer(
            metadata,
            self.io,
            self.write_id,
            self.name,
            self.context.cancellation,
            attempt,
            sort=bool(options.of(self.target.options).sort_order),
        )
        self.placers.append(placer)
        return placer, commit_id
