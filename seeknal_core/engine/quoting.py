"""Identifiers and literals of DuckDB's SQL."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def paths(files: Iterable[str]) -> str:
    """Write a list of files. An existing file is taken literally, glob characters and all."""
    return "[" + ", ".join(text(file) for file in files) + "]"


def literal(value: object) -> str:
    """Write a value of a YAML document as a literal.

    Raises:
        ValueError: a list, a mapping or another thing that is no scalar.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | Decimal():
            return str(value)
        case float():
            return f"{text(repr(value))}::DOUBLE"
        case str():
            return text(value)
        case datetime.datetime():
            kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMPTZ"
            return f"{kind} {text(value.isoformat(sep=' '))}"
        case datetime.date():
            return f"DATE {text(value.isoformat())}"
        case _:
            raise ValueError(f"{value!r} is no scalar")
