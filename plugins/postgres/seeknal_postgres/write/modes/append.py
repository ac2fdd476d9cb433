"""Mode ``append``: the snapshot's rows are added, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from psycopg import sql

from seeknal_core.contract.types import Mode, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import Table
from seeknal_postgres.write.modes.base import TableMode


class Append(TableMode):
    """Rows are added and nothing is compared; the ledger remembers which were."""

    mode: ClassVar[Mode] = Mode.APPEND
    events: ClassVar[frozenset[str]] = frozenset({"INSERT"})

    def key(self, target: Target, table: Table, columns: Sequence[str]) -> tuple[str, ...] | None:
        """Return None: rows are not compared."""
        return None

    def scope(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> sql.Composable | None:
        """Return None: no row goes."""
        return None
