"""Taking a table's lock without making its readers wait for long.

Who waits for a strong lock holds up everybody who comes after. So each try gives
up after two seconds, lets the others pass, and tries again.
"""

from __future__ import annotations

from typing import Any, LiteralString

import tenacity
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.errors import WriteRefused
from seeknal_core.types import ExecutionContext, QualifiedName
from seeknal_postgres.pool import Conn, connection_of
from seeknal_postgres.tables import identifier

#: Stops other writers and no reader.
WRITERS: LiteralString = "SHARE ROW EXCLUSIVE"
#: Stops everybody: needed to change columns.
EVERYBODY: LiteralString = "ACCESS EXCLUSIVE"
#: Stops only those who change the table's columns.
NOBODY: LiteralString = "ROW EXCLUSIVE"

BUSY = (pg.LockNotAvailable, pg.DeadlockDetected, pg.SerializationFailure)


def lock(context: ExecutionContext, conn: Conn, name: QualifiedName, mode: LiteralString) -> None:
    """Lock a table within the open transaction.

    Raises:
        WriteRefused: nobody let it go within the connection's ``lock_wait``; names
            who holds it, as far as the role may see.
    """
    statement = sql.SQL("LOCK TABLE {} IN {} MODE").format(identifier(name), sql.SQL(mode))

    def attempt() -> None:
        context.cancellation.check()
        with conn.transaction():
            conn.execute(statement)

    try:
        patience(context)(attempt)
    except BUSY as error:
        wait = connection_of(context).lock_wait
        raise WriteRefused(
            f"{name} stayed locked for {wait} s{_holders(conn, name)}",
            "let the other session finish or end it, then run again",
            target=str(name),
        ) from error


def patience(context: ExecutionContext) -> tenacity.Retrying:
    """Return how long, and how often, a busy table is tried again."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BUSY),
        stop=tenacity.stop_after_delay(connection_of(context).lock_wait),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.5),
        reraise=True,
    )


def _holders(conn: Conn, name: QualifiedName) -> str:
    rows: list[Any] = conn.execute(
        "SELECT DISTINCT l.pid, a.usename::text, a.application_name, a.state"
        " FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " JOIN pg_catalog.pg_class c ON c.oid = l.relation"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND l.granted AND l.pid <> pg_backend_pid()"
        " ORDER BY l.pid LIMIT 5",
        list(name.parts),
    ).fetchall()
    who = [
        f"pid {pid} ({', '.join(word for word in (user, application, state) if word)})"
        for pid, user, application, state in rows
    ]
    return f" by {', '.join(who)}" if who else ""
