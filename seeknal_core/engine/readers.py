"""Reading a source's own files: CSV, Parquet, JSON and JSON lines.

Nothing of a CSV file's form is left to DuckDB's guess, which drops lines that do
not fit it: the delimiter is what the first line has most of, quotes are double,
the first line names the columns, and a line with other columns is an error.

Columns of several files are matched by name. A declared column is read as its
type (`columns.READ_AS`); the others as DuckDB finds them.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import duckdb

from seeknal_core.engine import parquet, quoting
from seeknal_core.engine.columns import READ_AS
from seeknal_core.engine.files import check_rows
from seeknal_core.engine.protocol import Output
from seeknal_core.engine.snapshots import Staging
from seeknal_core.errors import ConfigError, EngineError, Problem
from seeknal_core.specs import SourceNode
from seeknal_core.structure import nearest

_FUNCTIONS = {
    "csv": "read_csv",
    "parquet": "read_parquet",
    "json": "read_json",
    "jsonl": "read_json",
}

#: The params of each type, and DuckDB's word for those that it sees.
_PARAMS: Mapping[str, Mapping[str, str]] = {
    "csv": {"delimiter": "delim", "delim": "delim", "header": "header", "skip": "skip", "path": ""},
    "parquet": {"path": ""},
    "json": {"path": ""},
    "jsonl": {"path": ""},
}
_WANTED = {
    "delim": (str, "text"),
    "header": (bool, "true or false"),
    "skip": (int, "a whole number"),
}

#: What a CSV file may be delimited by if nobody says; the first wins a draw.
_DELIMITERS = (",", ";", "\t", "|")
_FIRST_LINE_BYTES = 65_536

_TRIES = 3
_RECENT_SECONDS = 2.0
_CSV_LINE = re.compile(r"CSV Error on Line: (\d+)")

Translated = Callable[[str], AbstractContextManager[None]]


def read_files(
    source: SourceNode,
    files: Sequence[Path],
    staging: Staging,
    cursor: duckdb.DuckDBPyConnection,
    translated: Translated,
) -> Output:
    """Store the rows of `files`, in the order of the files.

    Raises:
        ConfigError: a param that the type does not have, or of the wrong type.
        EngineError: a file cannot be read as what it should be, or kept changing.
    """
    options = _options(source)
    if source.type == "csv":
        options = {**_csv_form(source, files[0], options), **options}
    _check_space(source, files, staging.path)
    for _ in range(_TRIES):
        try:
            before = [_signature(path) for path in files]
            with translated(source.id):
                output = _read(source, files, options, staging, cursor)
            if before == [_signature(path) for path in files]:
                return output
        except FileNotFoundError as error:
            raise EngineError(
                f"{source.id}: {Path(str(error.filename)).name} is gone", "try again"
            ) from None
        staging.file().unlink()
    raise EngineError(
        f"{source.id}: the files changed each time they were read",
        "wait until they are written",
    )


def _read(
    source: SourceNode,
    files: Sequence[Path],
    options: Mapping[str, str],
    staging: Staging,
    cursor: duckdb.DuckDBPyConnection,
) -> Output:
    def scan(extra: Mapping[str, str]) -> str:
        arguments = [quoting.paths(map(str, files))]
        arguments += [f"{name} = {value}" for name, value in {**options, **extra}.items()]
        return f"SELECT * FROM {_FUNCTIONS[source.type]}({', '.join(arguments)})"

    try:
        query = scan(_declared(source, scan({}), cursor))
        if source.max_rows is not None:
            query += f" LIMIT {source.max_rows + 1}"
        output = parquet.copy_query(source.id, cursor, query, staging)
        check_rows(source, output.row_count)
        return output
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise _unreadable(source, files, error) from None


def _declared(
    source: SourceNode, scan: str, cursor: duckdb.DuckDBPyConnection
) -> Mapping[str, str]:
    """Return the argument that makes declared columns of the types declared."""
    declared = {
        column.name.casefold(): READ_AS[column.dtype]
        for column in source.columns
        if column.dtype in READ_AS
    }
    if not declared or source.type == "parquet":
        return {}
    relation = cursor.sql(scan)
    found = {name: declared.get(name.casefold()) for name in relation.columns}
    if source.type == "csv":
        pairs = {name: kind for name, kind in found.items() if kind}
        return {"types": _struct(pairs)} if pairs else {}
    kinds = zip(found.items(), relation.types, strict=True)
    return {"columns": _struct({name: kind or str(own) for (name, kind), own in kinds})}


def _csv_form(source: SourceNode, file: Path, options: Mapping[str, str]) -> dict[str, str]:
    """Return the form of a CSV file, as far as nobody gave it.

    Raises:
        EngineError: the file is empty.
    """
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        start = stream.read(_FIRST_LINE_BYTES)
    if not start.strip():
        raise EngineError(
            f"{source.id}: {_label(source, file)} is empty",
            "a CSV file names its columns in line 1",
        )
    skipped = start.splitlines()[int(options.get("skip", "0")) :]
    first = re.sub(rb'"[^"]*"', b"", skipped[0] if skipped else b"")
    delimiter = max(_DELIMITERS, key=lambda one: first.count(one.encode()))
    return {
        "delim": quoting.text(delimiter),
        "quote": quoting.text('"'),
        "escape": quoting.text('"'),
        "header": "true",
        "skip": "0",
        "strict_mode": "true",
    }


def _label(source: SourceNode, file: Path) -> str:
    """Return a file as the source names it, or its name where that is a pattern."""
    written = source.table or str(source.params.get("path", ""))
    return written if written.endswith(file.name) else file.name


def _struct(pairs: Mapping[str, str]) -> str:
    inside = (f"{quoting.text(name)}: {quoting.text(kind)}" for name, kind in pairs.items())
    return "{" + ", ".join(inside) + "}"


def _options(source: SourceNode) -> dict[str, str]:
    known = _PARAMS[source.type]
    problems = []
    options: dict[str, str] = {}
    if source.type == "jsonl":
        options["format"] = "'newline_delimited'"
    options["union_by_name"] = "true"
    for name, value in source.params.items():
        path = f"params.{name}"
        if name not in known:
            hint = nearest(name, known) or f"known: {', '.join(known)}"
            problems.append(_problem(source, path, f"unknown for {source.type}", hint))
            continue
        option = known[name]
        if not option:
            continue
        wanted, words = _WANTED[option]
        if isinstance(value, bool) is not (wanted is bool) or not isinstance(value, wanted):
            problems.append(_problem(source, path, f"must be {words}", ""))
            continue
        options[option] = quoting.literal(value)
    if problems:
        raise ConfigError(problems)
    return options


def _problem(source: SourceNode, path: str, message: str, hint: str) -> Problem:
    place = source.location
    return Problem(message, place.file, place.line, place.column, f"{source.id}.{path}", hint)


def _unreadable(source: SourceNode, files: Sequence[Path], error: duckdb.Error) -> EngineError:
    text = str(error)
    named = [path for path in files if str(path) in text]
    where = _label(source, (named or list(files))[0])
    line = _CSV_LINE.search(text)
    if line:
        where += f", line {line.group(1)}"
    kept = [
        part.strip()
        for part in text.partition(": ")[2].splitlines()
        if part.strip() and not part.startswith(("CSV Error on Line", "Original Line"))
    ]
    message = kept[0] if kept else text.splitlines()[0]
    if "sniffing" in text:
        return EngineError(
            f"{source.id}: {where}: not every line has the columns of the first, or a quote is "
            "not closed",
            "mend the file, or write params.delimiter, params.skip or params.header",
        )
    if "utf-8" in text.lower():
        return EngineError(f"{source.id}: {where} is not UTF-8", f"iconv -t UTF-8 {where}")
    for path in files:
        message = message.replace(str(path), path.name)
    return EngineError(
        f"{source.id}: {where}: {message[:300]}",
        "mend the file, or declare the column's dtype under columns:"
        if source.type != "parquet"
        else "mend the file",
    )


def _signature(path: Path) -> tuple[object, ...]:
    """Return what changes when a file's content does.

    A file written within the last two seconds may be written again without a
    new time stamp, so its bytes are digested too.
    """
    found = path.stat()
    signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    if time.time() - found.st_mtime > _RECENT_SECONDS:
        return signature
    with path.open("rb") as file:
        return (*signature, hashlib.file_digest(file, "sha256").digest())


def _check_space(source: SourceNode, files: Sequence[Path], folder: Path) -> None:
    needed = sum(path.stat().st_size for path in files if path.exists())
    # Text takes about a fifth of its size as Parquet.
    needed = needed if source.type == "parquet" else needed // 5
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EngineError(
            f"{source.id}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "free space on the disk, or move target/ to another one",
        )
