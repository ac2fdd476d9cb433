"""Mode ``insert_overwrite``: the snapshot's rows replace the partitions that they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema

from seeknal_core.contract import Field, Mode, Snapshot, Target
from seeknal_core.contract.rules import refusals
from seeknal_iceberg.files.conform import conform
from seeknal_iceberg.types.partitions import Splitter, key_of
from seeknal_iceberg.write.modes.interface import Names, Replaced, WriteMode

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata

    from seeknal_iceberg.write.carried import Carried


@attrs.frozen(kw_only=True, eq=False)
class InsertOverwrite(WriteMode):
    """Replace whole partitions, which only the table's layout tells."""

    mode: ClassVar[Mode] = Mode.INSERT_OVERWRITE

    def read(self) -> None:
        """Read nothing yet: the table tells which partition a row is in."""

    def replaced(self, read: Replaced | None, names: Names, metadata: TableMetadata) -> Partitions:
        """Return the partitions that the snapshot has rows of.

        Raises:
            WriteRefused: the target has no ``partition_by``, or the snapshot lacks its columns.
        """
        return Partitions.of(self.snapshot, self.target, names, metadata)

    def is_done(self, properties: dict[str, str]) -> bool:
        """Write nothing if no rows arrive."""
        return self.snapshot.row_count == 0 and self.target.covers is None


@attrs.frozen(kw_only=True, eq=False)
class Partitions:
    """Rows that are in one of the partitions that the snapshot has rows of."""

    columns: tuple[str, ...]
    touched: frozenset[tuple[object, ...]]
    spec_id: int
    splitter: Splitter
    names: tuple[str, ...]

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        target: Target,
        names: Sequence[tuple[str, str]],
        metadata: TableMetadata,
    ) -> Partitions:
        """Read which partitions a snapshot has rows of.

        Args:
            names: the snapshot's columns and what the table calls them.
            metadata: the table's as it will be, partitioned by ``partition_by``.

        Raises:
            WriteRefused: the target has no ``partition_by``, or the snapshot lacks its columns.
        """
        spec, schema = metadata.spec(), metadata.schema()
        there = _sources(spec, schema)
        here = {table: own for own, table in names}
        if not there:
            raise refusals.needs_option(
                target.name, target.mode, Field.PARTITION_BY, "[month(day)]"
            )
        known = snapshot.schema.names
        for column in (here.get(name, name) for name in there):
            if column not in known:
                raise refusals.no_such_column(target.name, Field.PARTITION_BY.value, column, known)
        part = Schema(*(schema.find_field(name) for name in there), schema_id=schema.schema_id)
        chosen = [(here[name], name) for name in there]
        splitter = Splitter(spec, part)
        batches = snapshot.reader([own for own, _ in chosen], batch_rows=131_072)
        touched = {
            key_of(record)
            for batch in conform(batches, chosen, part, str(target.name))
            for record, _ in splitter.split(_named(batch, there))
        }
        return cls(
            columns=tuple(own for own, _ in chosen),
            touched=frozenset(touched),
            spec_id=spec.spec_id,
            splitter=splitter,
            names=tuple(there),
        )

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Select every file: `whole` decides by its partition."""
        return AlwaysTrue() if self.touched else AlwaysFalse()

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Compute each row's partition, where a file has those of another partitioning."""
        number = pa.array(range(rows.num_rows), pa.int64())
        named = rows.rename_columns(list(self.names)).append_column("#row", number)
        hits = [
            piece.column("#row")
            for batch in named.combine_chunks().to_batches()
            for record, piece in self.splitter.split(batch)
            if key_of(record) in self.touched
        ]
        found = pa.chunked_array(hits, pa.int64())
        return pc.is_in(number, value_set=found.combine_chunks())

    def whole(self, file: DataFile) -> bool | None:
        """Decide by a file's partition, where it is of the table's present partitioning."""
        if file.spec_id != self.spec_id:
            return None
        return key_of(file.partition) in self.touched

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Accept the loss of rows in the partitions: the mode replaces them."""
        return ()

    def carried(self, rows: Iterator[pa.Table]) -> Carried | None:
        """Carry nothing over: rows of a partition have no counterparts."""
        return None


def _sources(spec: PartitionSpec, schema: Schema) -> list[str]:
    """Return the columns that partitions are made of, each once."""
    found = (schema.find_column_name(field.source_id) for field in spec.fields)
    return list(dict.fromkeys(name for name in found if name is not None))


def _named(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    return batch.rename_columns(list(names))
