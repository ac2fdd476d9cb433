"""Order-independent checksums of rows, one per column.

For backends that implement ``checksum``, and for the core, which compares a
staged write with the snapshot it was made of. Both sides are summed up by this
one function in one process, so the sums need not mean anything elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seeknal_core.contract.types import Checksum

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["checksum_of"]

_threads = threading.local()

#: 2**61 - 1. Sums are taken modulo this prime, so that batches may be added in any order.
_MODULUS = (1 << 61) - 1

#: Columns summed up by one query: DuckDB's time and memory grow with their number's square.
_GROUP = 50


def checksum_of(reader: pa.RecordBatchReader) -> Checksum:
    """Sum up the rows of a stream.

    Two streams have equal checksums when they hold equal rows' values column by
    column, whatever their order. A store may return a value in a neighbouring
    type: integers of every width, decimals of scale 0 among them, count as one;
    so do floats of both widths, strings, enums and dictionaries, time stamps of
    every unit down to microseconds.

    Args:
        reader: read to its end, a batch at a time.

    Returns:
        The rows' number, and per column the number of its NULLs and the sum of
        its values' 64-bit hashes.
    """
    import pyarrow as pa

    fields = [reader.schema.field(i) for i in range(len(reader.schema))]
    names = [field.name for field in fields]
    rows = 0
    nulls = [0] * len(fields)
    sums = [0] * len(fields)
    stored = [_storage(field.type) for field in fields]
    groups = [range(i, min(i + _GROUP, len(fields))) for i in range(0, len(fields), _GROUP)]
    queries = [_sums([(f"c{i}", stored[i]) for i in group]) for group in groups]
    connection = _connection()
    for batch in reader:
        for group, query in zip(groups, queries, strict=True):
            columns = [_plain(batch.column(i), stored[i]) for i in group]
            part = pa.Table.from_arrays(columns, names=[f"c{i}" for i in group])
            connection.register("batch", part)
            [found] = connection.execute(query).fetchall()
            connection.unregister("batch")
            for place, i in enumerate(group):
                nulls[i] += batch.num_rows - int(found[2 * place])
                sums[i] = (sums[i] + int(found[2 * place + 1])) % _MODULUS
        rows += batch.num_rows
    return Checksum(
        rows=rows,
        columns={
            name: f"{nulls[i]} NULL, {sums[i]:016x}" if nulls[i] else f"{sums[i]:016x}"
            for i, name in enumerate(names)
        },
    )


def _plain(column: pa.Array, type: pa.DataType) -> pa.Array:
    return column.cast(type) if column.type != type else column


def _sums(columns: Sequence[tuple[str, pa.DataType]]) -> str:
    """Return the query for how many values columns have, and the sums of their hashes."""
    sums = ", ".join(
        f"count({name}), coalesce(sum(hash({_canonical(name, type)})::HUGEINT) "
        f"FILTER ({name} IS NOT NULL), 0)"
        for name, type in columns
    )
    return f"SELECT {sums} FROM batch"


def _connection() -> duckdb.DuckDBPyConnection:
    """Return this thread's DuckDB: opening one costs more than summing up a small table."""
    import duckdb

    found: duckdb.DuckDBPyConnection | None = getattr(_threads, "connection", None)
    if found is None:
        found = duckdb.connect(":memory:", config={"threads": 1})
        found.execute("SET TimeZone = 'UTC'")
        _threads.connection = found
    return found


def _storage(type: pa.DataType) -> pa.DataType:
    """Return the plain Arrow type that DuckDB reads a column of `type` from."""
    import pyarrow as pa

    if isinstance(type, pa.BaseExtensionType):
        return _storage(type.storage_type)
    if pa.types.is_dictionary(type):
        return _storage(type.value_type)
    # DuckDB reads no half floats.
    return pa.float32() if pa.types.is_float16(type) else type


def _canonical(column: str, type: pa.DataType) -> str:
    """Return the SQL that brings a value into the one form it is hashed in."""
    import pyarrow as pa

    types = pa.types
    if _is_binary(type):
        return f"{column}::BLOB"
    if types.is_floating(type):
        # -0.0 and 0.0 hash alike in DuckDB; as text they differ.
        return f"{column}::DOUBLE::VARCHAR"
    if types.is_nested(type):
        return f"CAST({column} AS {_nested(type)})::VARCHAR"
    return f"CAST({column} AS {_nested(type)})"


def _nested(type: pa.DataType) -> str:
    """Return the DuckDB type that stands for an Arrow type and its neighbours."""
    import pyarrow as pa

    types = pa.types
    if types.is_boolean(type):
        return "BOOLEAN"
    if types.is_integer(type):
        return "HUGEINT"
    if types.is_decimal(type):
        return "HUGEINT" if type.scale == 0 else f"DECIMAL(38, {type.scale})"
    if types.is_floating(type):
        return "DOUBLE"
    if types.is_timestamp(type):
        return "TIMESTAMP" if type.tz is None else "TIMESTAMPTZ"
    if types.is_date(type):
        return "DATE"
    if types.is_time(type):
        return "TIME"
    if types.is_struct(type):
        inner = ", ".join(f'"{_quoted(f.name)}" {_nested(_storage(f.type))}' for f in type)
        return f"STRUCT({inner})"
    if types.is_map(type):
        return f"MAP({_nested(_storage(type.key_type))}, {_nested(_storage(type.item_type))})"
    if types.is_nested(type):
        return f"{_nested(_storage(type.value_type))}[]"
    if _is_binary(type):
        return "BLOB"
    return "VARCHAR"


def _is_binary(type: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    kinds = (
        types.is_binary,
        types.is_large_binary,
        types.is_fixed_size_binary,
        types.is_binary_view,
    )
    return any(kind(type) for kind in kinds)


def _quoted(name: str) -> str:
    return name.replace('"', '""')
