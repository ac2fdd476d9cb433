"""Which rows of a table a snapshot replaces: those of a time, or of partitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysFalse, AlwaysTrue, BooleanExpression
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema

from seeknal_core.contract import rules
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Interval, Snapshot, Target
from seeknal_iceberg.files.placing import conform
from seeknal_iceberg.types.partitions import Splitter, key_of
from seeknal_iceberg.write.rewrites import between, require

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, without a zone


@attrs.frozen(kw_only=True, eq=False)
class Times:
    """Rows whose time the snapshot stands for: what the node covers, or days that it has.

    ``arriving`` counts the snapshot's rows by day. Made by `of`.
    """

    target: Target
    columns: tuple[str, ...]
    arriving: dict[date, int]
    intervals: tuple[Interval, ...]
    is_date: bool

    @classmethod
    def of(cls, snapshot: Snapshot, target: Target) -> Times | None:
        """Read a snapshot's times; None where nothing is replaced.

        Raises:
            WriteRefused: no time column, another type than a date or timestamp, a NULL, or a
                row that is not in what the node covers.
        """
        column = target.time_column or ""
        require(snapshot, (column,) if column else (), "time_column", target)
        type = snapshot.schema.field(column).type
        if not (pa.types.is_date(type) or pa.types.is_timestamp(type)):
            raise WriteRefused(
                f"{target.name}: time_column {column!r} is {type}, not a date or timestamp",
                "CAST it in the node's SQL",
                target=str(target.name),
            )
        arriving: dict[date, int] = {}
        outside = 0
        for batch in snapshot.reader(columns=(column,)):
            times = batch.column(0)
            if times.null_count:
                raise WriteRefused(
                    f"{target.name}: time_column {column!r} has NULLs",
                    "filter them out in the node's SQL",
                    target=str(target.name),
                )
            if target.covers is not None:
                within = rules.inside(times, [target.covers])
                outside += pc.sum(pc.invert(within)).as_py() or 0
                continue
            for day, count in rules.count_days(target, times).items():
                arriving[day] = arriving.get(day, 0) + count
        rules.check_covers(target, lambda _: outside)
        intervals = rules.intervals(target, arriving)
        if not intervals:
            return None
        return cls(
            target=target,
            columns=(column,),
            arriving=arriving,
            intervals=intervals,
            is_date=pa.types.is_date(type),
        )

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Bound the time column by the first and the last interval."""
        start, end = self.intervals[0].start - _EPOCH, self.intervals[-1].end - _EPOCH
        name = names[self.columns[0]]
        if self.is_date:
            return between(name, start.days, end.days)
        low, high = (one.days * 86_400_000_000 + one.seconds * 1_000_000 + one.microseconds
                     for one in (start, end))  # fmt: skip
        return between(name, low, high)

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Compare each row's time with the intervals; a NULL is outside."""
        return pa.array(rules.inside(rows.column(0), self.intervals).combine_chunks())

    def whole(self, file: DataFile) -> bool | None:
        """Look at the rows of every file."""
        return None

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Refuse to lose rows of a day; say which days between are kept."""
        there: dict[date, int] = {}
        if self.target.covers is None:
            for rows in found:
                for day, count in rules.count_days(self.target, rows.column(0)).items():
                    there[day] = there.get(day, 0) + count
        return rules.check_days(self.target, self.arriving, there)


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
            raise WriteRefused(
                f"{target.name}: mode insert_overwrite replaces partitions, and there are none",
                "write partition_by: [...]",
                target=str(target.name),
            )
        require(snapshot, [here.get(name, name) for name in there], "partition_by", target)
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
        """Let every file through: `whole` decides by its partition."""
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
        """Lose what is in the partitions: that is what the mode is for."""
        return ()


def _sources(spec: PartitionSpec, schema: Schema) -> list[str]:
    """Return the columns that partitions are made of, each once."""
    found = (schema.find_column_name(field.source_id) for field in spec.fields)
    return list(dict.fromkeys(name for name in found if name is not None))


def _named(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    return batch.rename_columns(list(names))
