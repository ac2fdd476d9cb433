"""Rows on their way: a table, temporary or not, or a file beside the project."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.settings import users_names, users_own
from seeknal_postgres.ledger.tables import Table, identifier, names
from seeknal_postgres.types.columns import Column
from seeknal_postgres.types.pgtypes import PgType
from seeknal_postgres.write.conversion import by_column
from seeknal_postgres.write.copy import copy_in
from seeknal_postgres.write.evolve import (
    Change,
    apply_change,
    collated,
    converted,
    direct,
    type_sql,
)
from seeknal_postgres.write.retype import refuse_unfit

#: The rows of a direct write, of the table's own types. Both vanish with the transaction.
ROWS = sql.Identifier("pg_temp", "_seeknal_rows")
_RAW = sql.Identifier("pg_temp", "_seeknal_raw")
_CHUNK = 2**20
#: The most columns of a table that the server looks at for its plans.
_LOOKED_AT = 100


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


def stage(
    context: ExecutionContext,
    conn: Conn,
    target: Target,
    snapshot: Snapshot,
    columns: Sequence[Column],
    table: Table | None = None,
    change: Change | None = None,
    *,
    into: sql.Identifier = ROWS,
    sent: Mapping[str, str] | None = None,
    analyzed: bool = True,
) -> int:
    """Put the snapshot into a new table, typed as the table's columns.

    Args:
        table: the table as it stands, None where it is to be made.
        change: what will be done to it before it takes the rows.
        into: `ROWS`, which is temporary, or a table that stays. Where no table is
            there yet, the rows of one that stays are frozen.
        sent: names of further columns, by column, that keep its values as they are
            sent, before the cast to the table's type.
        analyzed: whether the server looks at the rows, to plan what is done with them.

    Returns:
        The rows staged.
    """
    declared = _declared(columns, table, change or Change())
    old = {column.name: table.column(column.name) if table else None for column in columns}
    straight = not sent and all(direct(column, old[column.name]) for column in columns)
    stays, name = into is not ROWS, str(target.name)
    fields = {
        column.name: collated(declared[column.name][0], old[column.name])
        if straight
        else type_sql(column.sent)
        for column in columns
    }
    collations = {name: one.collation if one else "" for name, one in old.items()}
    raw = into if straight else _RAW
    _make(conn, raw, fields, stays=straight and stays)
    copied = copy_statement(raw, columns, freeze=straight and stays)
    domains = any(each is not None and each.declared != str(each.type) for each in old.values())
    with conn.cursor() as cursor, users_names(conn, domains):
        rows = copy_in(context, cursor, copied, columns, snapshot, name)
    if not straight:
        casts = [
            sql.SQL("{} AS {}").format(
                converted(column, *declared[column.name], "r", collations[column.name]),
                sql.Identifier(column.name),
            )
            for column in columns
        ]
        casts += [
            sql.SQL("{} AS {}").format(sql.Identifier("r", column), sql.Identifier(further))
            for column, further in (sent or {}).items()
        ]
        query = sql.SQL("SELECT {} FROM {} AS r").format(sql.SQL(", ").join(casts), _RAW)
        if stays and table is None:
            _make(conn, into, {k: type_sql(v[0]) for k, v in declared.items()}, stays=True)
            through_file(context, conn, query, copy_statement(into, columns, freeze=True))
        else:
            converting = by_column(conn, columns, old, _RAW, name)
            with users_names(conn, domains), converting:
                conn.execute(_creation(into, stays, sql.SQL("AS {}").format(query)))
    if analyzed:
        analyze(conn, into, looked_at([column.name for column in columns]))
    return rows


def looked_at(columns: Sequence[str]) -> Sequence[str]:
    """Return the columns of a table to `analyze`, none for all of them.

    The server walks through each row once a column, from its start: 1,000 columns take it
    half a minute where 100 take a moment. Its autovacuum looks at the others later.
    """
    return columns[:_LOOKED_AT] if len(columns) > _LOOKED_AT else ()


def analyze(conn: Conn, table: sql.Identifier, columns: Sequence[str] = ()) -> None:
    """Let the server look at a table's rows, for its plans; at all columns, or at some."""
    some = sql.SQL(" ({})").format(names(columns)) if columns else sql.SQL("")
    conn.execute(sql.SQL("ANALYZE {}{}").format(table, some))


def make_empty(conn: Conn, into: sql.Identifier, columns: Sequence[str], table: Table) -> None:
    """Make a table that stays, with columns of an existing one and no rows."""
    query = sql.SQL("AS SELECT {} FROM {} WHERE FALSE").format(
        names(columns), identifier(table.name)
    )
    conn.execute(_creation(into, True, query))


def _make(conn: Conn, into: sql.Identifier, fields: Mapping[str, sql.SQL], *, stays: bool) -> None:
    listed = [sql.SQL("{} {}").format(sql.Identifier(k), kind) for k, kind in fields.items()]
    conn.execute(
        _creation(into, stays, sql.SQL("({})").format(sql.SQL(", ").join(listed)), listed=True)
    )


def _creation(
    into: sql.Identifier, stays: bool, what: sql.Composed, *, listed: bool = False
) -> sql.Composed:
    """Return the CREATE TABLE of a list of columns, or of a query."""
    if stays:
        return sql.SQL("CREATE TABLE {} {}").format(into, what)
    shape = (
        "CREATE TEMP TABLE {} {} ON COMMIT DROP"
        if listed
        else "CREATE TEMP TABLE {} ON COMMIT DROP {}"
    )
    return sql.SQL(shape).format(into, what)


def _declared(
    columns: Sequence[Column], table: Table | None, change: Change
) -> Mapping[str, tuple[PgType | str, PgType]]:
    """Return each column's type once the change is done: as declared, and its base."""
    widened = change.types
    found: dict[str, tuple[PgType | str, PgType]] = {}
    for column in columns:
        old = table.column(column.name) if table else None
        kind = widened.get(column.name) or (old.type if old else column.type)
        found[column.name] = (
            old.declared if old is not None and column.name not in widened else kind,
            kind,
        )
    return found


def through_file(
    context: ExecutionContext, conn: Conn, query: sql.Composed, into: sql.Composed
) -> None:
    """Move the rows of a query through a file of ours into a ``COPY … FROM STDIN``.

    Only COPY can freeze rows, and only a client can feed it.
    """
    with _scratch(context) as file:
        _drain(context, conn, query, file)
        _feed(context, conn, file, into)


def _scratch(context: ExecutionContext) -> IO[bytes]:
    folder = Path(context.target_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder, prefix="postgres-")


def _drain(context: ExecutionContext, conn: Conn, query: sql.Composed, file: IO[bytes]) -> None:
    out = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
    with conn.cursor() as cursor, cursor.copy(out) as copy:
        for chunk in copy:
            context.cancellation.check()
            file.write(chunk)
    file.seek(0)


def _feed(context: ExecutionContext, conn: Conn, file: IO[bytes], into: sql.Composed) -> None:
    with conn.cursor() as cursor, cursor.copy(into) as copy:
        while chunk := file.read(_CHUNK):
            context.cancellation.check()
            copy.write(chunk)


def refuse_move(target: Target, table: Table, change: Change) -> None:
    """Refuse to write a table anew where something hangs on it that this would set off.

    Raises:
        WriteRefused: naming the columns and what is in the way.
    """
    reason = (
        f"{table.referenced_by[0].table} refers to it" if table.referenced_by
        else "it is partitioned" if table.partitioned
        else "it has triggers" if table.triggers
        else None
    )  # fmt: skip
    if reason is not None:
        wanted = ", ".join(f"{name!r} to {kind}" for name, kind in change.types.items())
        raise WriteRefused(
            f"{target.name}: column {wanted} would need the table to be written anew, "
            f"which is not done while {reason}",
            f"change it at a quiet time: ALTER TABLE {target.name} ALTER COLUMN … TYPE …",
            target=str(target.name),
        )


def rewrite(
    context: ExecutionContext, conn: Conn, target: Target, table: Table, change: Change
) -> None:
    """Change a column's type although the server writes the whole table anew for it.

    Raises:
        WriteRefused: something hangs on the table that such a move would set off.
    """
    refuse_move(target, table, change)
    refuse_unfit(conn, target, table, change)
    widened = change.types
    kept = [
        column
        for column in table.columns
        if not column.generated and column.name not in change.drop
    ]
    values = [
        sql.SQL("CAST({} AS {})").format(
            sql.Identifier(column.name), type_sql(widened[column.name])
        )
        if column.name in widened
        else sql.Identifier(column.name)
        for column in kept
    ]
    name = identifier(target.name)
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(values), name)
    move(
        context,
        conn,
        name,
        [column.name for column in kept],
        query,
        lambda: apply_change(conn, target, change),
    )


def replace(
    context: ExecutionContext,
    conn: Conn,
    target: Target,
    table: Table,
    change: Change,
    rows: sql.Identifier,
    columns: Sequence[str],
) -> None:
    """Replace all rows of a table by staged ones, and change types by casting meanwhile.

    Args:
        rows: the staged rows, of the types that the table's columns get.
        columns: theirs.

    Raises:
        WriteRefused: something hangs on the table that such a move would set off.
    """
    refuse_move(target, table, change)
    query = sql.SQL("SELECT {} FROM {}").format(names(columns), rows)
    move(
        context,
        conn,
        identifier(target.name),
        columns,
        query,
        lambda: apply_change(conn, target, change),
    )


def move(
    context: ExecutionContext,
    conn: Conn,
    table: sql.Identifier,
    columns: Sequence[str],
    query: sql.Composed,
    alter: Callable[[], object],
) -> None:
    """Replace a table's rows by a query's, while `alter` makes the server write it anew.

    A rewritten table looks empty to transactions with an older snapshot
    (https://www.postgresql.org/docs/current/mvcc-caveats.html). So the rows go
    through a file and come back frozen, visible to everybody: whoever began earlier
    sees these rows. The caller holds the ACCESS EXCLUSIVE lock.
    """
    with _scratch(context) as file:
        _drain(context, conn, query, file)
        with users_own(conn):
            conn.execute(sql.SQL("DELETE FROM {}").format(table))
        alter()
        into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE)").format(
            table, names(columns)
        )
        with users_own(conn):
            _feed(context, conn, file, into)
