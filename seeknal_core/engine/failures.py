"""DuckDB's and the system's failures, in words for the user."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from seeknal_core.contract.errors import EngineError, Interrupted, SeeknalError, exhausted
from seeknal_core.engine.disk import disk_full, is_disk_full

_LINE = re.compile(r"^LINE (\d+): (.*)\n([ ]*)(\^+)", re.MULTILINE)
_SUGGESTION = re.compile(r"\s*Did you mean \"(pg_|sqlite_|duckdb_|information_schema)[^\n]*")
_FILE_SYSTEM_CLOSED = re.compile(r'Cannot access (?:file|directory) "([^"]*)"')


def translate(
    error: duckdb.Error,
    node: str,
    *,
    wrapper_lines: int = 0,
    lines_before: int = 0,
    hide: tuple[Path, ...] = (),
) -> SeeknalError:
    """Return the error to raise for one of DuckDB's.

    Args:
        wrapper_lines: lines that the engine put before the user's text.
        lines_before: lines of the user's SQL above this statement.
        hide: folders whose paths mean nothing to the user.
    """
    text = str(error)
    if isinstance(error, duckdb.InterruptException):
        return Interrupted("stopped by the user")
    if is_disk_full(error) or "max_temp_directory_size" in text:
        return disk_full(node)
    if not isinstance(error, duckdb.OutOfMemoryException) and (spent := exhausted(error)):
        return spent
    if isinstance(error, duckdb.OutOfMemoryException):
        return EngineError(
            f"{node}: out of memory: {text.splitlines()[0].partition(': ')[2]}",
            "raise engine: memory_limit in seeknal_project.yml, or lower engine: threads",
        )
    closed = _FILE_SYSTEM_CLOSED.search(text)
    if closed and isinstance(error, duckdb.PermissionException):
        return EngineError(
            f"{node}: SQL cannot read files or other stores itself: {closed.group(1)}",
            "declare the data as a source and name it with ref('source.…')",
        )
    place = _LINE.search(text)
    message = _SUGGESTION.sub("", text[: place.start()] if place else text)
    for folder in hide:
        message = re.sub(re.escape(str(folder)) + r"[^\s\"']*", "(stored output)", message)
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    message = " ".join(lines[:3])
    where = f"{node}: "
    line = 0
    if place:
        line = int(place.group(1)) - wrapper_lines + lines_before
        offset = len(place.group(3)) - len(f"LINE {place.group(1)}: ")
        at = place.group(2)[offset : offset + len(place.group(4))]
        where += f"line {line}" + (f", at {at!r}: " if at else ": ")
    if isinstance(error, duckdb.IOException) and not place:
        return EngineError(where + message, "check the disk and its rights, then run again")
    return EngineError(where + message, "fix the SQL", line=line)
