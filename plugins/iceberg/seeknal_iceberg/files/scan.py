"""Stream the rows of one data file, with deletes applied, in a schema asked for.

pyiceberg 0.12 reads a table in two ways that do not serve here. Its
``to_record_batches`` holds whole files in memory, of all that its threads get
through at a time. And its projection turns a NULL list of structs, and a NULL
map to structs, into an empty one, which would be written back by a merge. So
this module drives pyiceberg's own parts, file by file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.expressions.visitors import bind, extract_field_ids, translate_column_names
from pyiceberg.io.pyarrow import (
    ArrowAccessor,
    ArrowProjectionVisitor,
    _combine_positional_deletes,
    _get_column_projection_values,
    _get_file_format,
    _read_all_delete_files,
    expression_to_pyarrow,
    pyarrow_to_schema,
    schema_to_pyarrow,
)
from pyiceberg.schema import Schema, prune_columns, visit_with_partner
from pyiceberg.types import ListType, MapType

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.types.nested import fit

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.table import FileScanTask
    from pyiceberg.table.metadata import TableMetadata

_BATCH_ROWS = 65_536
#: Batches read ahead of the one in hand, within one file.
_READ_AHEAD = 2


class _Projection(ArrowProjectionVisitor):
    """pyiceberg's projection, with the NULLs of lists and maps kept."""

    def list(
        self, list_type: ListType, list_array: pa.Array | None, value_array: pa.Array | None
    ) -> pa.Array | None:
        return _with_nulls_of(list_array, super().list(list_type, list_array, value_array))

    def map(
        self,
        map_type: MapType,
        map_array: pa.Array | None,
        key_result: pa.Array | None,
        value_result: pa.Array | None,
    ) -> pa.Array | None:
        made = super().map(map_type, map_array, key_result, value_result)
        return _with_nulls_of(map_array, made)


def _with_nulls_of(read: pa.Array | None, made: pa.Array | None) -> pa.Array | None:
    if read is None or made is None or made.null_count == read.null_count:
        return made
    return pc.if_else(read.is_valid(), made, pa.scalar(None, made.type))


def task_batches(
    metadata: TableMetadata,
    io: FileIO,
    projected: Schema,
    task: FileScanTask,
    row_filter: BooleanExpression | None = None,
) -> Iterator[pa.RecordBatch]:
    """Stream the rows of one data file.

    Args:
        projected: fields of the table's schema, by id.
        row_filter: an unbound filter of rows; None for all.
    """
    bound = bind(metadata.schema(), row_filter or AlwaysTrue(), case_sensitive=True)
    wanted = {
        field_id
        for field_id in projected.field_ids
        if not isinstance(projected.find_type(field_id), MapType | ListType)
    } | extract_field_ids(bound)
    downcast = metadata.format_version <= 2
    with io.new_input(task.file.file_path).open() as stream:
        format = _get_file_format(task.file.file_format, pre_buffer=True)
        fragment = format.make_fragment(stream)
        try:
            file_schema = pyarrow_to_schema(
                fragment.physical_schema,
                metadata.name_mapping(),
                downcast_ns_timestamp_to_us=downcast,
                format_version=metadata.format_version,
            )
        except (ValueError, TypeError) as error:
            raise BackendError(
                f"{task.file.file_path} cannot be read as a file of its table: {error}",
                "see who put the file there, and have them write it anew",
            ) from error
        spec = metadata.specs().get(task.file.spec_id)
        missing = _get_column_projection_values(
            task.file, projected, metadata.schema(), spec, file_schema.field_ids
        )
        chosen = prune_columns(file_schema, wanted, select_full_types=False)
        arrow_filter = None
        if not isinstance(bound, AlwaysTrue):
            named = translate_column_names(bound, file_schema, True, missing)
            in_file = bind(file_schema, named, case_sensitive=True)
            arrow_filter = expression_to_pyarrow(in_file, file_schema)
        for batch in _fragment_batches(fragment, io, task, chosen, arrow_filter):
            projection = _Projection(
                chosen,
                downcast,
                projected_missing_fields=missing,
                allow_timestamp_tz_mismatch=True,
            )
            rows = visit_with_partner(projected, batch, projection, ArrowAccessor(chosen))
            yield pa.RecordBatch.from_struct_array(rows)


def _fragment_batches(
    fragment: ds.Fragment,
    io: FileIO,
    task: FileScanTask,
    chosen: Schema,
    arrow_filter: pc.Expression | None,
) -> Iterator[pa.RecordBatch]:
    """Yield a file's batches: deleted rows left out first, then filtered; none is empty."""
    deletes = _read_all_delete_files(io, [task]).get(task.file.file_path)
    columns = [field.name for field in chosen.columns]
    position = 0
    for batch in _batches(fragment, columns, None if deletes else arrow_filter):
        begin, position = position, position + batch.num_rows
        if deletes:
            batch = batch.take(_combine_positional_deletes(deletes, begin, position))
            if arrow_filter is not None:
                kept = pa.Table.from_batches([batch]).filter(arrow_filter).combine_chunks()
                batch = kept.to_batches()[0] if kept.num_rows else batch.slice(0, 0)
        if batch.num_rows:
            yield batch


def _batches(
    fragment: ds.Fragment, columns: list[str], arrow_filter: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    # Row group by row group: a scan keeps what it has buffered until its end.
    whole = not isinstance(fragment, ds.ParquetFileFragment)
    for piece in [fragment] if whole else fragment.split_by_row_group():
        scanner = ds.Scanner.from_fragment(
            fragment=piece,
            schema=fragment.physical_schema,
            columns=columns,
            filter=arrow_filter,
            batch_size=_BATCH_ROWS,
            batch_readahead=_READ_AHEAD,
        )
        yield from scanner.to_batches()


def as_schema(batch: pa.RecordBatch, projected: Schema, schema: pa.Schema) -> pa.RecordBatch:
    """Bring a batch of `task_batches` into the Arrow schema that `arrow_schema` gives."""
    arrays = [
        fit(column, field.field_type, wanted.type, (field.name,))
        for column, field, wanted in zip(batch.columns, projected.fields, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def arrow_schema(projected: Schema) -> pa.Schema:
    """Return the Arrow schema of a read, with 32-bit offsets where Arrow has the choice."""
    return pa.schema(
        [
            pa.field(field.name, _small(field.type), nullable=field.nullable)
            for field in schema_to_pyarrow(projected, include_field_ids=False)
        ]
    )


def _small(type: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type):
        return pa.string()
    if pa.types.is_large_binary(type):
        return pa.binary()
    if pa.types.is_large_list(type) or pa.types.is_list(type):
        field = type.value_field
        return pa.list_(pa.field("element", _small(field.type), nullable=field.nullable))
    if pa.types.is_map(type):
        return pa.map_(_small(type.key_type), _small(type.item_type))
    if pa.types.is_struct(type):
        return pa.struct(
            [pa.field(field.name, _small(field.type), nullable=field.nullable) for field in type]
        )
    return type
