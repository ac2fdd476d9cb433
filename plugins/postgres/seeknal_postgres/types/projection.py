"""What a query's columns become in Arrow, and the SELECT that makes them so.

A type that has no exact counterpart comes as text: json, enums, network
addresses, intervals, ranges and the like.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa
from psycopg import sql

from seeknal_core.contract.errors import BackendError
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.names import quote

if TYPE_CHECKING:
    from seeknal_postgres.types.wire import Chunk

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
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "uuid": pa.uuid(),
}
_MAX_PRECISION = 38
_TEXT, _NUMERIC = "pg_catalog.text", "pg_catalog.numeric"
#: Scales given to a numeric without one: the first that holds every value, so
#: that the type doesn't change with each new row.
SCALES = (9, 18, 28, 37)


@attrs.frozen(kw_only=True)
class ReadColumn:
    """A column of what is read.

    Args:
        name: the column's name.
        arrow: the type that its values are decoded as.
        cast: the type that the server casts it to first, empty for none.
        open_scale: whether it is a numeric whose scale only the values tell.
        then: the type that decoded values are cast to, exactly or not at all.
    """

    name: str
    arrow: pa.DataType
    cast: str = ""
    open_scale: bool = False
    then: pa.DataType | None = None

    @property
    def type(self) -> pa.DataType:
        """The type that the column has for anybody who reads it."""
        return self.arrow if self.then is None else self.then

    def value(self) -> sql.Composable:
        """Return the expression of what is read."""
        value: sql.Composable = sql.Identifier(self.name)
        return sql.SQL("{}::{}").format(value, sql.SQL(self.cast)) if self.cast else value


#: The first number that differs between servers (FirstGenbkiObjectId); those below are the
#: same in every database.
_FIRST_OWN_OID = 10_000
_known: dict[int, tuple[str, str | None]] = {}


def columns_of(
    conn: Conn, description: Sequence[Any], declared: Mapping[str, str]
) -> tuple[ReadColumn, ...]:
    """Return the columns of a result by its description (domains are resolved there).

    Args:
        declared: the types that the user declares, by column. One that the column's
            values cannot be given exactly is left to the core, which compares types.
    """
    oids = sorted({column.type_code for column in description} - _known.keys())
    rows = (
        []
        if not oids
        else conn.execute(
            # Others may give a type of their own the name of one of the server's.
            "SELECT t.oid::bigint,"
            " CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE '' END,"
            " CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace THEN e.typname::text"
            "  WHEN e.oid IS NOT NULL THEN '' END"
            " FROM pg_catalog.pg_type t"
            " LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'"
            " WHERE t.oid = ANY(%s::oid[])",
            [oids],
        ).fetchall()
    )
    kinds = {**_known, **{oid: (name, element) for oid, name, element in rows}}
    _known.update({oid: kind for oid, kind in kinds.items() if oid < _FIRST_OWN_OID})
    found = []
    for column in description:
        kind, element = kinds[column.type_code]
        wanted = declared.get(column.name, "")
        found.append(_declared(column.name, kind, wanted) or _column(column, kind, element))
    return tuple(found)


#: Arrays of the server's catalogs, which are counted from 0.
_VECTORS = ("int2vector", "oidvector")
_WHOLE = ("int2", "int4", "int8")
_DECIMAL = re.compile(r"decimal(?:\((\d+),\s*(\d+)\))?")
#: What ``decimal`` without digits means wherever a type is declared.
_PLAIN_DECIMAL = pa.decimal128(38, 9)


def _declared(name: str, kind: str, declared: str) -> ReadColumn | None:
    """Return how a column becomes what it is declared as, None for its own way."""
    if declared == "string":
        return ReadColumn(name=name, arrow=pa.string(), cast="" if kind == "text" else _TEXT)
    found = _DECIMAL.fullmatch(declared)
    if found is not None and kind in ("numeric", "money", *_WHOLE):
        digits = (int(found[1]), int(found[2])) if found[1] else None
        arrow = pa.decimal128(*digits) if digits else _PLAIN_DECIMAL
        return ReadColumn(name=name, arrow=arrow, cast="" if kind == "numeric" else _NUMERIC)
    if declared == "integer" and kind in ("numeric", "money"):
        whole = pa.decimal128(19, 0)
        return ReadColumn(name=name, arrow=whole, cast=_NUMERIC, then=pa.int64())
    return None


def _column(column: Any, kind: str, element: str | None) -> ReadColumn:
    name = column.name
    if element is not None and kind not in _VECTORS:
        if element in _SCALARS:
            return ReadColumn(name=name, arrow=pa.list_(_SCALARS[element]))
        # The text of money has the marks of the database's lc_monetary.
        through = f"{_NUMERIC}[]::" if element == "money" else ""
        return ReadColumn(name=name, arrow=pa.list_(pa.string()), cast=f"{through}{_TEXT}[]")
    if kind in _SCALARS:
        return ReadColumn(name=name, arrow=_SCALARS[kind])
    if kind == "money":
        # Its digits after the point are those of the database's lc_monetary.
        return ReadColumn(name=name, arrow=pa.string(), cast=_NUMERIC, open_scale=True)
    if kind == "numeric":
        precision, scale = column.precision, column.scale
        if precision is None or scale is None or scale > _MAX_PRECISION:
            return ReadColumn(name=name, arrow=pa.string(), open_scale=True)
        if scale < 0:
            precision, scale = precision - scale, 0
        precision = max(precision, scale, 1)
        if precision <= _MAX_PRECISION:
            return ReadColumn(name=name, arrow=pa.decimal128(precision, scale))
        return ReadColumn(name=name, arrow=pa.decimal128(_MAX_PRECISION, scale))
    # char(n) too: its trailing blanks are no part of the value.
    return ReadColumn(name=name, arrow=pa.string(), cast=_TEXT)


def settled(
    conn: Conn, columns: Sequence[ReadColumn], relation: sql.Composable
) -> tuple[ReadColumn, ...]:
    """Choose a scale for each numeric without one, so that it holds its values.

    That is the first of `SCALES` with room for the digits before the point, too; else the
    largest that leaves them room.

    Raises:
        BackendError: no decimal holds all values of a column.
    """
    loose = [column for column in columns if column.open_scale]
    if not loose:
        return tuple(columns)
    # NaN is greater than all numbers.
    asked = [
        sql.SQL("max(scale({0})), max({0})::text, min({0})::text").format(column.value())
        for column in loose
    ]
    row: Any = conn.execute(
        sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(asked), relation)
    ).fetchone()
    found = {}
    for place, column in enumerate(loose):
        scale, *extremes = row[3 * place : 3 * place + 3]
        arrow = _wide_enough(column.name, scale or 0, [text for text in extremes if text])
        found[column.name] = attrs.evolve(column, arrow=arrow, open_scale=False)
    return tuple(found.get(column.name, column) for column in columns)


def _wide_enough(name: str, scale: int, extremes: Sequence[str]) -> pa.DataType:
    numbers = [Decimal(text) for text in extremes]
    if not all(number.is_finite() for number in numbers):
        raise BackendError(
            f"column {name!r} holds NaN or an infinity, which no decimal is",
            f"{_as_text(name)}, or cast it in the query: {quote(name)}::double precision",
        )
    whole = max((number.adjusted() + 1 for number in numbers if number), default=0)
    room = _MAX_PRECISION - max(whole, 0)
    fitting = next((s for s in SCALES if scale <= s <= room), room)
    if fitting < scale:
        raise BackendError(
            f"column {name!r} is numeric with up to {max(whole, 0)} digits before the point and"
            f" {scale} after it, more than the {_MAX_PRECISION} that can be read exactly",
            f"{_as_text(name)}, or round it in the query: {quote(name)}::numeric(38, 10)",
        )
    return pa.decimal128(_MAX_PRECISION, fitting)


#: Names that YAML takes for something else than text.
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def _as_text(name: str) -> str:
    """Return the advice to declare a column as text, in YAML that can be pasted."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and name.lower() not in _YAML_WORDS
    word = name if plain else json.dumps(name, ensure_ascii=False)
    return f"declare it as text, columns: {{{word}: {{dtype: varchar}}}}"


def select(columns: Sequence[ReadColumn], relation: sql.Composable) -> sql.Composed:
    """Return the SELECT of `columns`."""
    values = [
        sql.SQL("{} AS {}").format(column.value(), sql.Identifier(column.name))
        for column in columns
    ]
    return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(values), relation)


def converter(columns: Sequence[ReadColumn], *, unicode: bool) -> Callable[[Chunk], pa.RecordBatch]:
    """Return what makes batches of rows as the server sends them into Arrow's.

    Args:
        unicode: whether the server vouches that text is UTF-8; else it is checked here.
    """
    from seeknal_postgres.types import wire
    from seeknal_postgres.types.wire_numeric import Inexact

    schema = pa.schema([pa.field(column.name, column.type) for column in columns])

    def convert(chunk: Chunk) -> pa.RecordBatch:
        arrays = []
        for column, values in zip(columns, wire.split(chunk, len(columns)), strict=True):
            try:
                array = wire.decode(values, column.arrow)
            except Inexact as error:
                way = error.hint.replace("{}", quote(column.name))
                hint = f"{_as_text(column.name)}, or {way}"
                raise BackendError(f"column {column.name!r} {error.message}", hint) from error
            arrays.append(_checked(array, column, unicode))
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    return convert


def _checked(array: pa.Array, column: ReadColumn, unicode: bool) -> pa.Array:
    try:
        if not unicode:
            array.validate(full=True)
        return array if column.then is None else array.cast(column.then)
    except pa.ArrowInvalid as error:
        raise BackendError(
            f"column {column.name!r} holds a value that {column.type} cannot hold: "
            f"{str(error).splitlines()[0]}",
            _as_text(column.name)
            if unicode
            else f"read it as bytes: convert_to({quote(column.name)}, 'SQL_ASCII')",
        ) from error
