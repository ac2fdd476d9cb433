"""The interface of modes in this backend: one class per mode, made for one write."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import attrs
import pyarrow as pa
from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThanOrEqual

from seeknal_core.contract import Mode, ModeRule, Snapshot, Target

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.table.metadata import TableMetadata

    from seeknal_iceberg.write.carried import Carried

#: The snapshot's columns, each with what the table calls it.
Names = Sequence[tuple[str, str]]


class Replaced(Protocol):
    """Which rows of a table a write replaces."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The snapshot's columns that decide."""

    def candidates(self, names: dict[str, str]) -> BooleanExpression:
        """Return a filter that lets every file with such a row through."""

    def mask(self, rows: pa.Table) -> pa.BooleanArray:
        """Return, for rows of `columns` in this order, whether each is replaced."""

    def whole(self, file: DataFile) -> bool | None:
        """Return whether all rows of a file are replaced or none; None to look at them."""

    def check(self, found: Iterable[pa.Table]) -> tuple[str, ...]:
        """Refuse to lose rows that the snapshot does not stand for; return notes.

        Args:
            found: the rows of `columns` of the files that were looked at.
        """

    def carried(self, rows: Iterator[pa.Table]) -> Carried | None:
        """Return what replaced rows pass on to the rows that take their place.

        Args:
            rows: the replaced rows: of `columns`, then of those that are passed on.
        """


@attrs.frozen(kw_only=True, eq=False)
class WriteMode(abc.ABC):
    """A mode of writing, for one write of a snapshot into a target.

    Attributes:
        mode: the mode in force.
        carries: values of columns that the node does not have pass on from a replaced row to
            the row that takes its place.
        takes_every_column: the snapshot must have every column of the table.
    """

    mode: ClassVar[Mode]
    carries: ClassVar[bool] = False
    takes_every_column: ClassVar[bool] = False

    target: Target
    snapshot: Snapshot

    @property
    def rule(self) -> ModeRule:
        """What the mode means in every store."""
        return self.mode.rule

    @property
    def finds_by(self) -> tuple[str, ...]:
        """The snapshot's columns by which the mode finds rows; their types stay."""
        return ()

    @abc.abstractmethod
    def read(self) -> Replaced | None:
        """Read from the snapshot which rows it replaces, before any table is read.

        Returns:
            None if it replaces none, or where that depends on the table; see `replaced`.

        Raises:
            WriteRefused: the snapshot has rows that the mode cannot place.
        """

    def replaced(
        self, read: Replaced | None, names: Names, metadata: TableMetadata
    ) -> Replaced | None:
        """Return which rows of a table the snapshot replaces; None for none of them.

        Not called where the mode replaces all rows.

        Args:
            read: what `read` returned.
            metadata: the table's, as the write will leave it.

        Raises:
            WriteRefused: the table has no places as the mode needs them.
        """
        return read

    @abc.abstractmethod
    def is_done(self, properties: dict[str, str]) -> bool:
        """Return whether the table holds already what the write would make of it.

        Args:
            properties: the table's.
        """


def between(name: str, low: int | str, high: int | str) -> BooleanExpression:
    """Return the filter that a column lies between two values, both included."""
    # pyiceberg's expressions are pydantic models whose fields mypy takes for arguments.
    at_least, at_most = cast(Any, GreaterThanOrEqual), cast(Any, LessThanOrEqual)
    return And(at_least(name, low), at_most(name, high))
