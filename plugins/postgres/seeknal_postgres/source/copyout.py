"""The rows of a ``COPY … TO STDOUT (FORMAT binary)``, as the server sends them.

The statement runs on the connection that holds the view, so that one reader needs one
connection. libpq hands over a row at a time; here they are gathered into batches without
a Python object for each.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from psycopg import errors as pg
from psycopg.pq import ExecStatus
from psycopg.waiting import Ready, Wait

from seeknal_core.contract.errors import BackendError
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.types.wire import HEADER_BYTES, SIGNATURE, Chunk

#: A batch ends with the row that reaches one of these. Larger ones leave the processor's
#: cache, smaller ones cost calls.
_ROWS, _BYTES = 16_384, 4 * 2**20
#: The word that ends the rows: -1 in place of a number of columns.
_END_BYTES = 2

_Waits = Generator[Wait, Ready | int, Any]


class CopyOut:
    """A COPY under way. Iterating gives batches of rows; `ended` says whether all were read."""

    def __init__(self, conn: Conn, statement: bytes) -> None:
        self.ended = False
        self._conn = conn
        self._fresh = True
        conn.wait(self._begin(statement))

    def __iter__(self) -> Iterator[Chunk]:
        while not self.ended:
            chunk = Chunk()
            self._conn.wait(self._fill(chunk))
            if chunk.sizes:
                yield chunk

    def _begin(self, statement: bytes) -> _Waits:
        pgconn = self._conn.pgconn
        # This protocol takes one statement only, no matter what the query's text contains.
        pgconn.send_query_params(statement, None)
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        yield from self._result(ExecStatus.COPY_OUT)

    def _result(self, wanted: ExecStatus) -> _Waits:
        """Wait for the statement's result.

        Raises:
            psycopg.Error: the server's, where it refuses.
        """
        pgconn = self._conn.pgconn
        while pgconn.is_busy():
            while not (yield Wait.R):
                continue
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None or result.status == wanted:
            return
        while wanted is not ExecStatus.COPY_OUT and pgconn.get_result() is not None:
            continue
        self._drain()
        raise pg.error_from_result(result, encoding="utf-8")

    def _drain(self) -> None:
        """Read the end of the statement, so that the connection is ready for others."""
        pgconn = self._conn.pgconn
        while not pgconn.is_busy() and pgconn.get_result() is not None:
            continue

    def _fill(self, chunk: Chunk) -> _Waits:
        pgconn = self._conn.pgconn
        get, sizes, data = pgconn.get_copy_data, chunk.sizes, chunk.data
        add = sizes.append
        while len(sizes) < _ROWS and len(data) < _BYTES:
            size, row = get(1)
            if size > _END_BYTES:
                data += row
                add(size)
                if self._fresh:
                    self._strip(chunk)
            elif size == 0:
                while not (yield Wait.R):
                    continue
                pgconn.consume_input()
            elif size < 0:
                yield from self._result(ExecStatus.COMMAND_OK)
                self._drain()
                self.ended = True
                return

    def _strip(self, chunk: Chunk) -> None:
        """Remove the header before the first row."""
        self._fresh = False
        if not chunk.data.startswith(SIGNATURE):
            raise BackendError("the server sent no binary rows")
        del chunk.data[:HEADER_BYTES]
        chunk.sizes[0] -= HEADER_BYTES
        if chunk.sizes[0] <= _END_BYTES:
            chunk.sizes.clear()
            chunk.data.clear()
