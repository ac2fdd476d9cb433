"""Column types: what DuckDB and Arrow have, what a snapshot holds, what users declare.

A snapshot holds what Parquet keeps exactly, as both DuckDB and pyarrow read it.
The rest is cast where a cast is exact (or fails by column), else refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs
import duckdb
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.quoting import identifier
from seeknal_core.project.formats.declared import DeclaredType, parse

#: A declared type -> what a file's column of that type is read as.
READ_AS = {
    "integer": "BIGINT",
    "float": "DOUBLE",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "timestamp": "TIMESTAMP",
    "decimal": "DECIMAL(38,9)",
}

# COPY writes the first three as double, double and text; measured with DuckDB 2.0.
_CASTS = {
    "hugeint": "DECIMAL(38,0)",
    "uhugeint": "DECIMAL(38,0)",
    "bignum": "DECIMAL(38,0)",
    "null": "INTEGER",
}

_REFUSED = {
    "interval": "cast it to VARCHAR, or to a number with epoch()",
    "time with time zone": "cast it to TIME or VARCHAR",
    "union": "cast it to VARCHAR, or take one member with union_extract()",
    "variant": "cast it to JSON or to a type",
    "geometry": "cast it to BLOB or VARCHAR",
    "lambda": "it is no value",
}


@attrs.frozen(kw_only=True)
class StoredColumn:
    """A column of a query and the type to cast it to before storing, None for none."""

    name: str
    cast: str | None
    narrowing: bool = False


def stored_columns(
    node: str, names: Sequence[str], types: Sequence[DuckDBPyType]
) -> tuple[StoredColumn, ...]:
    """Decide how each column of a query is stored.

    Raises:
        EngineError: a type that no snapshot holds, two columns of one name, or
            no column at all.
    """
    check_names(node, names)
    result = []
    for name, kind in zip(names, types, strict=True):
        try:
            cast = _cast(kind)
        except _Refused as refused:
            raise EngineError(
                f"{node}: column {name!r} has type {str(kind)[:60]}, which cannot be stored",
                refused.hint,
            ) from None
        narrowing = cast is not None and "DECIMAL(38,0)" in cast
        result.append(StoredColumn(name=name, cast=cast, narrowing=narrowing))
    return tuple(result)


def check_names(node: str, names: Sequence[str]) -> None:
    """Refuse no column, and two columns of one name (letter case aside).

    Raises:
        EngineError: which.
    """
    if not names:
        raise EngineError(f"{node}: the result has no column", "select at least one column")
    counted = Counter(name.casefold() for name in names)
    twice = sorted({name for name in names if counted[name.casefold()] > 1})
    if twice:
        raise EngineError(
            f"{node}: the result has more than one column named {', '.join(map(repr, twice))}",
            "name each column once: AS, EXCLUDE, or JOIN … USING",
        )


def projection(columns: Sequence[StoredColumn]) -> str | None:
    """Write the SELECT list that casts; None where there is nothing to cast."""
    if not any(column.cast for column in columns):
        return None
    return ", ".join(
        f"CAST({identifier(column.name)} AS {column.cast}) AS {identifier(column.name)}"
        if column.cast
        else identifier(column.name)
        for column in columns
    )


class _Refused(Exception):
    def __init__(self, hint: str) -> None:
        self.hint = hint


def _cast(kind: DuckDBPyType) -> str | None:
    name = kind.id
    if name in _REFUSED:
        raise _Refused(_REFUSED[name])
    if name in _CASTS:
        return _CASTS[name]
    if name in ("list", "array"):
        child = _child(kind, "child")
        inner = _cast(child)
        if name == "list":
            return None if inner is None else f"{inner}[]"
        # COPY writes elements for arrays that are NULL, and pyarrow refuses the file.
        return f"{inner or child}[]"
    if name == "map":
        key, value = _child(kind, "key"), _child(kind, "value")
        casts = (_cast(key), _cast(value))
        return None if casts == (None, None) else f"MAP({casts[0] or key}, {casts[1] or value})"
    if name == "struct":
        members = [(member, child, _cast(child)) for member, child in _members(kind)]
        if not members:
            raise _Refused("a struct needs a member")
        if not any(cast for _, _, cast in members):
            return None
        inside = ", ".join(f"{identifier(name)} {cast or child}" for name, child, cast in members)
        return f"STRUCT({inside})"
    return None


def _members(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    try:
        children = kind.children
        return [(name, child) for name, child in children if isinstance(child, DuckDBPyType)]
    except duckdb.Error:
        return []


def _child(kind: DuckDBPyType, name: str) -> DuckDBPyType:
    return dict(_members(kind))[name]


def storable_schema(node: str, schema: pa.Schema) -> pa.Schema:
    """Return the Arrow schema to cast a stream to before it is written.

    Raises:
        EngineError: a type that no snapshot holds, two columns of one name, or
            no column at all.
    """
    check_names(node, schema.names)
    fields = []
    for field in schema:
        try:
            fields.append(pa.field(field.name, _arrow(field.type), nullable=True))
        except _Refused as refused:
            raise EngineError(
                f"{node}: column {field.name!r} has type {field.type}, which cannot be stored",
                refused.hint,
            ) from None
    return pa.schema(fields)


def _arrow(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        kept = kind.extension_name in ("arrow.uuid", "arrow.json")
        return kind if kept else _arrow(kind.storage_type)
    if types.is_dictionary(kind):
        return _arrow(kind.value_type)
    if types.is_run_end_encoded(kind):
        return _arrow(kind.value_type)
    if types.is_null(kind):
        return pa.int32()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date64(kind):
        return pa.date32()
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("us", kind.tz)
    if types.is_time32(kind):
        return pa.time64("us")
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_decimal(kind):
        if kind.precision > 38:
            raise _Refused("a decimal has 38 digits at most: cast it in the query")
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_duration(kind) or types.is_interval(kind):
        raise _Refused("cast it to text or to a number")
    if types.is_union(kind):
        raise _Refused("take one member of it, or cast it to text")
    return _arrow_nested(kind)


def _arrow_nested(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        if kind.num_fields == 0:
            raise _Refused("a struct needs a member")
        return pa.struct([pa.field(field.name, _arrow(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_arrow(kind.key_type), _arrow(kind.item_type))
    if types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_arrow(kind.value_type))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return pa.list_(_arrow(kind.value_type))
    return kind


def is_declared(declared: str, kind: pa.DataType) -> bool:
    """Return whether a stored type is one that a declared type allows.

    ``integer`` also allows a decimal without fraction: that is what a sum of
    integers is stored as. ``decimal`` without digits allows any decimal, and ``timestamp``
    one with a zone: a store's source is read as what it is.

    Args:
        declared: as `formats.declared` writes it.
    """
    return _allows(parse(declared), kind, any_decimal=declared == "decimal")


def _allows(declared: DeclaredType, kind: pa.DataType, *, any_decimal: bool = False) -> bool:
    types = pa.types
    match declared.name:
        case "integer":
            whole = types.is_decimal(kind) and kind.scale == 0
            return bool(whole or types.is_integer(kind))
        case "float":
            return bool(types.is_floating(kind))
        case "decimal":
            digits = (declared.precision, declared.scale)
            return bool(
                types.is_decimal(kind) and (any_decimal or (kind.precision, kind.scale) == digits)
            )
        case "string":
            return bool(_is_extension(kind, "json") or types.is_string(kind))
        case "json" | "uuid":
            return _is_extension(kind, declared.name)
        case "boolean":
            return bool(types.is_boolean(kind))
        case "date":
            return bool(types.is_date(kind))
        case "time":
            return bool(types.is_time(kind))
        case "datetime" | "timestamp":
            return bool(types.is_timestamp(kind))
        case "timestamptz":
            return bool(types.is_timestamp(kind) and kind.tz is not None)
        case _:
            return _allows_nested(declared, kind)


def _allows_nested(declared: DeclaredType, kind: pa.DataType) -> bool:
    if declared.element is not None:
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        return is_list and _allows(declared.element, kind.value_type)
    if not pa.types.is_struct(kind) or kind.num_fields != len(declared.members):
        return False
    found = {field.name.casefold(): field.type for field in kind}
    return all(
        name.casefold() in found and _allows(member, found[name.casefold()])
        for name, member in declared.members
    )


def _is_extension(kind: pa.DataType, name: str) -> bool:
    return getattr(kind, "extension_name", "") == f"arrow.{name}"
