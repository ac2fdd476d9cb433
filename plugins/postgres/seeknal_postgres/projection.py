"""What a query's columns become in Arrow, and the SELECT that makes them so.

A type that has no exact counterpart comes as text: json, enums, network
addresses, intervals, ranges and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from seeknal_core.errors import BackendError
from seeknal_postgres.pool import Conn

# Type numbers that never change (src/include/catalog/pg_type.dat), by name.
_SCALARS: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "uuid": pa.uuid(),
}
_MAX_PRECISION = 38
#: Scales given to a numeric without one: the first that holds every value, so
#: that the type doesn't change with each new row.
SCALES = (9, 18, 28, 37)
#: 4713 BC, the first day and moment of the server's; what lies before is an
#: infinity that wrapped around.
_FIRST = {pa.date32(): (-2_440_588, pa.int32())}
_FIRST_STAMP = (-210_866_803_200_000_000, pa.int64())


@attrs.frozen(kw_only=True)
class ReadColumn:
    """A column of what is read.

    Args:
        name: the column's name.
        arrow: the type it gets.
        cast: the type that the server casts it to first, empty for none.
        decimal: whether the driver hands it over as text to be parsed here.
        open_scale: whether it is a numeric whose scale only the values tell.
    """

    name: str
    arrow: pa.DataType
    cast: str = ""
    decimal: bool = False
    open_scale: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the column is an array."""
        return bool(pa.types.is_list(self.arrow))


#: The first number that a type of somebody's own can have (FirstNormalObjectId); those
#: below are the same in every database.
_FIRST_OWN_OID = 16_384
_known: dict[int, tuple[str, str | None]] = {}


def columns_of(conn: Conn, description: Sequence[Any]) -> tuple[ReadColumn, ...]:
    """Return the columns of a result by its description (domains are resolved there)."""
    oids = sorted({column.type_code for column in description} - _known.keys())
    rows = (
        []
        if not oids
        else conn.execute(
            "SELECT t.oid::bigint, t.typname::text, e.typname::text FROM pg_catalog.pg_type t"
            " LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'"
            " WHERE t.oid = ANY(%s::oid[])",
            [oids],
        ).fetchall()
    )
    kinds = {**_known, **{oid: (name, element) for oid, name, element in rows}}
    _known.update({oid: kind for oid, kind in kinds.items() if oid < _FIRST_OWN_OID})
    return tuple(_column(column, *kinds[column.type_code]) for column in description)


def _column(column: Any, kind: str, element: str | None) -> ReadColumn:
    name = column.name
    if element is not None:
        if element in _SCALARS:
            return ReadColumn(name=name, arrow=pa.list_(_SCALARS[element]))
        return ReadColumn(name=name, arrow=pa.list_(pa.string()), cast="text[]")
    if kind in _SCALARS:
        return ReadColumn(name=name, arrow=_SCALARS[kind])
    if kind == "numeric":
        precision, scale = column.precision, column.scale
        if precision is None or scale is None or scale > _MAX_PRECISION:
            return ReadColumn(name=name, arrow=pa.string(), decimal=True, open_scale=True)
        if scale < 0:
            precision, scale = precision - scale, 0
        precision = min(max(precision, scale, 1), _MAX_PRECISION)
        return ReadColumn(name=name, arrow=pa.decimal128(precision, scale), decimal=True)
    return ReadColumn(name=name, arrow=pa.string(), cast="text")


def settled(
    conn: Conn, columns: Sequence[ReadColumn], relation: sql.Composable
) -> tuple[ReadColumn, ...]:
    """Give each numeric without a scale the first of `SCALES` that holds its values."""
    loose = [column for column in columns if column.open_scale]
    if not loose:
        return tuple(columns)
    maxima = [sql.SQL("max(scale({}))").format(sql.Identifier(column.name)) for column in loose]
    row: Any = conn.execute(
        sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(maxima), relation)
    ).fetchone()
    found = {}
    for column, most in zip(loose, row, strict=True):
        scale = next((s for s in SCALES if s >= (most or 0)), None)
        if scale is None:
            raise BackendError(
                f"column {column.name!r} is numeric with {most} digits after the point, "
                f"more than the {SCALES[-1]} that can be read exactly",
                f"round it in the query: {column.name}::numeric(38, 10)",
            )
        arrow = pa.decimal128(_MAX_PRECISION, scale)
        found[column.name] = attrs.evolve(column, arrow=arrow, open_scale=False)
    return tuple(found.get(column.name, column) for column in columns)


def select(columns: Sequence[ReadColumn], relation: sql.Composable) -> sql.Composed:
    """Return the SELECT of `columns`, and of a flag for each array of several dimensions.

    The driver would flatten such an array without a word.
    """
    values: list[sql.Composable] = []
    flags: list[sql.Composable] = []
    for index, column in enumerate(columns):
        value: sql.Composable = sql.Identifier(column.name)
        if column.is_list:
            flag = sql.Identifier(f"_seeknal_{index}")
            flags.append(sql.SQL("array_ndims({}) > 1 AS {}").format(value, flag))
        if column.cast:
            value = sql.SQL("{}::{}").format(value, sql.SQL(column.cast))
        elif column.decimal:
            value = sql.SQL("{}::text").format(value)
        values.append(sql.SQL("{} AS {}").format(value, sql.Identifier(column.name)))
    return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(values + flags), relation)


def converter(columns: Sequence[ReadColumn]) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Return what makes the driver's batches into ours, checking what cannot be exact."""
    schema = pa.schema([pa.field(column.name, column.arrow) for column in columns])
    lists = [column for column in columns if column.is_list]

    def convert(batch: pa.RecordBatch) -> pa.RecordBatch:
        for place, column in enumerate(lists):
            if pc.any(batch.column(len(columns) + place)).as_py():
                raise BackendError(
                    f"column {column.name!r} holds an array of several dimensions",
                    f"read it as text: {column.name}::text",
                )
        arrays = [_exact(batch.column(i), column) for i, column in enumerate(columns)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    return convert


def _exact(array: pa.Array, column: ReadColumn) -> pa.Array:
    if column.decimal:
        try:
            return array.cast(column.arrow)
        except pa.ArrowInvalid as error:
            raise BackendError(
                f"column {column.name!r} holds a number that {column.arrow} cannot hold "
                "(NaN, an infinity, or too many digits)",
                f"cast it in the query: {column.name}::double precision, or ::text",
            ) from error
    if array.type != column.arrow:
        array = array.cast(column.arrow)
    values = pc.list_flatten(array) if column.is_list else array
    stamp = pa.types.is_timestamp(values.type)
    if stamp or values.type in _FIRST:
        first, view = _FIRST_STAMP if stamp else _FIRST[values.type]
        least = pc.min(values.view(view)).as_py()
        if least is not None and least < first:
            raise BackendError(
                f"column {column.name!r} holds an infinite or too distant date or time",
                f"replace it in the query: nullif({column.name}, 'infinity')",
            )
    return array
