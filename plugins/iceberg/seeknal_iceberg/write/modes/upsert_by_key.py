"""Mode ``upsert_by_key``: the snapshot's rows replace those with the same key.

The snapshot's key columns are held in memory (keys only, never whole rows), as are the keys
of one data file at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression

from seeknal_core.contract import Mode, Snapshot, Target, WriteRefused, rules
from seeknal_core.contract.rules import refusals
from seeknal_iceberg.write.carried import Carried
from seeknal_iceberg.write.modes.interface import WriteMode, between

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile


@attrs.frozen(kw_only=True, eq=False)
class UpsertByKey(WriteMode):
    """Replace rows by key; what the node does not have of them passes on to the new rows."""

    mode: ClassVar[Mode] = Mode.UPSERT_BY_KEY
    carries: ClassVar[bool] = True

    @property
    def finds_by(self) -> tuple[str, ...]:
        """The key."""
        return self.target.unique_keys

    def read(self) -> Keys:
        """Read the snapshot's keys.

        Raises:
            WriteRefused: no key is named, a column is missing, a key is NULL or duplicated.
        """
        return Keys.of(self.snapshot, self.target)

    def is_done(self, properties: dict[str, str]) -> bool:
        """Write nothing if no rows arrive."""
        return self.snapshot.row_count == 0 and self.target.covers is None


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
            WriteRefused: no key is named, a column is missing, a key is NULL or duplicated.
        """
        rules.check_named_columns(target, snapshot.schema.names)
        columns = target.unique_keys
        read = snapshot.reader(columns=columns).read_all()
        table = pa.table([_comparable(read[name]) for name in columns], names=_positions(columns))
        null = reduce(pc.or_, (pc.is_null(column) for column in table.columns))
        if count := pc.sum(null).as_py():
            raise refusals.null_keys(target.name, count, columns)
        counted = table.group_by(table.column_names).aggregate([([], "count_all")])
        if counted.num_rows != table.num_rows:
            doubled = counted.filter(pc.field("count_all") > 1)
            first = doubled.slice(0, 1).to_pylist()[0]
            shown = ", ".join(
                f"{name}={first[position]!r}"
                for name, position in zip(columns, _positions(columns), strict=True)
            )
            raise refusals.duplicated_keys(target.name, doubled.num_rows, columns, shown)
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
        """Refuse nothing: each key has a new row."""
        return ()

    def carried(self, rows: Iterator[pa.Table]) -> Carried | None:
        """Return the values that go on to the row of the same key."""
        return Carried.of(self, rows)


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
