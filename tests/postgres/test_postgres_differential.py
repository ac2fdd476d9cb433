"""Random tables, written by us and read by psycopg; random server types, read by both.

``SEEKNAL_RANDOM_TABLES`` says how many tables of each sort are drawn (default 180), and
``SEEKNAL_RANDOM_SEED`` where the seeds begin.
"""

from __future__ import annotations

import datetime as dt
import os
import struct
import uuid
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.types.json import set_json_loads

from seeknal_core.types import Mode
from support.postgres_hooks import Database
from support.postgres_promotions import target_of
from support.random_tables import KINDS, plain, random_table

TABLES = int(os.environ.get("SEEKNAL_RANDOM_TABLES", "180"))
SEED = int(os.environ.get("SEEKNAL_RANDOM_SEED", "1"))
_CHUNK = 30

#: Whole microseconds are what the server has.
WRITTEN = tuple(kind for kind in KINDS if kind != "timestamp_ns_fine")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def psycopg_reader(db: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(**db.dsn, autocommit=True) as conn:  # type: ignore[arg-type]
        # Tables of one name follow each other: no statement is kept for them.
        conn.prepare_threshold = None
        conn.execute("SET timezone = 'UTC'")
        set_json_loads(lambda text: text.decode() if isinstance(text, bytes) else text, conn)
        yield conn


def normal(value: Any, arrow: pa.DataType) -> Any:
    """Return a value of psycopg's as `plain` gives Arrow's of a type."""
    if value is None:
        return None
    if isinstance(arrow, pa.BaseExtensionType):
        return value.bytes if isinstance(value, uuid.UUID) else value
    if pa.types.is_nested(arrow):
        return [normal(each, arrow.value_type) for each in value]
    if isinstance(value, bool | str):
        return value
    if pa.types.is_floating(arrow):
        # float4's shortest text is another double than the float's own value.
        return repr(
            struct.unpack("f", struct.pack("f", value))[0] if arrow.bit_width == 32 else value
        )
    if isinstance(value, int | Decimal):
        text = f"{Decimal(value):f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text
    if isinstance(value, dt.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return (moment - _EPOCH) // dt.timedelta(microseconds=1) * 1000
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).days
    if isinstance(value, dt.time):
        day = dt.timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second,
            microseconds=value.microsecond,
        )  # fmt: skip
        return day // dt.timedelta(microseconds=1) * 1000
    return value


def as_written(read: pa.ChunkedArray, arrow: pa.DataType) -> list[Any]:
    """Return what our reader gave of a column; arrays of numeric come as texts."""
    if not pa.types.is_nested(arrow) or not pa.types.is_decimal(arrow.value_type):
        return plain(read)
    return [
        None if row is None else [normal(each and Decimal(each), pa.string()) for each in row]
        for row in read.to_pylist()
    ]


def keyed(table: pa.Table, key: str) -> pa.Table:
    column = pa.array(range(table.num_rows), pa.int32())
    return table.append_column(key, column)


def rows_by_key(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(plain(column) for column in table.columns), strict=True))


def expected(mode: Mode, first: pa.Table, second: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows after both were written, with the key last."""
    one, two = rows_by_key(first), rows_by_key(second)
    if mode is Mode.FULL:
        return two
    if mode is Mode.APPEND:
        return one + two
    return list({**{row[-1]: row for row in one}, **{row[-1]: row for row in two}}.values())


@pytest.mark.parametrize("start", range(0, TABLES, _CHUNK))
def test_psycopg_reads_what_was_written(
    db: Database, psycopg_reader: psycopg.Connection[tuple[Any, ...]], start: int
) -> None:
    for seed in range(SEED + start, SEED + min(start + _CHUNK, TABLES)):
        random = Random(seed)
        drawn = random_table(
            seed, kinds=WRITTEN, nested=("list", "array"), depth=1, max_columns=6, max_rows=25
        )
        rows = drawn.table
        order = list(range(rows.num_rows))
        random.shuffle(order)
        both = (keyed(rows, "k"), keyed(rows.take(pa.array(order, pa.int64())), "k"))
        third = rows.num_rows // 3
        first, second = both[0].slice(0, rows.num_rows - third), both[1].slice(third)
        mode = random.choice((Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY))
        keys = ("k",) if mode is Mode.UPSERT_BY_KEY or random.random() < 0.5 else ()
        target = target_of(db, f"s.t{seed}", mode=mode, unique_keys=keys)
        context = f"{mode.value} by {keys}, {drawn.describe()}"
        db.write(target, first, content_key=f"{seed}-1")
        db.write(target, second, content_key=f"{seed}-2")
        names = [sql.Identifier(name) for name in second.column_names]
        found = psycopg_reader.execute(
            sql.SQL("SELECT {} FROM {}").format(
                sql.SQL(", ").join(names), sql.Identifier("s", f"t{seed}")
            )
        ).fetchall()
        types = second.schema.types
        got = [tuple(map(normal, row, types)) for row in found]
        wanted = expected(mode, first, second)
        assert sorted(got, key=repr) == sorted(wanted, key=repr), context
        # And by our own reader.
        read = db.read(parts=("s", f"t{seed}"), columns=tuple(second.column_names))
        ours = list(zip(*map(as_written, read.columns, types), strict=True))
        assert sorted(ours, key=repr) == sorted(wanted, key=repr), context
        db.execute(f"DROP TABLE s.t{seed}")


#: Server types and SQL that draws a value of each from a number ``r`` (0 to 1) and ``i``.
SERVER: dict[str, str] = {
    "smallint": "(r * 65535 - 32768)::smallint",
    "integer": "(r * 4294967295 - 2147483648)::bigint::integer",
    "bigint": "(9223372036854775807 * (r - 0.5))::bigint",
    "real": "(tan(r * 3) * 10 ^ (i % 30))::real",
    "double precision": "tan(r * 3) * 10 ^ (i % 60)",
    "numeric(9,3)": "(r * 1e6 - 5e5)::numeric(9,3)",
    "numeric(38,10)": "((r - 0.5)::numeric * 1e27 + r::numeric / 3)::numeric(38,10)",
    "numeric(3,-2)": "(r * 9e4)::numeric(3,-2)",
    "numeric(2,5)": "(r / 2000)::numeric(2,5)",
    "numeric": "(r::numeric * 10 ^ (i % 12)) / 7",
    "money": "(r * 1e6 - 3)::numeric::money",
    "boolean": "r < 0.5",
    "text": "repeat(chr(32 + i % 90) || 'é🦆', i % 5)",
    "varchar(9)": "left(md5(i::text), i % 9)",
    "char(7)": "rpad(left(md5(i::text), i % 7), 7)",
    "bytea": "decode(left(md5(i::text), 2 * (i % 16)), 'hex')",
    "date": "date '0001-01-01' + (r * 3652058)::int",
    "time": "time '00:00' + r * interval '24 h'",
    "timestamp": "timestamp '0001-01-01' + r * interval '9998 years'",
    "timestamptz": "timestamptz '1000-01-01 00:00:00+00' + r * interval '8999 years'",
    "uuid": "md5(i::text)::uuid",
    "interval": "r * interval '1000 days' - interval '1 mon' * (i % 5)",
    "timetz": "(time '00:00' + r * interval '24 h')::time AT TIME ZONE interval '2 h'",
    "int4range": "int4range(i, i + 5)",
    "tstzrange": "tstzrange(timestamptz '2024-01-01 00:00:00+00', NULL)",
    "bit(3)": "(i % 8)::bit(3)",
    "varbit": "(i % 8)::bit(3)::varbit",
    "inet": "inet '10.0.0.0' + i",
    "jsonb": "jsonb_build_object('a', i, 'b', r)",
    "json": "json_build_object('a', i)",
    "point": "point(r, i)",
    "int4[]": "ARRAY[i, NULL, -i]",
    "text[]": "ARRAY['a', NULL, md5(i::text)]",
    "numeric[]": "ARRAY[r::numeric, NULL, 'NaN']",
    "timestamp[]": "ARRAY[timestamp '2024-01-01' + r * interval '1 year']",
    "big array": "(SELECT array_agg(x * i) FROM generate_series(1, 150) x)",
}
#: Read as text where Arrow has no type, money as a number, char(n) without its blanks.
AS_TEXT = ("interval", "timetz", "int4range", "tstzrange", "bit(3)", "varbit", "inet", "jsonb",
           "json", "point", "char(7)")  # fmt: skip


@pytest.mark.parametrize("start", range(0, TABLES, _CHUNK))
def test_server_types_are_read_as_psycopg_reads_them(
    db: Database, psycopg_reader: psycopg.Connection[tuple[Any, ...]], start: int
) -> None:
    for seed in range(SEED + start, SEED + min(start + _CHUNK, TABLES)):
        random = Random(seed)
        kinds = random.sample(sorted(SERVER), random.randint(1, 8))
        columns = [
            f"CASE WHEN {random.choice((0.0, 0.3, 1.0))} > q THEN NULL ELSE {SERVER[kind]} END AS c{n}"
            for n, kind in enumerate(kinds)
        ]
        count = random.choice((0, 1, 40))
        db.execute(
            f"SELECT setseed({random.random()})",
            f"CREATE TABLE public.t AS SELECT i, {', '.join(columns)}"
            f" FROM (SELECT i::int, random() AS r, random() AS q FROM generate_series(1, {count}) i"
            " OFFSET 0) AS drawn",
        )
        asked = [
            f"c{n}::text" if kind in AS_TEXT
            else f"c{n}::numeric" if kind == "money"
            else f"c{n}::text[]" if kind == "numeric[]" else f"c{n}"
            for n, kind in enumerate(kinds)
        ]  # fmt: skip
        theirs = psycopg_reader.execute(
            f"SELECT {', '.join(asked)} FROM public.t ORDER BY i".encode()
        ).fetchall()
        ours = db.read(query="SELECT * FROM public.t ORDER BY i").drop_columns("i")
        got = list(zip(*map(plain, ours.columns), strict=True)) if count else []
        wanted = [tuple(map(normal, row, ours.schema.types)) for row in theirs]
        assert got == wanted, f"seed {seed}: {kinds}"
        db.execute("DROP TABLE public.t")
