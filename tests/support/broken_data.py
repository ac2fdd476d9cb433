"""Backends that lose data."""

from __future__ import annotations

from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import Checksum, ExecutionContext, Snapshot, Target, WriteResult
from seeknal_core.testing.memory import MemoryBackend
from support.broken import breaks

VALUES = "values_come_back_exactly_or_are_refused"


class _Bends(MemoryBackend):
    """Bends each column as it arrives."""

    def bent(self, column: Any) -> Any:
        raise NotImplementedError

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return pa.table({name: self.bent(rows[name]) for name in rows.column_names})


def is_text(column: Any) -> bool:
    return bool(pa.types.is_string(column.type))


@breaks(VALUES, "a_checksum_is_that_of_the_rows_in_the_store")
class TakesNullForEmptyText(_Bends):
    def bent(self, column: Any) -> Any:
        return pc.fill_null(column, "") if is_text(column) else column


@breaks(VALUES)
class CountsInFloats(_Bends):
    def bent(self, column: Any) -> Any:
        if pa.types.is_integer(column.type):
            return column.cast(pa.float64(), safe=False).cast(pa.int64(), safe=False)
        return column


@breaks(VALUES)
class ForgetsTheSignOfZero(_Bends):
    def bent(self, column: Any) -> Any:
        return pc.add(column, pa.scalar(0.0, column.type)) if column.type == "double" else column


@breaks(VALUES)
class ForgetsTheTimeZone(_Bends):
    def bent(self, column: Any) -> Any:
        if pa.types.is_timestamp(column.type) and column.type.tz:
            return column.cast(pa.timestamp(column.type.unit))
        return column


@breaks(VALUES)
class EndsTextAtNul(_Bends):
    def bent(self, column: Any) -> Any:
        if not is_text(column):
            return column
        return pa.array(
            [v if v is None else v.partition("\0")[0] for v in column.to_pylist()], pa.string()
        )


@breaks(VALUES)
class TakesNullListsForEmptyOnes(_Bends):
    def bent(self, column: Any) -> Any:
        if not pa.types.is_list(column.type):
            return column
        return pa.array([[] if v is None else v for v in column.to_pylist()], column.type)


@breaks(VALUES)
class RefusesWithoutTheColumn(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        try:
            return super().materialize(context, target, snapshot)
        except WriteRefused as error:
            if "'awkward'" in str(error):
                raise WriteRefused("a column has a type that the store has not") from None
            raise


@breaks(VALUES, "no_columns_are_refused")
class RefusesTooLate(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        with self.changing(context) as store:
            store.make_namespaces(target.name.parts, None)
        return super().materialize(context, target, snapshot)


class _Renames(MemoryBackend):
    def renamed(self, name: str) -> str:
        raise NotImplementedError

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return rows.rename_columns([self.renamed(name) for name in rows.column_names])


@breaks("an_odd_column_name_is_kept_or_refused")
class FoldsColumnNames(_Renames):
    def renamed(self, name: str) -> str:
        return name.lower()


@breaks("long_column_names_are_kept_apart_or_refused")
class CutsColumnNames(_Renames):
    def renamed(self, name: str) -> str:
        return name[:63]


@breaks("no_rows_make_a_table_with_columns")
class MakesNoTableOfNoRows(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        if not snapshot.row_count and snapshot.schema.names:
            return WriteResult(rows_written=0, rows_after=0, version="none")
        return super().materialize(context, target, snapshot)


@breaks("no_columns_are_refused")
class MakesATableOfNoColumns(MemoryBackend):
    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return rows if rows.column_names else pa.table({"dummy": pa.array([], pa.int64())})


@breaks("a_thousand_columns_arrive_or_are_refused")
class DropsColumnsPastTheLimit(MemoryBackend):
    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return rows.select(rows.column_names[:500])


@breaks("all_files_of_a_snapshot_arrive")
class ReadsOneFile(MemoryBackend):
    def arriving(self, snapshot: Snapshot) -> pa.Table:
        return super().arriving(attrs.evolve(snapshot, files=snapshot.files[:1]))


@breaks("a_checksum_is_that_of_the_rows_in_the_store")
class SumsUpWhatItWrote(MemoryBackend):
    written = pa.table({})

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        self.written = super().arriving(snapshot)
        return self.written

    @hookimpl
    def checksum(self, context: ExecutionContext, target: Target) -> Checksum:
        return checksum_of(self.written.to_reader())
