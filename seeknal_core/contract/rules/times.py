"""The rules of mode ``incremental_by_time``: which time a write replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Interval, Target

if TYPE_CHECKING:
    import pyarrow as pa

_DAY = timedelta(days=1)


def day_of(moment: date) -> date:
    """Return the day of a time: of a moment, which has a time zone, its day in UTC."""
    if not isinstance(moment, datetime):
        return moment
    return (moment.astimezone(UTC) if moment.tzinfo is not None else moment).date()


def count_days(target: Target, times: Any) -> dict[date, int]:
    """Count the rows of each day in an Arrow column of dates or timestamps; NULLs count not.

    Raises:
        WriteRefused: a time is before the year 1 or after the year 9999.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    days = _stamps(times)
    if len(days) == 0:
        return {}
    floored = pc.floor_temporal(days, unit="day") if days.null_count < len(days) else days
    epoch, found = date(1970, 1, 1).toordinal(), {}
    for counted in pc.value_counts(floored.cast(pa.int64())).to_pylist():
        if counted["values"] is None:
            continue
        number = epoch + counted["values"] // 86_400_000_000
        if not 1 <= number <= date.max.toordinal():
            raise refusals.outside_calendar(target.name, target.time_column)
        found[date.fromordinal(number)] = counted["counts"]
    return found


def inside(times: Any, replaced: Iterable[Interval]) -> pa.ChunkedArray:
    """Return for each time in an Arrow column whether it is in one of several intervals.

    A NULL is in none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    stamps = _stamps(times)
    found = pa.chunked_array([pa.repeat(pa.scalar(False), len(stamps))])
    for interval in replaced:
        start, end = (pa.scalar(one, stamps.type) for one in (interval.start, interval.end))
        within = pc.and_(pc.greater_equal(stamps, start), pc.less(stamps, end))
        found = pc.or_(found, pc.fill_null(within, False))
    return found


def _stamps(times: Any) -> pa.ChunkedArray:
    """Return times as UTC, without a zone, in microseconds."""
    import pyarrow as pa

    column = times if isinstance(times, pa.ChunkedArray) else pa.chunked_array([times])
    return column.cast(pa.timestamp("us"), safe=False)


def intervals(target: Target, days: Iterable[date]) -> tuple[Interval, ...]:
    """Return the time that a write in mode ``incremental_by_time`` replaces.

    Args:
        days: those of the rows that arrive; see `day_of`.

    Returns:
        What the node ``covers`` where that is known. Otherwise one interval for each run of
        adjacent days, in order: none where no rows arrive.
    """
    if target.covers is not None:
        return (target.covers,)
    found: list[Interval] = []
    for day in sorted(set(days)):
        start = datetime.combine(day, time())
        end = start + _DAY if day < date.max else datetime.max  # noqa: DTZ901
        if found and found[-1].end == start:
            start = found.pop().start
        found.append(Interval(start=start, end=end))
    return tuple(found)


def check_covers(target: Target, outside: Callable[[Interval], int]) -> None:
    """Refuse rows whose time is not in what the node ``covers``.

    Args:
        outside: counts the arriving rows whose time is not in an interval; asked only where
            the node says what it covers.

    Raises:
        WriteRefused: there are any.
    """
    if target.covers is None:
        return
    count = outside(target.covers)
    if count:
        raise refusals.outside_covers(
            target.name, count, target.time_column, target.covers, target.node
        )


def check_days(
    target: Target, arriving: Mapping[date, int], there: Mapping[date, int]
) -> tuple[str, ...]:
    """Refuse to replace a day by fewer rows than it has, unless the node ``covers`` it.

    A day that comes with fewer rows than the table holds of it was most likely read in part.

    Args:
        arriving: how many rows arrive, by day (`day_of`).
        there: how many rows the table holds, by day, at least from the first to the last day
            of those that arrive. Others may be there, too.

    Returns:
        Sentences about days between the first and the last that only the table holds. They
        are kept.

    Raises:
        WriteRefused: naming the days that would lose rows.
    """
    if target.covers is not None or not arriving:
        return ()
    losing = {
        day: (there[day], count)
        for day, count in sorted(arriving.items())
        if there.get(day, 0) > count
    }
    if losing:
        raise refusals.losing_days(target.name, losing, target.node)
    first, last = min(arriving), max(arriving)
    only = [day for day in sorted(there) if first < day < last and day not in arriving]
    kept = [day for day in only if there[day]]
    if not kept:
        return ()
    rows = sum(there[day] for day in kept)
    return (
        f"{target.name}: {rows} rows of days that the snapshot does not have are kept: "
        f"{refusals.listed(kept)}",
    )
