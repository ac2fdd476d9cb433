"""Rewrite the data files of a table that hold rows which a write replaces.

A mode decides which rows these are (`modes`). Files that hold none of them stay; the others are
written again without those rows, in the same commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.schema import Schema

from seeknal_iceberg.files.conform import file_schema
from seeknal_iceberg.files.scan import task_batches
from seeknal_iceberg.types import nested, recast
from seeknal_iceberg.write.carried import Carried
from seeknal_iceberg.write.modes.interface import Replaced

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table


@attrs.frozen(kw_only=True)
class Nothing:
    """No row is replaced: rows are added, or all are written again as they are."""

    columns: tuple[str, ...] = ()

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Select every file."""
        return AlwaysTrue()

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Replace no row."""
        return pa.repeat(pa.scalar(False), rows.num_rows)

    def whole(self, file: DataFile) -> bool | None:
        """Replace no row of any file."""
        return False

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Refuse nothing: no row is lost."""
        return ()

    def carried(self, rows: Iterator[pa.Table]) -> None:
        """Carry nothing over."""


@attrs.frozen(kw_only=True, eq=False)
class Rewrites:
    """Data files that hold replaced rows, and a stream of the rows of them that stay.

    ``notes`` are sentences about rows that stay; ``nulls`` counts the NULLs of those rows
    as they are read; ``carried`` is what replaced rows hand on to the new ones.
    """

    removed: tuple[DataFile, ...]
    remaining: Iterable[pa.RecordBatch]
    notes: tuple[str, ...] = ()
    nulls: nested.Nulls = attrs.field(factory=nested.Nulls)
    carried: Carried | None = None


def plan(
    table: Table,
    replaced: Replaced,
    names: dict[str, str],
    schema: Schema,
    *,
    retyped: frozenset[str] = frozenset(),
    carries: Sequence[str] = (),
    target: str = "",
) -> Rewrites:
    """Find the data files of a table that hold replaced rows, or have to be written again.

    Args:
        names: what the table calls the snapshot's columns.
        schema: the one the table will have; the remaining rows come in it.
        retyped: columns whose values are cast, for which every file is written again.
        carries: the table's columns whose values replaced rows pass on.
        target: the table's name, for messages.

    Raises:
        WriteRefused: rows would be lost that the snapshot does not stand for.
    """
    there = table.metadata.schema()
    keys = Schema(*(there.find_field(names[column]) for column in replaced.columns))
    candidates = AlwaysTrue() if retyped else replaced.candidates(names)
    found = _Found(table=table, keys=keys)
    for task in table.scan(row_filter=candidates).plan_files():
        found.look(task, replaced)
    nulls = nested.Nulls()

    def remaining() -> Iterator[pa.RecordBatch]:
        everything = file_schema(schema)[1]
        for batch in found.remaining(everywhere=bool(retyped)):
            yield _widen(batch, schema, everything, nulls, retyped, target)

    return Rewrites(
        carried=replaced.carried(found.replaced(carries)) if carries else None,
        removed=tuple(
            task.file
            for task in [*(task for task, _ in found.hit), *(found.kept if retyped else ())]
        ),
        remaining=remaining(),
        notes=replaced.check(found.looked),
        nulls=nulls,
    )


@attrs.frozen(kw_only=True)
class _Found:
    """Data files of a table that hold replaced rows, and those that hold none.

    ``keys`` are the columns that tell them apart. A file's mask says which of its rows are
    replaced; None for all of them. ``looked`` are the keys that were read.
    """

    table: Table
    keys: Schema
    hit: list[tuple[FileScanTask, pa.BooleanArray | None]] = attrs.field(factory=list)
    kept: list[FileScanTask] = attrs.field(factory=list)
    looked: list[pa.Table] = attrs.field(factory=list)

    def look(self, task: FileScanTask, replaced: Replaced) -> None:
        """Decide whether a file holds replaced rows; reads its keys where need be."""
        whole = replaced.whole(task.file)
        if whole is not None:
            if whole:
                self.hit.append((task, None))
            else:
                self.kept.append(task)
            return
        batches = list(self._batches(task, self.keys))
        if not batches:
            self.kept.append(task)
            return
        read = pa.concat_tables(
            (pa.Table.from_batches([batch]) for batch in batches), promote_options="permissive"
        )
        read = read.select([field.name for field in self.keys.fields])
        mask = replaced.mask(read)
        self.looked.append(read)
        if pc.any(mask).as_py():
            self.hit.append((task, mask))
        else:
            self.kept.append(task)

    def remaining(self, *, everywhere: bool) -> Iterator[pa.RecordBatch]:
        """Stream the rows that stay of the files that hold replaced ones.

        Args:
            everywhere: of the other files, too.
        """
        schema = self.table.metadata.schema()
        for task, mask in self.hit:
            if mask is None or pc.all(mask).as_py():
                continue
            offset = 0
            for batch in self._batches(task, schema):
                stays = pc.invert(mask.slice(offset, batch.num_rows))
                offset += batch.num_rows
                yield batch.filter(stays)
        for task in self.kept if everywhere else ():
            yield from self._batches(task, schema)

    def replaced(self, carries: Sequence[str]) -> Iterator[pa.Table]:
        """Stream the keys of the replaced rows, and some more columns of them."""
        schema = self.table.metadata.schema()
        wanted = [field.name for field in self.keys.fields] + list(carries)
        read_too = Schema(*(schema.find_field(name) for name in wanted))
        for task, mask in self.hit:
            offset = 0
            for batch in self._batches(task, read_too):
                assert mask is not None
                hits = mask.slice(offset, batch.num_rows)
                offset += batch.num_rows
                yield pa.Table.from_batches([batch.filter(hits)]).select(wanted)

    def _batches(self, task: FileScanTask, schema: Schema) -> Iterator[pa.RecordBatch]:
        return iter(task_batches(self.table.metadata, self.table.io, schema, task))


def _widen(
    batch: pa.RecordBatch,
    schema: Schema,
    arrow: pa.Schema,
    nulls: nested.Nulls,
    retyped: frozenset[str],
    target: str,
) -> pa.RecordBatch:
    """Bring rows of the table's present schema into the one it will have."""
    arrays = []
    for field, arrow_field in zip(schema.fields, arrow, strict=True):
        if field.name not in batch.schema.names:
            arrays.append(pa.nulls(batch.num_rows, arrow_field.type))
        elif field.name in retyped:
            made = recast.exactly(batch.column(field.name), arrow_field.type, field.name, target)
            nulls.add(made, field, (field.name,))
            arrays.append(made)
        else:
            column = batch.column(field.name)
            nulls.add(column, field, (field.name,))
            arrays.append(nested.fit(column, field.field_type, arrow_field.type, (field.name,)))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow)
