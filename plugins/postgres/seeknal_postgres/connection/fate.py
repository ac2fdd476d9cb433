"""The outcome of a commit whose answer was lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from seeknal_core.contract.errors import Unreachable
from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.errors import CHECK
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.watch import END, Watched

log = logging.getLogger("seeknal.postgres")

#: Seconds to continue asking.
_PATIENCE = 60.0


@contextmanager
def transaction(context: ExecutionContext, conn: Conn, what: str) -> Iterator[None]:
    """Run a block in one transaction. A lost answer to its commit is no failure by itself.

    Args:
        what: what messages call the table that is written.

    Raises:
        Unreachable: the outcome of the commit can't be found out.
        psycopg.OperationalError: the connection was lost, and nothing was committed.
    """
    xid: str | None = None
    try:
        with conn.transaction():
            yield
            xid = number(conn)
    except psycopg.OperationalError as error:
        if not conn.closed or not is_finished(context, xid, what, pid_of(conn)):
            raise
        log.debug("lost answer: %s", type(error).__name__)


def number(conn: Conn) -> str | None:
    """Return the number of the open transaction, None if it has changed nothing."""
    row: Any = conn.execute("SELECT txid_current_if_assigned()::text").fetchone()
    return None if row is None or row[0] is None else str(row[0])


def pid_of(conn: Conn) -> int:
    """Return the server's process of a connection, 0 if that is not known."""
    return conn.server_pid if isinstance(conn, Watched) else 0


def is_finished(context: ExecutionContext, xid: str | None, what: str, pid: int) -> bool:
    """Find out, on another connection, whether a transaction was committed.

    A server continues for a while with a lost client's statement: it is queried until
    that has an end.

    Args:
        xid: the transaction's number, None if the commit had not been sent.
        pid: the server's process. One that waits for a commit that never arrived is ended.

    Raises:
        Unreachable: nobody answers, or it takes too long.
    """
    if xid is None:
        return False
    end = time.monotonic() + _PATIENCE
    trouble = "it is still under way"
    while time.monotonic() < end:
        context.cancellation.check()
        try:
            with pool_of(context).take(context) as conn:
                row: Any = conn.execute("SELECT txid_status(%s::bigint)", [xid]).fetchone()
                if row[0] == "in progress":
                    conn.execute(END, [[pid]])
        except (psycopg.OperationalError, Unreachable) as error:
            trouble = error.message if isinstance(error, Unreachable) else "no connection"
        else:
            if row[0] == "committed":
                log.warning("%s: the answer to the commit was lost; it was finished", what)
                return True
            if row[0] == "aborted":
                return False
        time.sleep(0.2)
    raise Unreachable(
        f"{what}: the answer to the commit was lost, and whether it was finished is not known"
        f" ({trouble})",
        f"{CHECK}; then run again, which finds out",
        target=connection_of(context).name,
    )
