"""Mode ``upsert_by_key``: rows of known keys get new values, others are added."""

from __future__ import annotations

from typing import ClassVar

from psycopg import sql

from seeknal_core.contract.types import Mode, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import Table
from seeknal_postgres.write.modes.base import TableMode


class UpsertByKey(TableMode):
    """Rows are updated or inserted by key; a key that the snapshot lacks stays."""

    mode: ClassVar[Mode] = Mode.UPSERT_BY_KEY
    events: ClassVar[frozenset[str]] = frozenset({"INSERT", "UPDATE"})
    merges: ClassVar[bool] = True

    def scope(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> sql.Composable | None:
        """Return None: no row goes."""
        return None
