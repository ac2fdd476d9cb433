"""Arrow to a table: encoded in one thread, sent in another.

pgpq encodes record batches to the binary COPY format in native code, outside the
interpreter's lock; psycopg sends what is ready meanwhile. The queue between them
bounds the memory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Snapshot
from seeknal_postgres.connection.errors import said
from seeknal_postgres.types.columns import Column

#: Rows encoded at a time: larger batches cost memory, smaller ones calls.
BATCH_ROWS = 32_768
#: Bytes a batch is cut to when its rows are long.
_BATCH_BYTES = 16 * 2**20
_QUEUED = 4
#: Bytes of a snapshot that isn't worth a thread of its own.
_AT_ONCE = 2**18

#: First values that the server takes, and those past the last, in microseconds and
#: days from 1970 (https://www.postgresql.org/docs/current/datatype-datetime.html: from
#: 4713 BC, dates to 5874897 AD). The largest integer is what engines write for infinity.
_FIRST_STAMP, _END_STAMP = -210_866_803_200_000_000, 2**63 - 1
_FIRST_DAY, _END_DAY = -2_440_588, 2_145_042_906


def copy_in(
    context: ExecutionContext,
    cursor: psycopg.Cursor[Any],
    statement: sql.Composed,
    columns: Sequence[Column],
    snapshot: Snapshot,
    target: str,
) -> int:
    """Send the snapshot's `columns` through one ``COPY … FROM STDIN (FORMAT binary)``.

    Args:
        statement: the COPY; its columns are `columns`, in their order.
        target: what messages call the table.

    Returns:
        The rows sent.

    Raises:
        WriteRefused: a value that the server's type cannot hold, by column.
    """
    chunks = _Encoder(snapshot, columns, target)
    try:
        with cursor.copy(statement) as copy:
            for chunk in chunks:
                context.cancellation.check()
                copy.write(chunk)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise _explained(error, columns, snapshot, target) from error
    finally:
        chunks.stop()
    return chunks.rows


class _Encoder:
    """Iterates over encoded chunks, which a thread makes ahead."""

    def __init__(self, snapshot: Snapshot, columns: Sequence[Column], target: str) -> None:
        self.rows = 0
        self._snapshot = snapshot
        self._columns = columns
        self._target = target
        self._stopped = threading.Event()
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUED)
        self._thread = threading.Thread(target=self._run, name="seeknal-encode", daemon=True)

    def __iter__(self) -> Iterator[bytes]:
        if self._snapshot.bytes <= _AT_ONCE:
            yield from self._encoded()
            return
        self._thread.start()
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        """End the thread, even while it is working, and wait for it."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _put(self, item: bytes | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def _run(self) -> None:
        try:
            for chunk in self._encoded():
                if not self._put(chunk):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the other thread
            self._put(error)

    def _encoded(self) -> Iterator[bytes]:
        schema = pa.schema([pa.field(column.name, column.encoded) for column in self._columns])
        encoder = ArrowToPostgresBinaryEncoder(schema)
        yield encoder.write_header()
        names = [column.name for column in self._columns]
        for whole in self._snapshot.reader(names, BATCH_ROWS):
            for batch in _cut(whole):
                arrays = [
                    _prepared(batch.column(i), column, self._target)
                    for i, column in enumerate(self._columns)
                ]
                yield encoder.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
                self.rows += batch.num_rows
        yield encoder.finish()


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch of long rows, so that the encoded copies stay small."""
    if batch.num_rows < 2 or batch.nbytes <= _BATCH_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _cut(batch.slice(0, half))
    yield from _cut(batch.slice(half))


def _prepared(array: pa.Array, column: Column, target: str) -> pa.Array:
    """Return the array as the encoder takes it, every value checked for its range."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.type != column.encoded:
        try:
            array = array.cast(column.encoded)
        except pa.ArrowInvalid as error:
            raise WriteRefused(
                f"{target}: column {column.name!r} of type {column.arrow} holds a value that "
                f"{column.type} cannot hold exactly ({str(error).splitlines()[0]})",
                "round it in the SQL, for example to microseconds",
                target=target,
            ) from error
    _check_range(array, column, target)
    return array


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


def _check_range(array: pa.Array, column: Column, target: str) -> None:
    values = pc.list_flatten(array) if pa.types.is_nested(array.type) else array
    if pa.types.is_timestamp(values.type):
        factor = 1_000_000 // _PER_SECOND[values.type.unit]
        first, end, view = _FIRST_STAMP, _END_STAMP, pa.int64()
    elif pa.types.is_date32(values.type):
        factor, first, end, view = 1, _FIRST_DAY, _END_DAY, pa.int32()
    else:
        return
    extremes = pc.min_max(values.view(view)).as_py()
    if extremes["min"] is None:
        return
    if extremes["min"] * factor < first or extremes["max"] * factor >= end:
        raise WriteRefused(
            f"{target}: column {column.name!r} holds a date or time outside of what "
            f"{column.type} can hold (an infinity, or a year past its range)",
            "replace such values by NULL in the SQL",
            target=target,
        )


def _explained(
    error: psycopg.Error, columns: Sequence[Column], snapshot: Snapshot, target: str
) -> Exception:
    """Name the column of a value that the server refuses.

    It says so itself but for a NUL character ("COPY t, line 1, column c").
    """
    if error.sqlstate != "22021":
        place = (error.diag.context or "").partition(", column ")[2]
        named = [c for c in columns if place == c.name or place.startswith(f"{c.name}:")]
        if not named:
            return error
        column = max(named, key=lambda column: len(column.name))
        return WriteRefused(
            f"{target}: column {column.name!r} holds a value that its type does not take: "
            f"{said(error)}",
            "write the value in the SQL as PostgreSQL prints it, or NULL",
            target=target,
        )
    for column in columns:
        if column.sent.base != "text":
            continue
        for batch in snapshot.reader([column.name]):
            values = batch.column(0)
            if isinstance(values, pa.ExtensionArray):
                values = values.storage
            if pa.types.is_dictionary(values.type):
                values = values.dictionary_decode()
            if pa.types.is_nested(values.type):
                values = pc.list_flatten(values)
            if pc.any(pc.match_substring(values.cast(pa.large_string()), "\0")).as_py():
                return WriteRefused(
                    f"{target}: column {column.name!r} holds text with a NUL character, "
                    "which PostgreSQL cannot store",
                    f"remove it: replace({column.name}, chr(0), '')",
                    target=target,
                )
    return error
