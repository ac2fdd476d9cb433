"""Queries that only pass rows on: they need no memory but for writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from seeknal_core.contract.types import Snapshot
from seeknal_core.engine import statements

#: Bytes of stored input from which little memory is tried: as rows they are several times as much.
LARGE = 32_000_000

#: Steps of DuckDB's plans that keep no rows. Any other one may need all memory there is.
_PASSING = frozenset({
    "COLUMN_DATA_SCAN", "DUMMY_SCAN", "EMPTY_RESULT", "FILTER", "PARQUET_SCAN", "PROJECTION",
    "READ_PARQUET", "STREAMING_LIMIT", "UNION", "UNNEST",
})  # fmt: skip


def is_large(inputs: Mapping[str, Snapshot]) -> bool:
    """Return whether inputs have so many bytes that a query over them may take much memory."""
    total = 0
    for snapshot in inputs.values():
        for file in snapshot.files:
            try:
                total += os.path.getsize(file)
            except OSError:
                return False  # Reading it says what is wrong.
    return total >= LARGE


def only_passes_rows_on(cursor: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Return whether no step of a query's plan keeps rows; False where the query is wrong."""
    try:
        found = cursor.execute(statements.parsed(f"EXPLAIN (FORMAT JSON)\n{sql}")).fetchone()
    except duckdb.Error:
        return False
    if found is None:
        return False
    return all(name in _PASSING for step in json.loads(found[1]) for name in _names(step))


def _names(step: Mapping[str, Any]) -> Iterator[str]:
    yield str(step["name"]).strip()
    for child in step["children"]:
        yield from _names(child)
