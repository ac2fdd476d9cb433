"""Open a table as a source, at one Iceberg snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue, And
from pyiceberg.schema import Schema

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import (
    Condition,
    ExecutionContext,
    Scan,
    Source,
    SourceStream,
)
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.files.scan import arrow_schema, as_schema, task_batches
from seeknal_iceberg.ledger.versions import version_of
from seeknal_iceberg.names import quote
from seeknal_iceberg.source import pushdown, snapshot_choice
from seeknal_iceberg.source.options import IcebergSourceOptions

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import FileScanTask, Table
    from pyiceberg.table.metadata import TableMetadata


def open_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Open a table at one iceberg_snapshot_id, which the whole read keeps to.

    Raises:
        BackendError: no such table, column or snapshot, or a filter that does not parse.
    """
    connection = catalogs.of(context)
    name = quote(source.parts)
    options = cast("IcebergSourceOptions | None", source.options) or IcebergSourceOptions()
    table = catalogs.existing(context, source.parts)
    choice = snapshot_choice.choose(table.metadata, options, name)
    table.metadata = metadata = choice.metadata
    row_filter = _parse_filter(options.filter, table, name)

    def read(
        columns: Sequence[str] | None = None, where: Sequence[Condition] = ()
    ) -> pa.RecordBatchReader:
        wanted = And(row_filter, pushdown.expression(where, metadata.schema()))
        # Without a snapshot's id pyiceberg takes the table's schema, else the snapshot's, which
        # an ALTER leaves as it was.
        scan = table.scan(
            row_filter=wanted,
            selected_fields=tuple(columns) if columns is not None else ("*",),
            snapshot_id=choice.snapshot_id,
        )
        with translating(connection, name):
            projected = _ordered(scan.projection(), columns)
            schema = arrow_schema(projected)
            empty = choice.snapshot_id is None and metadata.current_snapshot_id is None
            tasks = [] if empty else list(scan.plan_files())
        batches = _rows(context, name, table, tasks, projected, wanted)
        return pa.RecordBatchReader.from_batches(schema, batches)

    scanned = None
    if source.query is not None:
        ways = range(len(source.parts) - 1, -1, -1)
        scanned = Scan(
            schema=arrow_schema(metadata.schema()),
            names=tuple(source.parts[at:] for at in ways),
            open=read,
        )
    else:
        _check_columns(source, metadata.schema(), name, choice.words)
    return SourceStream(
        identity=catalogs.identity(connection, source.parts),
        version=_read_version(metadata, choice.snapshot_id),
        open=lambda: read(source.columns),
        scan=scanned,
    )


def _check_columns(source: Source, schema: Schema, name: str, words: str) -> None:
    known = [field.name for field in schema.fields]
    for column in source.columns or ():
        if source.columns is not None and source.columns.count(column) > 1:
            raise BackendError(
                f"{source.node}: params.columns names {column!r} twice",
                "name each column once",
                target=name,
            )
        if column not in known:
            raise BackendError(
                f"{name} has no column {column!r}{words}",
                nearest(column, known) or "it has " + ", ".join(known),
                target=name,
            )


def _rows(
    context: ExecutionContext,
    name: str,
    table: Table,
    tasks: Sequence[FileScanTask],
    projected: Schema,
    row_filter: BooleanExpression,
) -> Iterator[pa.RecordBatch]:
    schema = arrow_schema(projected)
    with translating(catalogs.of(context), name):
        for task in tasks:
            for batch in task_batches(table.metadata, table.io, projected, task, row_filter):
                context.cancellation.check()
                yield as_schema(batch, projected, schema)


def _read_version(metadata: TableMetadata, chosen: int | None) -> str:
    """Return the token of what a source reads: the rows' snapshot and their schema."""
    read = str(chosen) if chosen is not None else version_of(metadata)
    snapshot = metadata.current_snapshot() if chosen is None else metadata.snapshot_by_id(chosen)
    made_with = snapshot.schema_id if snapshot is not None else None
    if chosen is None and made_with not in (None, metadata.current_schema_id):
        # A separate prefix: what earlier versions stored under the numbers alone is the
        # snapshot's schema, not the table's.
        return f"{read}:schema-{metadata.current_schema_id}"
    return f"{read}:{metadata.current_schema_id}"


def _ordered(projected: Schema, columns: Sequence[str] | None) -> Schema:
    """Put a projection into the order asked for; pyiceberg keeps the table's."""
    if columns is None:
        return projected
    fields = {field.name: field for field in projected.fields}
    return Schema(*(fields[name] for name in columns), schema_id=projected.schema_id)


def _parse_filter(text: str | None, table: Table, name: str) -> BooleanExpression:
    if text is None:
        return AlwaysTrue()
    from pyiceberg.expressions import parser
    from pyiceberg.expressions.visitors import bind
    from pyparsing import ParseException

    try:
        expression = parser.parse(text)
        bind(table.schema(), expression, case_sensitive=True)
    except (ParseException, ValueError, TypeError) as error:
        raise BackendError(
            f"{name}: the filter {text!r} is wrong: {str(error).splitlines()[0]}",
            "write it like: qty > 3 and day >= '2024-01-01'",
            target=name,
        ) from None
    return expression
