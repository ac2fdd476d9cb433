"""Computes checksums of a table's rows, or of staged rows, in the snapshot's types.

A column of somebody's own type holds a snapshot's values in another form: json
becomes jsonb, text an inet. To be compared they are read back in the snapshot's
type; where the server's form is not the snapshot's text, the stage table keeps what
was sent in a further column.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import attrs
import pyarrow as pa
from psycopg import sql

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    Checksum,
    ExecutionContext,
    QualifiedName,
    Source,
    Target,
)
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.ledger.inspecting import staged_name
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.ledger.tables import Table, identifier, missing
from seeknal_postgres.source.read import View, beginning, read_source, stream
from seeknal_postgres.types.columns import Column
from seeknal_postgres.types.pgtypes import PgType, is_converted_text
from seeknal_postgres.types.projection import ReadColumn, columns_of


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

    In Arrow's binary form, as text; empty if all come back as they went.
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


def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Implement the hook of the same name."""
    if target.staged is not None:
        return checksum_targets(context, (target,))[0]
    _refuse_part(context, target)
    source = Source(node=target.node, type=target.type, parts=target.name.parts)
    with read_source(context, source) as stream:
        return checksum_of(stream.open())


def checksum_targets(context: ExecutionContext, targets: Sequence[Target]) -> tuple[Checksum, ...]:
    """Implement the hook of the same name.

    The staged rows of several targets are read by one statement of each kind, so that
    a small table takes one round trip: its rows'.
    """
    if any(target.staged is None for target in targets):
        return tuple(checksum(context, target) for target in targets)
    what = str(targets[0].name) if len(targets) == 1 else connection_of(context).place
    with pool_of(context).take(context) as conn, translated(context, what):
        conn.execute(beginning("", policies=False))
        staged = _staged(context, conn, targets)
        relations = [sql.SQL("({}) AS staged").format(each.query()) for each in staged]
        found = []
        for each, relation, columns in zip(
            staged, relations, _described(conn, relations), strict=True
        ):
            view = View(
                context=context,
                conn=conn,
                what=f"what is staged for {each.target.name}",
                relation=relation,
                columns=columns,
            )
            with ExitStack() as stack:
                rows = stream(view, stack)
                found.append(checksum_of(_cast(rows, each.kinds, str(each.target.name))))
    return tuple(found)


def _described(conn: Conn, relations: Sequence[sql.Composed]) -> list[tuple[ReadColumn, ...]]:
    """Return the columns of several queries, by one statement for all of them."""
    limited = [sql.SQL("SELECT * FROM {} LIMIT 0").format(each) for each in relations]
    answer = conn.execute(sql.SQL("; ").join(limited))
    descriptions = []
    for _ in relations:
        descriptions.append(answer.description or ())
        answer.nextset()
    return [columns_of(conn, each, {}) for each in descriptions]


@attrs.frozen(kw_only=True)
class _Staged:
    """The staged rows of a target.

    ``columns`` are the stage table's columns and their types. ``kinds`` are the Arrow types that
    the snapshot's columns have, of those that come back in another one.
    """

    target: Target
    stage: QualifiedName
    sent: Mapping[str, str]
    columns: Sequence[tuple[str, str]]
    kinds: Mapping[str, pa.DataType]

    def query(self) -> sql.Composed:
        """Return the SELECT of the staged rows' columns, near the snapshot's types."""
        values = []
        for name, kind in self.columns:
            if name in self.sent.values():
                continue
            value: sql.Composable = sql.Identifier(self.sent.get(name, name))
            if name in self.kinds and name not in self.sent:
                value = _value(value, self.kinds[name], PgType.parse(kind))
            values.append(sql.SQL("{} AS {}").format(value, sql.Identifier(name)))
        return sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(values), identifier(self.stage)
        )


def _staged(context: ExecutionContext, conn: Conn, targets: Sequence[Target]) -> list[_Staged]:
    """Find the stage tables of targets.

    Raises:
        BackendError: one is not there.
    """
    promotions = [target.staged.promotion for target in targets if target.staged is not None]
    stages = [stage for target in targets if (stage := staged_name(context, target)) is not None]
    rows = conn.execute(
        "SELECT w.place, a.attname::text, format_type(a.atttypid, NULL)"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS w(name, place)"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = to_regclass(w.name)"
        " WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY w.place, a.attnum",
        [[str(stage) for stage in stages]],
    )
    columns: dict[int, list[tuple[str, str]]] = {}
    for place, name, kind in rows:
        columns.setdefault(place - 1, []).append((name, kind))
    found = []
    for place, target in enumerate(targets):
        if place not in columns:
            raise refusals.nothing_staged(target.name, promotions[place])
        data = StageData.of(target)
        found.append(
            _Staged(
                target=target,
                stage=stages[place],
                sent=data.sent,
                columns=columns[place],
                kinds=_kinds(data.read),
            )
        )
    return found


def _kinds(encoded: str) -> dict[str, pa.DataType]:
    """Return what `read_types` wrote down."""
    if not encoded:
        return {}
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))
    return {field.name: field.type for field in schema}


def _refuse_part(context: ExecutionContext, target: Target) -> None:
    """Refuse a checksum of a table from which row-level security hides rows."""
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
    """Cast columns back to the snapshot's types."""
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
