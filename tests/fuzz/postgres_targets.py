"""What a PostgreSQL server sends."""

from __future__ import annotations

import pyarrow as pa

from fuzz.target import Target, plain
from seeknal_core.contract.types import Since
from seeknal_postgres.ledger.marks import change_between, is_counted
from seeknal_postgres.types import wire

_KINDS: tuple[pa.DataType, ...] = (
    pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(),
    pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.time64("us"), pa.decimal128(9, 2),
    pa.decimal128(38, 9), pa.uuid(), pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.decimal128(20, 3)),
)  # fmt: skip


def _copy(data: bytes) -> None:
    """The first bytes choose types and sizes; the rest is the rows, one after another."""
    if len(data) < 3:
        return
    kinds = [_KINDS[byte % len(_KINDS)] for byte in data[1 : 2 + data[0] % 3]]
    rest = data[1 + len(kinds) :]
    if not rest:
        return
    count, rest = rest[0] % 4 + 1, rest[1:]
    chunk = wire.Chunk()
    for _ in range(count):
        if len(rest) < 4:
            break
        size = rest[0] + 3  # A shorter one ends the rows.
        row, rest = rest[1 : 1 + size], rest[1 + size :]
        if len(row) < 3:
            break
        chunk.data += row
        chunk.sizes.append(len(row))
    if not chunk.sizes:
        return
    for values, kind in zip(wire.split(chunk, len(kinds)), kinds, strict=True):
        array = wire.decode(values, kind)
        array.validate()
        assert len(array) == len(chunk.sizes) or not chunk.sizes


_NOW = '{"t":[16384,"5"],"c":[["id",23,-1]],"n":[3,0,0]}'


def _mark(data: bytes) -> None:
    since = Since(version="1", rows=2, mark=data.decode("utf-8", "replace"))
    for version in ("1", "2"):
        change_between(since, _NOW, 3, version)
    is_counted(since.mark)


TARGETS = (
    Target(name="postgres_copy", open=plain(_copy), longest=600),
    Target(
        name="postgres_mark", open=plain(_mark), longest=1_000, words=('{"t": [', '"c": [[', "]}")
    ),
)
