"""Numbers in JSON text, with every digit.

DuckDB's parser makes doubles of numbers with a fraction or an exponent, and of
integers beyond 64 bits. Where a file holds a number that a double cannot keep, its
text is read once more with every number written as a marked string: ``5`` becomes
``"<mark>5"``. The mark is a character that Unicode keeps out of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import duckdb

from seeknal_core.engine.quoting import text
from seeknal_core.engine.sources.exact import double_keeps
from seeknal_core.engine.sources.json_shapes import Leaf, Path

#: A noncharacter (Unicode 23.7): "should never be used in open interchange".
MARK = "\ufdd0"
_ESCAPED_MARK = "\\ufdd0"

# Everything up to the next number: strings as a whole, so that no digit in one counts.
_BEFORE = r'((?:[^"0-9-]|-[A-Za-z]|"(?:[^"\\]|\\.)*")*)'
_NUMBER = r"(-?[0-9][0-9.eE+-]*|$)"

#: Finds numbers that a double may not keep. Finds others too.
_LONG_NUMBER = r"[0-9][0-9.]{15,}(?:[eE][+-]?[0-9]+)?|[0-9][0-9.]*[eE][+-]?[0-9]{3,}"

_PARTS = r"^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$"
_MOST_DIGITS = 38


def holds_long_number(record: str) -> str:
    """Write the condition that a record's text holds a number that no double keeps.

    A number inside of a string counts too: it costs time, no more.
    """
    found = f"regexp_extract_all({record}, {text(_LONG_NUMBER)})"
    # DuckDB makes doubles of integers beyond 64 bits, which stay integers here.
    whole = "regexp_full_match(number, '[0-9]{19,}')"
    lost = f"list_filter({found}, lambda number: {whole} OR NOT {double_keeps('number')})"
    return (
        f"CASE WHEN regexp_matches({record}, {text(_LONG_NUMBER)}) THEN len({lost}) > 0"
        " ELSE false END"
    )


def marked(record: str) -> str:
    """Write the expression for a record's text with every number marked."""
    replaced = f"regexp_replace({record}, {text(_BEFORE + _NUMBER)}, '\\1\"{MARK}\\2\"', 'g')"
    # The end of the text counts as an empty number: its quotes and mark go again.
    return f"left({replaced}, -3)"


def holds_mark(record: str) -> str:
    """Write the condition that a record's own text holds the mark."""
    return f"contains({record}, {text(MARK)}) OR contains(lower({record}), {text(_ESCAPED_MARK)})"


def unmarked(value: str) -> str:
    """Write the expression for the text of a marked number, or of anything else as it is."""
    return f"CASE WHEN starts_with({value}, {text(MARK)}) THEN substr({value}, 2) ELSE {value} END"


def unmarked_text(value: str) -> str:
    """Write the expression for any value's text, numbers inside of it unmarked too."""
    return (
        f"CASE WHEN starts_with({value}, {text(MARK)}) THEN substr({value}, 2)"
        f" ELSE {unmarked_json(value)} END"
    )


def unmarked_json(value: str) -> str:
    """Write the expression for a JSON text in which marked numbers are numbers again."""
    pattern = f'"{MARK}([^"]*)"'
    return f"regexp_replace({value}, {text(pattern)}, '\\1', 'g')"


@attrs.frozen(kw_only=True)
class Digits:
    """What the numbers at one place need.

    ``whole`` and ``fraction`` count digits before and after the point; ``double`` says
    whether a double keeps all of them, ``integers`` whether none is written with a point
    or an exponent.
    """

    whole: int = 0
    fraction: int = 0
    double: bool = True
    integers: bool = False

    def kind(self) -> str:
        """Return the type that keeps the numbers."""
        if self.double and not self.integers:
            return "DOUBLE"
        if self.whole + self.fraction <= _MOST_DIGITS:
            # All digits there are, so that the next file's numbers give the same type.
            return f"DECIMAL({_MOST_DIGITS}, {self.fraction})"
        return "VARCHAR"


def number_leaf(digits: Digits) -> Leaf:
    """Return how marked numbers are read that need a number of digits."""
    kind = digits.kind()
    if kind == "VARCHAR":
        return Leaf(read="VARCHAR", convert=unmarked)
    if kind == "DOUBLE":
        return Leaf(read="VARCHAR", convert=lambda value: f"CAST({unmarked(value)} AS DOUBLE)")
    return Leaf(read="VARCHAR", convert=lambda value: f"CAST({_written_out(value)} AS {kind})")


def _written_out(value: str) -> str:
    """Write the expression for a marked number without an exponent.

    DuckDB has no decimal of some that fit, ``1234567890123456789e-20`` among them.
    """
    parts = f"regexp_extract(number, {text(_PARTS)}, ['whole', 'fraction', 'exponent'])"
    digits = "(parts.whole || parts.fraction)"
    point = "(length(parts.whole) + CAST(parts.exponent AS INTEGER))"
    plain = (
        f"CASE WHEN {point} <= 0 THEN '0.' || repeat('0', -{point}) || {digits}"
        f" WHEN {point} >= length({digits})"
        f" THEN {digits} || repeat('0', {point} - length({digits}))"
        f" ELSE left({digits}, {point}) || '.' || substr({digits}, {point} + 1) END"
    )
    sign = "CASE WHEN starts_with(number, '-') THEN '-' ELSE '' END"
    return (
        f"list_transform([{unmarked(value)}], lambda number:"
        " CASE WHEN regexp_matches(number, '[eE]')"
        f" THEN list_transform([{parts}], lambda parts: {sign} || {plain})[1]"
        " ELSE number END)[1]"
    )


def count_digits(
    cursor: duckdb.DuckDBPyConnection, records: str, lists: Mapping[Path, str]
) -> dict[Path, Digits]:
    """Look at all numbers at some places.

    Args:
        records: a query whose rows the expressions in `lists` are about.
        lists: place -> the expression for the list of its marked numbers.
    """
    if not lists:
        return {}
    places: Sequence[Path] = list(lists)
    pairs = ", ".join(
        f"list_transform({lists[path]}, lambda _n: {{'place': {index}, 'number': _n}})"
        for index, path in enumerate(places)
    )
    parts = f"regexp_extract(number, {text(_PARTS)}, ['whole', 'fraction', 'exponent'])"
    found = cursor.execute(
        f"""
        WITH listed AS (SELECT unnest(flatten([{pairs}])) AS entry FROM ({records})),
        numbers AS (
            SELECT entry.place AS place, {unmarked("entry.number")} AS number
            FROM listed WHERE entry.number IS NOT NULL
        ),
        split AS (SELECT place, number, {parts} AS parts FROM numbers),
        sized AS (
            SELECT place, number, ltrim(parts.whole, '0') AS whole,
                rtrim(parts.fraction, '0') AS fraction,
                CASE WHEN parts.exponent = '' THEN 0
                     ELSE coalesce(TRY_CAST(parts.exponent AS INTEGER), 99999) END AS exponent
            FROM split
        )
        SELECT place,
            max(CASE WHEN whole = '' AND ltrim(fraction, '0') = '' THEN 0
                     ELSE greatest(0, length(whole) + exponent) END),
            max(CASE WHEN whole = '' AND fraction = '' THEN 0
                     ELSE greatest(0, length(fraction) - exponent) END),
            bool_and({double_keeps("number")}),
            bool_and(NOT regexp_matches(number, '[.eE]'))
        FROM sized GROUP BY place
        """
    ).fetchall()
    result = dict.fromkeys(places, Digits())
    for index, whole, fraction, double, integers in found:
        result[places[index]] = Digits(
            whole=int(whole), fraction=int(fraction), double=bool(double), integers=bool(integers)
        )
    return result
