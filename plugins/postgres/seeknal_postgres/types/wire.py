"""From PostgreSQL's binary COPY format to Arrow, whole columns at a time.

The rows of a batch lie one after another in one buffer. The places of a column's values
are found for all rows at once: each value begins where that of the column before ends.
Formats are those of the server's send functions
(https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format", and
``src/backend/utils/adt``). Integers are big-endian.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import pyarrow as pa

from seeknal_core.contract.errors import BackendError
from seeknal_postgres.types.wire_numeric import Inexact, decimals

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

#: What precedes the first row, and the row count that ends the stream.
SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER_BYTES = 19
#: Bytes that may be read past the last row, where its last value is NULL.
_PADDING = bytes(32)

#: Days and microseconds from 1970-01-01 to 2000-01-01, from which the server counts.
_EPOCH_DAYS, _EPOCH_MICROS = 10_957, 946_684_800_000_000
#: Bytes of an array before its dimensions, and of one dimension.
_ARRAY_HEAD, _DIMENSION = 12, 8
#: Bytes of an array of one dimension before its lower bound.
_LOWER_BOUND = 16
#: Elements that are looked for in all rows at a time; longer arrays go row by row.
_TOGETHER = 64


class Chunk:
    """Rows as they were sent: their bytes, one after another, and the size of each."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.sizes: list[int] = []


@attrs.frozen(kw_only=True, eq=False)
class Buffer:
    """The bytes of a batch, and views of them that begin at any byte."""

    data: bytearray
    u1: np.ndarray[Any, Any]

    @classmethod
    def of(cls, data: bytearray) -> Buffer:
        """View the rows' bytes; they must not change any more."""
        data += _PADDING
        return cls(data=data, u1=np.frombuffer(data, np.uint8))

    def view(self, kind: str) -> np.ndarray[Any, Any]:
        """Return the values of a numpy type that begin at each byte."""
        width = np.dtype(kind).itemsize
        return np.ndarray((len(self.data) - width + 1,), kind, self.data, 0, (1,))


@attrs.frozen(kw_only=True, eq=False)
class Values:
    """Where the values of one column are: ``at`` their first bytes, ``lengths`` 0 for NULL."""

    buffer: Buffer
    at: Ints
    lengths: Ints
    null: Bools

    def __len__(self) -> int:
        return len(self.at)

    def validity(self) -> pa.Buffer | None:
        """Return Arrow's bitmap of what is not NULL, None if all is there."""
        if not self.null.any():
            return None
        return pa.py_buffer(np.packbits(~self.null, bitorder="little").tobytes())

    def take(self, kind: str) -> np.ndarray[Any, Any]:
        """Return the values as fixed-width numbers, in the machine's byte order."""
        _refuse_other_width(self, np.dtype(kind).itemsize)
        found = self.buffer.view(kind)[self.at]
        return found.astype(found.dtype.newbyteorder("="))


def split(chunk: Chunk, columns: int) -> list[Values]:
    """Return the values of the columns of a batch, which is used up."""
    buffer = Buffer.of(chunk.data)
    sizes = np.array(chunk.sizes, np.int64)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    if not (buffer.view(">i2")[starts] == columns).all():
        raise BackendError("the server sent rows of another number of columns than it said")
    lengths_at = buffer.view(">i4")
    at, found = starts + 2, []
    for _ in range(columns):
        first = at + 4
        _refuse((first > ends).any())
        lengths = lengths_at[at].astype(np.int64)
        null = lengths < 0
        np.maximum(lengths, 0, out=lengths)
        found.append(Values(buffer=buffer, at=first, lengths=lengths, null=null))
        at = first + lengths
        _refuse((at > ends).any())
    _refuse((at != ends).any())
    return found


def _refuse(wrong: np.bool_) -> None:
    """Refuse bytes that are not what the protocol says, before one beyond them is read."""
    if wrong:
        raise BackendError("the server sent a row that is none: its parts do not fill it")


def _refuse_other_width(values: Values, width: int) -> None:
    _refuse(((values.lengths != width) & ~values.null).any())


def decode(values: Values, arrow: pa.DataType) -> pa.Array:
    """Return values as an array of a type.

    Raises:
        Inexact: a value that the type cannot hold.
    """
    if pa.types.is_list(arrow):
        return _lists(values, arrow)
    if pa.types.is_decimal(arrow):
        _refuse(((values.lengths < 8) & ~values.null).any())
        counts = values.buffer.view(">i2")[values.at].astype(np.int64)
        _refuse(((values.lengths != 8 + 2 * counts) & ~values.null).any())
        data = decimals(values.buffer.view(">i2"), values.at, values.null, arrow)
        return _fixed(values, arrow, data)
    if arrow in _VARIABLE:
        return _texts(values, arrow)
    if isinstance(arrow, pa.UuidType):
        _refuse_other_width(values, 16)
        raw = values.buffer.view("V16")[values.at]
        return pa.ExtensionArray.from_storage(arrow, _fixed(values, arrow.storage_type, raw))
    if pa.types.is_boolean(arrow):
        _refuse_other_width(values, 1)
        flags = values.buffer.u1[values.at].astype(bool)
        packed = pa.py_buffer(np.packbits(flags, bitorder="little").tobytes())
        return pa.Array.from_buffers(arrow, len(values), [values.validity(), packed])
    if pa.types.is_date32(arrow):
        return _fixed(values, arrow, _shifted(values, ">i4", _EPOCH_DAYS))
    if pa.types.is_timestamp(arrow):
        return _fixed(values, arrow, _shifted(values, ">i8", _EPOCH_MICROS))
    return _fixed(values, arrow, values.take(_FIXED[arrow]))


_FIXED = {
    pa.int16(): ">i2",
    pa.int32(): ">i4",
    pa.int64(): ">i8",
    pa.float32(): ">f4",
    pa.float64(): ">f8",
    pa.time64("us"): ">i8",
}
_VARIABLE = (pa.string(), pa.binary())


def _fixed(values: Values, arrow: pa.DataType, data: np.ndarray[Any, Any]) -> pa.Array:
    bits = pa.py_buffer(np.ascontiguousarray(data))
    return pa.Array.from_buffers(arrow, len(values), [values.validity(), bits])


def _shifted(values: Values, kind: str, epoch: int) -> np.ndarray[Any, Any]:
    """Return dates or moments counted from 1970; the ends of the range mean infinity."""
    found = values.take(kind)
    limits = np.iinfo(found.dtype)
    odd = (found == limits.min) | (found > limits.max - epoch)
    if (odd & ~values.null).any():
        raise Inexact(
            "holds an infinite or too distant date or time",
            "replace it in the query: nullif({}, 'infinity')",
        )
    found[odd] = 0
    found += found.dtype.type(epoch)
    return found


def _texts(values: Values, arrow: pa.DataType) -> pa.Array:
    """Cut values out of the buffer: every other one of a run of values and gaps."""
    count = len(values)
    if not count:
        return pa.array([], arrow)
    ends = np.empty(2 * count, np.int32)
    ends[0::2] = values.at
    ends[1::2] = values.at + values.lengths
    run = pa.Array.from_buffers(
        pa.binary(), 2 * count - 1, [None, pa.py_buffer(ends), pa.py_buffer(values.buffer.data)]
    )
    cut = run.take(pa.array(np.arange(0, 2 * count, 2)))
    _, offsets, data = cut.buffers()
    return pa.Array.from_buffers(arrow, count, [values.validity(), offsets, data])


def _lists(values: Values, arrow: pa.DataType) -> pa.Array:
    i4 = values.buffer.view(">i4")
    _refuse(((values.lengths < _ARRAY_HEAD) & ~values.null).any())
    dimensions = np.where(values.null, 0, i4[values.at])
    _refuse((dimensions < 0).any())
    if (dimensions > 1).any():
        raise Inexact(
            "holds an array of several dimensions",
            "cast it in the query: {}::text",
        )
    some = dimensions == 1
    room = values.lengths - _ARRAY_HEAD - _DIMENSION
    _refuse((some & (room < 0)).any())
    if (i4[np.where(some, values.at + _LOWER_BOUND, 0)] != 1)[some].any():
        raise Inexact(
            "holds an array that does not begin at 1",
            "cast it in the query: {}::text",
        )
    counts = np.where(some, i4[np.where(some, values.at + _ARRAY_HEAD, 0)], 0).astype(np.int64)
    # Each element has a length of four bytes, so this bounds what is made of them.
    _refuse((some & ((counts < 0) | (4 * counts > room))).any())
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    first = np.where(some, values.at + _ARRAY_HEAD + _DIMENSION, 0)
    elements = _elements(values, first, counts, offsets)
    return pa.Array.from_buffers(
        arrow,
        len(values),
        [values.validity(), pa.py_buffer(offsets.astype(np.int32))],
        children=[decode(elements, arrow.value_type)],
    )


def _elements(arrays: Values, first: Ints, counts: Ints, offsets: Ints) -> Values:
    """Find the elements of arrays, which follow one another, each after its length."""
    buffer, ends = arrays.buffer, arrays.at + arrays.lengths
    total = int(offsets[-1])
    at, lengths = np.zeros(total, np.int64), np.zeros(total, np.int64)
    i4 = buffer.view(">i4")
    rows = np.flatnonzero(counts)
    position = first[rows]
    for place in range(_TOGETHER):
        if not len(rows):
            break
        _refuse((position + 4 > ends[rows]).any())
        found = i4[position].astype(np.int64)
        slots = offsets[rows] + place
        at[slots], lengths[slots] = position + 4, found
        more = counts[rows] > place + 1
        position = position + 4 + np.maximum(found, 0)
        _refuse((position > ends[rows]).any())
        position = position[more]
        rows = rows[more]
    read = int.from_bytes
    for row, start in zip(rows.tolist(), position.tolist(), strict=True):
        end = int(ends[row])
        for slot in range(int(offsets[row]) + _TOGETHER, int(offsets[row + 1])):
            length = read(buffer.data[start : start + 4], "big", signed=True)
            at[slot], lengths[slot] = start + 4, length
            start += 4 + max(length, 0)
            _refuse(np.bool_(start > end))
    null = lengths < 0
    return Values(buffer=buffer, at=at, lengths=np.maximum(lengths, 0), null=null)
