"""Connections: what a profile says, and the file opened for as long as a call needs it.

DuckDB lets one process write a file, and no other open it meanwhile. So only a prepared publish
and a source keep it open when a hook returns, and who else has it open is waited for. In one
process all connections to a file share a database, whose transactions keep readers apart.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import duckdb
import pyarrow as pa

from seeknal_core.contract.errors import BackendError, Unreachable, WriteRefused
from seeknal_core.contract.rules import patiently, plain
from seeknal_core.contract.types import Connection, ExecutionContext

CHECK = "seeknal check --connections"
T = TypeVar("T")
_writers: dict[str, threading.Lock] = {}


@attrs.frozen(kw_only=True)
class DuckDBOptions:
    """What a profile says of a connection."""

    path: str = attrs.field(metadata={"doc": "the database file, relative to the project"})
    wait: float = attrs.field(
        default=10.0, metadata={"doc": "seconds to wait for another process that has it open"}
    )


@attrs.frozen(kw_only=True)
class DuckDBConnection(Connection):
    """A resolved connection; ``path`` is absolute, ``wait`` in seconds."""

    path: str
    wait: float

    def describe(self) -> dict[str, str]:
        """Return what may be shown, and decides where the connection leads."""
        return {"type": self.type, "path": self.path}

    bindings = describe


def connection_of(context: ExecutionContext) -> DuckDBConnection:
    """Return the connection of a call."""
    assert isinstance(context.connection, DuckDBConnection)
    return context.connection


class File:
    """The file in one open transaction, for reading or for writing.

    A reader of a file that is not there sees an empty database.

    Raises:
        Unreachable: the folder is not there, or somebody has the file open for too long.
        BackendError: it is no database, or may not be opened.
    """

    def __init__(self, context: ExecutionContext, *, writes: bool = False) -> None:
        self.context, self._writes = context, writes
        self._refused = WriteRefused if writes else BackendError
        path, wait = connection_of(context).path, connection_of(context).wait
        # DuckDB has optimistic writers, of whom one fails; ours wait for one another.
        lock = _writers.setdefault(os.path.realpath(path), threading.Lock())
        with contextlib.ExitStack() as opened:
            if writes:
                if not lock.acquire(timeout=wait):
                    raise Unreachable(f"{path} is being written by another command", "try again")
                opened.callback(lock.release)
            self.database = self._connect(path, wait)
            opened.callback(self.database.close)
            # Days of moments are cut in UTC, and what Arrow has no name for keeps its type.
            self.rows("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
            self._opened = opened.pop_all()

    def _connect(self, path: str, wait: float) -> duckdb.DuckDBPyConnection:
        if not os.path.isdir(folder := os.path.dirname(path)):
            raise Unreachable(f"there is no folder {folder}", f"make it, then: {CHECK}")
        if os.path.exists(path) and not os.path.isfile(path):
            # DuckDB would wait for somebody who writes into a pipe.
            raise self._refused(f"{path} is no file", "move it away, or name another path")

        def attempt() -> duckdb.DuckDBPyConnection:
            there = os.path.exists(path)
            protected = there and not self._writes and not os.access(path, os.W_OK)
            found = duckdb.connect(path if there or self._writes else ":memory:", protected)
            found.execute(f"BEGIN TRANSACTION {'READ WRITE' if self._writes else 'READ ONLY'}")
            return found.register("_probe", pa.table({"x": [0]})).unregister("_probe")

        def is_busy(error: Exception) -> bool:
            # Just now another thread closes the file, or opens it, which hides a function from us.
            return any(w in str(error) for w in ("set lock", "file handle", "python_arrow_scan"))

        try:
            return patiently(self.context, attempt, is_busy, wait)
        except duckdb.Error as error:
            if not is_busy(error):
                raise self._refused(f"{path} cannot be opened: {error}", CHECK) from error
            hint = "end the process that has it open, or give the connection a longer wait"
            raise Unreachable(f"waited {wait:g} s for {path}: {error}", hint) from error

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Run a statement and return all its rows."""
        return self.safely(lambda: self.database.execute(sql, list(arguments)).fetchall())

    def stream(self, sql: str) -> pa.RecordBatchReader:
        """Run a query, and return its rows as they come."""
        return plain(self.safely(lambda: self.database.sql(sql).to_arrow_reader(65_536)))

    def safely(self, call: Callable[[], T]) -> T:
        """Turn what DuckDB raises into the core's errors, and let a stop interrupt it."""
        remove = self.context.cancellation.on_request(self.database.interrupt)
        try:
            return call()
        except duckdb.Error as error:
            self.context.cancellation.check()
            if isinstance(error, duckdb.IOException | duckdb.TransactionException):
                raise Unreachable(f"DuckDB: {error}", "try again") from error
            raise self._refused(f"DuckDB: {error}") from error
        finally:
            remove()

    def commit(self) -> None:
        """Make what was written durable and visible, all of it."""
        self.rows("COMMIT")

    def close(self) -> None:
        """Let go of the file; what was not committed is rolled back."""
        self._opened.close()
