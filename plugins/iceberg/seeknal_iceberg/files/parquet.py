"""Places Parquet under a table's own location, where nobody sees it until a commit names it.

A file's name holds the id of its write, so that what a killed write left can be
told from everything else. Every file carries the field ids of the table's schema.
A snapshot's files are copied byte for byte, but for a footer with those ids, where
their types fit the table's, and encoded again where they don't; never referenced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Cancellation, Snapshot
from seeknal_iceberg.files import footers
from seeknal_iceberg.files.conform import conform
from seeknal_iceberg.files.writer import Writer
from seeknal_iceberg.types import nested


class MoreColumns(Protocol):
    """Columns that rows get beside those of the snapshot."""

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """What the columns are called, in the batches and in the table."""

    def add(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Add the columns to batches of the snapshot."""


@attrs.frozen(kw_only=True)
class Layout:
    """What placed files depend on: files placed for one layout fit no other."""

    table_uuid: str
    location: str
    schema: Schema
    spec_id: int
    spec_fields: str

    @classmethod
    def of(cls, metadata: TableMetadata) -> Layout:
        """Return the layout of a table's (possibly not yet committed) metadata."""
        return cls(
            table_uuid=str(metadata.table_uuid),
            location=metadata.location,
            schema=metadata.schema(),
            spec_id=metadata.default_spec_id,
            spec_fields=str(metadata.spec().fields),
        )


def folder_of(metadata: TableMetadata, write_id: str) -> str:
    """Return the location under which a write puts its files."""
    root = metadata.properties.get("write.data.path") or f"{metadata.location.rstrip('/')}/data"
    return f"{root.rstrip('/')}/seeknal-{write_id}"


class Placer:
    """Places the files of one write into one layout.

    Args:
        metadata: the table's as the write's commit will have it (schema, spec, location).
        write_id: a UUID.
        target: the target's name, for messages.
        attempt: tells the files of a write's attempts apart.
        sort: rows are sorted within each file by the table's sort order.
    """

    def __init__(
        self,
        metadata: TableMetadata,
        io: FileIO,
        write_id: str,
        target: str,
        cancellation: Cancellation,
        attempt: int = 0,
        *,
        sort: bool = False,
    ) -> None:
        self.sort = sort
        self.layout = Layout.of(metadata)
        self._metadata = metadata
        self._io = io
        self._folder = folder_of(metadata, write_id)
        self._prefix = f"{attempt:02d}-" if attempt else ""
        self._target = target
        self._cancellation = cancellation
        self._written: list[str] = []

    def new_path(self) -> str:
        """Return the path of the next file, and remember it for `discard`."""
        path = f"{self._folder}/{self._prefix}{len(self._written):05d}.parquet"
        self._written.append(path)
        return path

    @property
    def number(self) -> int:
        """How many files were placed."""
        return len(self._written)

    def place(
        self,
        snapshot: Snapshot,
        names: Sequence[tuple[str, str]],
        *,
        exact: bool,
        carried: MoreColumns | None = None,
    ) -> list[DataFile]:
        """Place a snapshot's rows.

        Args:
            names: the snapshot's columns and what the table calls them.
            exact: the files' bytes fit the table, which is not partitioned.
            carried: values of other columns that the rows get.

        Raises:
            WriteRefused: a value does not fit its column; by column.
        """
        schema = self._metadata.schema()
        if exact and carried is None:
            found = self._identified(snapshot, names)
            if found is not None:
                return [
                    self._copy(snapshot, number, file)
                    for number, file in enumerate(found)
                    if file.footer.num_rows
                ]
        batches: Iterable[pa.RecordBatch]
        batches = snapshot.reader([name for name, _ in names], batch_rows=131_072)
        if carried is not None:
            batches, names = carried.add(batches), (*names, *carried.names)
        nulls = nested.Nulls()
        return self.write(conform(batches, names, schema, self._target, nulls), nulls)

    def _identified(
        self, snapshot: Snapshot, names: Sequence[tuple[str, str]]
    ) -> list[footers.Identified] | None:
        """Return a snapshot's files with the table's ids, None if a file has another shape."""
        schema = self._metadata.schema()
        columns = {here: schema.find_field(there) for here, there in names}
        found = []
        try:
            for number in range(len(snapshot.files)):
                with snapshot.open(number) as file:
                    found.append(footers.identify(file, columns))
        except footers.Unfit:
            return None
        return found

    def _copy(self, snapshot: Snapshot, number: int, file: footers.Identified) -> DataFile:
        path = self.new_path()
        with self._io.new_output(path).create(overwrite=True) as writing:
            for chunk in snapshot.chunks(number, file.kept):
                self._cancellation.check()
                writing.write(chunk)
            writing.write(file.end)
        size = file.kept + len(file.end)
        return self.describe(path, size, file.footer, Record(), file.ids)

    def write(
        self, batches: Iterable[pa.RecordBatch], nulls: nested.Nulls | None = None
    ) -> list[DataFile]:
        """Write batches in the table's schema into new files, split by partition.

        Args:
            nulls: those of the rows that the batches are made of, counted while the
                batches are taken.

        Raises:
            WriteRefused: the files have other NULLs than the rows; nothing is committed.
        """
        with Writer(self, self._metadata, self._io) as writer:
            for batch in batches:
                self._cancellation.check()
                writer.add(batch)
            files = writer.finish()
        if nulls is not None:
            known = {number: count for number, count in writer.nulls.items() if count is not None}
            differing = nulls.differing(known)
            if differing:
                raise WriteRefused(
                    f"{self._target}: the files written do not hold what the node gave: "
                    f"{'; '.join(differing)}; nothing was published",
                    "please report this with the table's schema: it is a defect of seeknal-iceberg",
                    target=self._target,
                )
        return files

    def describe(
        self,
        path: str,
        size: int,
        footer: pq.FileMetaData,
        partition: Record,
        ids: Mapping[str, int],
    ) -> DataFile:
        """Return a placed file's entry for a manifest, with its statistics.

        Args:
            ids: the table's field id of each leaf column, by its path in the file.
        """
        statistics = _statistics(footer, self._metadata, ids)
        return DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=path,
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=size,
            sort_order_id=self._metadata.default_sort_order_id if self.sort else None,
            spec_id=self._metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )

    def discard(self) -> None:
        """Delete what was placed; the write did not and will not land."""
        for path in self._written:
            try:
                self._io.delete(path)
            except FileNotFoundError:
                continue
        self._written.clear()


def _statistics(
    footer: pq.FileMetaData, metadata: TableMetadata, ids: Mapping[str, int]
) -> DataFileStatistics:
    properties = dict(metadata.properties)
    plan = compute_statistics_plan(metadata.schema(), properties)
    mapping = dict(ids)
    try:
        return data_file_statistics_from_parquet_metadata(footer, plan, mapping)
    except (OverflowError, ValueError):
        # Bounds that Python cannot hold (a year past 9999): such columns go without.
        for index in range(footer.num_columns):
            if not _bounds_readable(footer, index):
                name = metadata.schema().find_column_name(mapping[footer.schema.column(index).path])
                properties[f"write.metadata.metrics.column.{name}"] = "counts"
        plan = compute_statistics_plan(metadata.schema(), properties)
        return data_file_statistics_from_parquet_metadata(footer, plan, mapping)


def _bounds_readable(footer: pq.FileMetaData, index: int) -> bool:
    for group in range(footer.num_row_groups):
        statistics = footer.row_group(group).column(index).statistics
        if statistics is None or not statistics.has_min_max:
            continue
        try:
            _ = (statistics.min, statistics.max)
        except (OverflowError, ValueError):
            return False
    return True
