"""Reading CSV files: every value is text first, and is converted exactly in the same pass.

Nothing of a file's form is left to DuckDB's guess (`csv_look`). Declared columns are what they
are declared as; the types of others are guessed from a sample. A value that does not fit ends
the pass: a declared column fails (or the row does, by ``on_bad_rows``), a guess is made anew
from all values, and the pass starts over, once.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence

import attrs
import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.shown import first_few
from seeknal_core.engine import quoting
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources import csv_errors, guess
from seeknal_core.engine.sources.common import Reading, check_formats
from seeknal_core.engine.sources.csv_look import Look, check_agreement, look
from seeknal_core.engine.sources.csv_records import UnclosedQuote
from seeknal_core.engine.sources.csv_table import Part, Table, as_it_is, copied, make_table
from seeknal_core.engine.sources.exact import Forms, checked, convert, has_offset, is_bad
from seeknal_core.engine.sources.guessing import Guessed, SeenIn, settle
from seeknal_core.project.formats import CsvParams, OnBadRows
from seeknal_core.project.formats.declared import DeclaredType, parse, plain

#: What a guess is made of; the rest is checked.
_SAMPLE_ROWS = 8_192
_MARK = "seeknal: bad value in "
_MARKED = re.compile(re.escape(_MARK) + r"(\d+):")
_MIXED_LINE_ENDS = "reached an invalid state"
_TRIES = 5


@attrs.frozen(kw_only=True)
class Column:
    """A column of the table, and the type that it is read as."""

    index: int
    name: str
    kind: DeclaredType
    is_declared: bool
    forms: Forms
    #: Texts that are NULL here where they are quoted, too.
    nulls: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The SQL of the column's text."""
        name = f"v{self.index}"
        if not self.nulls:
            return name
        return (
            f"CASE WHEN {name} NOT IN ({', '.join(map(quoting.text, self.nulls))}) THEN {name} END"
        )

    @property
    def value(self) -> str:
        """The SQL of the column's value, over `text` as ``tN``; NULL where it does not fit."""
        return convert(f"t{self.index}", self.kind, self.forms)


def store(reading: Reading) -> Output:
    """Store the rows of CSV files."""
    return _Reader(reading).store()


class _Reader:
    """Reads the files of one source."""

    def __init__(self, reading: Reading) -> None:
        assert isinstance(reading.params, CsvParams)
        self._reading = reading
        self._params = reading.params
        self._folder = reading.staging.path / "text"
        self._notes: list[str] = []
        #: How values of columns are written that nobody declared.
        self._forms = Forms(
            decimal=self._params.decimal or ".",
            thousands=self._params.thousands or "",
            date_format=self._params.format_of("date_format", "")[0],
            timestamp_format=self._params.format_of("timestamp_format", "")[0],
            guessed=True,
        )

    def store(self) -> Output:
        try:
            looks = self._look()
            parts = [
                as_it_is(each) if each.plain else copied(self._reading, each, self._folder)
                for each in looks
            ]
            skips = self._params.on_bad_rows is OnBadRows.SKIP
            merges = True
            for _ in range(_TRIES):
                try:
                    return self._read(parts, merges=merges)
                except UnclosedQuote:
                    merges = False
                except duckdb.InvalidInputException as error:
                    if merges and len(parts) > 1:
                        # The copy of many files names none of them.
                        merges = False
                        continue
                    if csv_errors.is_too_long(error) and not any(p.longest for p in parts):
                        parts = csv_errors.measured(self._reading, parts)
                        continue
                    again = _MIXED_LINE_ENDS in str(error)
                    ragged = skips and csv_errors.is_ragged(error)
                    if not again and not ragged:
                        raise csv_errors.unreadable(self._reading, parts, error) from None
                    parts = [
                        attrs.evolve(
                            copied(self._reading, part.look, self._folder, drop_ragged=ragged),
                            longest=part.longest,
                        )
                        for part in parts
                    ]
            raise EngineError(f"{self._reading.source.id}: the files cannot be read as CSV")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _look(self) -> list[Look]:
        looks, empty = [], []
        for path in self._reading.paths:
            found = look(self._reading, path)
            if found is None:
                empty.append(self._reading.label(path))
            else:
                looks.append(found)
        if not looks:
            raise EngineError(
                f"{self._reading.source.id}: {empty[0]} is empty"
                + (", and so are all the others" if len(empty) > 1 else ""),
                "write the names of the columns into its first line, or leave the file out",
            )
        if empty:
            counted = "1 empty file" if len(empty) == 1 else f"{len(empty):,} empty files"
            self._notes.append(f"{counted} skipped: {first_few(empty, at_most=3)}")
        check_agreement(self._reading, looks)
        return looks

    def _read(self, parts: Sequence[Part], *, merges: bool) -> Output:
        folder = self._folder if merges else None
        found = self._reading.cursor.execute("SELECT current_setting('threads')").fetchone()
        threads = int(found[0]) if found else 1
        table = make_table(parts, self._params, folder=folder, threads=threads)
        check_formats(self._reading, self._params, table.names)
        extra = self._reading.extra_columns(
            [(str(part.path), part.look.label) for part in parts], table.names
        )
        columns, notes = self._columns(table, sample=True)
        looked_at_all = False
        while True:
            try:
                query = self._query(table, columns, extra)
                output = self._reading.store(query)
                break
            except duckdb.InvalidInputException as error:
                self._reading.staging.file().unlink(missing_ok=True)
                marked = _MARKED.search(str(error))
                if marked is None:
                    raise
                bad = columns[int(marked[1])]
                if bad.is_declared:
                    declared = [column for column in columns if column.is_declared]
                    raise csv_errors.bad_value(
                        self._reading, table, self._params, declared
                    ) from None
                if looked_at_all:
                    # A guess that its own values do not fit, as the year 0: text does.
                    text = attrs.evolve(bad, kind=plain("string"))
                    columns[bad.index] = text
                else:
                    columns, notes = self._columns(table, sample=False)
                    looked_at_all = True
        bad_rows = csv_errors.bad_rows(self._reading, table, self._params, columns)
        return attrs.evolve(output, notes=(*self._notes, *notes, *bad_rows))

    def _query(
        self, table: Table, columns: Sequence[Column], extra: Sequence[tuple[str, str]]
    ) -> str:
        """Write the query of all rows, converted."""
        mode = self._params.on_bad_rows
        texts = [f"{column.text} AS t{column.index}" for column in columns]
        inner = f"SELECT {', '.join(texts)}, _file FROM ({table.sql})"
        values = []
        for column in columns:
            value = column.value
            if not column.is_declared or mode is OnBadRows.FAIL:
                mark = f"{_MARK}{column.index}: "
                value = checked(f"t{column.index}", column.kind, value, mark)
            values.append((column, value))
        added = [f"{value} AS {quoting.identifier(name)}" for name, value in extra]
        named = [f"{value} AS {quoting.identifier(column.name)}" for column, value in values]
        if mode is not OnBadRows.SKIP or not any(column.is_declared for column in columns):
            return f"SELECT {', '.join(named + added)} FROM ({inner})"
        converted = [f"{value} AS d{column.index}" for column, value in values]
        good = " AND ".join(
            f"NOT {is_bad(f't{column.index}', f'd{column.index}')}"
            for column in columns
            if column.is_declared and column.kind.name != "string"
        )
        named = [f"d{column.index} AS {quoting.identifier(column.name)}" for column in columns]
        return (
            f"SELECT {', '.join(named + added)}"
            f" FROM (SELECT *, {', '.join(converted)} FROM ({inner}))"
            f"{f' WHERE {good}' if good else ''}"
        )

    def _columns(self, table: Table, *, sample: bool) -> tuple[list[Column], list[str]]:
        """Return all columns with their types, and what is to be said of the guesses."""
        dtypes = {
            column.name.casefold(): column.dtype
            for column in self._reading.source.columns
            if column.dtype is not None
        }
        columns = [
            self._column(index, name, dtypes.get(name.casefold()))
            for index, name in enumerate(table.names)
        ]
        open_columns = [
            column
            for column in columns
            if not column.is_declared
            or (column.kind.name == "date" and column.forms.date_format is None)
        ]
        if not open_columns:
            return columns, []
        seen = self._seen(table, open_columns, sample=sample)
        if sample and len(table.parts) > 1 and _has_other_dates(seen):
            seen = self._seen(table, open_columns, sample=False)
        notes = []
        for column, by_file in zip(open_columns, seen, strict=True):
            guessed = settle(column.name, column.forms, by_file)
            if guessed.problem is not None:
                if sample:
                    # Later values may tell which of two formats it is.
                    return self._columns(table, sample=False)
                raise self._reading.error(*guessed.problem)
            columns[column.index] = self._settled(column, guessed)
            if guessed.note and not column.is_declared:
                notes.append(guessed.note)
        return columns, notes

    def _column(self, index: int, name: str, dtype: str | None) -> Column:
        params = self._params
        date, own_date = params.format_of("date_format", name)
        stamp, own_stamp = params.format_of("timestamp_format", name)
        kind = parse(dtype) if dtype is not None else None
        if kind is None and own_date:
            kind = plain("date")
        elif kind is None and own_stamp:
            kind = plain("timestamptz" if has_offset(stamp or "") else "timestamp")
        forms = attrs.evolve(
            self._forms, date_format=date, timestamp_format=stamp, guessed=kind is None
        )
        nulls = params.null or ()
        return Column(
            index=index,
            name=name,
            kind=kind or plain("string"),
            is_declared=kind is not None,
            forms=forms,
            nulls=nulls if kind is not None and kind.name != "string" else (),
        )

    @staticmethod
    def _settled(column: Column, guessed: Guessed) -> Column:
        if column.is_declared:
            # A declared date without a format: what all its values are written in.
            if guessed.kind.name != "date" or guessed.forms.date_format is None:
                return column
            forms = attrs.evolve(column.forms, date_format=guessed.forms.date_format)
            return attrs.evolve(column, forms=forms)
        forms = attrs.evolve(
            column.forms,
            date_format=guessed.forms.date_format,
            timestamp_format=guessed.forms.timestamp_format,
        )
        return attrs.evolve(column, kind=guessed.kind, forms=forms)

    def _seen(self, table: Table, columns: Sequence[Column], *, sample: bool) -> list[list[SeenIn]]:
        """Return what each file has of each column, in the order of the files."""
        forms = self._forms
        aggregates = list(guess.columns_seen("t", "class", forms))
        for name in ("date", "timestamp"):
            format = getattr(forms, f"{name}_format")
            if format is None:
                aggregates.append("NULL")
                continue
            kind = "timestamptz" if name == "timestamp" and has_offset(format) else name
            value = convert("t", plain(kind), forms)
            aggregates.append(f"bool_and(({value}) IS NOT NULL) FILTER (t IS NOT NULL)")
        limit = f" LIMIT {_SAMPLE_ROWS}" if sample else ""
        texts = ", ".join(column.text for column in columns)
        # One expression for all columns: DuckDB takes 20 ms to plan it.
        values = (
            f"SELECT _file, unnest(range({len(columns)})) AS number, unnest([{texts}]) AS t"
            f" FROM (SELECT * FROM ({table.sql}){limit})"
        )
        rows = self._reading.cursor.execute(
            f"SELECT _file, number, {', '.join(aggregates)}"
            f" FROM (SELECT *, {guess.class_of('t', forms)} AS class FROM ({values}))"
            " GROUP BY _file, number"
        ).fetchall()
        by_place = {(row[0], row[1]): row[2:] for row in rows}
        found: list[list[SeenIn]] = []
        for number in range(len(columns)):
            in_files = []
            for part in table.parts:
                values_seen = by_place.get((str(part.path), number))
                if values_seen is not None:
                    fits = {"date": values_seen[4] is True, "timestamp": values_seen[5] is True}
                    seen = guess.read_seen(values_seen[:4])
                    in_files.append(SeenIn(look=part.look, seen=seen, fits=fits))
            found.append(in_files)
        return found


def _has_other_dates(seen: Sequence[Sequence[SeenIn]]) -> bool:
    return any(each.seen.classes & guess.Class.OTHER_DATE for by_file in seen for each in by_file)
