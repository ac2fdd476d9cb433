"""Types: what has a counterpart comes back equal, what hasn't is refused by name."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from support.postgres_hooks import Database

UTC = dt.UTC
# Timestamps without time zone.
FIRST = dt.datetime.min  # noqa: DTZ901
LAST = dt.datetime.max  # noqa: DTZ901
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

SAME: dict[str, tuple[pa.DataType, list[Any], str]] = {
    "bool": (pa.bool_(), [True, False], "boolean"),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1], "smallint"),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1], "integer"),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, 2**53 + 1], "bigint"),
    "float32": (pa.float32(), [1.5, float("inf"), -0.0], "real"),
    "float64": (pa.float64(), [0.1, float("-inf"), -0.0, 5e-324], "double precision"),
    "decimal": (
        pa.decimal128(38, 9),
        [Decimal("12345678901234567890123456789.123456789"), Decimal("-0.000000001"), Decimal(0)],
        "numeric(38,9)",
    ),
    "decimal38": (pa.decimal128(38, 0), [Decimal("9" * 38), Decimal("-10000")], "numeric(38,0)"),
    "text": (pa.string(), ["", "é😀", "a\nb\\c\t", "x" * 1_000_000], "text"),
    "bytes": (pa.binary(), [b"", b"\x00\xff"], "bytea"),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1899, 1, 1)], "date"),
    "time": (pa.time64("us"), [dt.time(0), dt.time(23, 59, 59, 999999)], "time without time zone"),
    "stamp": (
        pa.timestamp("us"),
        [FIRST, LAST],
        "timestamp without time zone",
    ),
    "stamptz": (
        pa.timestamp("us", "UTC"),
        [dt.datetime(1883, 11, 18, tzinfo=UTC), dt.datetime(2024, 7, 1, 1, 2, 3, 4, tzinfo=UTC)],
        "timestamp with time zone",
    ),
    "uuid": (pa.uuid(), [ID], "uuid"),
    "ints": (pa.list_(pa.int32()), [[1, None], []], "integer[]"),
    "texts": (pa.list_(pa.string()), [["a", "", None], []], "text[]"),
    "stampstz": (
        pa.list_(pa.timestamp("us", "UTC")),
        [[dt.datetime(2024, 7, 1, tzinfo=UTC), None], []],
        "timestamp with time zone[]",
    ),
    "uuids": (pa.list_(pa.uuid()), [[ID, None], []], "uuid[]"),
    "dates": (pa.list_(pa.date32()), [[dt.date(2024, 7, 1)]], "date[]"),
}


def _array(values: list[Any], arrow: pa.DataType) -> pa.Array:
    if arrow != pa.list_(pa.uuid()):
        return pa.array(values, arrow)
    raw = [None if v is None else [None if e is None else e.bytes for e in v] for v in values]
    return pa.array(raw, pa.list_(pa.binary(16))).cast(arrow)


@pytest.mark.parametrize("kind", SAME)
def test_a_type_with_a_counterpart_comes_back_equal(db: Database, kind: str) -> None:
    arrow, values, declared = SAME[kind]
    count = len(values)
    rows = pa.table({"n": [*range(count), -1], "v": _array([*values, None], arrow)})
    target = db.target("s.t")
    db.write(target, rows)
    back = db.read(query="SELECT * FROM s.t ORDER BY n = -1, n")
    assert back["v"].type == arrow
    assert repr(back["v"].to_pylist()) == repr(rows["v"].to_pylist())  # repr tells -0.0 from 0.0
    assert (
        db.value("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'v'")
        == declared
    )
    # The second write goes another way, by DELETE.
    db.write(target, rows.slice(0, 1))
    assert repr(db.read(parts=("s", "t"))["v"].to_pylist()) == repr(rows["v"].to_pylist()[:1])


def test_nan_is_stored_as_nan(db: Database) -> None:
    db.write(db.target("s.t"), pa.table({"f": [math.nan], "g": pa.array([math.nan], pa.float32())}))
    assert db.rows("SELECT f = 'NaN', g = 'NaN' FROM s.t") == [(True, True)]


OTHERS: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "int8": (pa.array([-128, 127], pa.int8()), "smallint", [-128, 127]),
    "uint8": (pa.array([255], pa.uint8()), "smallint", [255]),
    "uint16": (pa.array([65535], pa.uint16()), "integer", [65535]),
    "uint32": (pa.array([2**32 - 1], pa.uint32()), "bigint", [2**32 - 1]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), "numeric(20,0)", [Decimal(2**64 - 1)]),
    "float16": (pa.array([1.5], pa.float16()), "real", [1.5]),
    "large string": (pa.array(["x"], pa.large_string()), "text", ["x"]),
    "string view": (pa.array(["x" * 20], pa.string_view()), "text", ["x" * 20]),
    "binary view": (pa.array([b"x" * 20], pa.binary_view()), "bytea", [b"x" * 20]),
    "fixed size binary": (pa.array([b"ab"], pa.binary(2)), "bytea", [b"ab"]),
    "dictionary": (pa.array(["a", "b", "a"]).dictionary_encode(), "text", ["a", "b", "a"]),
    "date64": (pa.array([dt.date(2020, 1, 2)], pa.date64()), "date", [dt.date(2020, 1, 2)]),
    "time32": (
        pa.array([dt.time(1, 2, 3)], pa.time32("s")),
        "time without time zone",
        [dt.time(1, 2, 3)],
    ),
    "nanoseconds": (
        pa.array([1_000], pa.timestamp("ns")),
        "timestamp without time zone",
        [EPOCH + dt.timedelta(microseconds=1)],
    ),
    "another zone": (
        pa.array([dt.datetime(2024, 7, 1, tzinfo=UTC)], pa.timestamp("ms", "Europe/Berlin")),
        "timestamp with time zone",
        [dt.datetime(2024, 7, 1, tzinfo=UTC)],
    ),
    "duration": (
        pa.array([dt.timedelta(days=400, microseconds=1), dt.timedelta(seconds=-1)]),
        "interval",
        [dt.timedelta(days=400, microseconds=1), dt.timedelta(seconds=-1)],
    ),
    "large list": (pa.array([[1]], pa.large_list(pa.int64())), "bigint[]", [[1]]),
    "fixed size list": (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "bigint[]", [[1, 2]]),
    "list of decimals": (
        pa.array([[Decimal("1.5")]], pa.list_(pa.decimal128(5, 1))),
        "numeric(5,1)[]",
        [[Decimal("1.5")]],
    ),
    "json": (pa.array(['{"a":  1}'], pa.json_()), "json", [{"a": 1}]),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_type_with_a_wider_or_renamed_counterpart_keeps_its_values(
    db: Database, kind: str
) -> None:
    array, declared, values = OTHERS[kind]
    db.write(db.target("s.t"), pa.table({"v": array}))
    assert [row[0] for row in db.rows("SELECT v FROM s.t")] == values
    assert (
        db.value("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attname = 'v'")
        == declared
    )


REFUSED: dict[str, pa.Array] = {
    "decimal256": pa.array([Decimal(1)], pa.decimal256(50, 0)),
    "null": pa.nulls(1),
    "struct": pa.array([{"a": 1}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "nested list": pa.array([[[1]]]),
    "list of structs": pa.array([[{"a": 1}]]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_without_a_counterpart_is_refused_by_column_before_anything_is_written(
    db: Database, kind: str
) -> None:
    with pytest.raises(WriteRefused, match="column 'odd'") as refused:
        db.write(db.target("s.t"), pa.table({"id": [1], "odd": REFUSED[kind]}))
    assert refused.value.hint
    assert (
        db.value("SELECT count(*) FROM pg_namespace WHERE nspname IN ('s', '_seeknal_prod')") == 0
    )


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (pa.array(["ok", "a\0b"]), "NUL character"),
        (pa.array([["ok"], ["a\0b"]]), "NUL character"),
        (pa.array([0, 1], pa.timestamp("ns")), "cannot hold exactly"),
        (pa.array([0, 2**63 - 1], pa.timestamp("us")), "infinity"),
        (pa.array([0, -(2**63) + 946684800000000], pa.timestamp("us")), "infinity"),
        (pa.array([0, 2**31 - 1], pa.date32()), "infinity"),
    ],
)
def test_a_value_the_server_cannot_hold_is_refused_by_column_and_changes_nothing(
    db: Database, array: pa.Array, words: str
) -> None:
    target = db.target("s.t")
    bad = pa.table({"id": [1, 2], "odd": array})
    with pytest.raises(WriteRefused, match=f"column 'odd' .*{words}"):
        db.write(target, bad)
    assert db.value("SELECT to_regclass('s.t') IS NULL")
    db.write(target, bad.slice(0, 1))
    with pytest.raises(WriteRefused, match="column 'odd'"):
        db.write(target, bad)
    assert db.value("SELECT count(*) FROM s.t") == 1


def test_more_columns_than_a_table_may_have_are_refused(db: Database) -> None:
    with pytest.raises(WriteRefused, match="1601 columns"):
        db.write(db.target("s.t"), pa.table({f"c{n}": [n] for n in range(1601)}))


def test_a_thousand_columns_are_written(db: Database) -> None:
    db.write(db.target("s.t"), pa.table({f"c{n}": [n] for n in range(1000)}))
    assert db.value("SELECT c999 FROM s.t") == 999


def test_no_columns_are_refused(db: Database) -> None:
    with pytest.raises(WriteRefused, match="no columns"):
        db.write(db.target("s.t"), pa.table({}))


@pytest.mark.parametrize("name", ["ctid", "", "x" * 64, "é" * 32])
def test_a_column_name_the_server_would_not_keep_is_refused(db: Database, name: str) -> None:
    with pytest.raises(WriteRefused, match="column"):
        db.write(db.target("s.t"), pa.table({name: [1]}))


def test_any_other_name_is_used_as_it_is(db: Database) -> None:
    odd = 'a "b" %s {c}; DROP TABLE x --é'
    target = db.target('"Odd.schema""é"."Tab le"')
    for _ in range(2):
        db.write(target, pa.table({odd: [1], "SELECT": [2], "x" * 63: [3]}))
    assert db.rows('SELECT * FROM "Odd.schema""é"."Tab le"') == [(1, 2, 3)]
    back = db.read(parts=('Odd.schema"é', "Tab le"), columns=(odd,))
    assert back.to_pydict() == {odd: [1]}
