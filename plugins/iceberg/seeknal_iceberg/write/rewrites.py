"""Which rows of a table a snapshot replaces: by key here, by time or partition in `spans`.

The snapshot's key columns are held in memory (keys only, never whole rows), as
are the keys of one data file at a time. Files that hold no replaced row stay;
the others are written anew without those rows, in the same commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    GreaterThanOrEqual,
    LessThanOrEqual,
)
from pyiceberg.schema import Schema

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Snapshot, Target
from seeknal_iceberg.files.placing import file_schema
from seeknal_iceberg.files.scan import task_batches
from seeknal_iceberg.types import nested, recast
from seeknal_iceberg.write.carried import Carried

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table


class Replaced(Protocol):
    """Tells which rows of a table a write replaces."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The snapshot's columns that decide."""

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Return a filter that lets every file with such a row through."""

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Return, for rows of `columns` in this order, whether each is replaced."""

    def whole(self, file: DataFile) -> bool | None:
        """Return whether all rows of a file are replaced or none; None to look at them."""

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Refuse to lose rows that the snapshot does not stand for; return notes.

        Args:
            found: the rows of `columns` of the files that were looked at.
        """


def require(snapshot: Snapshot, columns: Sequence[str], field: str, target: Target) -> None:
    """Refuse a target whose `field` names no column, or one that the snapshot lacks.

    Raises:
        WriteRefused: naming it.
    """
    known = snapshot.schema.names
    if not columns:
        raise WriteRefused(
            f"{target.name}: mode {target.mode.value} needs {field}",
            f"add {field} to the target",
            target=str(target.name),
        )
    for column in columns:
        if column not in known:
            raise WriteRefused(
                f"{target.name}: {field} names {column!r}, which the node does not have",
                nearest(column, known) or "it has " + ", ".join(known),
                target=str(target.name),
            )


def _comparable(array: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bring a column into the form in which keys are compared: no encoding, wide integers."""
    type = array.type
    if pa.types.is_dictionary(type):
        array = array.cast(type.value_type)
        type = array.type
    if isinstance(type, pa.BaseExtensionType):
        array = pa.chunked_array([chunk.storage for chunk in array.chunks], type.storage_type)
        type = array.type
    wide: pa.DataType = type
    if pa.types.is_uint64(type):
        wide = pa.decimal128(38, 0)
    elif pa.types.is_integer(type):
        wide = pa.int64()
    elif pa.types.is_decimal(type):
        wide = pa.decimal128(38, type.scale)
    elif pa.types.is_floating(type):
        return pc.add(array.cast(pa.float64()), 0.0)  # -0.0 and 0.0 are one number
    elif pa.types.is_string(type) or pa.types.is_string_view(type):
        wide = pa.large_string()
    elif pa.types.is_binary(type) or pa.types.is_binary_view(type):
        wide = pa.large_binary()
    elif pa.types.is_timestamp(type):
        wide = pa.timestamp("us", "UTC") if type.tz else pa.timestamp("us")
    elif pa.types.is_time(type):
        wide = pa.time64("us")
    elif pa.types.is_date(type):
        wide = pa.date32()
    elif pa.types.is_nested(type):
        raise WriteRefused(f"a key of type {type} cannot be compared", "use another key column")
    return array if wide == type else array.cast(wide)


@attrs.frozen(kw_only=True, eq=False)
class Keys:
    """Rows whose key is among the snapshot's.

    Made by `of`, which refuses keys that are NULL or occur twice.
    """

    columns: tuple[str, ...]
    table: pa.Table

    @classmethod
    def of(cls, snapshot: Snapshot, target: Target) -> Keys:
        """Read a snapshot's keys.

        Raises:
            WriteRefused: no key is named, a column is missing, a key is NULL or doubled.
        """
        require(snapshot, target.unique_keys, "unique_keys", target)
        columns = target.unique_keys
        read = snapshot.reader(columns=columns).read_all()
        table = pa.table([_comparable(read[name]) for name in columns], names=_positions(columns))
        for name, column in zip(columns, table.columns, strict=True):
            if column.null_count:
                raise WriteRefused(
                    f"{target.name}: {column.null_count} rows have NULL in the key {name!r}",
                    "filter them out in the node's SQL",
                    target=str(target.name),
                )
        counted = table.group_by(table.column_names).aggregate([([], "count_all")])
        if counted.num_rows != table.num_rows:
            doubled = counted.filter(pc.field("count_all") > 1)
            first = doubled.slice(0, 1).to_pylist()[0]
            shown = ", ".join(
                f"{name}={first[position]!r}"
                for name, position in zip(columns, _positions(columns), strict=True)
            )
            raise WriteRefused(
                f"{target.name}: {doubled.num_rows} keys occur more than once, as {shown}",
                "choose other unique_keys, or keep one row of each in the node's SQL",
                target=str(target.name),
            )
        return cls(columns=columns, table=table)

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Bound each key column by its least and greatest value."""
        expression: BooleanExpression = AlwaysTrue()
        for name, column in zip(self.columns, self.table.columns, strict=True):
            bounds = _bounds(column)
            if bounds is not None:
                low, high = bounds
                expression = And(expression, between(names[name], low, high))
        return expression

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Look each row's key up among the snapshot's, by a hash join."""
        keyed = self.comparable(rows.columns)
        positions = keyed.column_names
        keyed = keyed.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
        hits = keyed.join(self.table, keys=positions, join_type="left semi")["row"]
        return pc.is_in(keyed["row"], value_set=hits.combine_chunks()).combine_chunks()

    def comparable(self, columns: Sequence[pa.ChunkedArray]) -> pa.Table:
        """Return key columns in the form in which keys are compared."""
        return pa.table([_comparable(each) for each in columns], names=_positions(self.columns))

    def whole(self, file: DataFile) -> bool | None:
        """Look at the rows of every file."""
        return None

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Lose no row: one of each key comes back."""
        return ()


def between(name: str, low: int | str, high: int | str) -> BooleanExpression:
    """Return the filter that a column lies between two values, both included."""
    # pyiceberg's expressions are pydantic models whose fields mypy takes for arguments.
    at_least, at_most = cast(Any, GreaterThanOrEqual), cast(Any, LessThanOrEqual)
    return And(at_least(name, low), at_most(name, high))


def _positions(columns: Sequence[str]) -> list[str]:
    return [f"k{position}" for position in range(len(columns))]


def _bounds(column: pa.ChunkedArray) -> tuple[int | str, int | str] | None:
    type = column.type
    if pa.types.is_date32(type):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(type):
        column = column.cast(pa.int64())
    elif not (pa.types.is_int64(type) or pa.types.is_large_string(type)):
        return None
    found = pc.min_max(column).as_py()
    return None if found["min"] is None else (found["min"], found["max"])


@attrs.frozen(kw_only=True)
class Nothing:
    """No row is replaced: rows are added, or all are written anew as they are."""

    columns: tuple[str, ...] = ()

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Let every file through."""
        return AlwaysTrue()

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Replace no row."""
        return pa.repeat(pa.scalar(False), rows.num_rows)

    def whole(self, file: DataFile) -> bool | None:
        """Replace no row of any file."""
        return False

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Lose nothing."""
        return ()


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
    """Find the data files of a table that hold replaced rows, or have to be written anew.

    Args:
        names: what the table calls the snapshot's columns.
        schema: the one the table will have; the remaining rows come in it.
        retyped: columns whose values are cast, for which every file is written anew.
        carries: the table's columns whose values a write by key hands on.
        target: the table's name, for messages.

    Raises:
        WriteRefused: rows would be lost that the snapshot does not stand for.
    """
    metadata = table.metadata
    there = metadata.schema()
    keys = Schema(*(there.find_field(names[column]) for column in replaced.columns))
    everything = file_schema(schema)[1]
    candidates = AlwaysTrue() if retyped else replaced.candidates(names)
    tasks = table.scan(row_filter=candidates).plan_files()
    hit: list[tuple[FileScanTask, pa.BooleanArray | None]] = []
    kept: list[FileScanTask] = []
    looked: list[pa.Table] = []
    for task in tasks:
        whole = replaced.whole(task.file)
        if whole is not None:
            hit += [(task, None)] if whole else []
            kept += [] if whole else [task]
            continue
        batches = list(task_batches(metadata, table.io, keys, task))
        if not batches:
            kept.append(task)
            continue
        read = pa.concat_tables(
            (pa.Table.from_batches([batch]) for batch in batches), promote_options="permissive"
        )
        read = read.select([field.name for field in keys.fields])
        mask = replaced.mask(read)
        looked.append(read)
        if pc.any(mask).as_py():
            hit.append((task, mask))
        else:
            kept.append(task)

    nulls = nested.Nulls()

    def remaining() -> Iterator[pa.RecordBatch]:
        for task, mask in hit:
            if mask is None or pc.all(mask).as_py():
                continue
            offset = 0
            for batch in task_batches(metadata, table.io, there, task):
                stays = pc.invert(mask.slice(offset, batch.num_rows))
                offset += batch.num_rows
                yield _widen(batch.filter(stays), schema, everything, nulls, retyped, target)
        for task in kept if retyped else ():
            for batch in task_batches(metadata, table.io, there, task):
                yield _widen(batch, schema, everything, nulls, retyped, target)

    def replaced_rows() -> Iterator[pa.Table]:
        wanted = [field.name for field in keys.fields] + list(carries)
        read_too = Schema(*(there.find_field(name) for name in wanted))
        for task, mask in hit:
            offset = 0
            for batch in task_batches(metadata, table.io, read_too, task):
                assert mask is not None
                hits = mask.slice(offset, batch.num_rows)
                offset += batch.num_rows
                yield pa.Table.from_batches([batch.filter(hits)]).select(wanted)

    by_key = isinstance(replaced, Keys) and carries
    return Rewrites(
        carried=Carried.of(cast(Keys, replaced), replaced_rows()) if by_key else None,
        removed=tuple(
            task.file for task in [*(task for task, _ in hit), *(kept if retyped else ())]
        ),
        remaining=remaining(),
        notes=replaced.check(looked),
        nulls=nulls,
    )


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
