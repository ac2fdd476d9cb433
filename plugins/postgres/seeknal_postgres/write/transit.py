"""Writes rows into tables that are created for them: temporary ones, or ones that stay.

`put` is how any snapshot arrives: many small ones by few statements, with one COPY each. A
snapshot whose encoded values are not those of its table's columns takes the slow lane: it is
copied into a temporary table first, and cast by the server from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from psycopg import sql

from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import users_names
from seeknal_postgres.ledger.tables import Table, TableColumn, identifier, names
from seeknal_postgres.types.columns import Column
from seeknal_postgres.types.pgtypes import PgType
from seeknal_postgres.write.conversion import by_column
from seeknal_postgres.write.copy import copy_in
from seeknal_postgres.write.evolve import collated, converted, type_sql
from seeknal_postgres.write.items import Item
from seeknal_postgres.write.moving import through_file
from seeknal_postgres.write.rows import ROWS

_RAW = sql.Identifier("pg_temp", "_seeknal_raw")
#: The most columns of a table that the server looks at for its plans.
_LOOKED_AT = 100


@attrs.frozen(kw_only=True)
class Arrival:
    """An item's rows on their way into a new table, typed as the target's columns.

    ``into`` is `ROWS`, which is temporary, or a table that stays. Where the target is not
    there yet, the rows of one that stays are frozen. ``sent`` names further columns, by column,
    that keep its values as they are sent, before the cast to the table's type.
    """

    item: Item
    into: sql.Identifier = ROWS
    sent: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def stays(self) -> bool:
        """Whether the table is not a temporary one."""
        return self.into is not ROWS

    @property
    def is_straight(self) -> bool:
        """Whether the encoded rows are copied directly into the table."""
        return not self.sent and self.item.fits

    @property
    def has_domains(self) -> bool:
        """Whether a column is of a domain, whose checks may call a user's functions."""
        return any(old is not None and old.declared != str(old.type) for old in self.old().values())

    def old(self) -> dict[str, TableColumn | None]:
        """Return the target's columns by the snapshot's names."""
        table = self.item.table
        return {
            column.name: table.column(column.name) if table is not None else None
            for column in self.item.columns
        }

    def declared(self) -> dict[str, tuple[PgType | str, PgType]]:
        """Return each column's type once the change is done: as declared, and its base."""
        widened, old = self.item.change.types, self.old()
        found: dict[str, tuple[PgType | str, PgType]] = {}
        for column in self.item.columns:
            there = old[column.name]
            kind = widened.get(column.name) or (there.type if there else column.type)
            kept = there is not None and column.name not in widened
            found[column.name] = (there.declared if there is not None and kept else kind, kind)
        return found

    def creation(self) -> sql.Composed:
        """Return the statement that makes the table, where rows go straight into it."""
        old = self.old()
        fields = {name: collated(kind, old[name]) for name, (kind, _) in self.declared().items()}
        return _creation(self.into, _listed(fields), stays=self.stays)


def put(
    context: ExecutionContext, conn: Conn, arrivals: Sequence[Arrival], *, analyzed: bool = True
) -> list[int]:
    """Put snapshots into new tables, within the open transaction.

    Args:
        analyzed: whether the server looks at the rows, to plan what is done with them.

    Returns:
        How many rows each has.

    Raises:
        WriteRefused: a value does not fit; by column.
    """
    script = Script(conn)
    for one in arrivals:
        if one.is_straight:
            script.add(one.creation())
    script.flush()
    counts = [
        _copy(context, conn, one) if one.is_straight else _put_slowly(context, conn, one)
        for one in arrivals
    ]
    if analyzed:
        analyze(conn, [(one.into, looked_at(one.item.names)) for one in arrivals])
    return counts


def _copy(context: ExecutionContext, conn: Conn, one: Arrival) -> int:
    with users_names(conn, one.has_domains):
        return copy_rows(context, conn, one.item, one.into, freeze=one.stays)


def copy_rows(
    context: ExecutionContext, conn: Conn, item: Item, into: sql.Identifier, *, freeze: bool
) -> int:
    """Copy an item's rows, as they are encoded, into a table.

    Args:
        freeze: the table was made in this transaction, and its rows are to be visible to
            transactions that began earlier, too.
    """
    with conn.cursor() as cursor:
        statement = copy_statement(into, item.columns, freeze=freeze)
        name = str(item.target.name)
        return copy_in(context, cursor, statement, item.columns, item.arriving, name)


def _put_slowly(context: ExecutionContext, conn: Conn, one: Arrival) -> int:
    """Copy rows into a temporary table as they are encoded, and let the server cast them."""
    item, old, declared = one.item, one.old(), one.declared()
    sent = {column.name: type_sql(column.sent) for column in item.columns}
    conn.execute(_creation(_RAW, _listed(sent), stays=False))
    with users_names(conn, one.has_domains):
        rows = copy_rows(context, conn, item, _RAW, freeze=False)
    query = _casting(one, old, declared)
    if one.stays and item.table is None:
        types = {name: type_sql(kind) for name, (kind, _) in declared.items()}
        conn.execute(_creation(one.into, _listed(types), stays=True))
        # Only COPY freezes rows.
        through_file(context, conn, query, copy_statement(one.into, item.columns, freeze=True))
    else:
        converting = by_column(conn, item.columns, old, _RAW, str(item.target.name))
        with users_names(conn, one.has_domains), converting:
            conn.execute(_creation(one.into, query, stays=one.stays))
    conn.execute(sql.SQL("DROP TABLE {}").format(_RAW))
    return rows


def _casting(
    one: Arrival,
    old: Mapping[str, TableColumn | None],
    declared: Mapping[str, tuple[PgType | str, PgType]],
) -> sql.Composed:
    """Return the query that casts the rows of the temporary table."""
    casts: list[sql.Composable] = []
    for column in one.item.columns:
        there = old[column.name]
        collation = there.collation if there is not None else ""
        value = converted(column, *declared[column.name], "r", collation)
        casts.append(sql.SQL("{} AS {}").format(value, sql.Identifier(column.name)))
    for name, further in one.sent.items():
        casts.append(sql.SQL("{} AS {}").format(sql.Identifier("r", name), sql.Identifier(further)))
    return sql.SQL("SELECT {} FROM {} AS r").format(sql.SQL(", ").join(casts), _RAW)


def copy_statement(
    into: sql.Identifier, columns: Sequence[Column], *, freeze: bool = False
) -> sql.Composed:
    """Return the COPY for `columns`.

    Frozen rows are visible to transactions that began earlier too, so that they
    see a table that is new to them with all of its rows.
    """
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary{})").format(
        into,
        names([column.name for column in columns]),
        sql.SQL(", FREEZE" if freeze else ""),
    )


def looked_at(columns: Sequence[str]) -> Sequence[str]:
    """Return the columns of a table to `analyze`, none for all of them.

    The server walks through each row once a column, from its start: 1,000 columns take it
    half a minute where 100 take a moment. Its autovacuum looks at the others later.
    """
    return columns[:_LOOKED_AT] if len(columns) > _LOOKED_AT else ()


def analyze(conn: Conn, tables: Sequence[tuple[sql.Identifier, Sequence[str]]]) -> None:
    """Run ANALYZE on tables, for the server's plans; on all columns, or on some."""
    if not tables:
        return
    listed = [
        table + (sql.SQL(" ({})").format(names(columns)) if columns else sql.SQL(""))
        for table, columns in tables
    ]
    conn.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(listed)))


def make_empty(conn: Conn, into: sql.Identifier, columns: Sequence[str], table: Table) -> None:
    """Make a table that stays, with columns of an existing one and no rows."""
    query = sql.SQL("SELECT {} FROM {} WHERE FALSE").format(names(columns), identifier(table.name))
    conn.execute(_creation(into, query, stays=True))


def _listed(fields: Mapping[str, sql.SQL]) -> list[sql.Composable]:
    return [sql.SQL("{} {}").format(sql.Identifier(name), kind) for name, kind in fields.items()]


def _creation(
    into: sql.Identifier, what: sql.Composed | Sequence[sql.Composable], *, stays: bool
) -> sql.Composed:
    """Return the CREATE TABLE of a query, or of a list of columns."""
    if isinstance(what, sql.Composed):
        shape = "CREATE TABLE {} AS {}" if stays else "CREATE TEMP TABLE {} ON COMMIT DROP AS {}"
        return sql.SQL(shape).format(into, what)
    shape = "CREATE TABLE {} ({})" if stays else "CREATE TEMP TABLE {} ({}) ON COMMIT DROP"
    return sql.SQL(shape).format(into, sql.SQL(", ").join(what))
