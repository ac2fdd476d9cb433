"""Reads staged rows and computes checksums, which a promotion verifies before it publishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask
from pyiceberg.table.update import update_table_metadata
from pyiceberg.typedef import Record

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import StaleStage
from seeknal_core.contract.types import Checksum, ExecutionContext, Staged, Target, TargetColumn
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.files.scan import arrow_schema, as_schema, task_batches
from seeknal_iceberg.ledger.staged_write import StagedWrite

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata

#: Footers read at a time.
_READERS = 4


@attrs.frozen(kw_only=True)
class _Place:
    """How the files of a staged write are read: the table as it will be."""

    io: FileIO
    metadata: TableMetadata


def remember(context: ExecutionContext, write_id: str, io: FileIO, metadata: TableMetadata) -> None:
    """Keep, for this command, what a staged write's files are read with."""
    _memory(context)[write_id] = _Place(io=io, metadata=metadata)


def _memory(context: ExecutionContext) -> dict[str, _Place]:
    key = ("iceberg-staged", catalogs.of(context))
    return context.resources.get(key, dict, lambda _: None)


def _place(context: ExecutionContext, target: Target, write: StagedWrite) -> _Place:
    known = _memory(context).get(write.write_id)
    if known is not None:
        return known
    catalog = catalogs.open_unmade(context)
    ask = catalogs.look if write.created else catalogs.load
    table = ask(catalog, target.name.parts)
    if write.begun and (table is None or str(table.metadata.table_uuid) != write.uuid):
        table = catalogs.load(catalog, write.begun)
    if table is not None and str(table.metadata.table_uuid) == write.uuid:
        io = table.io
        metadata = update_table_metadata(table.metadata, write.layout_updates())
    elif write.created and not write.begun:
        io = catalogs.io_at(catalog, target.name.parts, write.location)
        metadata = write.new_metadata()
    else:
        raise StaleStage(
            f"{target.name} is not the table any more that it was when it was staged",
            "begin again",
            target=str(target.name),
        )
    place = _Place(io=io, metadata=metadata)
    _memory(context)[write.write_id] = place
    return place


def count(context: ExecutionContext, target: Target, staged: Staged) -> int:
    """Count the rows that are staged, by the footers of their files."""
    write = StagedWrite.of(staged)
    if not write.arrived:
        return 0
    with translating(catalogs.of(context), str(target.name)):
        io = _place(context, target, write).io

        def rows(path: str) -> int:
            context.cancellation.check()
            with io.new_input(path).open() as stream:
                return int(pq.read_metadata(stream).num_rows)

        with ThreadPoolExecutor(_READERS) as pool:
            return sum(pool.map(rows, write.arrived_paths()))


def columns(context: ExecutionContext, target: Target, staged: Staged) -> tuple[TargetColumn, ...]:
    """Return the columns of what is staged, as the snapshot names them."""
    write = StagedWrite.of(staged)
    with translating(catalogs.of(context), str(target.name)):
        schema = _place(context, target, write).metadata.schema()
        return tuple(
            TargetColumn(name=here, type=str(schema.find_field(there).field_type))
            for here, there in write.names
        )


def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Return a checksum of the rows of a table, or of those that are staged for it."""
    with translating(catalogs.of(context), str(target.name)):
        if target.staged is not None:
            return checksum_of(_staged_rows(context, target, StagedWrite.of(target.staged)))
        return checksum_of(_table_rows(context, target))


def _staged_rows(
    context: ExecutionContext, target: Target, write: StagedWrite
) -> pa.RecordBatchReader:
    place = _place(context, target, write)
    schema = place.metadata.schema()
    fields = [schema.find_field(there) for _, there in write.names]
    names = [here for here, _ in write.names]
    tasks = [_task(path, place.metadata.default_spec_id) for path in write.arrived_paths()]
    return _rows(context, place, Schema(*fields), tasks, names)


def _task(path: str, spec_id: int) -> FileScanTask:
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=0,
        file_size_in_bytes=0,
    )
    file.spec_id = spec_id
    return FileScanTask(file)


def _table_rows(context: ExecutionContext, target: Target) -> pa.RecordBatchReader:
    table = catalogs.existing(context, target.name.parts)
    schema = table.schema()
    empty = table.metadata.current_snapshot_id is None
    tasks = [] if empty else list(table.scan().plan_files())
    place = _Place(io=table.io, metadata=table.metadata)
    return _rows(context, place, schema, tasks, [field.name for field in schema.fields])


def _rows(
    context: ExecutionContext,
    place: _Place,
    projected: Schema,
    tasks: Sequence[FileScanTask],
    names: Sequence[str],
) -> pa.RecordBatchReader:
    """Stream the rows of files, the columns named as asked for."""
    schema = arrow_schema(projected)
    renamed = pa.schema(
        [pa.field(name, field.type) for name, field in zip(names, schema, strict=True)]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        for task in tasks:
            for batch in task_batches(place.metadata, place.io, projected, task):
                context.cancellation.check()
                rows = as_schema(batch, projected, schema)
                yield pa.RecordBatch.from_arrays(rows.columns, schema=renamed)

    return pa.RecordBatchReader.from_batches(renamed, batches())
