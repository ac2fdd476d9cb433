"""Statements that wait for one another, sent together: a round trip for many."""

from __future__ import annotations

from psycopg import sql

from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.settings import LOGIN, OURS

#: Statements sent at a time. More would save little, and keep a stop waiting.
_MOST = 50


class Script:
    """Collects statements without results, and runs them in order.

    Code that has to run after one of them calls `flush` first. A statement that fails
    fails the transaction, as it would by itself.
    """

    def __init__(self, conn: Conn, *, users_own: bool = False) -> None:
        """Collect for a connection.

        Args:
            users_own: whether the statements run under the login's own settings
                (`settings.users_own`).
        """
        self._conn = conn
        self._users_own = users_own
        self._waiting: list[sql.Composable] = []

    def add(self, statement: sql.Composable) -> None:
        """Add a statement; it is run before the next `flush` returns."""
        self._waiting.append(statement)
        if len(self._waiting) >= _MOST:
            self.flush()

    def flush(self) -> None:
        """Run the collected statements."""
        waiting, self._waiting = self._waiting, []
        if waiting and self._users_own:
            waiting = [LOGIN, *waiting, OURS]
        if waiting:
            self._conn.execute(sql.SQL("; ").join(waiting))
