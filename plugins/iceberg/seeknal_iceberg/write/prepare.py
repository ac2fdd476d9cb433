"""Prepares a write: inspects a table, decides, and places files that nobody sees.

What a direct write (`materialize`) and a staged one (`promotion.stage`) have in common. The
rows end up in a transaction that is not committed here.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from pyiceberg.exceptions import BadRequestError, RESTError, TableAlreadyExistsError
from pyiceberg.table import Table

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target
from seeknal_iceberg.commit import capabilities, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import views
from seeknal_iceberg.connection.errors import (
    refused_name,
    refused_size,
    sentence,
    too_large,
)
from seeknal_iceberg.connection.namespaces import ensure_namespace, missing_levels
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.files.conform import conform
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.types.schema import columns_of, may_not_fit, new_schema
from seeknal_iceberg.write import declared, evolution, modes, transactions
from seeknal_iceberg.write.placement import Placement, Plan

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Transaction

log = logging.getLogger("seeknal")


#: The newest format version that pyiceberg 0.12 writes manifests of.
WRITTEN = 2


class Preparation:
    """One write, over all of its attempts, up to its commit.

    Reads the snapshot's keys or interval where the mode has them.

    Args:
        write_id: a UUID.
        notes_folder: where the write's files are noted before they are placed.
        commit_id: the id that its manifests are named by; None for one of its own per attempt.

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
        commit_id: uuid.UUID | None = None,
    ) -> None:
        self.context = context
        self.target = target
        self.name = str(target.name)
        self.parts = target.name.parts
        self.snapshot = snapshot
        self.write_id = write_id
        self.connection = catalogs.of(context)
        self.columns = columns_of(snapshot, self.name)
        self.mode = modes.in_force(context, target, snapshot)
        replaced = self.mode.read()
        #: The table that was created without rows, where the catalog begins none.
        self.begun: Table | None = None
        #: Levels of the target's namespace that this write made.
        self.namespaces: list[tuple[str, ...]] = []
        self.catalog = self.open_catalog()
        self.notes_folder = notes_folder
        self.note = write_notes.Note(notes_folder, write_id, self.parts)
        self.placement = Placement(
            context, target, snapshot, self.mode, self.note, write_id, replaced, commit_id
        )

    def open_catalog(self) -> Catalog:
        """Return the catalog of the write."""
        return catalogs.open_catalog(self.context)

    def look(self, table: Table | None) -> Plan:
        """Check everything about the table's current state that can be refused.

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
        changes = evolution.of_table(table, self.columns, self.target, self.mode)
        if changes or changes.lacks:
            notes.append(f"{self.name}: {changes.describe()}")
        kept = changes.kept(self.mode)
        notes += [f"{self.name}: {words}" for words in kept]
        notes += [
            f"{self.name}: {words}" for words in declared.changes(table.metadata, self.target)
        ]
        return Plan(table=table, changes=changes, notes=tuple(notes))

    def nothing_to_do(self, table: Table) -> bool:
        """Return whether the table holds already what the write would make of it."""
        return self.mode.is_done(table.properties)

    def begin(self, plan: Plan) -> Transaction:
        """Begin the table in its new form; nobody sees it, and nothing is placed yet.

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
                return transactions.of(self.begun)
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
            # If it may not be read, this raises the error.
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
        """Check that all values fit a new table; only columns that may not fit are read.

        Raises:
            WriteRefused: one does not; by column.
        """
        names = [field.name for field in self.snapshot.schema if may_not_fit(field.type)]
        if not names or not missing_levels(self.catalog, self.parts[:-1]):
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
        ensure_namespace(
            self.catalog, self.connection, self.parts[:-1], properties, self.namespaces
        )
