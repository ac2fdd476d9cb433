"""Staged rows and the table they go to: how the rows are replaced, and doing so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import psycopg
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Interval, Target
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.settings import users_own
from seeknal_postgres.ledger.attached import refuse_attached, unlike
from seeknal_postgres.ledger.tables import Table, identifier, names
from seeknal_postgres.types.columns import Column
from seeknal_postgres.write.checks import check_keys
from seeknal_postgres.write.conditions import Conditions
from seeknal_postgres.write.modes import TableMode
from seeknal_postgres.write.planning import by_hashing, by_index
from seeknal_postgres.write.references import refuse_forgotten, refuse_orphans

#: The rows of a direct write, of the table's own types. They vanish with the transaction.
ROWS = sql.Identifier("pg_temp", "_seeknal_rows")

#: The first versions of the server with MERGE, and with MERGE that deletes.
_MERGES, _MERGES_DELETIONS = 150_000, 170_000
#: Where MERGE fails and its statements one after another may not: a unique value that
#: moves from one key to another, a table with rules.
SWAPPED = (pg.UniqueViolation, pg.ExclusionViolation)
_UNMERGED = (*SWAPPED, pg.FeatureNotSupported)

#: The keys of new rows, where rules have to see them too.
_NEW = sql.Identifier("pg_temp", "_seeknal_new")

#: The table has more rows than this for each of few ones.
_FEW = 10


@attrs.define
class Tally:
    """How many rows of a table were deleted and inserted so far."""

    deleted: int = 0
    inserted: int = 0


@attrs.frozen(kw_only=True)
class Rows(Conditions):
    """Staged rows, the table they go to, and the mode that says how.

    ``enforced`` says whether an index of the table sees to the key.
    ``count`` is how many rows ``source`` has; None if only the server knows.
    ``tally`` counts what was done on a table whose triggers or rules may do something
    else with the rows; every statement is then held against what it should have done.
    """

    mode: TableMode
    enforced: bool
    count: int | None = None
    tally: Tally = attrs.field(factory=Tally, eq=False)

    @classmethod
    def of(
        cls,
        target: Target,
        table: Table,
        columns: Sequence[str],
        mode: TableMode,
        source: sql.Identifier = ROWS,
        left: Sequence[str] = (),
    ) -> Rows:
        """Choose the key: the declared one, else the table's own.

        Raises:
            WriteRefused: something depends on the table that would do something else with
                its rows; or foreign keys point at it, and the snapshot has no key of it,
                so that its rows could only be replaced as a whole.
        """
        refuse_attached(target, table, mode.events)
        key = mode.key(target, table, columns)
        if key is None and table.referenced_by and not mode.adds:
            first = table.referenced_by[0]
            raise WriteRefused(
                f"{target.name}: {first.table} refers to it ({first.name}), and the snapshot "
                "has no key to tell which rows stay",
                "select the key's columns, or name them: unique_keys: [id]",
                target=str(target.name),
            )
        return cls(
            target=target,
            table=table,
            columns=tuple(columns),
            mode=mode,
            key=key,
            enforced=any(set(k) <= set(key or ()) for k in table.keys),
            source=source,
            left=tuple(left) if mode.replaces else (),
        )

    def check(self, conn: Conn, columns: Sequence[Column]) -> None:
        """Check what the mode asks of the staged rows.

        No index of the table does that for us: of two rows with one key, the one that
        equals the table's would never come to it.

        Args:
            columns: the snapshot's.

        Raises:
            WriteRefused: NULL or repeated keys, NULL time.
        """
        if self.key is not None:
            check_keys(conn, self.target, self.source, self.key)
        self.mode.check(conn, self.target, self.source, columns)

    def decided(self, conn: Conn) -> Rows:
        """Return how the rows are replaced, after inspecting the table's own rows.

        Rows that the declared key does not tell apart are replaced as a whole.
        """
        if self.key is None or self.mode.merges or self.table.referenced_by:
            return self
        return attrs.evolve(self, key=None) if self.repeats(conn) else self

    def apply(self, conn: Conn) -> None:
        """Change the table's rows by the staged ones.

        Raises:
            WriteRefused: others' rows would go or change with the table's; or triggers
                or rules do something else with the rows.
        """
        rows = self.decided(conn)
        rows.refuse_losses(conn)
        if not rows.mode.merges and rows.is_merged(conn):
            return
        rows.remove(conn)
        rows.fill(conn)

    def refuse_losses(self, conn: Conn) -> None:
        """Refuse what would delete or change rows of tables that point at this one."""
        if not self.table.referenced_by:
            return
        gone = self.gone(conn)
        if gone is not None:
            refuse_orphans(conn, self.target, self.table, gone)
        self.refuse_forgotten(conn)

    def refuse_forgotten(self, conn: Conn) -> None:
        """Refuse new values that make rows of others lose what they refer to."""
        if self.key is None or not self.table.referenced_by:
            return
        pairs = sql.SQL("FROM {} AS t JOIN {} AS s ON {} WHERE TRUE").format(
            identifier(self.target.name), self.source, self.same_key()
        )
        refuse_forgotten(conn, self.target, self.table, pairs, self.values())

    @property
    def is_watched(self) -> bool:
        """Whether triggers or rules may do something else with the rows than they are told."""
        return bool(self.table.reactions)

    def check_after(self, after: int, before: int | None = None) -> None:
        """Compare the table's rows with what was to be done.

        Args:
            after: how many the table has.
            before: how many it had, None if that was not asked.

        Raises:
            WriteRefused: they differ; names the triggers or rules that may have done it.
        """
        wanted = None
        if self.mode.replaces:
            wanted = self.count
        elif self.is_watched and before is not None:
            wanted = before - self.tally.deleted + self.tally.inserted
        if wanted is not None and after != wanted:
            raise unlike(self.target, self.table, "", wanted, after)

    def is_merged(self, conn: Conn) -> bool:
        """Do it by one statement, one join where there would be three.

        Returns:
            False if that cannot be: nothing is changed then.
        """
        least = _MERGES_DELETIONS if self.removes_last else _MERGES
        if self.key is None or self.is_watched or conn.info.server_version < least:
            return False
        try:
            with conn.transaction():
                self.merge(conn)
        except _UNMERGED:
            return False
        return True

    def merge(self, conn: Conn) -> None:
        """Delete, update and insert what differs, by one statement as far as the server can."""
        gone: sql.Composable = sql.SQL("")
        scope = self.scope(conn)
        if scope is not None and conn.info.server_version >= _MERGES_DELETIONS:
            gone = sql.SQL(" WHEN NOT MATCHED BY SOURCE AND {} THEN DELETE").format(scope)
        elif scope is not None:
            self.remove(conn)
        values = self.values()
        changed: sql.Composable = sql.SQL("")
        if values or self.left:
            pairs = self.pairs()
            changed = sql.SQL(" WHEN MATCHED AND {} THEN UPDATE SET {}").format(
                self.changed(), sql.SQL(", ").join(pairs)
            )
        statement = sql.SQL(
            "MERGE INTO {} AS t USING {} AS s ON {}{}"
            " WHEN NOT MATCHED THEN INSERT ({}) OVERRIDING SYSTEM VALUE VALUES ({}){}"
        ).format(
            identifier(self.target.name),
            self.source,
            self.same_key(),
            changed,
            names(self.columns),
            names(self.columns, "s"),
            gone,
        )
        planned = by_index(conn) if self.is_looked_up(conn) else by_hashing(conn)
        with planned, users_own(conn):
            conn.execute(statement)

    def is_looked_up(self, conn: Conn) -> bool:
        """Whether the rows are so few that each is best found by the key's index."""
        if not self.mode.merges or not self.enforced:
            return False
        row: Any = conn.execute(
            "SELECT s.rows >= 0 AND s.rows * %s < t.reltuples FROM pg_catalog.pg_class t,"
            " (SELECT coalesce(%s, reltuples) AS rows FROM pg_catalog.pg_class"
            "  WHERE oid = to_regclass(%s)) AS s WHERE t.oid = %s",
            [_FEW, self.count, self.source.as_string(conn), self.table.oid],
        ).fetchone()
        return row is not None and bool(row[0])

    def remove(self, conn: Conn) -> None:
        """Delete what the staged rows replace or no longer hold. Follows `decided`."""
        gone = None if self.removes_last else self.gone(conn)
        if gone is not None:
            self.delete(conn, gone)

    @property
    def removes_last(self) -> bool:
        """Whether `fill` deletes too: a row that stays may refer to one that goes, until then."""
        return self.key is not None and any(
            key.oid == self.table.oid for key in self.table.referenced_by
        )

    @property
    def is_refilled(self) -> bool:
        """Whether all staged rows are inserted, independent of the table's rows."""
        return self.key is None

    def filling(self) -> list[sql.Composable] | None:
        """Return the statements of `fill`, None if it has to look at what they did.

        They may fail by one of `SWAPPED` where `fill` would not.
        """
        if self.is_watched or self.removes_last or self.is_refilled:
            return None
        if self.mode.merges and self.differences is None:
            return None
        update, insert = self.updating(), self.insertion(self.absent())
        return [insert] if update is None else [update, insert]

    def fill(self, conn: Conn) -> None:
        """Update what really changed and insert what is new. Follows `remove`."""
        if self.is_refilled:
            self.insert(conn, sql.SQL("TRUE"))
            return
        merges = self.mode.merges and self.differences is None
        if merges and self.is_merged(conn):
            return
        new = self._new(conn)
        try:
            with conn.transaction():
                if self.removes_last:
                    # A row that stays may come to refer to one that is new.
                    self.insert(conn, new)
                    self.update(conn)
                    gone = self.gone(conn)
                    if gone is not None:
                        self.delete(conn, gone)
                else:
                    self.update(conn)
                    self.insert(conn, new)
        except SWAPPED as error:
            # A unique value moves from one key to another: no order of updates does it.
            if self.table.referenced_by:
                raise self._swapped(error) from error
            matching = sql.SQL("EXISTS (SELECT FROM {} AS s WHERE {} AND {})").format(
                self.source, self.same_key(), self.changed()
            )
            self.delete(conn, matching)
            self.insert(conn, attrs.evolve(self, differences=None)._new(conn))

    def _new(self, conn: Conn) -> sql.Composed:
        """Return the condition that a staged row (``s``) is new to the table.

        The server asks it again for what a rule does besides, when the row is there.
        """
        if not any(each.kind == "rule" for each in self.table.reactions):
            return self.absent()
        assert self.key is not None
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_NEW))
        conn.execute(
            sql.SQL(
                "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} AS s WHERE {}"
            ).format(_NEW, names(self.key, "s"), self.source, self.absent())
        )
        return sql.SQL("EXISTS (SELECT FROM {} AS d WHERE {})").format(
            _NEW, self.same_key("d", "s")
        )

    def _swapped(self, error: psycopg.Error) -> WriteRefused:
        first, name = self.table.referenced_by[0], error.diag.constraint_name
        return WriteRefused(
            f"{self.target.name}: values of {name} move from one row to another, which takes "
            f"deleting rows while {first.table} refers to the table ({first.name}); "
            f"the server says: {said(error)}",
            f"make {name} a DEFERRABLE constraint, which is checked when all rows are "
            "changed, or write the change in two runs",
            target=str(self.target.name),
        )

    def delete_all(self, conn: Conn) -> None:
        """Delete all rows of the table."""
        self.delete(conn, sql.SQL("TRUE"))

    def gone(self, conn: Conn) -> sql.Composable | None:
        """Return which of the table's rows (``t``) are deleted, None for none."""
        scope = self.scope(conn)
        if scope is None or self.key is None:
            return scope
        gone = sql.SQL("{} AND NOT EXISTS (SELECT FROM {} AS s WHERE {})").format(
            scope, self.source, self.same_key()
        )
        if self.differences is None:
            return gone
        return gone + sql.SQL(" AND EXISTS (SELECT FROM {} AS d WHERE {})").format(
            self.differences[0], self.same_key("t", "d")
        )

    def scope(self, conn: Conn) -> sql.Composable | None:
        """Return which of the table's rows the snapshot stands for, None for none."""
        return self.mode.scope(conn, self.target, self.table, self.source)

    def intervals(self, conn: Conn) -> tuple[Interval, ...]:
        """Return the time that the staged rows replace, in a mode that replaces one."""
        return self.mode.intervals(conn, self.target, self.table, self.source)

    def check_kept(self, conn: Conn, columns: Sequence[Column]) -> tuple[str, ...]:
        """Refuse to lose rows that the snapshot may not stand for; return notes on what stays.

        Raises:
            WriteRefused: naming them.
        """
        return self.mode.check_kept(conn, self.target, self.table, self.source, columns)

    def repeats(self, conn: Conn) -> bool:
        """Whether the table has rows that the declared key doesn't tell apart."""
        if self.enforced:
            return False
        assert self.key is not None
        row: Any = conn.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} GROUP BY {} HAVING count(*) > 1)").format(
                identifier(self.target.name), names(self.key)
            )
        ).fetchone()
        return bool(row[0])

    def lacks_keys(self, conn: Conn) -> bool:
        """Whether the table has rows without a key, which equal no key."""
        if self.enforced:
            return False
        assert self.key is not None
        null = sql.SQL(" OR ").join(
            sql.SQL("{} IS NULL").format(sql.Identifier(name)) for name in self.key
        )
        row: Any = conn.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {})").format(
                identifier(self.target.name), null
            )
        ).fetchone()
        return bool(row[0])

    def delete(self, conn: Conn, scope: sql.Composable) -> None:
        """Delete those of the table's rows (``t``) that a condition chooses."""
        table = sql.SQL("{} AS t WHERE {}").format(identifier(self.target.name), scope)
        self.tally.deleted += self._do(conn, "DELETE", self.deletion(scope), table)

    def insert(self, conn: Conn, which: sql.Composable) -> None:
        """Insert those of the staged rows (``s``) that a condition chooses."""
        source = sql.SQL("{} AS s WHERE {}").format(self.source, which)
        self.tally.inserted += self._do(conn, "INSERT", self.insertion(which), source)

    def _do(self, conn: Conn, event: str, statement: sql.Composed, chosen: sql.Composable) -> int:
        """Carry out a statement; on a watched table, see that it did so for all chosen rows.

        Args:
            chosen: a FROM clause's rest, of which it does something with every row.
        """
        wanted: int | None = None
        if self.is_watched:
            row: Any = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(chosen)).fetchone()
            wanted = row[0]
        with users_own(conn):
            done: int = conn.execute(statement).rowcount
        if wanted is not None and done != wanted:
            raise unlike(self.target, self.table, event, wanted, done)
        return done

    def update(self, conn: Conn) -> None:
        """Update the table's rows that differ from the staged ones of their key."""
        statement = self.updating()
        if statement is None:
            return
        rows = sql.SQL("{} AS t, {} AS s WHERE {}").format(
            identifier(self.target.name), self.source, self.chosen()
        )
        self._do(conn, "UPDATE", statement, rows)
