"""Bring Arrow values into a table's types, nested fields matched by name, never by Arrow's cast.

Arrow's cast of a struct takes the children that have the same name and fills the
others with NULL. New files of a table have other names than the table where those
are not plain words (``content-type`` is ``content_x2Dtype`` in the file), so a cast
would lose the values. Here each field of the table is looked up among the children,
without case where no name is equal, and its values are taken over whatever the
field is called in the file. `Nulls` counts on the way what a lost value would change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

if TYPE_CHECKING:
    import pyarrow.parquet as pq

Path = tuple[str, ...]


class Misfit(Exception):
    """A value does not fit its type; ``path`` leads to the field inside the column."""

    def __init__(self, path: Path, type: pa.DataType, why: str) -> None:
        super().__init__(why)
        self.path = path
        self.type = type


def match(there: Sequence[str], here: Sequence[str]) -> list[int | None]:
    """Return for each name of a table the position of the one that it has here.

    An equal name goes first, then one that differs in case only.
    """
    exact = {name: position for position, name in enumerate(here)}
    taken = {exact[name] for name in there if name in exact}
    folded: dict[str, int] = {}
    for position, name in enumerate(here):
        if position not in taken:
            folded.setdefault(name.casefold(), position)
    return [exact[name] if name in exact else folded.pop(name.casefold(), None) for name in there]


def fit(array: pa.Array, type: IcebergType, arrow: pa.DataType, path: Path = ()) -> pa.Array:
    """Bring values into a type.

    Args:
        type: the table's, which has the names that are looked for.
        arrow: the same type as it is written or handed on; its names are not looked at.

    Raises:
        Misfit: a value does not fit exactly.
    """
    if array.type == arrow and not pa.types.is_nested(arrow):
        return array
    if isinstance(type, StructType) and pa.types.is_struct(array.type):
        return _fit_struct(array, type, arrow, path)
    if isinstance(type, MapType) and pa.types.is_map(array.type):
        offsets, entries = _elements(_listed(array))
        keys, items = entries.flatten()
        return pa.MapArray.from_arrays(
            offsets,
            fit(keys, type.key_type, arrow.key_type, (*path, "key")),
            fit(items, type.value_type, arrow.item_type, (*path, "value")),
            arrow,
            mask=_mask(array),
        )
    if isinstance(type, ListType) and _is_list(array.type):
        offsets, values = _elements(array)
        inner = fit(values, type.element_type, arrow.value_type, (*path, "element"))
        if pa.types.is_large_list(arrow):
            return pa.LargeListArray.from_arrays(
                offsets.cast(pa.int64()), inner, type=arrow, mask=_mask(array)
            )
        return pa.ListArray.from_arrays(offsets, inner, type=arrow, mask=_mask(array))
    try:
        return decoded(array).cast(arrow, safe=True)
    except pa.ArrowException as error:
        raise Misfit(path, arrow, str(error).splitlines()[0]) from error


def _fit_struct(array: pa.Array, type: StructType, arrow: pa.DataType, path: Path) -> pa.Array:
    children = array.flatten()  # with the struct's own NULLs in them
    names = [field.name for field in array.type]
    positions = match([field.name for field in type.fields], names)
    arrays = [
        pa.nulls(len(array), wanted.type)
        if position is None
        else fit(children[position], field.field_type, wanted.type, (*path, field.name))
        for field, wanted, position in zip(type.fields, arrow, positions, strict=True)
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(arrow), mask=array.is_null())


def _is_list(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type)
    )


def decoded(array: pa.Array) -> pa.Array:
    """Return an array without a dictionary."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _mask(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def _listed(array: pa.Array) -> pa.Array:
    """Return a map as the list of structs that it is; pyarrow has no list functions for maps."""
    if not pa.types.is_map(array.type):
        return array
    entries = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
    offsets = pc.add(array.offsets, 0)  # without an offset of its own, as a mask demands
    return pa.ListArray.from_arrays(offsets, entries, mask=_mask(array))


def _elements(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return a list's offsets and elements, from 0 on and without what hides under NULLs."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).cast(pa.int32())
    totals = pc.cumulative_sum(lengths)
    return pa.concat_arrays([pa.array([0], pa.int32()), totals]), array.flatten()


class Nulls:
    """NULLs by field id, counted as Parquet counts them.

    A leaf counts one for each row, or element, that has no value there: its own NULLs,
    and those of every struct, list and map around it; an empty list has no value, too.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, int] = {}
        self.paths: dict[int, Path] = {}

    def add(self, array: pa.Array, field: NestedField, path: Path) -> None:
        """Count a column's values.

        Args:
            field: the table's, which the values are for; what it lacks is not counted.
            path: how the column is called in messages.
        """
        for field_id, name, count in _leaf_nulls(array, field, path):
            self.by_id[field_id] = self.by_id.get(field_id, 0) + count
            self.paths[field_id] = name

    def differing(self, written: Mapping[int, int]) -> list[str]:
        """Return, in words, each leaf of which another number was written."""
        return [
            f"{'.'.join(self.paths[field_id])!r} has {count} NULLs here and "
            f"{written[field_id]} there"
            for field_id, count in sorted(self.by_id.items())
            if written.get(field_id, count) != count
        ]


def _leaf_nulls(array: pa.Array, field: NestedField, path: Path) -> Iterator[tuple[int, Path, int]]:
    type = field.field_type
    if isinstance(type, StructType) and pa.types.is_struct(array.type):
        children = array.flatten()
        positions = match([each.name for each in type.fields], [each.name for each in array.type])
        for child, position in zip(type.fields, positions, strict=True):
            if position is not None:
                yield from _leaf_nulls(children[position], child, (*path, child.name))
    elif isinstance(type, MapType) and pa.types.is_map(array.type):
        listed = _listed(array)
        hollow = _hollow(listed)
        keys, items = listed.flatten().flatten()
        for child, values in ((type.key_field, keys), (type.value_field, items)):
            for field_id, name, count in _leaf_nulls(values, child, (*path, child.name)):
                yield field_id, name, count + hollow
    elif isinstance(type, ListType) and _is_list(array.type):
        hollow = _hollow(array)
        for field_id, name, count in _leaf_nulls(
            array.flatten(), type.element_field, (*path, "element")
        ):
            yield field_id, name, count + hollow
    else:
        yield field.field_id, path, decoded(array).null_count


def _hollow(array: pa.Array) -> int:
    """Count the lists that are NULL or empty."""
    return len(array) - int(pc.sum(pc.greater(pc.list_value_length(array), 0)).as_py() or 0)


def add_written(
    into: dict[int, int | None], footer: pq.FileMetaData, ids: Mapping[str, int]
) -> None:
    """Add a written file's NULLs by field id; None if a footer does not tell them."""
    for group in range(footer.num_row_groups):
        row_group = footer.row_group(group)
        for index in range(footer.num_columns):
            column = row_group.column(index)
            field_id = ids[column.path_in_schema]
            statistics = column.statistics
            known = into.get(field_id, 0)
            if known is None or statistics is None or not statistics.has_null_count:
                into[field_id] = None
            else:
                into[field_id] = known + statistics.null_count
