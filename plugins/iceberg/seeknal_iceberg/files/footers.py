"""Gives a Parquet file the field ids of a table, by changing only the footer.

Lists and maps get the newer of Parquet's two words for them, where they have the older only.

A Parquet file ends with its footer, the struct ``FileMetaData`` in Thrift's compact
protocol. Its second field is the schema, a flat list of elements in which each may
have a field id; all that comes after it is copied as it is, and so is everything
before the footer: pages, indexes and filters lie at places counted from the file's
beginning.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

_MAGIC = b"PAR1"
#: Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT, _UUID = range(
    1, 14
)
#: Fields of ``FileMetaData`` and of ``SchemaElement``.
_SCHEMA = 2
_NAME, _CHILDREN, _CONVERTED, _FIELD_ID, _LOGICAL = 4, 5, 6, 9, 10
#: The union ``LogicalType`` with its field for a list, and for a map: empty structs.
_LIST_TYPE, _MAP_TYPE = b"\x3c\x00\x00", b"\x2c\x00\x00"


class Unfit(Exception):
    """The file's columns are not in the shape that is asked for."""


@attrs.frozen(kw_only=True)
class Identified:
    """A Parquet file with ids: the bytes of it that stay, and its new end.

    ``ids`` gives each leaf column's field id by its path in the file.
    """

    kept: int
    end: bytes
    footer: pq.FileMetaData
    ids: Mapping[str, int]


@attrs.define
class _Element:
    """One ``SchemaElement``: its fields as they are, in the order of their numbers."""

    fields: dict[int, tuple[int, bytes]]

    @property
    def name(self) -> str:
        raw = self.fields[_NAME][1]
        _, start = _varint(raw, 0)
        return raw[start:].decode()

    @property
    def children(self) -> int:
        found = self.fields.get(_CHILDREN)
        return 0 if found is None else _unzigzag(_varint(found[1], 0)[0])


def identify(file: BinaryIO, columns: Mapping[str, NestedField]) -> Identified:
    """Return what makes of a Parquet file one with a table's field ids.

    Args:
        columns: the table's field for each column of the file, by the file's name.

    Raises:
        Unfit: a column's shape is not that of its field, or the file is of a kind
            that is not understood here.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(-8, os.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    if file.read(4) != _MAGIC or length + 12 > size:
        raise Unfit("the file is encrypted or broken")
    file.seek(-8 - length, os.SEEK_END)
    raw = file.read(length)
    footer = pq.read_metadata(pa.BufferReader(_MAGIC + raw + length.to_bytes(4, "little") + _MAGIC))
    try:
        begin, end, elements = _schema(raw)
        ids = _number(elements, columns)
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise Unfit(f"the footer is not understood: {error}") from error
    made = raw[:begin] + _emit(elements) + raw[end:]
    tail = made + len(made).to_bytes(4, "little") + _MAGIC
    written = pq.read_metadata(pa.BufferReader(_MAGIC + tail))
    _verify(footer, written, ids)
    return Identified(kept=size - 8 - length, end=tail, footer=written, ids=dict(ids))


def _verify(
    before: pq.FileMetaData, after: pq.FileMetaData, ids: Sequence[tuple[str, int]]
) -> None:
    """Read the new footer as others do: the ids are there, and all else is as it was."""
    same = (after.num_rows, after.num_row_groups, after.num_columns) == (
        before.num_rows,
        before.num_row_groups,
        before.num_columns,
    )
    for index in range(before.num_columns if same else 0):
        one, two = before.schema.column(index), after.schema.column(index)
        same = same and one.path == two.path == ids[index][0]
        same = same and (one.physical_type, str(one.logical_type), one.max_definition_level) == (
            two.physical_type,
            str(two.logical_type),
            two.max_definition_level,
        )
    found = [number for field in after.schema.to_arrow_schema() for number in _leaf_ids(field)]
    if not same or found != [number for _, number in ids]:
        raise Unfit("the new footer does not read as the old one does")


def _leaf_ids(field: pa.Field) -> list[int]:
    type = field.type
    if pa.types.is_map(type):
        return _leaf_ids(type.key_field) + _leaf_ids(type.item_field)
    if pa.types.is_struct(type):
        return [number for child in type for number in _leaf_ids(child)]
    if pa.types.is_nested(type):
        return _leaf_ids(type.value_field)
    return [int((field.metadata or {}).get(b"PARQUET:field_id", b"-1"))]


def _number(
    elements: Sequence[_Element], columns: Mapping[str, NestedField]
) -> list[tuple[str, int]]:
    """Set the ids of a schema's elements; return each leaf's path and id, in order."""
    leaves: list[tuple[str, int]] = []
    position = 1

    def element(name: str | None, children: int) -> _Element:
        nonlocal position
        found = elements[position]
        position += 1
        if found.children != children or (name is not None and found.name != name):
            raise Unfit(f"{found.name!r} has not the shape of its field")
        return found

    def give(found: _Element, field_id: int, kind: bytes = b"") -> None:
        found.fields[_FIELD_ID] = (_I32, _varint_bytes(field_id << 1))
        if kind and _CONVERTED in found.fields:
            # DuckDB writes the older word alone, and Daft 0.7 looks for the newer one.
            found.fields.setdefault(_LOGICAL, (_STRUCT, kind))

    def walk(field: NestedField, path: tuple[str, ...], name: str) -> None:
        type: IcebergType = field.field_type
        if isinstance(type, StructType):
            give(element(name, len(type.fields)), field.field_id)
            for child in type.fields:
                # The caller guarantees the order of names; the file's are checked nevertheless.
                walk(child, (*path, name), child.name)
        elif isinstance(type, ListType):
            give(element(name, 1), field.field_id, _LIST_TYPE)
            repeated = element(None, 1)
            walk(type.element_field, (*path, name, repeated.name), elements[position].name)
        elif isinstance(type, MapType):
            give(element(name, 1), field.field_id, _MAP_TYPE)
            repeated = element(None, 2)
            walk(type.key_field, (*path, name, repeated.name), elements[position].name)
            walk(type.value_field, (*path, name, repeated.name), elements[position].name)
        else:
            give(element(name, 0), field.field_id)
            leaves.append((".".join((*path, name)), field.field_id))

    for _ in range(elements[0].children):
        name = elements[position].name
        walk(columns[name], (), name)
    if position != len(elements) or len({path for path, _ in leaves}) != len(leaves):
        raise Unfit("the schema is not a plain tree of columns")
    return leaves


def _schema(raw: bytes) -> tuple[int, int, list[_Element]]:
    """Find the schema in a footer: where its list begins and ends, and its elements."""
    position, number = 0, 0
    while number < _SCHEMA:
        kind, number, position = _field_header(raw, position, number)
        if kind == 0:
            break
        if number < _SCHEMA:
            position = _skip(raw, position, kind)
    if number != _SCHEMA or kind != _LIST:
        raise Unfit("the footer has no schema where it should be")
    begin = position
    kind, count, position = _list_header(raw, position)
    elements = []
    for _ in range(count):
        fields: dict[int, tuple[int, bytes]] = {}
        last = 0
        while True:
            kind, last, position = _field_header(raw, position, last)
            if kind == 0:
                break
            start, position = position, _skip(raw, position, kind)
            fields[last] = (kind, raw[start:position])
        elements.append(_Element(fields))
    return begin, position, elements


def _emit(elements: Sequence[_Element]) -> bytes:
    count = len(elements)
    made = bytearray()
    if count < 15:
        made.append(count << 4 | _STRUCT)
    else:
        made.append(0xF0 | _STRUCT)
        made += _varint_bytes(count)
    for element in elements:
        last = 0
        for number, (kind, raw) in sorted(element.fields.items()):
            made.append((number - last) << 4 | kind)  # a SchemaElement has ten fields
            made += raw
            last = number
        made.append(0)
    return bytes(made)


def _field_header(raw: bytes, position: int, last: int) -> tuple[int, int, int]:
    """Return a field's type (0 at a struct's end), its number, and where its value begins."""
    byte = raw[position]
    position += 1
    kind, delta = byte & 0x0F, byte >> 4
    if kind == 0:
        return 0, last, position
    if delta:
        return kind, last + delta, position
    number, position = _varint(raw, position)
    return kind, _unzigzag(number), position


def _list_header(raw: bytes, position: int) -> tuple[int, int, int]:
    """Return the type of a list's elements, their number, and where they begin."""
    byte = raw[position]
    position += 1
    count = byte >> 4
    if count == 15:
        count, position = _varint(raw, position)
    return byte & 0x0F, count, position


def _skip(raw: bytes, position: int, kind: int) -> int:
    """Return where a value ends."""
    if kind in (_TRUE, _FALSE):
        return position
    if kind in (_I16, _I32, _I64):
        return _varint(raw, position)[1]
    if kind == _BINARY:
        length, position = _varint(raw, position)
        return position + length
    if kind == _STRUCT:
        last = 0
        while True:
            kind, last, position = _field_header(raw, position, last)
            if kind == 0:
                return position
            position = _skip(raw, position, kind)
    fixed = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}.get(kind)
    if fixed is None:  # SchemaElement has no lists, sets or maps
        raise Unfit(f"a value of Thrift's type {kind}")
    return position + fixed


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7


def _varint_bytes(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _unzigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)
