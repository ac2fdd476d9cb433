"""Saying what is wrong in a CSV file: the file, the line, the column and the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import attrs
import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.sources.common import Reading, bad_rows_note
from seeknal_core.engine.sources.csv_look import Look, not_encoded, unclosed_quote
from seeknal_core.engine.sources.csv_records import Splitter, open_bytes, open_text, rows
from seeknal_core.engine.sources.csv_table import Part, Table, make_table
from seeknal_core.engine.sources.exact import Forms, is_bad, reason
from seeknal_core.project.formats import CsvParams, OnBadRows
from seeknal_core.project.formats.declared import DeclaredType

#: How many bad rows are shown.
_SHOWN = 3
_OTHER_COLUMNS = "Expected Number of Columns"
_TOO_LONG = "Maximum line size"
#: The longest row, in bytes, that DuckDB takes unless it is told, and that is read at all.
_MOSTLY_LONGEST, _LONGEST = 2_000_000, 1_000_000_000


class Checked(Protocol):
    """A column whose values are held to a type."""

    @property
    def index(self) -> int:
        """Its place in the table."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def kind(self) -> DeclaredType:
        """The type."""
        ...

    @property
    def is_declared(self) -> bool:
        """Whether the type is the user's."""
        ...

    @property
    def forms(self) -> Forms:
        """How values are written."""
        ...

    @property
    def text(self) -> str:
        """The SQL of its text."""
        ...

    @property
    def value(self) -> str:
        """The SQL of its value over ``tN``."""
        ...


@attrs.frozen(kw_only=True)
class _Bad:
    """A value that does not fit. ``line`` is 0 where it could not be found."""

    part: Part
    line: int
    column: Checked
    text: str


def is_ragged(error: duckdb.Error) -> bool:
    """Return whether DuckDB stopped at a line with another number of columns."""
    return _OTHER_COLUMNS in str(error)


def is_too_long(error: duckdb.Error) -> bool:
    """Return whether DuckDB stopped at a row of more bytes than it takes unless it is told."""
    return _TOO_LONG in str(error)


def measured(reading: Reading, parts: Sequence[Part]) -> list[Part]:
    """Return parts that tell DuckDB how long their longest row is.

    Raises:
        EngineError: with the line of a quote that is not closed, or of a row that is longer
            than any may be.
    """
    longest = _MOSTLY_LONGEST
    for part in parts:
        look = part.look
        splitter = Splitter(look.dialect)
        try:
            with open_text(look.path, look.encoding) as lines:
                for record in splitter.records(lines):
                    if record.is_open:
                        raise unclosed_quote(reading, look.path, record.line)
                    text = record.text
                    size = len(text) if text.isascii() else len(text.encode())
                    if size > _LONGEST:
                        raise reading.error(
                            look.path,
                            f"a row has more than {_LONGEST:,} bytes",
                            "shorten it, or write params.quote ('' for none)",
                            line=record.line,
                        )
                    longest = max(longest, size)
        except UnicodeError:
            raise not_encoded(reading, look.path, look.encoding) from None
    return [attrs.evolve(part, longest=longest) for part in parts]


def unreadable(reading: Reading, parts: Sequence[Part], error: duckdb.Error) -> EngineError:
    """Return DuckDB's error about a file's form, with the line found anew.

    DuckDB's own line counts empty lines and those in quotes in its own way.
    """
    found = str(error)
    part = next((part for part in parts if str(part.path) in found), parts[0])
    look = part.look
    if "utf-8" in found.lower():
        return not_encoded(reading, look.path, look.encoding, _undecodable(look))
    try:
        with open_text(look.path, look.encoding) as lines:
            splitter = Splitter(look.dialect)
            records = splitter.records(lines)
            width = len(look.names)
            for record in rows(records, has_header=look.has_header, width=width):
                if record.is_open:
                    return unclosed_quote(reading, look.path, record.line)
                count = len(splitter.fields(record.text))
                if count != width:
                    columns = "1 column" if count == 1 else f"{count} columns"
                    return reading.error(
                        look.path,
                        f"{columns}, where {'the header' if look.has_header else 'line 1'} has"
                        f" {width}",
                        "fix the file, or write params.delimiter, params.skip, params.quote, or"
                        " params.on_bad_rows: skip",
                        line=record.line,
                    )
    except UnicodeError:
        return not_encoded(reading, look.path, look.encoding)
    kept = [
        line.strip()
        for line in found.partition(": ")[2].splitlines()
        if line.strip() and not line.startswith(("CSV Error on Line", "Original Line"))
    ]
    message = (kept[0] if kept else found.splitlines()[0]).replace(str(part.path), look.label)
    return reading.error(look.path, message[:300], "fix the file, or write params.quote")


def _undecodable(look: Look) -> int:
    with open_bytes(look.path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def bad_value(
    reading: Reading, table: Table, params: CsvParams, columns: Sequence[Checked]
) -> EngineError:
    """Return the error for the first value that does not fit its column's declared type."""
    counts = _counts(reading, table, columns)
    part = next(part for part in table.parts if counts.get(str(part.path)))
    bad = _find(reading, part, table.names, params, columns, 1)[0]
    said, hint = reason(bad.column.kind, bad.text, bad.column.forms)
    more = sum(counts.values()) - 1
    rest = f" (and {more:,} more row{'s' if more > 1 else ''})" if more else ""
    return reading.error(
        part.look.path,
        f"column {bad.column.name!r}: {said}{rest}",
        f"{hint}, or write params.on_bad_rows: skip or null",
        line=bad.line,
    )


def bad_rows(
    reading: Reading, table: Table, params: CsvParams, columns: Sequence[Checked]
) -> list[str]:
    """Return how many rows were left out, or values made NULL, and show some."""
    mode = params.on_bad_rows
    held = [column for column in columns if column.is_declared and column.kind.name != "string"]
    shown: list[str] = []
    count = sum(len(part.dropped) for part in table.parts)
    for part in table.parts:
        shown += [
            f"{part.look.label}, line {line}: another number of columns than the header has"
            for line in part.dropped[: max(0, _SHOWN - len(shown))]
        ]
    if mode is not OnBadRows.FAIL and held:
        counts = _counts(reading, table, held)
        count += sum(counts.values())
        for part in table.parts:
            left = _SHOWN - len(shown)
            if counts.get(str(part.path)) and left > 0:
                for bad in _find(reading, part, table.names, params, held, left):
                    said, _ = reason(bad.column.kind, bad.text, bad.column.forms)
                    line = f", line {bad.line}" if bad.line else ""
                    shown.append(f"{part.look.label}{line}, column {bad.column.name!r}: {said}")
    if not count:
        return []
    return [bad_rows_note(count, mode, shown)]


def _counts(reading: Reading, table: Table, columns: Sequence[Checked]) -> Mapping[str, int]:
    """Return how many rows of each path have a value that does not fit."""
    held = [column for column in columns if column.kind.name != "string"]
    texts = ", ".join(f"{column.text} AS t{column.index}" for column in held)
    bad = " OR ".join(is_bad(f"t{column.index}", column.value) for column in held)
    found = reading.cursor.execute(
        f"SELECT _file, count(*) FROM (SELECT {texts}, _file FROM ({table.sql}))"
        f" WHERE {bad} GROUP BY _file"
    ).fetchall()
    return dict(found)


def _find(
    reading: Reading,
    part: Part,
    names: Sequence[str],
    params: CsvParams,
    columns: Sequence[Checked],
    limit: int,
) -> list[_Bad]:
    """Return the first bad values of a file, one a row."""
    table = make_table([part], params, names)
    held = [column for column in columns if column.kind.name != "string"]
    texts = ", ".join(f"{column.text} AS t{column.index}" for column in held)
    flags = [is_bad(f"t{column.index}", column.value) for column in held]
    raw = ", ".join(f"t{column.index}" for column in held)
    found = reading.cursor.execute(
        f"SELECT n, {raw}, {', '.join(flags)}"
        f" FROM (SELECT row_number() OVER () AS n, * FROM (SELECT {texts} FROM ({table.sql})))"
        f" WHERE {' OR '.join(flags)} ORDER BY n LIMIT {limit}"
    ).fetchall()
    chosen = []
    for number, *values in found:
        at = next(index for index in range(len(held)) if values[len(held) + index])
        chosen.append((number, held[at], values[at]))
    lines = _lines(part, [number for number, _, _ in chosen])
    return [
        _Bad(part=part, line=lines.get(number, 0), column=column, text=value)
        for number, column, value in chosen
    ]


def _lines(part: Part, numbers: Sequence[int]) -> Mapping[int, int]:
    """Return the lines that rows begin on, by the rows' numbers from 1."""
    look = part.look
    wanted, found = set(numbers), {}
    dropped = set(part.dropped)

    def kept() -> Iterator[int]:
        with open_text(look.path, look.encoding) as lines:
            records = Splitter(look.dialect).records(lines)
            for record in rows(records, has_header=look.has_header, width=len(look.names)):
                if record.line not in dropped:
                    yield record.line

    for number, line in enumerate(kept(), 1):
        if number in wanted:
            found[number] = line
            if len(found) == len(wanted):
                break
    return found
