"""Small values that all the others use: secrets, places in files, intervals of time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

import attrs

from seeknal_core.contract.errors import Problem
from seeknal_core.contract.redaction import MASK, remember

T = TypeVar("T")


class Secret:
    """A string that must never be shown.

    ``str``, ``repr`` and formatting give ``***``; `reveal` gives the value.
    Every value is remembered for `redact`, the last line of defence in front
    of a terminal or a log.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """Return the value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Secret is not serialized")


@attrs.frozen(kw_only=True)
class Location:
    """A place in a file: ``file`` relative to the project root, the rest from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


def problem_at(
    location: Location | None, message: str, *, path: str = "", hint: str = ""
) -> Problem:
    """Return a mistake at a place, or at none where it is not known."""
    place = location or Location(file="")
    return Problem(
        message, file=place.file, line=place.line, column=place.column, path=path, hint=hint
    )


@attrs.frozen(kw_only=True)
class Interval:
    """A half-open interval of time: ``start`` belongs to it, ``end`` does not.

    Both are in UTC and have no time zone. A column without a time zone is compared as it
    is written, a moment by its time in UTC, a date by its midnight.
    """

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"[{_short(self.start)}, {_short(self.end)})"


def _short(time: datetime) -> str:
    """Return a time as text, a midnight as its date."""
    return time.isoformat(sep=" ").removesuffix(" 00:00:00")
