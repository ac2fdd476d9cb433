"""Write batches to the files of a table, several partitions at once, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from seeknal_iceberg.files import sorting
from seeknal_iceberg.files.conform import file_schema
from seeknal_iceberg.types import nested
from seeknal_iceberg.types.partitions import Splitter, key_of

if TYPE_CHECKING:
    from seeknal_iceberg.files.parquet import Placer

#: Arrow bytes gathered for one partition before they become a row group.
_GROUP_BYTES = 32 * 1024 * 1024
#: Arrow bytes gathered for all partitions together.
_BUFFER_BYTES = 128 * 1024 * 1024
_GROUP_ROWS = 1024 * 1024
#: Files open at a time; the least recently used is closed.
_OPEN_FILES = 32
#: Parquet bytes after which a file is closed and another begun.
_FILE_BYTES = 256 * 1024 * 1024
#: The fewest Arrow bytes of a row group, however small files are wanted.
_SMALLEST = 256 * 1024


@attrs.define
class _File:
    partition: Record
    buffer: list[pa.RecordBatch] = attrs.field(factory=list)
    buffered: int = 0
    path: str = ""
    stream: Any = None
    writer: pq.ParquetWriter | None = None


class Writer:
    """Writes batches to files, several partitions at once, in bounded memory."""

    def __init__(self, placer: Placer, metadata: TableMetadata, io: FileIO) -> None:
        self._placer = placer
        self._io = io
        names, self._arrow = file_schema(metadata.schema())
        self._ids = parquet_path_to_id_mapping(names)
        self._splitter = Splitter(metadata.spec(), names)
        #: NULLs of what was written, by field id; None if they are not known.
        self.nulls: dict[int, int | None] = {}
        properties = metadata.properties
        self._compression = properties.get("write.parquet.compression-codec", "zstd")
        if self._compression == "uncompressed":
            self._compression = "none"
        wanted = properties.get("write.target-file-size-bytes", "")
        self._file_bytes = min(_FILE_BYTES, int(wanted)) if wanted.isdigit() else _FILE_BYTES
        self._group_bytes = min(_GROUP_BYTES, max(self._file_bytes, _SMALLEST))
        self._order = metadata.sort_order() if placer.sort else None
        self._schema = metadata.schema()
        if self._order is not None:
            self._group_bytes = _BUFFER_BYTES
        self._files: dict[tuple[object, ...], _File] = {}
        self._buffered = 0
        self._done: list[DataFile] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        for file in self._files.values():
            if file.stream is not None:
                file.stream.close()
        self._files.clear()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch in the files' schema."""
        if batch.num_rows == 0:
            return
        for partition, piece in self._splitter.split(batch):
            key = key_of(partition)
            file = self._files.pop(key, None) or _File(partition)
            self._files[key] = file  # the last is the most recently used
            file.buffer.append(piece)
            file.buffered += piece.nbytes
            self._buffered += piece.nbytes
            if file.buffered >= self._group_bytes:
                self._flush(file)
        while self._buffered > _BUFFER_BYTES:
            self._flush(max(self._files.values(), key=lambda file: file.buffered))

    def finish(self) -> list[DataFile]:
        """Write what is gathered and return all files."""
        for file in list(self._files.values()):
            self._flush(file)
            self._close(file)
        self._files.clear()
        return self._done

    def _flush(self, file: _File) -> None:
        if not file.buffer:
            return
        if file.writer is None:
            self._open(file)
        table = pa.Table.from_batches(file.buffer, schema=self._arrow)
        if self._order is not None:
            table = sorting.ordered(table, self._order, self._schema)
        cast("pq.ParquetWriter", file.writer).write_table(table, row_group_size=_GROUP_ROWS)
        self._buffered -= file.buffered
        file.buffer, file.buffered = [], 0
        # Only rows that are gathered together are sorted.
        if self._order is not None or file.stream.tell() >= self._file_bytes:
            self._close(file)

    def _open(self, file: _File) -> None:
        opened = [other for other in self._files.values() if other.writer is not None]
        if len(opened) >= _OPEN_FILES:
            self._close(opened[0])
        file.path = self._placer.new_path()
        file.stream = self._io.new_output(file.path).create(overwrite=True)
        file.writer = pq.ParquetWriter(
            getattr(file.stream, "native", file.stream),
            self._arrow,
            compression=self._compression,
            store_decimal_as_integer=True,
        )

    def _close(self, file: _File) -> None:
        if file.writer is None:
            return
        file.writer.close()
        size = file.stream.tell()
        file.stream.close()
        footer = file.writer.writer.metadata
        nested.add_written(self.nulls, footer, self._ids)
        self._done.append(self._placer.describe(file.path, size, footer, file.partition, self._ids))
        file.writer = file.stream = None
