"""Digests of rows, whatever their order: what a source's content key is made of.

Each row becomes one text of bytes (DuckDB's ``create_sort_key``, by which unequal values
differ, NULL and nested ones too), each of these one SHA-256, and the sorted SHA-256s one
more. To find other rows with the same digest is to find a collision of SHA-256; sums of
hashes, which need no sorting, can be solved for (`former`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from seeknal_core.contract.types import read_schema
from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import ROWS_FORM

_ORDER = "'ASC NULLS FIRST'"
#: Hexadecimal digits of one SHA-256.
_DIGITS = 64
_BATCH_ROWS = 131_072


def of_rows(cursor: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> str:
    """Return the digest of the schema and rows of Parquet files.

    Args:
        cursor: its time zone is UTC.

    Raises:
        duckdb.Error: as DuckDB gives it.
    """
    schema = read_schema(files[0])
    # A text makes the key bytes, where the columns alone might give an integer.
    parts = [f"'', {_ORDER}"]
    for field in schema:
        name = f"r.{quoting.identifier(field.name)}"
        parts.append(f"{name}, {_ORDER}")
        if _has_floats(field.type):
            # 0.0 and -0.0 have one place in any order.
            shown = f"signbit({name})" if pa.types.is_floating(field.type) else f"{name}::VARCHAR"
            parts.append(f"{shown}, {_ORDER}")
    relation = cursor.sql(
        f"SELECT sha256(create_sort_key({', '.join(parts)})) AS d"
        f" FROM {quoting.snapshot(map(str, files))} AS r ORDER BY d"
    )
    rows, digest = 0, hashlib.sha256()
    with relation.to_arrow_reader(_BATCH_ROWS) as reader:
        for batch in reader:
            rows += batch.num_rows
            digest.update(_characters(batch.column(0)))
    text = f"{_columns(schema)}\n{rows}\n{digest.hexdigest()}"
    return ROWS_FORM + hashlib.sha256(text.encode()).hexdigest()


def former(cursor: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> str:
    """Return the digest that earlier versions made: it finds what they stored and wrote.

    It is the count and the sums of two 64-bit hashes of each row. Whoever may choose a few
    values can keep it as it is, so it proves nothing.

    Raises:
        duckdb.Error: as DuckDB gives it.
    """
    schema = read_schema(files[0])
    names = ", ".join(f"r.{quoting.identifier(name)}" for name in schema.names)
    found = cursor.execute(
        f"SELECT count(*), sum(hash({names})), sum(hash({names}, 'seeknal'))"
        f" FROM {quoting.snapshot(map(str, files))} AS r"
    ).fetchone()
    return hashlib.sha256(f"1\n{_columns(schema)}\n{found}".encode()).hexdigest()


def _columns(schema: pa.Schema) -> str:
    return "\n".join(f"{field.name!r} {field.type}" for field in schema)


def _has_floats(type: pa.DataType) -> bool:
    if isinstance(type, pa.BaseExtensionType):
        return _has_floats(type.storage_type)
    if pa.types.is_floating(type):
        return True
    return any(_has_floats(type.field(i).type) for i in range(type.num_fields))


def _characters(column: pa.Array) -> memoryview:
    """Return the digits of an array of SHA-256s, one after another."""
    _, places, data = column.buffers()
    if column.type != pa.string() or not len(column):
        return memoryview("".join(column.to_pylist()).encode())
    first = int.from_bytes(memoryview(places)[4 * column.offset :][:4], "little")
    return memoryview(data)[first : first + _DIGITS * len(column)]
