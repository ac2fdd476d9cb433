"""Write a snapshot into a table: one commit, that lands once, or not at all.

The shape of every write: look at the table, decide, place files that nobody
sees, and commit them together with schema, partitioning and ledger by
compare-and-set on the Iceberg snapshot that was looked at. Where somebody else
was faster the write looks again.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import uuid
from typing import TYPE_CHECKING

import attrs
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table, TableProperties

from seeknal_core.errors import SeeknalError, StaleStage
from seeknal_core.types import ExecutionContext, Mode, Snapshot, Target, WriteResult
from seeknal_iceberg import catalog as catalogs
from seeknal_iceberg import evolution, ledger, merge, pending, transactions
from seeknal_iceberg.commit import REFUSED, commit
from seeknal_iceberg.failures import translating
from seeknal_iceberg.files import Layout, Placer, folder_of
from seeknal_iceberg.read import count, version_of
from seeknal_iceberg.schema import Column, columns_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Transaction

#: How often a write looks again after somebody else's commit came between.
ATTEMPTS = 12


def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Make a table hold a snapshot, by the target's mode.

    Raises:
        WriteRefused, NamespaceRefused, Unreachable: see the hook's contract.
        StaleStage: other writers changed the table again and again meanwhile.
    """
    name = str(target.name)
    with translating(catalogs.of(context), name):
        columns = columns_of(snapshot, name)
        mode = Mode.FULL if context.full_refresh else target.mode
        replaced = _replaced(mode, target, snapshot)
        catalog = catalogs.open_catalog(context)
        write = _Write(context, catalog, target, snapshot, columns, mode, replaced)
        try:
            return write.run()
        finally:
            write.note.close()


def _replaced(mode: Mode, target: Target, snapshot: Snapshot) -> merge.Replaced | None:
    if mode is Mode.UPSERT_BY_KEY:
        return merge.Keys.of(snapshot, target)
    if mode is Mode.INCREMENTAL_BY_TIME:
        return merge.Interval.of(snapshot, target)
    return None


@attrs.frozen(kw_only=True)
class _Plan:
    """What one look at the table decided."""

    table: Table | None
    changes: evolution.Changes
    notes: tuple[str, ...] = ()


class _Write:
    """One write, over all of its attempts."""

    def __init__(
        self,
        context: ExecutionContext,
        catalog: Catalog,
        target: Target,
        snapshot: Snapshot,
        columns: tuple[Column, ...],
        mode: Mode,
        replaced: merge.Replaced | None,
    ) -> None:
        self.context = context
        self.catalog = catalog
        self.target = target
        self.name = str(target.name)
        self.parts = target.name.parts
        self.snapshot = snapshot
        self.columns = columns
        self.mode = mode
        self.replaced = replaced
        self.write_id = str(uuid.uuid4())
        self.connection = catalogs.of(context)
        place = catalogs.short_hash(catalogs.identity(self.connection, self.parts))
        self.notes_folder = os.path.join(context.target_dir, "iceberg-pending", place)
        self.note = pending.Note(self.notes_folder, self.write_id)
        self.placers: list[Placer] = []
        self.placed: list[DataFile] | None = None
        self.may_land = False

    def run(self) -> WriteResult:
        """Try until the write has landed, is refused, or others were faster too often."""
        try:
            for attempt in range(ATTEMPTS):
                self.context.cancellation.check()
                result = self._try(attempt)
                if result is not None:
                    return result
                time.sleep(random.uniform(0, min(0.05 * 2**attempt, 2.0)))
            raise StaleStage(
                f"{self.name}: other writers changed it {ATTEMPTS} times while it was written",
                "run again when they are done",
                target=self.name,
            )
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Delete what was placed, unless a commit may still name it: then the note stays."""
        if self.may_land:
            return
        try:
            for placer in self.placers:
                placer.discard()
        # Whatever kept the write from landing may keep files from being deleted;
        # the note stays, and the next write of the target deletes them.
        except Exception:  # noqa: BLE001
            return
        self.note.remove()

    def _try(self, attempt: int) -> WriteResult | None:
        """Look, place, commit once; None where somebody else was faster."""
        plan = self._look()
        table = plan.table
        if table is not None:
            if attempt and ledger.landed(table.metadata, self.write_id) is not None:
                return self._landed(table, plan)
            if self._nothing_to_do(table):
                self._give_up()
                return WriteResult(
                    rows_written=0,
                    rows_after=count(table),
                    version=version_of(table.metadata),
                    notes=plan.notes,
                )
            transaction = transactions.begin(table, self.target, plan.changes)
        else:
            transaction = transactions.begin_new(
                self.context, self.catalog, self.target, self.columns, self.write_id
            )
        self._stage(transaction, plan, attempt)
        # A KeyboardInterrupt in here leaves open whether it landed, too.
        before, self.may_land = self.may_land, True
        try:
            outcome = commit(
                transaction, self.catalog, self.connection, self.parts, self.write_id, self.name
            )
        except REFUSED:
            self.may_land = before
            raise
        self.may_land = before or outcome.may_land
        return None if outcome.table is None else self._landed(outcome.table, plan)

    def _look(self) -> _Plan:
        """Load the table and decide everything that can be refused."""
        table = catalogs.load(self.catalog, self.parts)
        if table is None:
            changes = evolution.Changes(
                names=tuple((column.name, column.name) for column in self.columns),
                exact=all(column.exact for column in self.columns),
            )
            return _Plan(table=None, changes=changes)
        notes = []
        adopted = ledger.check_owner(self.context, self.target, table.properties)
        if adopted:
            notes.append(adopted)
        schema = table.schema()
        # Also of former partitionings: pyiceberg writes no manifest of a spec whose column is gone.
        sources = {
            schema.find_column_name(field.source_id)
            for spec in table.specs().values()
            for field in spec.fields
        }
        changes = evolution.compare(
            schema,
            self.columns,
            target=self.name,
            policy=self.target.on_schema_change,
            replaces=self.mode is Mode.FULL,
            keep=frozenset(name for name in sources if name),
        )
        if changes:
            notes.append(f"{self.name}: {changes.describe()}")
        return _Plan(table=table, changes=changes, notes=tuple(notes))

    def _nothing_to_do(self, table: Table) -> bool:
        if self.mode is Mode.APPEND:
            return ledger.has_appended(table.properties, self.snapshot.content_key)
        if self.mode in (Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME):
            return self.snapshot.row_count == 0
        return False

    def _stage(self, transaction: Transaction, plan: _Plan, attempt: int) -> None:
        """Put rows and ledger into the transaction."""
        entry = ledger.Entry.of(self.context, self.target, self.snapshot, self.write_id)
        sets, removes = ledger.changes(
            transaction.table_metadata,
            entry,
            replaces=self.mode is Mode.FULL,
            appends=self.mode is Mode.APPEND,
        )
        if plan.table is None:
            sets[ledger.CREATED] = ledger.mark(self.context, self.parts, transaction.table_metadata)
        exact = plan.changes.exact and _reads_by_name(transaction, sets)
        transaction.set_properties(sets)
        if removes:
            transaction.remove_properties(*removes)
        placer, commit_id = self._placer(transaction, attempt)
        if self.placed is None:
            self.placed = placer.place(self.snapshot, plan.changes.names, exact=exact)
        removed, remaining = self._removed(transaction, plan, placer)
        _add_snapshot(transaction, [*self.placed, *remaining], removed, entry.summary(), commit_id)

    def _removed(
        self, transaction: Transaction, plan: _Plan, placer: Placer
    ) -> tuple[tuple[DataFile, ...], list[DataFile]]:
        """Return the files that go, and new ones with the rows of them that stay."""
        if plan.table is None:
            return (), []
        if self.mode is Mode.FULL:
            return _all_files(plan.table), []
        if self.replaced is None:
            return (), []
        rewrites = merge.plan(
            plan.table,
            self.replaced,
            dict(plan.changes.names),
            transaction.table_metadata.schema(),
        )
        return rewrites.removed, placer.write(rewrites.remaining)

    def _placer(self, transaction: Transaction, attempt: int) -> tuple[Placer, uuid.UUID]:
        """Return where to place, and the commit's id; what fits of earlier attempts is kept."""
        metadata = transaction.table_metadata
        if self.placers and self.placers[-1].layout != Layout.of(metadata):
            if not self.may_land:
                for placer in self.placers:
                    placer.discard()
            self.placed = None
        # Of its own for each attempt: pyiceberg deletes the manifests of one that failed,
        # while those of an earlier one may be in a commit that is still on its way.
        commit_id = uuid.uuid4()
        self.note.add(
            folder_of(metadata, self.write_id),
            f"{metadata.location.rstrip('/')}/metadata",
            str(commit_id),
        )
        placer = Placer(
            metadata,
            transaction._table.io,
            self.write_id,
            self.name,
            self.context.cancellation,
            attempt,
        )
        self.placers.append(placer)
        return placer, commit_id

    def _landed(self, table: Table, plan: _Plan) -> WriteResult:
        self.note.remove()
        with contextlib.suppress(OSError, SeeknalError):  # the notes stay for the next write
            pending.clean(self.notes_folder, table)
        return WriteResult(
            rows_written=self.snapshot.row_count,
            rows_after=_rows(table),
            version=version_of(table.metadata),
            created=plan.table is None,
            notes=plan.notes,
        )


def _reads_by_name(transaction: Transaction, sets: dict[str, str]) -> bool:
    """Tell whether files without field ids can be read in this table; set what that needs."""
    metadata = transaction.table_metadata
    if not metadata.spec().is_unpartitioned():
        return False
    mapping, wanted = metadata.name_mapping(), metadata.schema().name_mapping
    if mapping is None:
        sets[TableProperties.DEFAULT_NAME_MAPPING] = wanted.model_dump_json()
        return True
    return evolution.maps_names(mapping.root, wanted.root)


def _add_snapshot(
    transaction: Transaction,
    added: list[DataFile],
    removed: tuple[DataFile, ...],
    summary: dict[str, str],
    commit_id: uuid.UUID,
) -> None:
    """Add one Iceberg snapshot that takes files away and adds others.

    Its manifests are named by the commit's id, so that those of a killed write can be found.
    """
    update = transaction.update_snapshot(snapshot_properties=summary)
    if removed:
        with update.overwrite(commit_uuid=commit_id) as overwrite:
            # Without a predicate, pyiceberg looks for the files in no manifest of an
            # unpartitioned table.
            overwrite.delete_by_predicate(AlwaysTrue())
            for file in removed:
                overwrite.delete_data_file(file)
            for file in added:
                overwrite.append_data_file(file)
        return
    with update.fast_append() as append:
        append.commit_uuid = commit_id
        for file in added:
            append.append_data_file(file)


def _rows(table: Table) -> int:
    """Return a table's rows: from its summary where no deletes are about, else counted."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot is not None else None
    values = summary.additional_properties if summary is not None else {}
    deletes = ("total-position-deletes", "total-equality-deletes")
    if "total-records" in values and all(values.get(key, "0") == "0" for key in deletes):
        return int(values["total-records"])
    return count(table)


def _all_files(table: Table) -> tuple[DataFile, ...]:
    """Return every data file of a table's current snapshot."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return ()
    return tuple(
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )
