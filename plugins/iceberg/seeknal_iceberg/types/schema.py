"""Types: a snapshot's columns in Iceberg's words, and how they fit a table that exists.

The types are those of the Iceberg specification, format version 2
(https://iceberg.apache.org/spec/#primitive-types). A column is *exact* where the
Parquet that the engine wrote is already what the specification asks for, so
that its bytes may be taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import UTC_ALIASES
from pyiceberg.schema import Schema, make_compatible_name
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Snapshot

_EXACT: tuple[tuple[pa.DataType, type[IcebergType]], ...] = (
    (pa.bool_(), BooleanType), (pa.int8(), IntegerType), (pa.int16(), IntegerType),
    (pa.int32(), IntegerType), (pa.uint8(), IntegerType), (pa.uint16(), IntegerType),
    (pa.int64(), LongType), (pa.float32(), FloatType), (pa.float64(), DoubleType),
    (pa.date32(), DateType), (pa.time64("us"), TimeType), (pa.timestamp("us"), TimestampType),
    (pa.string(), StringType), (pa.large_string(), StringType), (pa.string_view(), StringType),
    (pa.binary(), BinaryType), (pa.large_binary(), BinaryType), (pa.binary_view(), BinaryType),
)  # fmt: skip
_RECODED: tuple[tuple[pa.DataType, IcebergType], ...] = (
    (pa.uint32(), LongType()), (pa.uint64(), DecimalType(20, 0)), (pa.float16(), FloatType()),
    (pa.date64(), DateType()), (pa.time32("s"), TimeType()), (pa.time32("ms"), TimeType()),
    (pa.time64("ns"), TimeType()),
)  # fmt: skip
#: The raw values by which DuckDB writes the infinities of its dates and timestamps.
_INFINITE = frozenset({2**63 - 1, -(2**63 - 1), 2**31 - 1, -(2**31 - 1)})


class Unsupported(Exception):
    """A type has no counterpart in Iceberg; the message says why."""


@attrs.frozen(kw_only=True)
class Column:
    """A snapshot's column: its name, its type in Iceberg, and whether its bytes may stay."""

    name: str
    type: IcebergType
    exact: bool


def columns_of(snapshot: Snapshot, target: str) -> tuple[Column, ...]:
    """Return a snapshot's columns in Iceberg's types.

    Raises:
        WriteRefused: a column's type has no counterpart; by name, all of them.
    """
    problems = list(_footer_problems(snapshot))
    named = {name for name, _ in problems}
    found: list[Column] = []
    for field in snapshot.schema:
        if field.name in named:
            continue
        try:
            type, exact = _convert(field.type)
        except Unsupported as error:
            problems.append((field.name, str(error)))
        else:
            found.append(Column(name=field.name, type=type, exact=exact and "." not in field.name))
    if not len(snapshot.schema):
        raise refusals.no_columns(target)
    if problems:
        text = "; ".join(f"column {name!r} {why}" for name, why in problems)
        raise WriteRefused(f"{target}: {text}", "CAST the column in the node's SQL", target=target)
    check_names(
        [path for column in found for path in paths_of(column.type, (column.name,))], target
    )
    for one, other in _doubled(found):
        raise WriteRefused(
            f"{target}: columns {one!r} and {other!r} differ in case only",
            "rename one in the node's SQL",
            target=target,
        )
    return tuple(found)


def paths_of(type: IcebergType, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path of a column, and those of the fields inside."""
    yield path
    inner: Sequence[tuple[str, IcebergType]] = ()
    if isinstance(type, StructType):
        inner = [(field.name, field.field_type) for field in type.fields]
    elif isinstance(type, ListType):
        inner = [("element", type.element_type)]
    elif isinstance(type, MapType):
        inner = [("key", type.key_type), ("value", type.value_type)]
    for name, child in inner:
        yield from paths_of(child, (*path, name))


def check_names(paths: Sequence[tuple[str, ...]], target: str) -> None:
    """Refuse columns and fields that Iceberg cannot tell apart by name.

    Its libraries look fields up by their names joined with dots, and put other names into
    data files where one is not a plain word (``a b`` is ``a_x20b`` there).

    Raises:
        WriteRefused: naming both, or the one that has no name.
    """
    hint = "rename one in the node's SQL"
    joined: dict[str, tuple[str, ...]] = {}
    stored: dict[str, tuple[str, ...]] = {}
    for path in paths:
        if "" in path:
            raise WriteRefused(
                f"{target}: column {_quoted(path)} has an empty name", hint, target=target
            )
        names = ".".join(path), ".".join(make_compatible_name(name) for name in path)
        for known, name in zip((joined, stored), names, strict=True):
            other = known.setdefault(name, path)
            if other is not path:
                raise WriteRefused(
                    f"{target}: columns {_quoted(other)} and {_quoted(path)} would have the same "
                    "name in Iceberg",
                    hint,
                    target=target,
                )


def _quoted(path: Sequence[str]) -> str:
    return ".".join(repr(name) for name in path)


def _doubled(columns: Sequence[Column]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names that differ only in case, also inside columns."""
    folded: dict[str, str] = {}
    for column in columns:
        other = folded.setdefault(column.name.casefold(), column.name)
        if other != column.name:
            yield other, column.name
        yield from _doubled_fields(column.type, column.name)


def _doubled_fields(type: IcebergType, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(type, StructType):
        folded: dict[str, str] = {}
        for field in type.fields:
            other = folded.setdefault(field.name.casefold(), field.name)
            if other != field.name:
                yield f"{path}.{other}", f"{path}.{field.name}"
        for field in type.fields:
            yield from _doubled_fields(field.field_type, f"{path}.{field.name}")
    elif isinstance(type, ListType):
        yield from _doubled_fields(type.element_type, f"{path}.element")
    elif isinstance(type, MapType):
        yield from _doubled_fields(type.key_type, f"{path}.key")
        yield from _doubled_fields(type.value_type, f"{path}.value")


def _footer_problems(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Find what Arrow's schema hides: INTERVAL and TIMETZ columns, infinite times."""
    first = True
    infinite: set[str] = set()
    for path in snapshot.files:
        metadata = pq.read_metadata(path)
        for index in range(metadata.num_columns):
            column = metadata.schema.column(index)
            name = column.path.partition(".")[0] if column.max_definition_level else column.path
            if first and column.converted_type == "INTERVAL":
                yield name, "is an INTERVAL, which Iceberg does not have"
            logical = str(column.logical_type)
            if first and logical.startswith("Time(isAdjustedToUTC=true"):
                yield name, "is a TIME WITH TIME ZONE, which Iceberg does not have"
            if logical.startswith(("Timestamp", "Date")) and _is_infinite(metadata, index):
                infinite.add(column.path)
        first = False
    for name in sorted(infinite):
        yield name, "holds an infinite date or time, which Iceberg does not have"


def _is_infinite(metadata: pq.FileMetaData, index: int) -> bool:
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max:
            continue
        if {statistics.min_raw, statistics.max_raw} & _INFINITE:
            return True
    return False


def _convert(type: pa.DataType) -> tuple[IcebergType, bool]:
    for arrow, iceberg in _EXACT:
        if type == arrow:
            return iceberg(), True
    for arrow, recoded in _RECODED:
        if type == arrow:
            return recoded, False
    if pa.types.is_timestamp(type):
        if type.tz is None:
            return TimestampType(), type.unit == "us"
        # A file that names another zone cannot be read by pyiceberg.
        return TimestamptzType(), type.unit == "us" and type.tz in UTC_ALIASES
    if pa.types.is_decimal(type):
        if type.precision > 38 or not 0 <= type.scale <= type.precision:
            raise Unsupported(f"is {type}; Iceberg has decimals of 38 digits at most")
        return DecimalType(type.precision, type.scale), pa.types.is_decimal128(type)
    if isinstance(type, pa.UuidType):
        return UUIDType(), True
    if isinstance(type, pa.JsonType):
        return StringType(), False
    if pa.types.is_fixed_size_binary(type):
        return FixedType(type.byte_width), True
    if pa.types.is_dictionary(type):
        # pyiceberg cannot join a file that is read in dictionaries to one that is not.
        return _convert(type.value_type)[0], False
    if pa.types.is_struct(type) or pa.types.is_map(type) or _is_list(type):
        return _convert_nested(type)
    if pa.types.is_null(type):
        raise Unsupported("has no type, only NULLs")
    raise Unsupported(f"is {type}, which Iceberg does not have")


def _is_list(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    )


def _convert_nested(type: pa.DataType) -> tuple[IcebergType, bool]:
    # Ids are given again when the type enters a table's schema.
    if pa.types.is_struct(type):
        children = [(field.name, *_convert(field.type)) for field in type]
        if not children:
            raise Unsupported("is a struct without fields")
        fields = [NestedField(-1, name, child, required=False) for name, child, _ in children]
        return StructType(*fields), all(exact and "." not in name for name, _, exact in children)
    if pa.types.is_map(type):
        key, key_exact = _convert(type.key_type)
        value, value_exact = _convert(type.item_type)
        return MapType(-1, key, -1, value, value_required=False), key_exact and value_exact
    element, exact = _convert(type.value_type)
    exact = exact and not pa.types.is_fixed_size_list(type)
    return ListType(-1, element, element_required=False), exact


def may_not_fit(type: pa.DataType) -> bool:
    """Return whether the type's values, by their unit, may be none of Iceberg's microseconds."""
    if pa.types.is_dictionary(type):
        return may_not_fit(type.value_type)
    if pa.types.is_timestamp(type):
        return bool(type.unit != "us")
    if pa.types.is_struct(type):
        return any(may_not_fit(child.type) for child in type)
    if pa.types.is_map(type):
        return may_not_fit(type.key_type) or may_not_fit(type.item_type)
    if _is_list(type):
        return may_not_fit(type.value_type)
    return bool(type == pa.time64("ns"))


def new_schema(columns: Sequence[Column]) -> Schema:
    """Return the schema of a new table: all columns optional, in the snapshot's order.

    A snapshot's NOT NULL is what its rows happened to be, not a promise.
    """
    counter = iter(range(1, 1_000_000))
    return Schema(
        *(
            NestedField(next(counter), column.name, _number(column.type, counter), required=False)
            for column in columns
        )
    )


def _number(type: IcebergType, ids: Iterator[int]) -> IcebergType:
    if isinstance(type, StructType):
        fields = [
            NestedField(next(ids), field.name, _number(field.field_type, ids), required=False)
            for field in type.fields
        ]
        return StructType(*fields)
    if isinstance(type, ListType):
        return ListType(next(ids), _number(type.element_type, ids), element_required=False)
    if isinstance(type, MapType):
        key, value = next(ids), next(ids)
        return MapType(
            key, _number(type.key_type, ids), value, _number(type.value_type, ids),
            value_required=False,
        )  # fmt: skip
    return type


def same(left: IcebergType, right: IcebergType) -> bool:
    """Return whether two types are equal but for field ids, names of fields in order."""
    if isinstance(left, StructType) and isinstance(right, StructType):
        return [field.name for field in left.fields] == [field.name for field in right.fields] and (
            all(
                same(a.field_type, b.field_type) and not b.required
                for a, b in zip(left.fields, right.fields, strict=True)
            )
        )
    if isinstance(left, ListType) and isinstance(right, ListType):
        return same(left.element_type, right.element_type) and not right.element_required
    if isinstance(left, MapType) and isinstance(right, MapType):
        return (
            same(left.key_type, right.key_type)
            and same(left.value_type, right.value_type)
            and not right.value_required
        )
    return left == right


def widens(narrow: IcebergType, wide: IcebergType) -> bool:
    """Return whether the specification lets a column of one type become the other.

    https://iceberg.apache.org/spec/#schema-evolution: int to long, float to
    double, decimal to one of more digits and the same scale.
    """
    if isinstance(narrow, DecimalType) and isinstance(wide, DecimalType):
        return narrow.scale == wide.scale and narrow.precision <= wide.precision
    return (
        narrow == wide
        or (isinstance(narrow, IntegerType) and isinstance(wide, LongType))
        or (isinstance(narrow, FloatType) and isinstance(wide, DoubleType))
    )
