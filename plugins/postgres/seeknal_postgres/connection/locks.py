"""Locks a table without making its readers wait for long.

A session that waits for a strong lock blocks every session after it. So each try gives
up after two seconds, lets the others pass, and tries again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString

import tenacity
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, QualifiedName, redact
from seeknal_postgres.connection.pool import Conn, connection_of

log = logging.getLogger("seeknal.postgres")

#: Seconds after which the log says what the command waits for.
_TOLD_AFTER = 10.0

#: Blocks other writers, and no reader.
WRITERS: LiteralString = "SHARE ROW EXCLUSIVE"
#: Blocks everybody: needed to change columns.
EVERYBODY: LiteralString = "ACCESS EXCLUSIVE"
#: Blocks only those who change the table's columns.
NOBODY: LiteralString = "ROW EXCLUSIVE"

BUSY = (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure)


def lock(context: ExecutionContext, conn: Conn, name: QualifiedName, mode: LiteralString) -> None:
    """Lock a table within the open transaction.

    Raises:
        WriteRefused: it was not released within the connection's ``lock_wait``; names
            who holds it, as far as the role can see.
    """
    statement = sql.SQL("LOCK TABLE {} IN {} MODE").format(
        sql.Identifier(*name.parts), sql.SQL(mode)
    )

    def attempt() -> None:
        context.cancellation.check()
        with conn.transaction():
            conn.execute(statement)

    try:
        patience(context, told=lambda: f"{name} is locked{_holders(conn, name)}")(attempt)
    except BUSY as error:
        wait = connection_of(context).lock_wait
        raise WriteRefused(
            f"{name} stayed locked for {wait} s{_holders(conn, name)}",
            "let the other session finish or end it, then run again",
            target=str(name),
        ) from error


def patience(
    context: ExecutionContext,
    most: float = math.inf,
    *,
    told: Callable[[], str] = lambda: "a table is locked",
) -> tenacity.Retrying:
    """Return how long, and how often, a busy table's lock is tried again.

    Args:
        most: seconds, where that is less than the connection's ``lock_wait``.
        told: says what is waited for; logged once, where the wait is long.
    """
    wait = min(connection_of(context).lock_wait, most)
    said: list[str] = []

    def tell(state: tenacity.RetryCallState) -> None:
        waited = state.seconds_since_start or 0.0
        if not said and waited >= min(_TOLD_AFTER, wait / 3):
            said.append(told())
            log.warning("%s; waiting up to %.0f s", redact(said[0]), wait)

    return tenacity.Retrying(
        before_sleep=tell,
        retry=tenacity.retry_if_exception_type(BUSY),
        stop=tenacity.stop_after_delay(wait),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.5),
        reraise=True,
    )


def lock_all(conn: Conn, wanted: Mapping[QualifiedName, LiteralString]) -> None:
    """Lock several tables in the order of their names, each for `WRITERS` or `EVERYBODY`.

    One try, in one round trip: who comes for the same tables in the same way never
    deadlocks with this.
    """
    if not wanted:
        return
    conn.execute(
        sql.SQL("; ").join(
            sql.SQL("LOCK TABLE {} IN {} MODE").format(
                sql.Identifier(*name.parts), sql.SQL(wanted[name])
            )
            for name in sorted(wanted, key=lambda name: name.parts)
        )
    )


def _holders(conn: Conn, name: QualifiedName) -> str:
    found = holders(conn, [name])
    return f" by {found[name]}" if name in found else ""


def holders(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, str]:
    """Return who else holds locks on tables that a writer waits for, as far as the role can see."""
    rows: list[Any] = conn.execute(
        "SELECT DISTINCT n.nspname::text, c.relname::text, l.pid, a.usename::text,"
        " a.application_name, a.state"
        " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " JOIN unnest(%s::text[], %s::text[]) AS w(schema, name)"
        " ON w.schema = n.nspname AND w.name = c.relname"
        " WHERE l.granted AND l.pid <> pg_backend_pid()"
        " ORDER BY 1, 2, l.pid",
        [[name.parts[0] for name in wanted], [name.parts[1] for name in wanted]],
    ).fetchall()
    by_parts = {name.parts: name for name in wanted}
    found: dict[QualifiedName, list[str]] = {}
    for schema, table, pid, *about in rows:
        words = ", ".join(word for word in about if word)
        found.setdefault(by_parts[schema, table], []).append(f"pid {pid} ({words})")
    return {name: ", ".join(who[:5]) for name, who in found.items()}
