"""The server's capacity for locks, and how much of it a promotion uses.

A publish holds the locks of all its tables until its commit, in a table of the server's
that every session shares and whose size is set when the server starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.modes import Keeps
from seeknal_core.contract.types import ExecutionContext, Target
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of

#: Locks on what is kept for a target while it is published: the staged rows, the rows as
#: they were, and the keys of new ones.
_STAGED, _UNDO, _KEYS = 1, 1, 1

_TAKEN = """
SELECT count(DISTINCT c.oid), coalesce(sum(1 + (
  SELECT count(*) FROM pg_catalog.pg_index i WHERE i.indrelid = m.relid)), 0)::bigint
FROM unnest(%s::text[], %s::text[]) AS w(schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
CROSS JOIN LATERAL (
  SELECT c.oid AS relid WHERE c.relkind = 'r'
  UNION ALL SELECT p.relid FROM pg_partition_tree(c.oid) p WHERE c.relkind = 'p') AS m
"""


@attrs.frozen(kw_only=True)
class Room:
    """How many locks the server holds at once: ``each`` for every one of ``sessions``."""

    each: int
    sessions: int

    @classmethod
    def of(cls, conn: Conn) -> Room:
        """Query the server."""
        row: Any = conn.execute(
            "SELECT current_setting('max_locks_per_transaction')::int,"
            " current_setting('max_connections')::int"
            " + current_setting('max_prepared_transactions')::int"
        ).fetchone()
        return cls(each=row[0], sessions=row[1])

    @property
    def locks(self) -> int:
        """How many they are."""
        return self.each * self.sessions

    def wanted(self, locks: int) -> int:
        """Return a setting with which so many locks take half of the room at most."""
        power = 64
        while power * self.sessions < 2 * locks:
            power *= 2
        return max(power, 2 * self.each)


def taken(conn: Conn, targets: Sequence[Target]) -> int:
    """Count the locks that a publish of targets holds until its commit."""
    parts = [[one.name.parts[0] for one in targets], [one.name.parts[1] for one in targets]]
    row: Any = conn.execute(_TAKEN, parts).fetchone()
    there, locks = int(row[0]), int(row[1])
    for target in targets:
        locks += _STAGED
        if target.mode.rule.keeps is not Keeps.ALL:
            locks += _UNDO
            locks += _KEYS if target.unique_keys else 0
    # Nothing else is known about tables that have to be created.
    return locks + (len(targets) - there) * 2


def preview_publish(context: ExecutionContext, targets: Sequence[Target]) -> tuple[str, ...]:
    """Implement the hook of the same name."""
    with (
        pool_of(context).take(context) as conn,
        translated(context, connection_of(context).place),
        conn.transaction(),
    ):
        locks, room = taken(conn, targets), Room.of(conn)
    if locks <= room.locks:
        return ()
    return (
        f"{connection_of(context).name}: promoting {len(targets):,} targets takes about"
        f" {locks:,} locks in one transaction, and the server has room for {room.locks:,}"
        f" (max_locks_per_transaction {room.each} x {room.sessions} sessions); it may be refused."
        f" Let max_locks_per_transaction be {room.wanted(locks)} or more in postgresql.conf, and"
        " restart the server",
    )


def no_room(conn: Conn, targets: Sequence[Target]) -> WriteRefused:
    """Return the error for a server that had no capacity for the locks of a promotion."""
    conn.rollback()
    locks, room = taken(conn, targets), Room.of(conn)
    conn.rollback()
    return WriteRefused(
        f"the server has no room for the locks of {len(targets)} targets in one transaction "
        f"(about {locks:,}; max_locks_per_transaction is {room.each})",
        f"let max_locks_per_transaction be {room.wanted(locks)} or more in "
        "postgresql.conf, restart the server, then promote again",
        target="max_locks_per_transaction",
    )
