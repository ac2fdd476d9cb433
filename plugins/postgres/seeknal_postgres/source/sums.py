"""Summing up a table's rows, or those that are staged, as the snapshot had them.

A column of somebody's own type holds a snapshot's values in another form: json
becomes jsonb, text an inet. To be compared they are read back in the snapshot's
type; where the server's form is not the snapshot's text, the stage table keeps what
was sent in a further column.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from psycopg import sql

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Checksum, ExecutionContext, QualifiedName, Source, Target
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import pool_of
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.ledger.tables import Table, identifier, missing
from seeknal_postgres.source.read import read_source
from seeknal_postgres.types.columns import Column
from seeknal_postgres.types.pgtypes import PgType, is_converted_text


def sent_columns(columns: Sequence[Column], table: Table | None) -> dict[str, str]:
    """Name the further columns of a stage table, by the column whose values they keep."""
    taken = {column.name for column in columns}
    found: dict[str, str] = {}
    for place, column in enumerate(columns):
        old = table.column(column.name) if table is not None else None
        if old is None or old.enum or not is_converted_text(column.sent, old.type):
            continue
        if column.sent.base == "bytea":
            continue  # 16 bytes are a uuid's own form
        name = f"_seeknal_sent_{place}"
        while name in taken:
            name += "_"
        found[column.name] = name
    return found


def read_types(columns: Sequence[Column], table: Table | None) -> str:
    """Return the snapshot's types of columns that come back in another one.

    In Arrow's binary form, as text; empty where all come back as they went.
    """
    fields = []
    for column in columns:
        old = table.column(column.name) if table is not None else None
        same = old is None or old.declared == str(column.type)
        if same and not _is_other(column.arrow):
            continue
        kind = column.arrow
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        fields.append(pa.field(column.name, kind))
    return base64.b64encode(pa.schema(fields).serialize()).decode() if fields else ""


def _is_other(arrow: pa.DataType) -> bool:
    """Whether a type is read as another one even from a table of ours."""
    if pa.types.is_nested(arrow):
        return pa.types.is_decimal(arrow.value_type) or _is_other(arrow.value_type)
    return bool(pa.types.is_duration(arrow))


def checksum(context: ExecutionContext, target: Target, stage: QualifiedName | None) -> Checksum:
    """Carry out the hook of the same name.

    Args:
        stage: the table of what is staged, where that is meant.
    """
    if stage is None or target.staged is None:
        _refuse_part(context, target)
        source = Source(node=target.node, type=target.type, parts=target.name.parts)
        with read_source(context, source) as stream:
            return checksum_of(stream.open())
    staged = StageData.of(target)
    encoded = base64.b64decode(staged.read)
    kinds: dict[str, pa.DataType] = {}
    if encoded:
        kinds = {field.name: field.type for field in pa.ipc.read_schema(pa.py_buffer(encoded))}
    query = _query(context, stage, kinds, staged.sent)
    source = Source(node=target.node, type=target.type, query=query)
    with read_source(context, source) as stream:
        return checksum_of(_cast(stream.open(), kinds, str(target.name)))


def _refuse_part(context: ExecutionContext, target: Target) -> None:
    """Refuse to sum up what row-level security leaves of a table."""
    what = str(target.name)
    with pool_of(context).take(context) as conn, translated(context, what):
        row = conn.execute(
            "SELECT row_security_active(c.oid) FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s",
            list(target.name.parts),
        ).fetchone()
    if row is None:
        raise missing(target.name)
    if row[0]:
        raise BackendError(
            f"{what}: row-level security hides rows from the role",
            f"read as the table's owner, or grant the role BYPASSRLS ({what})",
            target=what,
        )


def _query(
    context: ExecutionContext,
    stage: QualifiedName,
    kinds: Mapping[str, pa.DataType],
    sent: Mapping[str, str],
) -> str:
    """Return the SELECT of the staged rows' columns, near the snapshot's types."""
    with pool_of(context).take(context) as conn:
        columns = conn.execute(
            "SELECT a.attname::text, format_type(a.atttypid, NULL) FROM pg_catalog.pg_attribute a"
            " WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped"
            " ORDER BY a.attnum",
            [str(stage)],
        ).fetchall()
        values = []
        for name, kind in columns:
            if name in sent.values():
                continue
            value: sql.Composable = sql.Identifier(sent.get(name, name))
            if name in kinds and name not in sent:
                value = _value(value, kinds[name], PgType.parse(kind))
            values.append(sql.SQL("{} AS {}").format(value, sql.Identifier(name)))
        listed = sql.SQL(", ").join(values)
        return sql.SQL("SELECT {} FROM {}").format(listed, identifier(stage)).as_string(conn)


_MICROSECONDS = "(extract(epoch from {}) * 1000000)::bigint"


def _value(value: sql.Composable, arrow: pa.DataType, kind: PgType) -> sql.Composable:
    if pa.types.is_duration(arrow):
        return sql.SQL(_MICROSECONDS).format(value)
    if pa.types.is_nested(arrow) and pa.types.is_duration(arrow.value_type):
        inner = sql.SQL(_MICROSECONDS).format(sql.SQL("e"))
        return sql.SQL(
            "CASE WHEN {0} IS NOT NULL THEN ARRAY(SELECT {1}"
            " FROM unnest({0}) WITH ORDINALITY u(e, place) ORDER BY place) END"
        ).format(value, inner)
    if isinstance(arrow, pa.UuidType) and kind.base != "uuid":
        return sql.SQL("{}::uuid").format(value)
    return value


def _cast(
    reader: pa.RecordBatchReader, kinds: Mapping[str, pa.DataType], what: str
) -> pa.RecordBatchReader:
    """Give columns the snapshot's types back."""
    schema = pa.schema(
        [pa.field(field.name, kinds.get(field.name, field.type)) for field in reader.schema]
    )

    def batches() -> Any:
        for batch in reader:
            arrays = [_back(batch.column(i), field, what) for i, field in enumerate(schema)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _back(array: pa.Array, field: pa.Field, what: str) -> pa.Array:
    kind = field.type
    if array.type == kind:
        return array
    try:
        if isinstance(kind, pa.BaseExtensionType):
            storage = array.storage if isinstance(array, pa.ExtensionArray) else array
            return pa.ExtensionArray.from_storage(kind, storage.cast(kind.storage_type))
        if pa.types.is_integer(array.type) and pa.types.is_decimal(kind):
            # Arrow wants room for all digits that the integer's type might have.
            return array.cast(pa.decimal128(38, 0)).cast(kind)
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_duration(kind):
            array = array.cast(pa.duration("us"))
        elif pa.types.is_nested(kind) and pa.types.is_duration(kind.value_type):
            array = array.cast(pa.list_(pa.duration("us")))
        return array.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BackendError(
            f"{what}: column {field.name!r} holds values that are not {kind} any more: "
            f"{str(error).splitlines()[0]}",
            target=what,
        ) from error
