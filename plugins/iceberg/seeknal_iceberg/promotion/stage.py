"""Stages a write: a note first, then everything except the commit.

The same as a direct write (`write.prepare`), for every mode: files are placed that
no metadata names. Readers and other writers see nothing of it; a branch is not
used, since its schema would be the whole table's.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.types import ExecutionContext, Snapshot, Staged, Target
from seeknal_iceberg.commit import unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection import embedded
from seeknal_iceberg.connection.errors import is_unanswered, translating
from seeknal_iceberg.connection.namespaces import missing_levels
from seeknal_iceberg.files.parquet import folder_of
from seeknal_iceberg.ledger import ledger, write_notes
from seeknal_iceberg.ledger.staged_write import (
    Before,
    StagedWrite,
    is_changed_by_publish,
    write_id_of,
)
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.promotion import discard
from seeknal_iceberg.source import staged_rows
from seeknal_iceberg.write.placement import Plan
from seeknal_iceberg.write.prepare import Preparation

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table, Transaction


def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Place the rows of a snapshot where nobody sees them, and return what publishes them."""
    connection, name = catalogs.of(context), str(target.name)
    write_id = write_id_of(context, target, promotion)
    with translating(connection, name):
        discard.start_afresh(context, target, write_id)
        folder = write_notes.notes_folder(context, target.name.parts, "staged")
        staging = _Staging(context, target, snapshot, write_id, folder, uuid.UUID(write_id))
        try:
            return staging.run(promotion)
        except BaseException as error:
            # What does not answer would be waited for once more; the note stays.
            if not isinstance(error, Exception) or not is_unanswered(error, connection):
                discard.give_up(context, target, write_id)
            raise
        finally:
            staging.note.close()


class _Staging(Preparation):
    """A write whose commit is another hook's."""

    def open_catalog(self) -> Catalog:
        """Return the catalog; one that nobody has made yet is not made for this."""
        return catalogs.open_unmade(self.context)

    def make_namespace(self, located: bool) -> None:
        """Leave the namespace to the publish, unless the catalog has to be asked in it."""
        if located:
            return
        missing = missing_levels(self.catalog, self.parts[:-1])
        if missing:
            self.note.add_namespaces(missing)
            super().make_namespace(located)

    def run(self, promotion: str) -> Staged:
        """Inspect the table, place the files, and keep the content of the commit."""
        self.note.belongs_to(promotion)
        self.context.cancellation.check()
        missing = embedded.not_there_yet(self.connection)
        if missing:
            self.note.add_made(missing)
        there = catalogs.look(self.catalog, self.parts)
        there, _ = unfinished.without_unfinished(self.context, self.catalog, self.parts, there, "")
        plan = self.look(there)
        table = plan.table
        base = version_of(table.metadata) if table is not None else None
        if table is not None and self.nothing_to_do(table):
            write = self._nothing(table, plan)
            self.note.remove()
            return Staged(
                promotion=promotion, base=base, rows=0, data=write.data(), notes=plan.notes
            )
        write = self._place(plan)
        return Staged(
            promotion=promotion,
            base=base,
            rows=self.snapshot.row_count,
            data=write.data(),
            notes=(*plan.notes, *self.placement.notes),
        )

    def _nothing(self, table: Table, plan: Plan) -> StagedWrite:
        return StagedWrite(
            write_id=self.write_id,
            uuid=str(table.metadata.table_uuid),
            location=table.metadata.location,
            appends=self.mode.rule.once,
            names=plan.changes.names,
            before=_before(table),
        )

    def _place(self, plan: Plan) -> StagedWrite:
        before = None if plan.table is None else _before(plan.table)
        transaction = self.begin(plan)
        if plan.table is not None and before is not None:
            before = _with_declared(before, plan.table, transaction)
        self.placement.put(transaction, plan, {})
        metadata = transaction.table_metadata
        staged_rows.remember(self.context, self.write_id, transaction._table.io, metadata)
        placed = self.placement.placed
        assert placed is not None
        made = transaction._updates
        mark = ledger.mark(self.context, self.parts, metadata) if plan.table is None else ""
        return StagedWrite(
            write_id=self.write_id,
            uuid=str(metadata.table_uuid),
            location=metadata.location,
            folder=folder_of(metadata, self.write_id),
            snapshot_id=metadata.current_snapshot_id,
            arrived=len(placed),
            placed=self.placement.placers[-1].number,
            rows=self.snapshot.row_count,
            replaces=self.mode.rule.replaces,
            appends=self.mode.rule.once,
            names=plan.changes.names,
            mark=mark,
            begun=self.begun.name() if self.begun is not None else (),
            before=before,
            updates=made,
            requirements=transaction._requirements,
        )


def _with_declared(before: Before, table: Table, transaction: Transaction) -> Before:
    """Add, to what was before, the properties of others that the publish changes."""
    there = table.metadata.properties
    after = transaction.table_metadata.properties
    touched = {name: value for name, value in there.items() if after.get(name) != value}
    return attrs.evolve(before, properties={**touched, **before.properties})


def _before(table: Table) -> Before:
    metadata = table.metadata
    main = metadata.refs.get("main")
    snapshot = metadata.current_snapshot()
    summary = snapshot.summary if snapshot is not None else None
    known = summary.additional_properties if summary is not None else {}
    return Before(
        snapshot_id=metadata.current_snapshot_id,
        main=main.model_dump(mode="json") if main is not None else None,
        schema_id=metadata.current_schema_id,
        spec_id=metadata.default_spec_id,
        sort_order_id=metadata.default_sort_order_id,
        sequence=ledger.sequence_of(metadata),
        properties={
            name: value
            for name, value in metadata.properties.items()
            if is_changed_by_publish(name)
        },
        manifests=snapshot.manifest_list if snapshot is not None else "",
        totals={name: value for name, value in known.items() if name.startswith("total-")},
    )
