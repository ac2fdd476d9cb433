"""What each mode does to a table's rows, once the snapshot is staged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, Target
from seeknal_postgres.columns import Column
from seeknal_postgres.pool import Conn
from seeknal_postgres.stage import ROWS
from seeknal_postgres.tables import Table, identifier, names

_TIMES = ("date", "timestamp without time zone", "timestamp with time zone")


@attrs.frozen(kw_only=True)
class Rows:
    """A snapshot's staged rows and the table they go to.

    ``key`` tells rows apart; None where nothing does, and rows are then replaced
    as a whole. ``enforced`` says whether an index of the table sees to it.
    """

    target: Target
    table: Table
    columns: tuple[str, ...]
    mode: Mode
    key: tuple[str, ...] | None
    enforced: bool
    time: Column | None

    @classmethod
    def of(cls, target: Target, table: Table, columns: Sequence[Column], mode: Mode) -> Rows:
        """Choose the key: the declared one, else the table's own.

        Raises:
            WriteRefused: foreign keys point at the table, and the snapshot has no
                key of it, so that its rows could only be replaced as a whole.
        """
        given = tuple(column.name for column in columns)
        key: tuple[str, ...] | None = None
        if mode is not Mode.APPEND:
            known = (target.unique_keys,) if target.unique_keys else table.keys
            key = next((k for k in known if k and set(k) <= set(given)), None)
        if key is None and table.referenced_by and mode is not Mode.APPEND:
            first = table.referenced_by[0]
            raise WriteRefused(
                f"{target.name}: {first.table} refers to it ({first.name}), and the snapshot "
                "has no key to tell which rows stay",
                "select the key's columns, or name them: unique_keys: [id]",
                target=str(target.name),
            )
        time = next((c for c in columns if c.name == target.time_column), None)
        return cls(
            target=target,
            table=table,
            columns=given,
            mode=mode,
            key=key,
            enforced=any(set(k) <= set(key or ()) for k in table.keys),
            time=time if mode is Mode.INCREMENTAL_BY_TIME else None,
        )

    def check(self, conn: Conn) -> None:
        """Check what the mode asks of the staged rows.

        Raises:
            WriteRefused: NULL or repeated keys, NULL time.
        """
        if self.key is not None:
            check_keys(conn, self.target, ROWS, self.key)
        if self.time is not None:
            check_time(conn, self.target, ROWS, [self.time])

    def apply(self, conn: Conn) -> None:
        """Change the table's rows by the staged ones."""
        scope = self._scope(conn)
        if scope is None:
            return
        if self.mode is Mode.APPEND:
            self._insert(conn, sql.SQL("TRUE"))
        elif self.key is None or self._ambiguous(conn):
            self._delete(conn, scope)
            self._insert(conn, sql.SQL("TRUE"))
        else:
            self._by_key(conn, scope)

    def delete_all(self, conn: Conn) -> None:
        """Delete all rows of the table."""
        self._delete(conn, sql.SQL("TRUE"))

    def _scope(self, conn: Conn) -> sql.Composable | None:
        """Return which of the table's rows the snapshot replaces, None for nothing to do."""
        if self.mode is Mode.UPSERT_BY_KEY:
            return sql.SQL("FALSE")
        if self.time is None:
            return sql.SQL("TRUE")
        column = sql.Identifier(self.time.name)
        bounds: Any = conn.execute(
            sql.SQL(
                "SELECT date_trunc('day', min({0}) - %s)::text, max({0})::text FROM {1}"
            ).format(column, ROWS),
            [self.target.lookback],
        ).fetchone()
        if bounds[1] is None:
            return None
        return sql.SQL("(t.{0} >= {1}::timestamptz AND t.{0} <= {2}::timestamptz)").format(
            column, sql.Literal(bounds[0]), sql.Literal(bounds[1])
        )

    def _ambiguous(self, conn: Conn) -> bool:
        """Whether the table has rows that the declared key doesn't tell apart."""
        if self.enforced or self.mode is Mode.UPSERT_BY_KEY or self.table.referenced_by:
            return False
        assert self.key is not None
        row: Any = conn.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} GROUP BY {} HAVING count(*) > 1)").format(
                identifier(self.target.name), names(self.key)
            )
        ).fetchone()
        return bool(row[0])

    def _delete(self, conn: Conn, scope: sql.Composable) -> None:
        conn.execute(
            sql.SQL("DELETE FROM {} AS t WHERE {}").format(identifier(self.target.name), scope)
        )

    def _insert(self, conn: Conn, which: sql.Composable) -> None:
        listed = names(self.columns)
        conn.execute(
            sql.SQL(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s WHERE {}"
            ).format(identifier(self.target.name), listed, names(self.columns, "s"), ROWS, which)
        )

    def _same_key(self) -> sql.Composed:
        assert self.key is not None
        return sql.SQL(" AND ").join(
            sql.SQL("t.{0} = s.{0}").format(sql.Identifier(name)) for name in self.key
        )

    def _by_key(self, conn: Conn, scope: sql.Composable) -> None:
        """Delete what vanished, update what really changed, insert what is new."""
        same, into = self._same_key(), identifier(self.target.name)
        if self.mode is not Mode.UPSERT_BY_KEY:
            gone = sql.SQL("{} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})")
            self._delete(conn, gone.format(scope, ROWS, same))
        try:
            with conn.transaction():
                self._update(conn, same)
        except pg.UniqueViolation:
            # A unique value moves from one key to another: no order of updates does it.
            if self.table.referenced_by:
                raise
            conn.execute(
                sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE {} AND {}").format(
                    into, ROWS, same, self._changed()
                )
            )
        absent = sql.SQL("NOT EXISTS (SELECT FROM {} AS t WHERE {})").format(into, same)
        self._insert(conn, absent)

    def _values(self) -> list[str]:
        return [name for name in self.columns if name not in (self.key or ())]

    def _changed(self) -> sql.Composed:
        # Row images compare exactly, and any type: json has no equality, and to
        # numeric's own 1.0 and 1.00 are one.
        values = self._values()
        return sql.SQL("ROW({})::record *<> ROW({})::record").format(
            names(values, "t"), names(values, "s")
        )

    def _update(self, conn: Conn, same: sql.Composed) -> None:
        values = self._values()
        if not values:
            return
        pairs = [sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in values]
        conn.execute(
            sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE {} AND {}").format(
                identifier(self.target.name),
                sql.SQL(", ").join(pairs),
                ROWS,
                same,
                self._changed(),
            )
        )


def check_keys(conn: Conn, target: Target, relation: sql.Identifier, key: Sequence[str]) -> None:
    """Refuse rows whose key is NULL or stands twice.

    Raises:
        WriteRefused: with the number of such rows.
    """
    null = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(k)) for k in key)
    row: Any = conn.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(relation, null)
    ).fetchone()
    listed = ", ".join(key)
    if row[0]:
        raise WriteRefused(
            f"{target.name}: {row[0]} rows of the snapshot have NULL in the key ({listed})",
            "filter them out, or choose another key",
            target=str(target.name),
        )
    row = conn.execute(
        sql.SQL(
            "SELECT count(*) FROM (SELECT FROM {} GROUP BY {} HAVING count(*) > 1) AS twice"
        ).format(relation, names(key))
    ).fetchone()
    if row[0]:
        raise WriteRefused(
            f"{target.name}: {row[0]} keys ({listed}) stand more than once in the snapshot",
            "deduplicate in the SQL: QUALIFY row_number() OVER (PARTITION BY …) = 1",
            target=str(target.name),
        )


def check_time(
    conn: Conn, target: Target, relation: sql.Identifier, columns: Sequence[Column]
) -> None:
    """Refuse a time column of another type, or with NULL.

    Raises:
        WriteRefused: with the type, or the number of such rows.
    """
    time = next(column for column in columns if column.name == target.time_column)
    if time.type.base not in _TIMES or time.type.array:
        raise WriteRefused(
            f"{target.name}: time_column {time.name!r} is {time.type}, not a date or timestamp",
            f"cast it in the SQL: CAST({time.name} AS TIMESTAMP)",
            target=str(target.name),
        )
    row: Any = conn.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(
            relation, sql.Identifier(time.name)
        )
    ).fetchone()
    if row[0]:
        raise WriteRefused(
            f"{target.name}: {row[0]} rows of the snapshot have NULL in {time.name!r}",
            "filter them out, or fill the column",
            target=str(target.name),
        )
