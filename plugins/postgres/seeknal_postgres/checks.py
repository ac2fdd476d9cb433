"""What is asked of staged rows before they go into a table: keys that tell them apart, and times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Target
from seeknal_postgres.columns import Column
from seeknal_postgres.pool import Conn
from seeknal_postgres.tables import names

_TIMES = ("date", "timestamp without time zone", "timestamp with time zone")


def check_keys(conn: Conn, target: Target, relation: sql.Identifier, key: Sequence[str]) -> None:
    """Refuse rows whose key is NULL or stands twice.

    Raises:
        WriteRefused: with the number of such rows.
    """
    listed = ", ".join(key)
    if len(key) == 1 and not _single_fault(conn, relation, key[0]):
        return
    null = sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(sql.Identifier(k)) for k in key)
    row: Any = conn.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {}").format(relation, null)
    ).fetchone()
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
