"""The interface of all modes: what each does to a table's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from psycopg import sql

from seeknal_core.contract.modes import Keeps, Mode
from seeknal_core.contract.types import Interval, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import Table
from seeknal_postgres.types.columns import Column


class TableMode:
    """How one mode brings staged rows into a table.

    `Rows` makes statements of these answers. A mode that keeps the defaults compares rows by
    their key where there is one, and deletes from the table what `scope` chooses and the
    snapshot does not have.

    ``events`` are the statements that the mode runs on a table, by the server's message.
    ``merges`` says that rows whose key the snapshot lacks stay. ``by_time`` says that ``scope``
    is the time of `intervals`.
    """

    mode: ClassVar[Mode]
    events: ClassVar[frozenset[str]] = frozenset({"INSERT", "UPDATE", "DELETE"})
    merges: ClassVar[bool] = False
    by_time: ClassVar[bool] = False

    @property
    def replaces(self) -> bool:
        """Whether the snapshot stands for the whole table.

        Then a column that it lacks becomes NULL, types may be changed by casting, and afterwards
        the table has its rows and no others.
        """
        return self.mode.rule.replaces

    @property
    def adds(self) -> bool:
        """Whether rows are only added: none of the table's rows are read."""
        return self.mode.rule.keeps is Keeps.ALL

    @property
    def remembers(self) -> bool:
        """Whether the ledger keeps the snapshot's content key, so that no append adds it again."""
        return self.adds or self.replaces

    def key(self, target: Target, table: Table, columns: Sequence[str]) -> tuple[str, ...] | None:
        """Return the columns that tell rows apart: the declared ones, else a key of the table.

        Args:
            columns: the snapshot's.

        Returns:
            None if nothing does: rows are then replaced as a whole.
        """
        known = (target.unique_keys,) if target.unique_keys else table.keys
        return next((key for key in known if key and set(key) <= set(columns)), None)

    def scope(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> sql.Composable | None:
        """Return which of the table's rows (``t``) the snapshot stands for, None for none.

        Args:
            source: the staged rows.
        """
        return sql.SQL("TRUE")

    def intervals(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> tuple[Interval, ...]:
        """Return the time that staged rows replace, where the mode is ``by_time``."""
        return ()

    def check(
        self, conn: Conn, target: Target, source: sql.Identifier, columns: Sequence[Column]
    ) -> None:
        """Check what the mode needs of staged rows beside their key.

        Raises:
            WriteRefused: a row has no place.
        """

    def check_new(
        self, conn: Conn, target: Target, source: sql.Identifier, columns: Sequence[Column]
    ) -> None:
        """Check rows for a table that does not exist yet, beside their key.

        Raises:
            WriteRefused: a row has no place.
        """

    def check_kept(
        self,
        conn: Conn,
        target: Target,
        table: Table,
        source: sql.Identifier,
        columns: Sequence[Column],
    ) -> tuple[str, ...]:
        """Refuse to lose rows that the snapshot may not stand for; return notes on what stays.

        Raises:
            WriteRefused: rows would be lost.
        """
        return ()
