"""Partitioning: what ``partition_by`` means, and which partition a row is in.

Transforms are the specification's (https://iceberg.apache.org/spec/#partition-transforms).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.typedef import Record
from pyiceberg.types import (
    DateType,
    NestedField,
    PrimitiveType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.options import nearest

if TYPE_CHECKING:
    from pyiceberg.table import Transaction
    from pyiceberg.table.metadata import TableMetadata

_CALL = re.compile(r"\s*(\w+)\s*\(\s*(.+?)\s*\)\s*\Z")
_TIMES: dict[str, type[Transform[Any, Any]]] = {
    "year": YearTransform, "years": YearTransform, "month": MonthTransform,
    "months": MonthTransform, "day": DayTransform, "days": DayTransform,
    "hour": HourTransform, "hours": HourTransform, "identity": IdentityTransform,
}  # fmt: skip
_WORDS = ("year(c)", "month(c)", "day(c)", "hour(c)", "bucket(n, c)", "truncate(n, c)", "c")


@attrs.frozen(kw_only=True)
class Partition:
    """One entry of ``partition_by``: a column, a transform, the partition field's name."""

    column: str
    transform: Transform[Any, Any]
    name: str


def parse(entries: Sequence[str], schema: Schema, target: str) -> tuple[Partition, ...]:
    """Read ``partition_by`` against the schema the table will have.

    Raises:
        WriteRefused: an unknown transform or column, or a transform that the
            column's type does not take. Nothing was written.
    """
    columns = [field.name for field in schema.fields]
    found: list[Partition] = []
    for entry in entries:
        column, transform, suffix = _parse(entry, columns, target)
        if column not in columns:
            raise _mistake(
                target, entry, f"there is no column {column!r}", nearest(column, columns)
            )
        type = schema.find_field(column).field_type
        if not transform.can_transform(type):
            raise _mistake(target, entry, f"{column!r} is {type}, which it does not take", "")
        found.append(Partition(column=column, transform=transform, name=column + suffix))
    taken = [partition.name for partition in found]
    for partition in found:
        clashes = suffix_clash(partition, columns)
        if taken.count(partition.name) > 1 or clashes:
            raise _mistake(target, partition.name, "its name is taken by a column or twice", "")
    return tuple(found)


def suffix_clash(partition: Partition, columns: Sequence[str]) -> bool:
    """Return whether a partition field's name is another thing's name in the table."""
    return partition.name in columns and not isinstance(partition.transform, IdentityTransform)


def _mistake(target: str, entry: str, why: str, hint: str) -> WriteRefused:
    return WriteRefused(
        f"{target}: partition_by {entry!r}: {why}",
        hint or "write a column or one of " + ", ".join(_WORDS[:-1]),
        target=target,
    )


def _parse(entry: str, columns: Sequence[str], target: str) -> tuple[str, Transform[Any, Any], str]:
    if entry in columns:
        return entry, IdentityTransform(), ""
    match = _CALL.match(entry)
    if match is None:
        return entry.strip(), IdentityTransform(), ""
    word, inner = match.group(1).lower(), match.group(2)
    if word in _TIMES:
        transform = cast(Any, _TIMES[word])()
        suffix = "" if isinstance(transform, IdentityTransform) else f"_{word.rstrip('s')}"
        return inner, transform, suffix
    if word in ("bucket", "truncate"):
        left, _, right = (part.strip() for part in inner.partition(","))
        number, column = (left, right) if left.isdigit() else (right, left)
        if not number.isdigit() or not column or int(number) < 1:
            raise _mistake(target, entry, f"{word} takes a number and a column", "")
        made: Transform[Any, Any] = (
            BucketTransform(int(number)) if word == "bucket" else TruncateTransform(int(number))
        )
        return column, made, "_bucket" if word == "bucket" else "_trunc"
    raise _mistake(target, entry, f"there is no transform {word!r}", nearest(word, _TIMES))


def spec_for(partitions: Sequence[Partition], schema: Schema) -> PartitionSpec:
    """Return the partition spec of a new table."""
    return PartitionSpec(
        *(
            PartitionField(
                schema.find_field(partition.column).field_id,
                PARTITION_FIELD_ID_START + position,
                partition.transform,
                partition.name,
            )
            for position, partition in enumerate(partitions)
        )
    )


def differs(partitions: Sequence[Partition], metadata: TableMetadata) -> bool:
    """Return whether a table is partitioned otherwise than ``partition_by`` says."""
    schema = metadata.schema()
    there = {
        (schema.find_column_name(field.source_id), str(field.transform))
        for field in metadata.spec().fields
        if not isinstance(field.transform, VoidTransform)
    }
    return there != {(partition.column, str(partition.transform)) for partition in partitions}


def evolve(transaction: Transaction, partitions: Sequence[Partition]) -> None:
    """Partition new rows as ``partition_by`` says; rows that stay keep their files."""
    metadata = transaction.table_metadata
    schema = metadata.schema()
    wanted = {(partition.column, str(partition.transform)): partition for partition in partitions}
    with transaction.update_spec() as update:
        for field in metadata.spec().fields:
            key = (schema.find_column_name(field.source_id) or "", str(field.transform))
            if wanted.pop(key, None) is None and not isinstance(field.transform, VoidTransform):
                update.remove_field(field.name)
        for partition in wanted.values():
            update.add_field(partition.column, partition.transform, partition.name)


class Splitter:
    """Splits batches by the partitions of a spec.

    Args:
        spec: the partition spec, possibly of no fields.
        schema: the table's schema, for the columns' names and types.
    """

    def __init__(self, spec: PartitionSpec, schema: Schema) -> None:
        self._fields: list[tuple[str, NestedField, Transform[Any, Any]]] = []
        for field in spec.fields:
            name = schema.find_column_name(field.source_id)
            assert name is not None
            self._fields.append((name, schema.find_field(field.source_id), field.transform))

    def split(self, batch: pa.RecordBatch) -> list[tuple[Record, pa.RecordBatch]]:
        """Return each partition of the batch's rows with its rows, in order of appearance."""
        if not self._fields:
            return [(Record(), batch)]
        if batch.num_rows == 0:
            return []
        coded = [
            _codes(_column(batch, name), field, transform)
            for name, field, transform in self._fields
        ]
        combined = coded[0][0]
        for codes, values in coded[1:]:
            combined = pc.add(pc.multiply(combined, len(values)), codes)
        counted = pc.value_counts(combined).to_pylist()
        if len(counted) == 1:
            return [(_record(counted[0]["values"], coded), batch)]
        # Each piece has memory of its own: a slice would keep all of the others alive.
        order = pc.sort_indices(combined)
        pieces, offset = [], 0
        for entry in sorted(counted, key=lambda entry: int(entry["values"])):
            piece = batch.take(order.slice(offset, entry["counts"]))
            pieces.append((_record(entry["values"], coded), piece))
            offset += entry["counts"]
        return pieces


_Coded = tuple[pa.Array, list[object]]


def _record(code: int, coded: Sequence[_Coded]) -> Record:
    values: list[object] = []
    for _, distinct in reversed(coded):
        code, position = divmod(code, len(distinct))
        values.append(distinct[position])
    return Record(*reversed(values))


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch.column(name)
    head, *rest = name.split(".")
    array = batch.column(head)
    for part in rest:
        array = pc.struct_field(array, part)
    return array


def _codes(array: pa.Array, field: NestedField, transform: Transform[Any, Any]) -> _Coded:
    """Return a number for each row and, by number, the partition's values; NULL is the last.

    The transform is computed once for each different value of the column.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    encoded = array.dictionary_encode()
    apply = transform.transform(field.field_type)
    positions: dict[object, int] = {}
    found: list[object] = []
    codes = []
    for value in _internal(encoded.dictionary, field.field_type):
        partition = apply(value)
        position = positions.setdefault(_told_apart(partition), len(found))
        if position == len(found):
            found.append(partition)
        codes.append(position)
    of_value = pa.array(codes, pa.int64())
    rows = pc.fill_null(of_value.take(encoded.indices), len(found))
    return rows, [*found, None]


def key_of(record: Record) -> tuple[object, ...]:
    """Return what is equal for two partitions that are one, also where a value is NaN.

    Manifests give UUIDs where rows give bytes.
    """
    return tuple(_told_apart(record[position]) for position in range(len(record)))


def _told_apart(value: object) -> object:
    """Return a partition's value, floats by their bits.

    NaN is one partition, though it equals nothing; 0.0 and -0.0 are two, as the
    specification orders them, though they are equal.
    """
    if isinstance(value, float):
        return ("nan",) if math.isnan(value) else (struct.pack("<d", value),)
    return value.bytes if isinstance(value, UUID) else value


def _internal(values: pa.Array, type: object) -> list[object]:
    """Return values in Iceberg's single-value form: days, microseconds, bytes."""
    assert isinstance(type, PrimitiveType)
    if isinstance(type, DateType):
        values = values.cast(pa.int32())
    elif isinstance(type, TimestampType | TimestamptzType | TimeType):
        values = values.cast(pa.int64())
    return list(values.to_pylist())
