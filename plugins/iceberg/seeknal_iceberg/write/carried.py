"""Carry what replaced rows have in columns that the snapshot lacks over to the new rows.

A write by key replaces whole rows, since data files hold whole rows. The columns that the
node does not give are not its own to change: somebody else made them, or they stay from
an earlier version of the node. Their values go on to the row of the same key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import attrs
import pyarrow as pa

_ROW = "row"
_FOUND = "found"


class Keys(Protocol):
    """The key columns of a write by key."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The snapshot's key columns."""

    def comparable(self, columns: Sequence[pa.ChunkedArray]) -> pa.Table:
        """Return key columns in the form in which keys are compared."""


@attrs.frozen(kw_only=True, eq=False)
class Carried:
    """Values of some of a table's columns, by key.

    ``keys`` has the comparable key columns and the row of ``values`` that has the first
    row of that key.
    """

    by: Keys
    keys: pa.Table
    values: pa.Table

    @classmethod
    def of(cls, by: Keys, rows: Iterable[pa.Table]) -> Carried | None:
        """Gather the values of replaced rows; None if all of them are NULL.

        Args:
            rows: of the key columns, in their order, and the carried ones.
        """
        gathered = list(rows)
        if not gathered:
            return None
        read = pa.concat_tables(gathered, promote_options="permissive")
        count = len(by.columns)
        values = read.select(read.column_names[count:])
        if all(column.null_count == len(column) for column in values.columns):
            return None
        keys = by.comparable(read.columns[:count])
        positions = keys.column_names
        keys = keys.append_column(_FOUND, pa.array(range(keys.num_rows), pa.int64()))
        # Where a key is there more than once, one row of it takes the place of all.
        firsts = keys.group_by(positions, use_threads=False).aggregate([(_FOUND, "min")])
        keys = firsts.rename_columns([*positions, _FOUND])
        return cls(by=by, keys=keys, values=values)

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """What the added columns are called, in the batches and in the table."""
        return tuple((name, name) for name in self.values.column_names)

    def add(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Add the columns to batches of the snapshot; NULL where a key is new."""
        for batch in batches:
            rows = [pa.chunked_array([batch.column(name)]) for name in self.by.columns]
            keyed = self.by.comparable(rows)
            positions = keyed.column_names
            keyed = keyed.append_column(_ROW, pa.array(range(batch.num_rows), pa.int64()))
            joined = keyed.join(self.keys, keys=positions, join_type="left outer")
            found = joined.sort_by(_ROW)[_FOUND].combine_chunks()
            taken = self.values.take(found)
            arrays = [column.combine_chunks() for column in taken.columns]
            yield pa.RecordBatch.from_arrays(
                [*batch.columns, *arrays], names=[*batch.schema.names, *taken.column_names]
            )
