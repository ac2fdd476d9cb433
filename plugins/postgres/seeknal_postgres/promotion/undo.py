"""The undo data of a table that is published, and how it is restored."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Interval, QualifiedName, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.script import Script
from seeknal_postgres.ledger.places import Places
from seeknal_postgres.ledger.tables import Table, identifier, names
from seeknal_postgres.types.pgtypes import PgType
from seeknal_postgres.write import times
from seeknal_postgres.write.evolve import Change, type_sql
from seeknal_postgres.write.modes.full import Full
from seeknal_postgres.write.moving import move, refuse_move
from seeknal_postgres.write.rows import Rows


class Kind(enum.Enum):
    """What a publish did to a table, and so how it is undone."""

    #: The table was made: it is dropped.
    CREATED = "created"
    #: Nothing was changed.
    NOTHING = "nothing"
    #: All rows were replaced: all were kept.
    WHOLE = "whole"
    #: Rows were deleted, updated and inserted by key: the former two were kept, and
    #: the keys of the last.
    KEYED = "keyed"
    #: The rows of an interval were replaced: those of the interval were kept.
    INTERVAL = "interval"
    #: Rows were added: their keys, or the transaction's number, tell them.
    ADDED = "added"


@attrs.frozen(kw_only=True)
class Undo:
    """How one target is restored. Kept in the ledger, as values of JSON.

    ``oid`` is the table's and ``base`` its version before the publish. ``columns``
    are those that rows are kept with: all but generated ones. ``fixed`` are
    identity columns that an UPDATE cannot set, and the publish did not. ``added``
    are new columns, ``widened`` the types that others had. ``bounds`` are the start
    and end of each interval that was replaced. ``xid`` numbers the transaction that published.
    ``schema_made`` says whether it made the schema.
    ``dropping`` are columns that go once the publish cannot be undone any more.
    """

    kind: Kind
    oid: int
    base: str | None = None
    columns: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    widened: tuple[tuple[str, str], ...] = ()
    bounds: tuple[str, ...] = ()
    xid: str = ""
    schema_made: bool = False
    dropping: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        """Return the values to keep."""
        document = attrs.asdict(self)
        document["kind"] = self.kind.value
        return document

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Undo:
        """Return the plan that `document` turned into values."""
        lists = {k: tuple(document[k]) for k in ("columns", "key", "fixed", "added", "bounds")}
        widened = tuple((name, kind) for name, kind in document["widened"])
        lists["dropping"] = tuple(document.get("dropping", ()))
        return cls(**{**document, **lists, "widened": widened, "kind": Kind(document["kind"])})


def capture(
    conn: Conn,
    script: Script,
    places: Places,
    rows: Rows,
    change: Change,
    base: str | None,
    dropping: tuple[str, ...] = (),
    *,
    made: bool = False,
) -> Undo:
    """Keep what undoes a publish, just before it happens, under the table's lock.

    Args:
        script: takes the statements that need not be carried out at once.
        rows: as they were `decided`.
        made: whether `make` made the tables.

    Raises:
        WriteRefused: what would have to be done to bring the table back is not done
            while foreign keys point at it.
    """
    table = rows.table
    columns = tuple(column.name for column in table.columns if not column.generated)
    found = Undo(
        kind=_kind(conn, rows, change),
        oid=table.oid,
        base=base,
        columns=columns,
        key=rows.key or (),
        fixed=tuple(c.name for c in table.columns if c.identity and c.name not in rows.columns),
        added=tuple(name for name, _ in change.add),
        widened=tuple((name, _declared(table, name)) for name in change.types),
        dropping=dropping,
    )
    if found.kind is Kind.WHOLE:
        if table.referenced_by:
            raise WriteRefused(
                f"{rows.target.name}: {_whole(rows, change)}, and while "
                f"{table.referenced_by[0].table} refers to it "
                f"({table.referenced_by[0].name}) that could not be brought back",
                "change the columns yourself before, or name a key that tells rows apart",
                target=str(rows.target.name),
            )
        script.add(_kept(places.undo, _of_table(rows, columns, sql.SQL("TRUE")), made=made))
    elif found.kind is Kind.INTERVAL:
        scope = rows.scope(conn)
        which = scope if scope is not None else sql.SQL("FALSE")
        script.add(_kept(places.undo, _of_table(rows, columns, which), made=made))
        bounds = [str(one) for each in rows.intervals(conn) for one in (each.start, each.end)]
        return attrs.evolve(found, bounds=tuple(bounds))
    elif found.kind is Kind.KEYED:
        _keep_keyed(script, conn, places, rows, columns, made=made)
    elif found.kind is Kind.ADDED:
        key = next((k for k in table.keys if set(k) <= set(rows.columns)), ())
        return attrs.evolve(found, key=key, xid=_xid(conn))
    return found


def _whole(rows: Rows, change: Change) -> str:
    """Return why all rows of a table would be kept, and replaced to bring them back."""
    columns = ", ".join(repr(name) for name, _ in (*change.add, *change.widen))
    if columns:
        return f"column {columns} is added or changes its type"
    return f"several of its rows have one key ({', '.join(rows.key or ())})"


def make(script: Script, places: Places, rows: Rows) -> None:
    """Make the tables that `capture` will fill, empty, while the rows are staged.

    A table that is made holds three of the server's locks until the transaction's end, one
    that is filled a single one: a publish of 2,000 tables has no room for more.
    """
    columns = tuple(column.name for column in rows.table.columns if not column.generated)
    script.add(_kept(places.undo, _of_table(rows, columns, sql.SQL("FALSE"))))
    if rows.key is not None:
        keys = sql.SQL("SELECT {} FROM {} AS s WHERE FALSE").format(
            names(rows.key, "s"), rows.source
        )
        script.add(_kept(places.keys, keys))


def _kept(place: QualifiedName, query: sql.Composable, *, made: bool = False) -> sql.Composed:
    """Return the statement that keeps a query's rows, in a new table or one that is made."""
    how = "INSERT INTO {} {}" if made else "CREATE TABLE {} AS {}"
    return sql.SQL(how).format(identifier(place), query)


def _of_table(rows: Rows, columns: tuple[str, ...], which: sql.Composable) -> sql.Composed:
    return sql.SQL("SELECT {} FROM {} AS t WHERE {}").format(
        names(columns, "t"), identifier(rows.target.name), which
    )


def _declared(table: Table, name: str) -> str:
    column = table.column(name)
    assert column is not None
    return column.declared


def _kind(conn: Conn, rows: Rows, change: Change) -> Kind:
    # A trigger may change the rest of a row whose new column alone is set.
    if change.types or (change.add and rows.table.triggers and not rows.mode.adds):
        return Kind.WHOLE
    if rows.mode.adds:
        return Kind.ADDED
    if rows.mode.merges and rows.repeats(conn):
        return Kind.WHOLE
    if rows.key is not None:
        return Kind.KEYED
    return Kind.INTERVAL if rows.mode.by_time else Kind.WHOLE


def _xid(conn: Conn) -> str:
    row: Any = conn.execute("SELECT pg_current_xact_id()::xid::text").fetchone()
    return str(row[0])


def _keep_keyed(
    script: Script,
    conn: Conn,
    places: Places,
    rows: Rows,
    columns: tuple[str, ...],
    *,
    made: bool,
) -> None:
    """Keep the rows that are deleted or updated, and the keys of those that are inserted."""
    gone = rows.gone(conn)
    table, kept = identifier(rows.target.name), names(columns, "t")
    query = sql.SQL("SELECT {} FROM {} AS t WHERE {}").format(kept, table, gone or sql.SQL("FALSE"))
    # A column that is new to the table vanishes with the undoing: no row is kept for it.
    old = attrs.evolve(rows, columns=tuple(name for name in rows.columns if name in columns))
    if old.pairs():
        query += sql.SQL(" UNION ALL SELECT {} FROM {} AS t JOIN {} AS s ON {} WHERE {}").format(
            kept, table, rows.source, rows.same_key(), old.changed()
        )
    script.add(_kept(places.undo, query, made=made))
    assert rows.key is not None
    keys = sql.SQL("SELECT {} FROM {} AS s WHERE {}").format(
        names(rows.key, "s"), rows.source, rows.absent()
    )
    script.add(_kept(places.keys, keys, made=made))


@attrs.frozen(kw_only=True)
class Restore:
    """Restores one target that exists before and after.

    Called in this order, each for all targets of a batch: `alter`, `remove` (those
    that point at others first), `fill` (those that are pointed at first).

    ``table`` is the table as it stands.
    """

    context: ExecutionContext
    conn: Conn
    target: Target
    places: Places
    undo: Undo
    table: Table

    @property
    def _rows(self) -> Rows:
        return Rows(
            target=self.target,
            table=self.table,
            columns=self.undo.columns,
            mode=Full(),
            key=self.undo.key or None,
            enforced=True,
            source=identifier(self.places.undo),
        )

    def _match(self, relation: sql.Identifier) -> sql.Composed:
        return sql.SQL("EXISTS (SELECT FROM {} AS s WHERE {})").format(
            relation, self._rows.same_key()
        )

    def doomed(self) -> sql.Composable | None:
        """Return which rows (``t``) go and do not come back, None for none."""
        if self.undo.widened or self.undo.kind in (Kind.NOTHING, Kind.CREATED):
            return None
        if self.undo.kind is Kind.WHOLE:
            return sql.SQL("TRUE")
        if self.undo.kind is Kind.INTERVAL:
            return self._replaced()
        if self.undo.key:
            return self._match(identifier(self.places.keys))
        return sql.SQL("t.xmin = {}::xid").format(sql.Literal(self.undo.xid))

    def _replaced(self) -> sql.Composable | None:
        bounds = [datetime.fromisoformat(one) for one in self.undo.bounds]
        replaced = [
            Interval(start=start, end=end)
            for start, end in zip(bounds[::2], bounds[1::2], strict=True)
        ]
        kind = times.kind_in(self.table, self.target)
        return times.condition(self.target, kind, replaced) if replaced and kind else None

    def alter(self) -> None:
        """Drop new columns, and change the types of others back.

        Raises:
            WriteRefused: something depends on the table that a move would set off.
        """
        undo, table = self.undo, identifier(self.target.name)
        actions = [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in undo.added]
        actions += [
            sql.SQL("ALTER COLUMN {0} TYPE {1} USING NULL::{1}").format(
                sql.Identifier(name), type_sql(kind)
            )
            for name, kind in undo.widened
        ]
        if not actions:
            return
        statement = sql.SQL("ALTER TABLE {} {}").format(table, sql.SQL(", ").join(actions))
        if not undo.widened:
            self.conn.execute(statement)
            return
        back = Change(widen=tuple((name, PgType.parse(kind)) for name, kind in undo.widened))
        refuse_move(self.target, self.table, back)
        query = sql.SQL("SELECT {} FROM {}").format(
            names(undo.columns), identifier(self.places.undo)
        )
        move(
            self.context,
            self.conn,
            table,
            undo.columns,
            query,
            lambda: self.conn.execute(statement),
        )

    @property
    def _removes_last(self) -> bool:
        return self.undo.kind is Kind.KEYED and self._rows.removes_last

    def remove(self) -> None:
        """Delete the rows that are restored, or removed."""
        doomed = self.doomed()
        if doomed is None or self._removes_last:
            return
        self._rows.delete(self.conn, doomed)
        if self.undo.kind is Kind.KEYED and not self.table.referenced_by:
            self._rows.delete(self.conn, self._match(identifier(self.places.undo)))

    def fill(self) -> None:
        """Restore the rows that were kept."""
        rows, undo = self._rows, self.undo
        if undo.widened or undo.kind in (Kind.NOTHING, Kind.CREATED, Kind.ADDED):
            return
        if undo.kind is Kind.KEYED and self.table.referenced_by:
            settable = tuple(name for name in undo.columns if name not in undo.fixed)
            old = attrs.evolve(rows, columns=settable)
            old.refuse_forgotten(self.conn)
            doomed = self.doomed() if self._removes_last else None
            if doomed is None:
                old.update(self.conn)
                rows.insert(self.conn, rows.absent())
                return
            # A row that stays may refer to one that comes back, and to one that goes.
            rows.insert(self.conn, rows.absent())
            old.update(self.conn)
            rows.delete(self.conn, doomed)
        else:
            rows.insert(self.conn, sql.SQL("TRUE"))
