"""Converts values to another type on the server: exactly, or refused by column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import TableColumn
from seeknal_postgres.types.columns import Column
from seeknal_postgres.types.pgtypes import PgType, is_converted_text, unbounded
from seeknal_postgres.write.evolve import converted, direct, type_sql

#: Errors of a cast that fails because of a value.
# Some input functions call a wrong value a syntax error.
_VALUES = (psycopg.DataError, psycopg.IntegrityError, pg.RaiseException, pg.SyntaxError)


@contextmanager
def by_column(
    conn: Conn,
    columns: Sequence[Column],
    old: Mapping[str, TableColumn | None],
    raw: sql.Identifier,
    target: str,
) -> Iterator[None]:
    """Convert rows in a block; a value that does not fit is refused with its column.

    Args:
        old: the table's columns, by name.
        raw: the rows as they were sent.

    Raises:
        WriteRefused: naming the column and its type.
    """
    doubtful = [
        (column, there)
        for column in columns
        if (there := old[column.name]) is not None and _is_doubtful(column, there)
    ]
    if not doubtful:
        yield
        return
    try:
        with conn.transaction():
            _refuse_rounded(conn, doubtful, raw, target)
            yield
    except _VALUES as error:
        for column, there in doubtful:
            _refuse_unparsed(conn, column, there, raw, target)
        raise error


def _is_doubtful(column: Column, old: TableColumn) -> bool:
    if direct(column, old):
        return False
    return is_converted_text(column.sent, old.type) or old.type.base == "money"


def _refuse_rounded(
    conn: Conn,
    doubtful: Sequence[tuple[Column, TableColumn]],
    raw: sql.Identifier,
    target: str,
) -> None:
    """Refuse values that the type's length or precision would cut or round."""
    asked = []
    for column, old in doubtful:
        name = sql.Identifier("r", column.name)
        if old.type.base == "money":
            number, money = type_sql(PgType("numeric", (), old.type.array)), type_sql(old.type)
            value = sql.SQL("CAST({} AS {})").format(name, number)
            stored = sql.SQL("CAST(CAST({} AS {}) AS {})").format(value, money, number)
        elif old.type.args and old.type.base not in ("character", "character varying"):
            base = type_sql(unbounded(old.type))
            value = sql.SQL("CAST({} AS {})").format(name, base)
            stored = sql.SQL("CAST(CAST({} AS {}) AS {})").format(value, type_sql(old.type), base)
        else:
            continue
        asked.append(
            (column, old, sql.SQL("bool_or({} IS DISTINCT FROM {})").format(value, stored))
        )
    if not asked:
        return
    listed = sql.SQL(", ").join(each for _, _, each in asked)
    row: Any = conn.execute(sql.SQL("SELECT {} FROM {} AS r").format(listed, raw)).fetchone()
    for (column, old, _), lost in zip(asked, row, strict=True):
        if lost:
            raise _refusal(target, column, old, "cannot hold exactly")


def _refuse_unparsed(
    conn: Conn, column: Column, old: TableColumn, raw: sql.Identifier, target: str
) -> None:
    """Refuse a column whose values the type's input function does not take."""
    kind: PgType | str = old.declared
    try:
        with conn.transaction():
            conn.execute(
                sql.SQL("SELECT count({}) FROM {} AS r").format(
                    converted(column, kind, old.type, "r"), raw
                )
            )
    except _VALUES as error:
        raise _refusal(target, column, old, f"does not take: {said(error)}") from error


def _refusal(target: str, column: Column, old: TableColumn, why: str) -> WriteRefused:
    return WriteRefused(
        f"{target}: column {column.name!r} holds a value that its type {old.declared} {why}",
        "write a number with the digits that the currency has, or NULL"
        if old.type.base == "money"
        else "write the value in the SQL as PostgreSQL prints it, or NULL",
        target=target,
    )
