"""Snapshots: a node's output as a backend reads it."""

from __future__ import annotations

import builtins
import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import attrs

from seeknal_core.contract import verified

if TYPE_CHECKING:
    import pyarrow as pa


@attrs.frozen(kw_only=True)
class Snapshot:
    """A node's output: an immutable Parquet data set under its content key.

    ``schema`` is read from the first file when it is first asked for, unless given.
    ``files`` are absolute local paths, each with the same schema, at least one
    even for zero rows. The files are never changed nor deleted while a command
    runs; a store copies their bytes and never refers to them. `reader` and `open` check
    what they read against the digests of what was stored; who reads ``files`` otherwise
    is checked afterwards, by reading them once more.
    ``former_keys`` are what older versions called these rows: a ledger may know them by one.
    ``document`` is the digest of the store's document about it, empty where it is not stored.
    """

    node: str
    content_key: str
    row_count: int
    files: tuple[str, ...]
    bytes: int = 0
    former_keys: tuple[str, ...] = attrs.field(default=(), eq=False)
    document: str = attrs.field(default="", eq=False, repr=False)
    _schema: pa.Schema | None = attrs.field(default=None, alias="schema", eq=False, repr=False)
    _sums: tuple[verified.FileSums, ...] = attrs.field(
        default=(), alias="sums", eq=False, repr=False
    )
    #: The numbers of the files that `open` checked to their end.
    _checked: set[int] = attrs.field(factory=set, alias="checked", eq=False, repr=False)

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The columns' names and Arrow types; all nullable, without metadata."""
        return self._schema if self._schema is not None else read_schema(self.files[0])

    @property
    def keys(self) -> tuple[str, ...]:
        """The content key and the former ones."""
        return (self.content_key, *self.former_keys)

    @contextlib.contextmanager
    def open(self, number: int) -> Iterator[BinaryIO]:
        """Open one of the files; its bytes count where the block ends without an error.

        Raises:
            DamagedOutput: they are not what was stored.
        """
        sums = self._sums[number] if self._sums else None
        with verified.opened(self.files[number], self.node, sums) as file:
            yield cast("BinaryIO", file)
        self._checked.add(number)

    def chunks(self, number: int, end: int) -> Iterator[builtins.bytes]:
        """Yield the bytes of one of the files up to a place, in order, to be copied.

        Raises:
            DamagedOutput: they are not what was stored; nothing of the copy counts.
        """
        with self.open(number) as file:
            yield from verified.chunks(file, self.node, end)

    @contextlib.contextmanager
    def confirmed(self) -> Iterator[Snapshot]:
        """Return a snapshot whose files may be read in any way while the block runs.

        What was not read by `open` or `reader` is checked at the block's end.

        Raises:
            DamagedOutput: what was read is not what was stored.
        """
        read = attrs.evolve(self, checked=set())
        before = [verified.stamp_at(file) for file in self.files] if self._sums else []
        yield read
        for number, stamp in enumerate(before):
            if number in read._checked or stamp == self._sums[number].stamp:
                continue
            if verified.check(self.files[number], self.node, self._sums[number]) != stamp:
                raise verified.changed(self.node)

    def reader(
        self, columns: Sequence[str] | None = None, batch_rows: int = 65_536
    ) -> pa.RecordBatchReader:
        """Open a fresh stream over all rows, in file order.

        Args:
            columns: the projection, None for all.
            batch_rows: the most rows of one batch.

        Raises:
            DamagedOutput: from the stream, the files are not what was stored.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(columns) if columns is not None else self.schema.names
        schema = pa.schema([self.schema.field(name) for name in names])

        def batches() -> Any:
            for number in range(len(self.files)):
                with self.open(number) as opened, pq.ParquetFile(_whole(opened)) as file:
                    # A row group at a time: one iterator over all of them keeps more and
                    # more in memory.
                    for group in range(file.num_row_groups):
                        for batch in file.iter_batches(batch_rows, [group], names):
                            # Files of one data set may differ in nullability flags only.
                            yield batch.cast(schema) if batch.schema != schema else batch

        return pa.RecordBatchReader.from_batches(schema, batches())


def _whole(file: BinaryIO) -> Any:
    """Return a file for a Parquet reader: a small one that is checked at once, in memory."""
    if isinstance(file, verified.VerifiedFile):
        import pyarrow as pa

        small = file.size <= verified.PIECE
        return pa.BufferReader(file.read()) if small else pa.PythonFile(file, mode="r")
    return file.name


def read_schema(path: str | os.PathLike[str]) -> pa.Schema:
    """Return the schema of a stored Parquet file as backends see it.

    Columns are nullable (a file says "not null" where its rows happen to be)
    and metadata is dropped, so that equal types mean equal schemas.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    return pa.schema([pa.field(field.name, field.type, nullable=True) for field in schema])
