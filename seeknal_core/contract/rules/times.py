"""The rules of mode ``incremental_by_time``: which time a write replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Interval, Target

if TYPE_CHECKING:
    import pyarrow as pa

_DAY = timedelta(days=1)
#: Days that a message lists before it counts the rest.
_LISTED = 5


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
            raise WriteRefused(
                f"{target.name}: column {target.time_column!r} holds a time outside of the years "
                "1 to 9999",
                "filter it out in the node's SQL",
                target=str(target.name),
            )
        found[date.fromordinal(number)] = counted["counts"]
    return found


def inside(times: Any, replaced: Iterable[Interval]) -> pa.ChunkedArray:
    """Tell of each time in an Arrow column whether it is in one of several intervals.

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
        raise WriteRefused(
            f"{target.name}: {count} rows of the snapshot have a {target.time_column} outside of "
            f"{target.covers}, which {target.node} covers",
            "select only what is covered, or correct 'covers' of the node",
            target=str(target.name),
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
    losing = [day for day in sorted(arriving) if there.get(day, 0) > arriving[day]]
    if losing:
        shown = [f"{day} has {there[day]} rows there and {arriving[day]} here" for day in losing]
        raise WriteRefused(
            f"{target.name}: days would lose rows: {_listed(shown)}",
            "read whole days; or say what the rows are complete for: covers: {from: "
            f"{losing[0]}, to: {_next(losing[-1])}}} on {target.node}; "
            "or replace the table: seeknal run --full-refresh",
            target=str(target.name),
        )
    first, last = min(arriving), max(arriving)
    only = [day for day in sorted(there) if first < day < last and day not in arriving]
    kept = [day for day in only if there[day]]
    if not kept:
        return ()
    rows = sum(there[day] for day in kept)
    return (
        f"{target.name}: {rows} rows of days that the snapshot does not have are kept: "
        f"{_listed([str(day) for day in kept])}",
    )


def _next(day: date) -> date:
    return day + _DAY if day < date.max else day


def _listed(words: list[str]) -> str:
    more = f", and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more
