"""Mode ``incremental_by_time``: the snapshot's rows replace those of the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, ClassVar

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import BooleanExpression

from seeknal_core.contract import Interval, Mode, Snapshot, Target, rules
from seeknal_core.contract.rules import refusals
from seeknal_iceberg.write.modes.interface import WriteMode, between

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile

    from seeknal_iceberg.write.carried import Carried

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC, without a zone


@attrs.frozen(kw_only=True, eq=False)
class IncrementalByTime(WriteMode):
    """Replace rows by their time: what the node covers, or the days that arrive."""

    mode: ClassVar[Mode] = Mode.INCREMENTAL_BY_TIME

    @property
    def finds_by(self) -> tuple[str, ...]:
        """The time column."""
        return (self.target.time_column or "",)

    def read(self) -> Times | None:
        """Read the snapshot's times; None if nothing is replaced.

        Raises:
            WriteRefused: no time column, another type than a date or timestamp, a NULL, or a
                row that is not in what the node covers.
        """
        return Times.of(self.snapshot, self.target)

    def is_done(self, properties: dict[str, str]) -> bool:
        """Write nothing if no rows arrive, and the node doesn't say what it covers."""
        return self.snapshot.row_count == 0 and self.target.covers is None


@attrs.frozen(kw_only=True, eq=False)
class Times:
    """Rows whose time the snapshot stands for: what the node covers, or days that it has.

    ``arriving`` counts the snapshot's rows by day. Made by `of`.
    """

    target: Target
    columns: tuple[str, ...]
    arriving: dict[date, int]
    intervals: tuple[Interval, ...]
    is_date: bool

    @classmethod
    def of(cls, snapshot: Snapshot, target: Target) -> Times | None:
        """Read a snapshot's times; None if nothing is replaced.

        Raises:
            WriteRefused: no time column, another type than a date or timestamp, a NULL, or a
                row that is not in what the node covers.
        """
        rules.check_named_columns(target, snapshot.schema.names)
        column = target.time_column or ""
        type = snapshot.schema.field(column).type
        if not (pa.types.is_date(type) or pa.types.is_timestamp(type)):
            raise refusals.not_a_time(target.name, column, type)
        arriving: dict[date, int] = {}
        outside = nulls = 0
        for batch in snapshot.reader(columns=(column,)):
            times = batch.column(0)
            nulls += times.null_count
            if target.covers is not None:
                within = rules.inside(times, [target.covers])
                outside += pc.sum(pc.invert(within)).as_py() or 0
                continue
            for day, count in rules.count_days(target, times).items():
                arriving[day] = arriving.get(day, 0) + count
        if nulls:
            raise refusals.null_times(target.name, nulls, column)
        rules.check_covers(target, lambda _: outside)
        intervals = rules.intervals(target, arriving)
        if not intervals:
            return None
        return cls(
            target=target,
            columns=(column,),
            arriving=arriving,
            intervals=intervals,
            is_date=pa.types.is_date(type),
        )

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Bound the time column by the first and the last interval."""
        start, end = self.intervals[0].start - _EPOCH, self.intervals[-1].end - _EPOCH
        name = names[self.columns[0]]
        if self.is_date:
            return between(name, start.days, end.days)
        low, high = (one.days * 86_400_000_000 + one.seconds * 1_000_000 + one.microseconds
                     for one in (start, end))  # fmt: skip
        return between(name, low, high)

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Compare each row's time with the intervals; a NULL is outside."""
        return pa.array(rules.inside(rows.column(0), self.intervals).combine_chunks())

    def whole(self, file: DataFile) -> bool | None:
        """Look at the rows of every file."""
        return None

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Refuse to lose rows of a day; say which days between are kept."""
        there: dict[date, int] = {}
        if self.target.covers is None:
            for rows in found:
                for day, count in rules.count_days(self.target, rows.column(0)).items():
                    there[day] = there.get(day, 0) + count
        return rules.check_days(self.target, self.arriving, there)

    def carried(self, rows: Iterator[pa.Table]) -> Carried | None:
        """Carry nothing over: rows of a time have no counterparts."""
        return None
