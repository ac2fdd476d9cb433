"""Conditions and statements for staged rows and the table they go to: SQL, nothing carried out."""

from __future__ import annotations

import attrs
from psycopg import sql

from seeknal_core.contract.types import Target
from seeknal_postgres.ledger.tables import Table, identifier, is_equal, names


@attrs.frozen(kw_only=True)
class Conditions:
    """The SQL that compares staged rows (``s``) with a table's (``t``).

    ``source`` holds the rows: a temporary table, or one that waits in the ledger's
    schema. ``key`` tells rows apart; None if nothing does, and rows are then
    replaced as a whole.
    ``differences`` are tables that a comparison by key has left: the table's rows that
    go or change, and the keys of the rows that are new. They spare a second comparison.
    ``left`` are columns of ours that the node no longer has, and become NULL.
    """

    target: Target
    table: Table
    columns: tuple[str, ...]
    key: tuple[str, ...] | None
    source: sql.Identifier
    differences: tuple[sql.Identifier, sql.Identifier] | None = None
    left: tuple[str, ...] = ()

    def same_key(self, one: str = "t", other: str = "s") -> sql.Composed:
        """Return the condition that two aliases' rows have one key."""
        assert self.key is not None
        return sql.SQL(" AND ").join(
            is_equal(
                self.table.column(name), sql.Identifier(one, name), sql.Identifier(other, name)
            )
            for name in self.key
        )

    def absent(self) -> sql.Composed:
        """Return the condition that the table has no row with the key of ``s``."""
        if self.differences is not None:
            return sql.SQL("EXISTS (SELECT FROM {} AS d WHERE {})").format(
                self.differences[1], self.same_key("d", "s")
            )
        return sql.SQL("NOT EXISTS (SELECT FROM {} AS t WHERE {})").format(
            identifier(self.target.name), self.same_key()
        )

    def values(self) -> list[str]:
        """Return the columns that a row of the table may get new values in.

        Those of the key are among them where two keys may be equal and not identical: to
        a collation that ignores case, ``Bob`` becomes ``bob``.
        """
        key = self.key or ()
        loose = {c.name for c in self.table.columns if not c.exact}
        return [name for name in self.columns if name not in key or name in loose]

    def changed(self) -> sql.Composed:
        """Return the condition that ``t`` and ``s`` differ apart from the key.

        Row images compare exactly, and any type: json has no equality, and to
        numeric's own 1.0 and 1.00 are one.
        """
        values = self.values()
        differ = sql.SQL("ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record").format(
            names(values, "t"), names(values, "s")
        )
        stale = [sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in self.left]
        if not stale:
            return differ
        either = [differ, *stale] if values else stale
        return sql.SQL("({})").format(sql.SQL(" OR ").join(either))

    def pairs(self) -> list[sql.Composed]:
        """Return what an UPDATE sets: the staged values, and NULL in what left the node."""
        pairs = [sql.SQL("{0} = s.{0}").format(sql.Identifier(name)) for name in self.values()]
        pairs += [sql.SQL("{} = NULL").format(sql.Identifier(name)) for name in self.left]
        return pairs

    def insertion(self, which: sql.Composable) -> sql.Composed:
        """Return the statement of `insert`."""
        return sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s WHERE {}"
        ).format(
            identifier(self.target.name),
            names(self.columns),
            names(self.columns, "s"),
            self.source,
            which,
        )

    def deletion(self, scope: sql.Composable) -> sql.Composed:
        """Return the statement of `delete`."""
        return sql.SQL("DELETE FROM {} AS t WHERE {}").format(identifier(self.target.name), scope)

    def updating(self) -> sql.Composed | None:
        """Return the statement of `update`, None if there is nothing to set."""
        pairs = self.pairs()
        if not pairs:
            return None
        return sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE {}").format(
            identifier(self.target.name), sql.SQL(", ").join(pairs), self.source, self.chosen()
        )

    def chosen(self) -> sql.Composed:
        """Return the condition of `update`: ``t`` and ``s`` have one key, and differ."""
        chosen = self.same_key() + sql.SQL(" AND ") + self.changed()
        if self.differences is not None:
            chosen += sql.SQL(" AND EXISTS (SELECT FROM {} AS d WHERE {})").format(
                self.differences[0], self.same_key("d", "s")
            )
        return chosen
