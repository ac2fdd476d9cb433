"""Planner settings for single statements whose cost the server misjudges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from seeknal_postgres.connection.pool import Conn

#: Memory for a join of all rows (``work_mem``; a hash table may take twice as much).
_JOIN_BYTES = 32 * 2**20


def by_index(conn: Conn) -> AbstractContextManager[None]:
    """Make the server find few rows by an index instead of reading the whole table.

    It takes every page that an index leads to for a slow one, also where the statement
    has to read and write that page anyway.
    """
    return _set(conn, {"enable_hashjoin": "off", "enable_mergejoin": "off"})


def by_hashing(conn: Conn) -> AbstractContextManager[None]:
    """Make the server join in memory; with its default of 4 MB it would join in many parts."""
    row: Any = conn.execute(
        "SELECT greatest(pg_size_bytes(current_setting('work_mem')), %s) / 1024", [_JOIN_BYTES]
    ).fetchone()
    return _set(conn, {"work_mem": f"{row[0]}kB"})


@contextmanager
def _set(conn: Conn, settings: Mapping[str, str]) -> Iterator[None]:
    """Change settings for a block of a transaction.

    What fails in the block fails the (sub)transaction, and takes the values along.
    """
    names, values = list(settings), list(settings.values())
    before = conn.execute(
        "SELECT current_setting(name) FROM unnest(%s::text[]) WITH ORDINALITY AS w(name, place)"
        " ORDER BY place",
        [names],
    ).fetchall()
    change = (
        "SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS w(name, value)"
    )
    conn.execute(change, [names, values])
    yield
    conn.execute(change, [names, [value for (value,) in before]])
