"""The time of a table that mode ``incremental_by_time`` replaces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from psycopg import sql

from seeknal_core.contract import rules
from seeknal_core.contract.types import Interval, Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import Table, identifier
from seeknal_postgres.types.columns import Column
from seeknal_postgres.write.checks import check_time

#: Runs of days that are written out one by one; more are compared as a list of days.
_RUNS = 8


def days_of(
    conn: Conn,
    target: Target,
    rows: sql.Composable,
    kind: str,
    within: sql.Composable | None = None,
) -> dict[date, int]:
    """Count the rows of each day in UTC.

    Args:
        rows: the table of the rows, whose alias is ``t``.
        kind: the type of its time column, as the server names it.
        within: which of the rows are counted; None for all.

    Raises:
        WriteRefused: a time is before the year 1 or after the year 9999.
    """
    assert target.time_column is not None
    column = _utc(sql.Identifier("t", target.time_column), kind)
    found = conn.execute(
        sql.SQL(
            "SELECT CASE WHEN day BETWEEN '0001-01-01' AND '9999-12-31' THEN day END, n FROM"
            " (SELECT ({0})::date AS day, count(*) AS n FROM {1} AS t WHERE {0} IS NOT NULL AND {2}"
            "  GROUP BY 1) AS days"
        ).format(column, rows, within or sql.SQL("TRUE"))
    ).fetchall()
    days = {day: int(count) for day, count in found}
    if None in days:
        raise rules.refusals.outside_calendar(target.name, target.time_column)
    return days


def check(
    conn: Conn, target: Target, source: sql.Composable, kind: str, table: Table | None
) -> tuple[str, ...]:
    """Refuse rows whose time a write may not replace; return what to say about kept days.

    Args:
        source: the staged rows.
        kind: the type of their time column, as the server names it.
        table: what stands there, None if nothing does, or all of it is replaced.

    Raises:
        WriteRefused: a row is not in what the node covers, or a day would lose rows.
    """

    def outside(covers: Interval) -> int:
        row = conn.execute(
            sql.SQL("SELECT count(*) FROM {} AS t WHERE NOT {}").format(
                source, condition(target, kind, [covers])
            )
        ).fetchone()
        return int(row[0]) if row is not None else 0

    rules.check_covers(target, outside)
    if table is None or target.covers is not None or not kind_in(table, target):
        return ()
    arriving = days_of(conn, target, source, kind)
    if not arriving:
        return ()
    first, last = min(arriving), max(arriving)
    span = Interval(start=_midnight(first), end=rules.intervals(target, [last])[0].end)
    there = kind_in(table, target)
    held = days_of(conn, target, identifier(table.name), there, condition(target, there, [span]))
    return rules.check_days(target, arriving, held)


def check_new_times(
    conn: Conn, target: Target, rows: sql.Identifier, columns: Sequence[Column]
) -> None:
    """Refuse rows for a table that is not there yet, by their times.

    Raises:
        WriteRefused: see `check_time` and `check`.
    """
    check_time(conn, target, rows, columns)
    check(conn, target, rows, kind_of(target, columns), None)


def kind_of(target: Target, columns: Sequence[Column]) -> str:
    """Return the type of a snapshot's time column, as the server names it."""
    return next(column.type.base for column in columns if column.name == target.time_column)


def kind_in(table: Table, target: Target) -> str:
    """Return the type of the time column of the target's table."""
    column = table.column(target.time_column or "")
    return column.type.base if column is not None else ""


def replaced(conn: Conn, target: Target, source: sql.Composable, kind: str) -> tuple[Interval, ...]:
    """Return the time that staged rows replace."""
    if target.covers is not None:
        return (target.covers,)
    return rules.intervals(target, days_of(conn, target, source, kind))


def condition(target: Target, kind: str, intervals: Sequence[Interval]) -> sql.Composed:
    """Return the condition that the time of a row (``t``) is in one of several intervals.

    It means the same under any time zone of the session, and an index of the column serves it.
    """
    assert target.time_column is not None
    column = sql.Identifier("t", target.time_column)
    if not intervals:
        return sql.SQL("FALSE").format()
    if len(intervals) <= _RUNS:
        within = [_between(column, kind, one) for one in intervals]
        return sql.SQL("({})").format(sql.SQL(" OR ").join(within))
    days = [day for one in intervals for day in _days(one.start, one.end)]
    span = Interval(start=intervals[0].start, end=intervals[-1].end)
    return sql.SQL("({} AND ({})::date = ANY({}::date[]))").format(
        _between(column, kind, span),
        _utc(column, kind),
        sql.Literal([str(day) for day in days]),
    )


def _days(start: datetime, end: datetime) -> list[date]:
    first = start.toordinal()
    return [date.fromordinal(number) for number in range(first, max(end.toordinal(), first + 1))]


def _between(column: sql.Identifier, kind: str, one: Interval) -> sql.Composed:
    if kind == "date":
        # A date is its midnight: an interval that begins later in a day begins with the next.
        return (
            sql.SQL(
                "({0}::timestamp >= {1}::timestamp AND {0}::timestamp < {2}::timestamp)"
            ).format(column, sql.Literal(str(one.start)), sql.Literal(str(one.end)))
            if _parts(one)
            else sql.SQL("({0} >= {1}::date AND {0} < {2}::date)").format(
                column, sql.Literal(str(one.start.date())), sql.Literal(str(one.end.date()))
            )
        )
    zoned = kind == "timestamp with time zone"
    zone, word = ("+00", "timestamptz") if zoned else ("", "timestamp")
    return sql.SQL("({0} >= {1}::{3} AND {0} < {2}::{3})").format(
        column,
        sql.Literal(f"{one.start}{zone}"),
        sql.Literal(f"{one.end}{zone}"),
        sql.SQL(word),
    )


def _parts(one: Interval) -> bool:
    """Whether an interval begins or ends within a day."""
    return _midnight(one.start) != one.start or _midnight(one.end) != one.end


def _midnight(moment: date) -> datetime:
    return datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - UTC, without a zone


def _utc(column: sql.Composable, kind: str) -> sql.Composed:
    """Return a time in UTC, without a zone."""
    if kind == "timestamp with time zone":
        return sql.SQL("({} AT TIME ZONE 'UTC')").format(column)
    return sql.SQL("{}").format(column)
