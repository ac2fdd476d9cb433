"""Connections: what a profile says, and the file opened for as long as a call needs it.

DuckDB lets one process write a file, and no other open it meanwhile. So no hook keeps it
open when it returns, but for a prepared publish and a source that is being read; and a
file that another process has open is waited for. Within one process all connections to a
file share one database, whose transactions keep readers apart from the one writer.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import duckdb

from seeknal_core.errors import BackendError, Unreachable, WriteRefused
from seeknal_core.types import Connection, ExecutionContext

CHECK = "seeknal check --connections"
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
    """The file in one open transaction, for reading or for writing, until `close`.

    A reader of a file that is not there sees an empty database.

    Raises:
        Unreachable: the folder is not there, or somebody has the file open for too long.
        BackendError: it is no database.
    """

    def __init__(self, context: ExecutionContext, *, writes: bool) -> None:
        self.context, self.writes = context, writes
        self._path, self._wait = connection_of(context).path, connection_of(context).wait
        # DuckDB has optimistic writers, of whom one fails; ours wait for one another.
        self._lock = _writers.setdefault(os.path.realpath(self._path), threading.Lock())
        if writes and not self._lock.acquire(timeout=self._wait):
            raise Unreachable(f"{self._path} is being written by another command", "try again")
        try:
            self.database = self._connect()
            # Days of moments are cut in UTC, and what Arrow has no name for keeps its type.
            self.rows("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
            self.rows(f"BEGIN TRANSACTION {'READ WRITE' if writes else 'READ ONLY'}")
        except BaseException:
            self._release()
            raise

    def _connect(self) -> duckdb.DuckDBPyConnection:
        path, folder, deadline = self._path, os.path.dirname(self._path), time.monotonic()
        if not os.path.isdir(folder):
            raise Unreachable(f"there is no folder {folder}", f"make it, then: {CHECK}")
        while True:
            self.context.cancellation.check()
            try:
                return duckdb.connect(path if self.writes or os.path.exists(path) else ":memory:")
            except duckdb.Error as error:
                # A conflict of handles: another thread is closing the file just now.
                if not any(word in str(error) for word in ("set lock", "file handle")):
                    raise BackendError(f"{path} cannot be opened: {error}", CHECK) from error
                if time.monotonic() > deadline + self._wait:
                    hint = "end the process that has it open, or give the connection a longer wait"
                    raise Unreachable(
                        f"waited {self._wait:g} s for {path}: {error}", hint
                    ) from error
            time.sleep(0.02)

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Run a statement and return all its rows."""
        return self.database.execute(sql, list(arguments)).fetchall()

    def close(self) -> None:
        """Let go of the file; what was not committed is rolled back."""
        try:
            self.database.close()
        finally:
            self._release()

    def _release(self) -> None:
        if self.writes:
            self._lock.release()

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what DuckDB raises into the core's errors, and let a stop interrupt it."""
        remove = self.context.cancellation.on_request(self.database.interrupt)
        try:
            yield
        except duckdb.Error as error:
            self.context.cancellation.check()
            if isinstance(error, duckdb.IOException | duckdb.TransactionException):
                raise Unreachable(f"DuckDB: {error}", "try again") from error
            raise (WriteRefused if self.writes else BackendError)(f"DuckDB: {error}") from error
        finally:
            remove()
