"""Reading JSON and JSON lines files.

Columns of several files are matched by name. A declared column is read as its type
(`columns.READ_AS`); the others as DuckDB finds them.
"""

from __future__ import annotations

import duckdb

from seeknal_core.engine import quoting
from seeknal_core.engine.columns import READ_AS
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.sources.reading import Reading, struct


def store(reading: Reading) -> Output:
    """Store the rows of JSON files."""
    try:
        return reading.store(_scan(reading, _declared(reading)))
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        hint = "fix the file, or declare the column's dtype under columns:"
        raise reading.unreadable(error, hint) from None


def _scan(reading: Reading, extra: str = "") -> str:
    arguments = [quoting.paths(map(str, reading.paths))]
    if reading.source.type == "jsonl":
        arguments.append("format = 'newline_delimited'")
    arguments.append("union_by_name = true")
    if extra:
        arguments.append(extra)
    return f"SELECT * FROM read_json({', '.join(arguments)})"


def _declared(reading: Reading) -> str:
    """Return the argument that gives declared columns the types declared."""
    declared = {
        column.name.casefold(): READ_AS[column.dtype]
        for column in reading.source.columns
        if column.dtype in READ_AS
    }
    if not declared:
        return ""
    relation = reading.cursor.sql(_scan(reading))
    kinds = zip(relation.columns, relation.types, strict=True)
    pairs = [(name, declared.get(name.casefold(), str(own))) for name, own in kinds]
    return f"columns = {struct(pairs)}"
