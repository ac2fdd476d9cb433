"""Maps Arrow's types to PostgreSQL's, for the columns of a snapshot.

A type without an exact counterpart is refused by column, never approximated.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pyarrow as pa

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_postgres.names import LIMIT
from seeknal_postgres.types.pgtypes import PgType

#: Columns that one table may have
#: (https://www.postgresql.org/docs/current/limits.html).
MAX_COLUMNS = 1600
_SYSTEM = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})

_STAMP = PgType("timestamp without time zone")
_STAMPTZ = PgType("timestamp with time zone")


@attrs.frozen(kw_only=True)
class Column:
    """A snapshot's column on its way to the server.

    Args:
        name: the column's name, used literally.
        arrow: the type it has in the snapshot.
        encoded: the Arrow type it is cast to before it is encoded.
        type: the type it gets in a table of ours.
        sent: the type of the encoded bytes; differs from ``type`` where the
            encoder has no word for it.
    """

    name: str
    arrow: pa.DataType
    encoded: pa.DataType
    type: PgType
    sent: PgType


@attrs.frozen
class _Mapped:
    encoded: pa.DataType
    type: PgType
    sent: PgType


def _plain(base: str, encoded: pa.DataType | None = None) -> Callable[[pa.DataType], _Mapped]:
    kind = PgType(base)
    return lambda arrow: _Mapped(encoded if encoded is not None else arrow, kind, kind)


def _decimal(arrow: pa.DataType) -> _Mapped | None:
    if arrow.bit_width > 128 or arrow.scale < 0:
        return None
    return _Mapped(arrow, PgType("numeric", (arrow.precision, arrow.scale)), PgType("numeric"))


def _timestamp(arrow: pa.DataType) -> _Mapped:
    # Both kinds count microseconds from 2000-01-01 (UTC) and have one binary form.
    unit = "us" if arrow.unit == "ns" else arrow.unit
    kind = _STAMPTZ if arrow.tz is not None else _STAMP
    return _Mapped(pa.timestamp(unit), kind, _STAMP)


def _extension(arrow: pa.BaseExtensionType) -> _Mapped | None:
    if arrow.extension_name == "arrow.uuid":
        # uuid's binary form is its 16 bytes, as bytea's is.
        return _Mapped(pa.binary(16), PgType("uuid"), PgType("bytea"))
    if arrow.extension_name == "arrow.json":
        return _Mapped(pa.string(), PgType("json"), PgType("text"))
    return None


def _list(arrow: pa.DataType) -> _Mapped | None:
    element = arrow.value_type
    if _is_list(element):
        return None
    inner = _map(element)
    if inner is None:
        return None
    array = attrs.evolve(inner.type, array=True)
    sent = attrs.evolve(inner.sent, array=True)
    large = pa.types.is_large_list(arrow) or pa.types.is_large_list_view(arrow)
    encoded = (pa.large_list if large else pa.list_)(inner.encoded)
    return _Mapped(encoded, array, sent)


def _is_list(arrow: pa.DataType) -> bool:
    is_ = pa.types
    tests = (
        is_.is_list,
        is_.is_large_list,
        is_.is_fixed_size_list,
        is_.is_list_view,
        is_.is_large_list_view,
    )
    return any(test(arrow) for test in tests)


_BY_ID: dict[pa.DataType, Callable[[pa.DataType], _Mapped]] = {
    pa.bool_(): _plain("boolean"),
    pa.int8(): _plain("smallint"),
    pa.uint8(): _plain("smallint"),
    pa.int16(): _plain("smallint"),
    pa.uint16(): _plain("integer"),
    pa.int32(): _plain("integer"),
    pa.uint32(): _plain("bigint"),
    pa.int64(): _plain("bigint"),
    pa.float16(): _plain("real"),
    pa.float32(): _plain("real"),
    pa.float64(): _plain("double precision"),
    pa.string(): _plain("text"),
    pa.large_string(): _plain("text"),
    pa.string_view(): _plain("text"),
    pa.binary(): _plain("bytea"),
    pa.large_binary(): _plain("bytea"),
    pa.binary_view(): _plain("bytea", pa.large_binary()),
    pa.date32(): _plain("date"),
    pa.date64(): _plain("date", pa.date32()),
    pa.time32("s"): _plain("time without time zone"),
    pa.time32("ms"): _plain("time without time zone"),
    pa.time64("us"): _plain("time without time zone"),
    pa.time64("ns"): _plain("time without time zone", pa.time64("us")),
    pa.duration("s"): _plain("interval"),
    pa.duration("ms"): _plain("interval"),
    pa.duration("us"): _plain("interval"),
    pa.duration("ns"): _plain("interval", pa.duration("us")),
}


def _map(arrow: pa.DataType) -> _Mapped | None:
    if isinstance(arrow, pa.BaseExtensionType):
        return _extension(arrow)
    if arrow in _BY_ID:
        return _BY_ID[arrow](arrow)
    if pa.types.is_dictionary(arrow):
        return _map(arrow.value_type)
    if arrow == pa.uint64():
        return _Mapped(arrow, PgType("numeric", (20, 0)), PgType("numeric"))
    if pa.types.is_decimal(arrow):
        return _decimal(arrow)
    if pa.types.is_timestamp(arrow):
        return _timestamp(arrow)
    if pa.types.is_fixed_size_binary(arrow):
        return _Mapped(arrow, PgType("bytea"), PgType("bytea"))
    return _list(arrow) if _is_list(arrow) else None


def _advice(arrow: pa.DataType, name: str) -> str:
    if pa.types.is_null(arrow):
        return f"give the column a type: CAST({name} AS VARCHAR)"
    if pa.types.is_struct(arrow) or pa.types.is_map(arrow) or _is_list(arrow):
        return f"write it as JSON text: to_json({name})"
    return f"cast it to a type that PostgreSQL has: CAST({name} AS VARCHAR)"


def columns_of(schema: pa.Schema, target: str) -> tuple[Column, ...]:
    """Return the columns of a snapshot as PostgreSQL takes them.

    Raises:
        WriteRefused: names every column that cannot be stored, before anything is written.
    """
    if not schema.names:
        raise refusals.no_columns(target)
    if len(schema.names) > MAX_COLUMNS:
        raise WriteRefused(
            f"{target}: {len(schema.names)} columns; a PostgreSQL table has at most {MAX_COLUMNS}",
            "select fewer columns, or put some into one JSON column",
            target=target,
        )
    problems: list[str] = []
    hints: list[str] = []
    found: list[Column] = []
    seen: set[str] = set()
    for field in schema:
        wrong = _bad_name(field.name, seen)
        seen.add(field.name)
        mapped = _map(field.type)
        if wrong is not None:
            problems.append(wrong)
            hints.append("give the column another name: SELECT … AS name")
        elif mapped is None:
            problems.append(
                f"column {field.name!r} has type {field.type}, which has no counterpart"
            )
            hints.append(_advice(field.type, field.name))
        else:
            found.append(
                Column(
                    name=field.name,
                    arrow=field.type,
                    encoded=mapped.encoded,
                    type=mapped.type,
                    sent=mapped.sent,
                )
            )
    if problems:
        raise WriteRefused(f"{target}: {'; '.join(problems)}", hints[0], target=target)
    return tuple(found)


def _bad_name(name: str, seen: set[str]) -> str | None:
    if not name or "\0" in name:
        return f"column {name!r} has an empty name, or a NUL in it"
    if len(name.encode()) > LIMIT:
        return f"column {name!r} has a name of more than {LIMIT} bytes"
    if name in _SYSTEM:
        return f"column {name!r} has the name of a system column"
    return f"column {name!r} is duplicated" if name in seen else None
