"""Reading CSV files.

Nothing of a CSV file's form is left to DuckDB's guess, which drops lines that do
not fit it: the delimiter is what the first line has most of, quotes are double,
the first line names the columns, and a line with other columns is an error.

Columns of several files are matched by name. A declared column is read as its
type (`columns.READ_AS`); the others as DuckDB finds them.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from seeknal_core.engine import quoting
from seeknal_core.engine.columns import READ_AS
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources.reading import Reading, struct
from seeknal_core.errors import EngineError
from seeknal_core.formats import CsvParams

#: What a CSV file may be delimited by if nobody says; the first wins a draw.
_DELIMITERS = (",", ";", "\t", "|")
_FIRST_LINE_BYTES = 65_536
_CSV_LINE = re.compile(r"CSV Error on Line: (\d+)")


def store(reading: Reading) -> Output:
    """Store the rows of CSV files."""
    assert isinstance(reading.params, CsvParams)
    options = _form(reading, reading.paths[0], reading.params)

    def scan(extra: Mapping[str, str]) -> str:
        arguments = [quoting.paths(map(str, reading.paths))]
        arguments += [f"{name} = {value}" for name, value in {**options, **extra}.items()]
        return f"SELECT * FROM read_csv({', '.join(arguments)})"

    try:
        declared = _declared(reading, scan({}))
        names = reading.cursor.sql(scan(declared)).columns
        extra = reading.extra_columns(
            [(str(path), reading.label(path)) for path in reading.paths], names
        )
        if not extra:
            return reading.store(scan(declared))
        chosen = "".join(f", {sql} AS {quoting.identifier(name)}" for name, sql in extra)
        rows = scan({**declared, "filename": "'_file'"})
        return reading.store(f"SELECT * EXCLUDE (_file){chosen} FROM ({rows})")
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise _unreadable(reading, error) from None


def _declared(reading: Reading, scan: str) -> Mapping[str, str]:
    """Return the argument that gives declared columns the types declared."""
    declared = {
        column.name.casefold(): READ_AS[column.dtype]
        for column in reading.source.columns
        if column.dtype in READ_AS
    }
    if not declared:
        return {}
    found = [(name, declared.get(name.casefold())) for name in reading.cursor.sql(scan).columns]
    pairs = [(name, kind) for name, kind in found if kind]
    return {"types": struct(pairs)} if pairs else {}


def _form(reading: Reading, file: Path, params: CsvParams) -> dict[str, str]:
    """Return the form of a CSV file in DuckDB's options.

    Raises:
        EngineError: the file is empty.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        start = stream.read(_FIRST_LINE_BYTES)
    if not start.strip():
        raise EngineError(
            f"{reading.source.id}: {reading.label(file)} is empty",
            "a CSV file names its columns in line 1",
        )
    skipped = start.splitlines()[params.skip or 0 :]
    first = re.sub(rb'"[^"]*"', b"", skipped[0] if skipped else b"")
    guess = max(_DELIMITERS, key=lambda one: first.count(one.encode()))
    return {
        "delim": quoting.text(params.delimiter or guess),
        "quote": quoting.text('"'),
        "escape": quoting.text('"'),
        "header": quoting.literal(params.header is not False),
        "skip": quoting.literal(params.skip or 0),
        "strict_mode": "true",
        "union_by_name": "true",
        "hive_partitioning": "false",
    }


def _unreadable(reading: Reading, error: duckdb.Error) -> EngineError:
    found = str(error)
    named = [path for path in reading.paths if str(path) in found]
    file = (named or list(reading.paths))[0]
    line = _CSV_LINE.search(found)
    number = int(line.group(1)) if line else 0
    if "sniffing" in found:
        return reading.error(
            file,
            "not every line has the columns of the first, or a quote is not closed",
            "fix the file, or write params.delimiter, params.skip or params.header",
            line=number,
        )
    if "utf-8" in found.lower():
        label = reading.label(file)
        return reading.error(file, "is not UTF-8", f"iconv -t UTF-8 {label}", line=number)
    kept = [
        part.strip()
        for part in found.partition(": ")[2].splitlines()
        if part.strip() and not part.startswith(("CSV Error on Line", "Original Line"))
    ]
    message = kept[0] if kept else found.splitlines()[0]
    for path in reading.paths:
        message = message.replace(str(path), path.name)
    hint = "fix the file, or declare the column's dtype under columns:"
    return reading.error(file, message[:300], hint, line=number)
