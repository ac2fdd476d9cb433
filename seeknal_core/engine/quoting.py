"""Identifiers and literals of DuckDB's SQL."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from decimal import Decimal

_GLOB = re.compile(r"[*?\[{]")


def identifier(name: str) -> str:
    """Quote a name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Iterable[str]) -> str:
    """Write a list of strings."""
    return "[" + ", ".join(map(text, values)) + "]"


def paths(files: Iterable[str]) -> str:
    """Write a list of files for a table function, each taken literally.

    DuckDB takes ``a[1].csv`` for a glob, which finds ``a1.csv`` where there is one.
    """
    return texts(map(literal_path, files))


def literal_path(path: str) -> str:
    """Write a path as a glob that finds it alone."""
    return _GLOB.sub(r"[\g<0>]", path)


def snapshot(files: Iterable[str]) -> str:
    """Write the scan of a snapshot's files, whatever the folders above them are called."""
    return f"read_parquet({paths(files)}, hive_partitioning = false)"


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
