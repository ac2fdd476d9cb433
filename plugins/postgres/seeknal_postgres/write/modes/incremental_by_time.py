"""Mode ``incremental_by_time``: the rows of a time are replaced, others stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from psycopg import sql

from seeknal_core.contract.types import Interval, Mode, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import Table
from seeknal_postgres.types.columns import Column
from seeknal_postgres.write import times
from seeknal_postgres.write.checks import check_time
from seeknal_postgres.write.modes.base import TableMode


class IncrementalByTime(TableMode):
    """Replaces what the node ``covers``, or the days of the rows that arrive."""

    mode: ClassVar[Mode] = Mode.INCREMENTAL_BY_TIME
    by_time: ClassVar[bool] = True

    def scope(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> sql.Composable | None:
        """Return the condition that a row's time is one that is replaced."""
        kind = times.kind_in(table, target)
        if not kind:
            # The column is new to the table: none of its rows has a time.
            return None
        replaced = times.replaced(conn, target, source, kind)
        return times.condition(target, kind, replaced)

    def intervals(
        self, conn: Conn, target: Target, table: Table, source: sql.Identifier
    ) -> tuple[Interval, ...]:
        """Return the time that staged rows replace."""
        return times.replaced(conn, target, source, times.kind_in(table, target))

    def check(
        self, conn: Conn, target: Target, source: sql.Identifier, columns: Sequence[Column]
    ) -> None:
        """Refuse a time column of another type, and rows without a time."""
        check_time(conn, target, source, columns)

    def check_new(
        self, conn: Conn, target: Target, source: sql.Identifier, columns: Sequence[Column]
    ) -> None:
        """Refuse what `check` refuses, and times that the node does not cover."""
        times.check_new_times(conn, target, source, columns)

    def check_kept(
        self,
        conn: Conn,
        target: Target,
        table: Table,
        source: sql.Identifier,
        columns: Sequence[Column],
    ) -> tuple[str, ...]:
        """Refuse to replace a day by fewer rows; return a note on days that are kept."""
        kind = times.kind_of(target, columns)
        return times.check(conn, target, source, kind, table)
