"""Prepare a write: look at a table, decide, and place files that nobody sees.

What a direct write (`materialize`) and a staged one (`promotion.stage`) have in common. The
rows end up in a transaction that is not committed here.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
from pyiceberg.exceptions import BadRequestError, RESTError, TableAlreadyExistsError
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.manifest import DataFile, ManifestContent
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.snapshots import Operation

from seeknal_core.contract.errors import BackendError, SeeknalError, WriteRefused
from seeknal_core.contract.types import ExecutionContext, Mode, Snapshot, Target
from seeknal_iceberg.commit import capabilities, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import views
from seeknal_iceberg.connection.errors import (
    is_refused,
    refused_name,
    refused_size,
    sentence,
    too_large,
)
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.files.placing import Layout, Placer, conform, folder_of
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.types.schema import Column, columns_of, may_not_fit, new_schema
from seeknal_iceberg.write import declared, evolution, options, rewrites, spans, transactions

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Transaction
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

log = logging.getLogger("seeknal")


#: The newest format version that pyiceberg 0.12 writes manifests of.
WRITTEN = 2


@attrs.frozen(kw_only=True)
class Plan:
    """What one look at the table decided; ``table`` is None where there is none."""

    table: Table | None
    changes: evolution.Changes
    notes: tuple[str, ...] = ()


class Preparation:
    """One write, over all of its attempts, up to its commit.

    Reads the snapshot's keys or interval where the mode has them.

    Args:
        write_id: a UUID.
        notes_folder: where the write's files are noted before they are placed.

    Raises:
        WriteRefused: the snapshot has types or keys that the target cannot take.
    """

    def __init__(
        self,
        context: ExecutionContext,
        target: Target,
        snapshot: Snapshot,
        write_id: str,
        notes_folder: str,
    ) -> None:
        self.context = context
        self.target = target
        self.name = str(target.name)
        self.parts = target.name.parts
        self.snapshot = snapshot
        self.write_id = write_id
        self.connection = catalogs.of(context)
        self.columns = columns_of(snapshot, self.name)
        self.mode = Mode.FULL if context.full_refresh else target.mode
        self.replaced = _replaced(self.mode, target, snapshot)
        self.placers: list[Placer] = []
        self.placed: list[DataFile] | None = None
        self.may_land = False
        #: What is placed holds values of the rows that it replaces.
        self.carries = False
        #: How often rows were put into a transaction, and the table's last sequence number
        #: before the first time.
        self.attempts = 0
        self.since: int | None = None
        self.io: FileIO | None = None
        #: The table's snapshot cannot be read, and the new one takes nothing of it over.
        self.starts_anew = False
        #: What the user should hear of rows that stay.
        self.notes: tuple[str, ...] = ()
        #: The id that its manifests are named by; None for one of its own per attempt.
        self.commit_id: uuid.UUID | None = None
        #: The table that was created without rows, where the catalog begins none.
        self.begun: Table | None = None
        self.catalog = self.open_catalog()
        self.notes_folder = notes_folder
        self.note = write_notes.Note(notes_folder, write_id, self.parts)

    def open_catalog(self) -> Catalog:
        """Return the catalog of the write."""
        return catalogs.open_catalog(self.context)

    def look(self, table: Table | None) -> Plan:
        """Decide, of a table as it is now, everything that can be refused.

        Raises:
            WriteRefused: whose table it is, its schema, or its partitioning.
        """
        if table is None:
            if views.is_view(self.catalog, self.parts):
                raise self._is_view()
            changes = evolution.Changes(
                names=tuple((column.name, column.name) for column in self.columns),
                exact=all(column.exact for column in self.columns),
            )
            return Plan(table=None, changes=changes)
        notes = []
        adopted = ledger.check_owner(self.context, self.target, table.properties)
        if adopted:
            notes.append(adopted)
        if table.metadata.format_version > WRITTEN:
            raise WriteRefused(
                f"{self.name} has Iceberg's format version {table.metadata.format_version}, which "
                f"is read here but not written; versions up to {WRITTEN} are",
                "write to another table, or make this one anew with format-version 2",
                target=self.name,
            )
        changes = changes_of(table, self.columns, self.target, self.mode)
        if changes or changes.lacks:
            notes.append(f"{self.name}: {changes.describe()}")
        kept = changes.kept(self.mode)
        notes += [f"{self.name}: {words}" for words in kept]
        notes += [
            f"{self.name}: {words}" for words in declared.changes(table.metadata, self.target)
        ]
        return Plan(table=table, changes=changes, notes=tuple(notes))

    def nothing_to_do(self, table: Table) -> bool:
        """Tell whether the table holds already what the write would make of it."""
        if self.mode is Mode.APPEND:
            return ledger.has_appended(table.properties, *self.snapshot.keys)
        if self.mode in (Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME, Mode.INSERT_OVERWRITE):
            return self.snapshot.row_count == 0 and self.target.covers is None
        return False

    def begin(self, plan: Plan) -> Transaction:
        """Begin the table as it will be; nobody sees it, and nothing is placed yet.

        Raises:
            WriteRefused: ``partition_by`` is wrong, or differs where nothing may change.
        """
        if plan.table is not None:
            before = plan.table.metadata
            transaction = transactions.begin(plan.table, self.target, plan.changes)
            made = [path[0] for path, _ in plan.changes.adds if len(path) == 1]
            made += [name for name, _, _ in plan.changes.retypes]
        else:
            before = None
            transaction = self._begin_new()
            made = [column.name for column in self.columns]
        sets = ledger.column_changes(before, transaction.table_metadata, made)
        if sets:
            transaction.set_properties(sets)
        if isinstance(self.catalog, PatientRestCatalog):
            size = self.catalog.takes(transaction._table, transaction._updates)
            if size is not None:
                raise too_large(self.name, size)
        return transaction

    def _begin_new(self) -> Transaction:
        def make_namespace(located: bool) -> None:
            if not located:
                self._check_values()
            self.make_namespace(located)

        if self.begun is not None:
            # Of an earlier attempt, with its files.
            self.begun = catalogs.load(self.catalog, self.begun.name())
            if self.begun is not None and not self.begun.metadata.snapshots:
                return self.begun.transaction()
        on_rest = isinstance(self.catalog, PatientRestCatalog)
        try:
            return transactions.begin_new(
                self.connection,
                self.catalog,
                self.target,
                self.columns,
                self.write_id,
                make_namespace,
                self._create if on_rest else None,
                stages=not on_rest or capabilities.of(self.context).stages is not False,
            )
        except RESTError as error:
            size = refused_size(error)
            if size is not None:
                raise too_large(self.name, size) from error
            if not isinstance(error, BadRequestError):
                raise
            raise refused_name(self.parts, "table", self.name, error) from error
        except TableAlreadyExistsError as error:
            # Where it may not be read, this says so.
            if catalogs.load(self.catalog, self.parts) is not None:
                raise  # somebody made it a moment ago
            if views.is_view(self.catalog, self.parts, unlisted=True):
                raise self._is_view() from error
            raise WriteRefused(
                f"{self.name}: the catalog shows no such table, and says that it exists: "
                f"{sentence(error)}",
                "it may keep a dropped table of that name until it expires: purge it there, or "
                "write to another table",
                target=self.name,
            ) from error

    def _create(self, wanted: unfinished.NewTable) -> Table:
        """Create the table without rows, in a catalog that doesn't begin one."""
        self.begun = unfinished.create(
            self.context, self.catalog, self.parts, self.write_id, wanted, self.note
        )
        capabilities.learn(self.context, stages=False)
        return self.begun

    def _is_view(self) -> WriteRefused:
        return WriteRefused(
            f"{self.name} is a view, which is not written to", views.TARGET_HINT, target=self.name
        )

    def _check_values(self) -> None:
        """See that all values fit a new table; only those are read that may not.

        Raises:
            WriteRefused: one does not; by column.
        """
        names = [field.name for field in self.snapshot.schema if may_not_fit(field.type)]
        if not names or not catalogs.missing_levels(self.catalog, self.parts[:-1]):
            return
        schema = new_schema([column for column in self.columns if column.name in names])
        batches = self.snapshot.reader(names, batch_rows=131_072)
        for _ in conform(batches, [(name, name) for name in names], schema, self.name):
            self.context.cancellation.check()

    def make_namespace(self, located: bool) -> None:
        """Make the target's namespace, before a table is begun in it.

        Args:
            located: the table's place is known without the namespace.

        Raises:
            NamespaceRefused: it is not there and cannot be made.
        """
        properties = ledger.made_by(self.context)
        catalogs.ensure_namespace(self.catalog, self.connection, self.parts[:-1], properties)

    def put_rows(
        self, transaction: Transaction, plan: Plan, summary: dict[str, str], attempt: int = 0
    ) -> None:
        """Place the rows, and put them into the transaction as one Iceberg snapshot.

        Args:
            summary: goes into that snapshot's summary.
            attempt: a write that looks again counts up; what fits is kept.
        """
        exact = plan.changes.exact and transaction.table_metadata.spec().is_unpartitioned()
        exact = exact and self._keeps_files()
        placer, commit_id = self._placer(transaction, plan, attempt)
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
            _add_snapshot(transaction, added, removed, summary, commit_id, self.starts_anew)
        except SeeknalError:
            raise
        # A damaged file fails as whatever its reader stumbles upon.
        except Exception as error:
            table = plan.table
            if table is None or is_refused(error, self.connection):
                raise
            if isinstance(error, FileNotFoundError) or not _is_readable(table):
                raise self._is_damaged(error) from error
            raise

    def _keeps_files(self) -> bool:
        """Tell whether the snapshot's files may be the table's: not sorted, and not too large."""
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
        if self.mode is Mode.FULL:
            return attrs.evolve(nothing, removed=self._all_files(plan.table))
        names, metadata = plan.changes.names, transaction.table_metadata
        replaced = self.replaced
        if self.mode is Mode.INSERT_OVERWRITE:
            replaced = spans.Partitions.of(self.snapshot, self.target, names, metadata)
        retyped = {name: type for name, type, _ in plan.changes.retypes}
        if replaced is None and not retyped:
            return nothing
        return rewrites.plan(
            plan.table,
            replaced or rewrites.Nothing(),
            dict(names),
            metadata.schema(),
            retyped=frozenset(retyped),
            carries=(*plan.changes.left, *plan.changes.others),
            target=self.name,
        )

    def _all_files(self, table: Table) -> tuple[DataFile, ...]:
        """Return every data file of a table's current snapshot, none where it begins anew.

        Raises:
            BackendError: the snapshot cannot be read, and nobody asked to replace it.
        """
        snapshot = table.current_snapshot()
        if snapshot is None or self.starts_anew:
            return ()
        try:
            return _data_files(table, snapshot)
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
        self, transaction: Transaction, plan: Plan, attempt: int
    ) -> tuple[Placer, uuid.UUID]:
        """Return where to place, and the commit's id; what fits of earlier attempts is kept."""
        metadata = transaction.table_metadata
        if self.placers and self.placers[-1].layout != Layout.of(metadata):
            if not self.may_land:
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


def metadata_folder(metadata: TableMetadata) -> str:
    """Return the location where a table's manifests are put."""
    chosen = metadata.properties.get(TableProperties.WRITE_METADATA_PATH)
    return (chosen or f"{metadata.location.rstrip('/')}/metadata").rstrip("/")


def changes_of(
    table: Table, columns: Sequence[Column], target: Target, mode: Mode
) -> evolution.Changes:
    """Decide what a write of columns does to a table's schema.

    Raises:
        WriteRefused: by column.
    """
    schema = table.schema()
    # Also of former partitionings: pyiceberg writes no manifest of a spec whose column is gone.
    sources = {
        schema.find_column_name(field.source_id)
        for spec in table.specs().values()
        for field in spec.fields
    }
    fixed = {
        Mode.UPSERT_BY_KEY: target.unique_keys,
        Mode.INCREMENTAL_BY_TIME: (target.time_column or "",),
    }
    return evolution.compare(
        schema,
        columns,
        target=str(target.name),
        policy=target.on_schema_change,
        mode=mode,
        keep=frozenset(name for name in sources if name),
        taken={field.name for spec in table.specs().values() for field in spec.fields},
        ours=ledger.columns(table.metadata),
        fixed=fixed.get(mode, ()),
    )


def _replaced(mode: Mode, target: Target, snapshot: Snapshot) -> rewrites.Replaced | None:
    if mode is Mode.UPSERT_BY_KEY:
        return rewrites.Keys.of(snapshot, target)
    if mode is Mode.INCREMENTAL_BY_TIME:
        return spans.Times.of(snapshot, target)
    return None


def _add_snapshot(
    transaction: Transaction,
    added: list[DataFile],
    removed: tuple[DataFile, ...],
    summary: dict[str, str],
    commit_id: uuid.UUID,
    starts_anew: bool,
) -> None:
    """Add one Iceberg snapshot that takes files away and adds others.

    Its manifests are named by the commit's id, so that those of a killed write can be found.

    Args:
        starts_anew: nothing of the current snapshot is read or taken over.
    """
    update = transaction.update_snapshot(snapshot_properties=summary)
    if removed:
        with update.overwrite(commit_uuid=commit_id) as overwrite:
            # Without a predicate, pyiceberg looks for the files in no manifest of an
            # unpartitioned table.
            overwrite.delete_by_predicate(AlwaysTrue())
            # It would be narrowed to the files' partitions by a filter in which NaN raises.
            setattr(overwrite, "_build_delete_files_partition_predicate", lambda: None)  # noqa: B010
            for file in removed:
                overwrite.delete_data_file(file)
            for file in added:
                overwrite.append_data_file(file)
        return
    with update.fast_append() as append:
        append.commit_uuid = commit_id
        if starts_anew:
            append._parent_snapshot_id = None
            append._operation = Operation.OVERWRITE
        for file in added:
            append.append_data_file(file)


def _data_files(table: Table, snapshot: IcebergSnapshot) -> tuple[DataFile, ...]:
    return tuple(
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    )


def _is_readable(table: Table) -> bool:
    """Tell whether manifest list and manifests of a table's current snapshot can be read."""
    snapshot = table.current_snapshot()
    try:
        return snapshot is None or _data_files(table, snapshot) is not None
    except Exception:  # noqa: BLE001 - whatever a reader stumbles upon
        return False
