"""What is asked of staged rows before they go into a table: keys that tell them apart, and times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Target
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import names
from seeknal_postgres.types.columns import Column

_TIMES = ("date", "timestamp without time zone", "timestamp with time zone")


def check_keys(conn: Conn, target: Target, relation: sql.Identifier, key: Sequence[str]) -> None:
    """Refuse rows whose key is NULL or stands twice, by the equality of the key's columns.

    Raises:
        WriteRefused: with the number of such rows, and values.
    """
    listed = ", ".join(key)
    null = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(k)) for k in key)
    try:
        if len(key) == 1 and not _single_fault(conn, relation, key[0]):
            return
        row: Any = conn.execute(
            sql.SQL("SELECT count(*) FROM {} WHERE {}").format(relation, null)
        ).fetchone()
        twice = conn.execute(_twice(relation, key)).fetchone()
    except pg.UndefinedFunction as error:
        raise WriteRefused(
            f"{target.name}: ({listed}) cannot be a key: {said(error)}",
            "cast the key in the SQL to a type that has an equality: CAST(… AS VARCHAR)",
            target=str(target.name),
        ) from error
    if row[0]:
        raise WriteRefused(
            f"{target.name}: {row[0]} rows of the snapshot have NULL in the key ({listed})",
            "filter them out, or choose another key",
            target=str(target.name),
        )
    if twice is not None:
        count, one, other = twice
        what = f"{one!r} and {other!r} are one key" if one != other else f"{one!r}"
        raise WriteRefused(
            f"{target.name}: {count} keys ({listed}) stand more than once in the snapshot: {what}",
            "deduplicate in the SQL: QUALIFY row_number() OVER (PARTITION BY …) = 1",
            target=str(target.name),
        )


def _twice(relation: sql.Identifier, key: Sequence[str]) -> sql.Composed:
    """Return a query for how many keys stand twice, and two spellings of one of them."""
    spelled = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(k)) for k in key)
    return sql.SQL(
        "WITH twice AS (SELECT min(concat_ws(' / ', {1}) COLLATE \"C\") AS one,"
        " max(concat_ws(' / ', {1}) COLLATE \"C\") AS other"
        " FROM {0} GROUP BY {2} HAVING count(*) > 1)"
        " SELECT (SELECT count(*) FROM twice), one, other FROM twice"
        " ORDER BY one = other, one LIMIT 1"
    ).format(relation, spelled, names(key))


def _single_fault(conn: Conn, relation: sql.Identifier, key: str) -> bool:
    """Tell whether a key of one column is NULL or stands twice anywhere.

    One sorting pass, a third of the time of grouping where rows come in order.
    """
    row: Any = conn.execute(
        sql.SQL("SELECT count(*) > count(DISTINCT {}) FROM {}").format(
            sql.Identifier(key), relation
        )
    ).fetchone()
    return bool(row[0])


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
