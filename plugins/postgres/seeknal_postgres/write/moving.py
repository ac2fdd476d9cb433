"""Moves rows through a file when the server has to rewrite a whole table.

A table that the server rewrites looks empty to transactions with an older snapshot
(https://www.postgresql.org/docs/current/mvcc-caveats.html). Rows that come back by COPY are
frozen, and visible to everybody.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.settings import users_own
from seeknal_postgres.ledger.tables import Table, identifier, names
from seeknal_postgres.write.evolve import Change, apply_change, type_sql
from seeknal_postgres.write.retype import refuse_unfit

_CHUNK = 2**20


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
    """Refuse to rewrite a table if something depends on it that would be triggered.

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
    """Change a column's type although the server writes the whole table again for it.

    Raises:
        WriteRefused: something depends on the table that such a move would set off.
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
        WriteRefused: something depends on the table that such a move would set off.
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
    """Replace a table's rows by a query's, while `alter` makes the server write it again.

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
