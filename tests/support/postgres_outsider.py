"""A PostgreSQL database as somebody sees it who knows psycopg alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from seeknal_core.testing import Outsider

_NUMBERS = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "bytea": pa.binary(),
}
#: What psycopg cannot read past its own limits is counted by the server: from 1970, in units.
_COUNTED = {
    "date": ("({} - DATE '1970-01-01')::int8", pa.int32(), pa.date32()),
    "time": ("(extract(epoch FROM {}) * 1000000)::int8", pa.int64(), pa.time64("us")),
    "timestamp": ("(extract(epoch FROM {}) * 1000000)::int8", pa.int64(), pa.timestamp("us")),
    "timestamptz": (
        "(extract(epoch FROM {}) * 1000000)::int8",
        pa.int64(),
        pa.timestamp("us", "UTC"),
    ),
    "interval": ("(extract(epoch FROM {}) * 1000000)::int8", pa.int64(), pa.duration("us")),
    "uuid": ("uuid_send({})", pa.binary(), pa.binary()),
    "json": ("{}::text", pa.string(), pa.string()),
}


class PostgresOutsider(Outsider):
    """Logs in as the superuser, anew for every look."""

    def __init__(self, dsn: Mapping[str, object]) -> None:
        self._dsn = dict(dsn)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(autocommit=True, **self._dsn)  # type: ignore[arg-type]

    def read(self, parts: tuple[str, ...]) -> pa.Table | None:
        with self._connect() as connection:
            columns = connection.execute(
                "SELECT attname, typname FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attnum",
                [_identifier(parts).as_string(connection)],
            ).fetchall()
            if not columns:
                return None
            wanted = sql.SQL(", ").join(
                sql.SQL(_COUNTED.get(type, ("{}",))[0]).format(sql.Identifier(name))
                for name, type in columns
            )
            query = sql.SQL("SELECT {} FROM {}").format(wanted, _identifier(parts))
            rows = connection.execute(query).fetchall()
        arrays = [
            _array([row[place] for row in rows], type) for place, (_, type) in enumerate(columns)
        ]
        return pa.Table.from_arrays(arrays, names=[name for name, _ in columns])

    def objects(self) -> frozenset[str]:
        with self._connect() as connection:
            rows = connection.execute(
                "SELECT 'namespace ' || nspname FROM pg_namespace"
                " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
                " UNION ALL SELECT relkind::text || ' ' || nspname || '.' || relname"
                " FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind IN ('r', 'v', 'm', 'S', 'i') AND nspname !~ '^pg_(catalog|toast)'"
                " AND nspname <> 'information_schema'"
            ).fetchall()
        return frozenset(text for (text,) in rows)

    def write(self, parts: tuple[str, ...], rows: pa.Table) -> None:
        with self._connect() as connection, connection.transaction():
            columns = sql.SQL(", ").join(
                sql.SQL("{} {}").format(
                    sql.Identifier(field.name),
                    sql.SQL("bigint" if pa.types.is_integer(field.type) else "text"),
                )
                for field in rows.schema
            )
            if self.read(parts) is None:
                schema = sql.Identifier(parts[0])
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
                connection.execute(
                    sql.SQL("CREATE TABLE {} ({})").format(_identifier(parts), columns)
                )
            for row in rows.to_pylist():
                connection.execute(
                    sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                        _identifier(parts),
                        sql.SQL(", ").join(map(sql.Identifier, row)),
                        sql.SQL(", ").join(map(sql.Literal, row.values())),
                    )
                )


def _identifier(parts: tuple[str, ...]) -> sql.Identifier:
    return sql.Identifier(*parts)


def _array(values: list[Any], type: str) -> pa.Array:
    if type in _COUNTED:
        _, stored, meant = _COUNTED[type]
        array = pa.array(values, stored)
        return array if stored == meant else array.cast(meant)
    if type in _NUMBERS:
        return pa.array(values, _NUMBERS[type])
    if type.startswith("_") and type[1:] in _NUMBERS:
        return pa.array(values, pa.list_(_NUMBERS[type[1:]]))
    if type == "numeric":
        return pa.array(values, pa.decimal256(76, 38)) if values else pa.array([], pa.int64())
    return pa.array(values)
