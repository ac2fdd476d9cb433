"""Guessing the types of columns that nobody declared, from the texts of their values.

Each value is of one class (a bit); a column's classes together decide its type. Queries group
by file, so that a file that changes what the ones before it made of a column can be named.
A guess is never wider than its values: what fits none exactly is text.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import attrs

from seeknal_core.engine.quoting import text as quoted
from seeknal_core.engine.sources.exact import Forms, double_keeps, plain_number
from seeknal_core.project.formats.declared import DeclaredType, decimal, plain

#: Dates that begin or end with a year of four digits. `03/04/2024` fits the first two.
DATE_FORMATS = (
    "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%Y.%m.%d",
)  # fmt: skip
_ALL_FORMATS = (1 << len(DATE_FORMATS)) - 1
_MOST_DIGITS = 38


class Class(enum.IntFlag):
    """What a text looks like."""

    INTEGER = 1
    #: Of 64 bits, but a double does not keep it.
    LONG = 2
    #: Beyond 64 bits.
    HUGE = 4
    FRACTION = 8
    #: With more digits than a double keeps.
    LONG_FRACTION = 16
    EXPONENT = 32
    #: ``1e5``, ``nan``, ``inf``: numbers among fractions, else words.
    WEAK = 64
    BOOLEAN = 128
    DATE = 256
    TIMESTAMP = 512
    TIMESTAMPTZ = 1024
    TIME = 2048
    OTHER_DATE = 4096
    #: Digits that are no number: ``007``, ``+49``, more than a type has.
    DIGITS = 8192
    TEXT = 16384


_WHOLE = Class.INTEGER | Class.LONG | Class.HUGE
_EXACT = _WHOLE | Class.FRACTION | Class.LONG_FRACTION
_DOUBLE = Class.INTEGER | Class.FRACTION | Class.EXPONENT | Class.WEAK
#: What a column of numbers may become text by without a word about it being lost.
NUMERIC = _EXACT | Class.EXPONENT | Class.WEAK | Class.DIGITS


@attrs.frozen(kw_only=True)
class Seen:
    """What was seen of a column: classes, digits before and after the point, date formats."""

    classes: Class
    whole: int = 0
    scale: int = 0
    formats: int = _ALL_FORMATS

    def __or__(self, other: Seen) -> Seen:
        return Seen(
            classes=self.classes | other.classes,
            whole=max(self.whole, other.whole),
            scale=max(self.scale, other.scale),
            formats=self.formats & other.formats,
        )

    @property
    def date_formats(self) -> tuple[str, ...]:
        """The formats that all dates of another form than ISO's fit."""
        return tuple(one for bit, one in enumerate(DATE_FORMATS) if self.formats >> bit & 1)


NOTHING = Seen(classes=Class(0))


def combine(seen: Iterable[Seen]) -> Seen:
    """Return what was seen of a column in all of its files."""
    result = NOTHING
    for each in seen:
        result |= each
    return result


def decide(seen: Seen) -> DeclaredType:
    """Return the narrowest type that holds every value exactly.

    A date of another form is a date where one format fits them all or several do: the caller
    asks `Seen.date_formats`.
    """
    found = seen.classes
    simple: Mapping[Class, str] = {
        Class.INTEGER | Class.LONG: "integer",
        Class.BOOLEAN: "boolean",
        Class.DATE: "date",
        Class.DATE | Class.TIMESTAMP: "timestamp",
        Class.TIMESTAMPTZ: "timestamptz",
        Class.TIME: "time",
    }
    if not found:
        return plain("string")
    for allowed, name in simple.items():
        if not found & ~allowed:
            return plain(name)
    if found == Class.OTHER_DATE and seen.formats:
        return plain("date")
    if not found & ~_DOUBLE and found & (Class.FRACTION | Class.EXPONENT):
        return plain("float")
    if not found & ~_EXACT and seen.whole + seen.scale <= _MOST_DIGITS:
        return decimal(_MOST_DIGITS, seen.scale)
    return plain("string")


def class_of(text: str, forms: Forms) -> str:
    """Write the SQL of a value's class; NULL for NULL.

    Args:
        text: a column's text, repeated often.
    """
    return _class(text, _usual(text, forms))


def columns_seen(text: str, classes: str, forms: Forms) -> tuple[str, ...]:
    """Return the aggregates that `read_seen` makes a `Seen` of.

    Args:
        classes: the column of what `class_of` gives.
    """
    number = f"trim({_usual(text, forms)}, '- ')"
    exact, dates = _EXACT.value, Class.OTHER_DATE.value
    return (
        f"bit_or({classes})",
        f"max(CASE WHEN {classes} & {exact} > 0 THEN length(split_part({number}, '.', 1)) END)",
        f"max(CASE WHEN {classes} & {exact} > 0 THEN length(split_part({number}, '.', 2)) END)",
        f"bit_and(CASE WHEN {classes} = {dates} THEN {_fitting(text)} END)",
    )


def _usual(text: str, forms: Forms) -> str:
    return plain_number(text, forms) if forms.decimal != "." or forms.thousands else text


def read_seen(values: tuple[int | None, ...]) -> Seen:
    """Make a `Seen` of the values of `columns_seen`."""
    classes, whole, scale, formats = values
    return Seen(
        classes=Class(classes or 0),
        whole=whole or 0,
        scale=scale or 0,
        formats=_ALL_FORMATS if formats is None else formats,
    )


def _is_number(text: str) -> str:
    return _like(text, r"-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)")


def _like(text: str, pattern: str) -> str:
    spaced = quoted(rf"\s*({pattern})\s*")
    return f"regexp_full_match({text}, {spaced})"


def _other_date(text: str) -> str:
    pattern = r"\d{1,2}([/.-])\d{1,2}[/.-]\d{4}|\d{4}[/.]\d{1,2}[/.]\d{1,2}"
    return _like(text, pattern)


def _fitting(text: str) -> str:
    bits = (
        f"CASE WHEN TRY_STRPTIME({text}, {quoted(one)}) IS NULL THEN 0 ELSE {1 << bit} END"
        for bit, one in enumerate(DATE_FORMATS)
    )
    return f"({' | '.join(bits)})"


def _class(text: str, number: str) -> str:
    """Write the SQL of a value's class; NULL for NULL."""
    keeps = double_keeps(number)
    day = r"\d{4}-\d\d-\d\d"
    clock = r"([01]\d|2[0-3]):[0-5]\d"
    seconds = r":[0-5]\d(\.\d{1,6})?"
    offset = r" ?(Z|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
    stamp = rf"{day}[ T]{clock}({seconds})?"
    moment = f"TRY_CAST(left(trim({text}), 10) AS DATE) IS NOT NULL"
    whole = "-?(0|[1-9][0-9]*)"
    exponent = rf"{whole}(\.[0-9]+[eE][+-]?|[eE][+-])[0-9]{{1,4}}"
    bare = whole + "[eE][0-9]{1,4}"
    is_day, is_stamp = _like(text, day), _like(text, stamp)
    is_moment = _like(text, stamp + offset)
    return f"""CASE
 WHEN {text} IS NULL THEN NULL
 WHEN length({number}) <= 15 AND TRY_CAST({number} AS BIGINT)::VARCHAR = {number}
  THEN {Class.INTEGER.value}
 WHEN NOT regexp_matches({text}, '^\\s*[-+.0-9]') THEN CASE
  WHEN lower(trim({text})) IN ('true', 'false') THEN {Class.BOOLEAN.value}
  WHEN {_like(f"lower({text})", "nan|inf|infinity")} THEN {Class.WEAK.value}
  ELSE {Class.TEXT.value} END
 WHEN length({number}) <= 15 AND {_is_number(number)} THEN CASE
  WHEN contains({number}, '.') THEN {Class.FRACTION.value} ELSE {Class.INTEGER.value} END
 WHEN {_like(number, whole)} THEN CASE
  WHEN TRY_CAST({number} AS BIGINT) IS NULL THEN {Class.HUGE.value}
  WHEN length({number}) <= 15 OR {keeps} THEN {Class.INTEGER.value} ELSE {Class.LONG.value} END
 WHEN {_is_number(number)} THEN CASE
  WHEN {keeps} THEN {Class.FRACTION.value} ELSE {Class.LONG_FRACTION.value} END
 WHEN {_like(number, exponent)} THEN CASE
  WHEN {keeps} THEN {Class.EXPONENT.value} ELSE {Class.DIGITS.value} END
 WHEN {_like(number, bare)} THEN CASE
  WHEN {keeps} THEN {Class.WEAK.value} ELSE {Class.DIGITS.value} END
 WHEN {_like(f"lower({text})", "-(inf|infinity)")} THEN {Class.WEAK.value}
 WHEN {is_day} AND {moment} THEN {Class.DATE.value}
 WHEN {is_stamp} AND {moment} THEN {Class.TIMESTAMP.value}
 WHEN {is_moment} AND {moment} THEN {Class.TIMESTAMPTZ.value}
 WHEN {_like(text, clock + seconds)} THEN {Class.TIME.value}
 WHEN {_other_date(text)} AND {_fitting(text)} > 0 THEN {Class.OTHER_DATE.value}
 WHEN {_like(text, "[+-]?[0-9][0-9.]*")} THEN {Class.DIGITS.value}
 ELSE {Class.TEXT.value} END"""
