"""The staged writes of a batch, and what happened to their tables since. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import StaleStage
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Batch, ExecutionContext, PublishedTarget, Target
from seeknal_iceberg.commit import capabilities, outcome, unfinished
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.ledger.staged_write import StagedWrite
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.names import quote
from seeknal_iceberg.source.rows import rows_after, rows_of

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table


@attrs.define(kw_only=True)
class Item:
    """A target of a batch, its staged write, and its table as it was last loaded."""

    target: Target
    write: StagedWrite
    table: Table | None
    #: The table that was created without rows, until it is published.
    begun: Table | None = None

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.target.name)


class StagedBatch:
    """The targets of a batch, each with its staged write and its table."""

    def __init__(self, context: ExecutionContext, batch: Batch) -> None:
        self.context = context
        self.batch = batch
        self.connection = catalogs.of(context)
        self.catalog = catalogs.open_catalog(context)
        self.items = [self.load(target) for target in batch.targets]

    def load(self, target: Target) -> Item:
        """Load a target's table, and the one that waits for its rows."""
        assert target.staged is not None
        write = StagedWrite.of(target.staged)
        ask = catalogs.look if write.created else catalogs.load
        table = ask(self.catalog, target.name.parts)
        if table is not None:
            capabilities.saw(self.context, table.metadata)
        item = Item(target=target, write=write, table=table)
        self.load_begun(item)
        return item

    def load_begun(self, item: Item) -> None:
        """Load a new table that waits under another name, or in its place without rows."""
        if not item.write.begun:
            return
        table = item.table
        if table is None:
            table = catalogs.load(self.catalog, item.write.begun)
        elif not unfinished.is_unfinished(self.context, item.target.name.parts, table.metadata):
            item.begun = None
            return
        else:
            item.table = None  # nobody has been given it yet
        same = table is not None and str(table.metadata.table_uuid) == item.write.uuid
        item.begun = table if same else None

    def is_done(self, item: Item) -> bool:
        """Return whether a table holds already what its target's publish makes of it."""
        table, write = item.table, item.write
        if table is None:
            return False
        if write.snapshot_id is None:
            if str(table.metadata.table_uuid) != write.uuid:
                return False
            content_key = self.batch.content_keys[item.target.key]
            return not write.appends or ledger.has_appended(table.properties, content_key)
        return outcome.is_published(table.metadata, write, self.batch.promotion)

    def has_rows(self, item: Item) -> bool:
        """Return whether the rows of a table that was created without them are committed."""
        table = item.begun or item.table
        return table is not None and ledger.has_landed(table.metadata, item.write.write_id)

    def check(self, item: Item) -> None:
        """Refuse a target that is not as it was when it was staged.

        Raises:
            StaleStage: it has moved, was promoted, or its staged files are gone.
        """
        moved = self.moved(item)
        if moved is not None:
            raise moved
        if item.write.begun and item.begun is None:
            raise self._is_gone(item, f"table {quote(item.write.begun)}")
        found = item.table or item.begun
        io = found.io if found is not None else self.io_of(item)
        # Without keys of a catalog that lends them with its tables, nobody can look yet.
        if io is not None and not io.new_input(item.write.snapshot().manifest_list).exists():
            raise self._is_gone(item, item.write.location)

    def _is_gone(self, item: Item, where: str) -> StaleStage:
        return refusals.stage_is_gone(item.name, self.batch.promotion, where)

    def look_again(self, item: Item) -> None:
        """Look for the files of a new table whose keys came with it only now.

        Raises:
            StaleStage: what was staged is gone.
        """
        if item.write.snapshot_id is None or self.io_of(item) is not None:
            return
        table = catalogs.existing(self.context, item.target.name.parts)
        if not table.io.new_input(item.write.snapshot().manifest_list).exists():
            raise self._is_gone(item, item.write.location)

    def moved(self, item: Item) -> StaleStage | None:
        """Return the refusal to publish over what happened since staging, None for nothing."""
        table, write, name = item.table, item.write, item.name
        before = write.before
        assert item.target.staged is not None
        base = item.target.staged.base
        if table is None:
            return None if before is None else refusals.moved(name, "staged", base, None)
        metadata = table.metadata
        version = version_of(metadata)
        if before is None or version != base or write.snapshot_id is None:
            return refusals.moved(name, "staged", base, version)
        why = ""
        if str(metadata.table_uuid) != write.uuid:
            why = "is another table now than when it was staged"
        elif (metadata.current_schema_id, metadata.default_spec_id) != (
            before.schema_id,
            before.spec_id,
        ):
            why = "has another schema or partitioning than when it was staged"
        elif ledger.sequence_of(metadata) != before.sequence:
            why = "was written, on a branch, since it was staged"
        if why:
            return StaleStage(f"{name} {why}", target=name)
        promotions = ledger.generation(self.context, table.properties)
        if promotions >= self.batch.generation:
            return refusals.another_promotion(promotions, self.batch.generation, name)
        return None

    def io_of(self, item: Item) -> FileIO | None:
        """Return the file access for the staged files; None if only the table gives the keys."""
        return catalogs.known_io(self.catalog, item.write.location)

    def landed(self, items: Sequence[Item], is_done: Callable[[Item], bool]) -> bool:
        """Load the tables again, and return whether all of them are done."""
        for item in items:
            ask = catalogs.look if item.write.created else catalogs.load
            item.table = ask(self.catalog, item.target.name.parts)
            self.load_begun(item)
        return all(is_done(item) for item in items)

    def published(self, item: Item) -> PublishedTarget:
        """Return what a reader of a published target finds."""
        write, table = item.write, item.table
        if write.snapshot_id is None:
            assert table is not None
            version, rows = version_of(table.metadata), rows_after(table)
        else:
            version = write.version
            summary = write.snapshot().summary
            known = rows_of(summary.additional_properties) if summary is not None else None
            rows = known if known is not None else self._count(item)
        return PublishedTarget(
            key=item.target.key, version=version, rows_after=rows, created=write.created
        )

    def _count(self, item: Item) -> int:
        table = catalogs.existing(self.context, item.target.name.parts)
        return rows_after(table, item.write.snapshot_id)
