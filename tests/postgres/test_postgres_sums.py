"""Checksums: what is staged agrees with the snapshot, whatever the types on either side."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.checksums import checksum_of
from seeknal_postgres import plugin
from support.postgres_hooks import Database
from support.postgres_promotions import promotion, target_of

UTC = dt.UTC
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
STAMP = dt.datetime(2024, 7, 1, 1, 2, 3, 4)  # noqa: DTZ001
INF, NAN = float("inf"), float("nan")

COLUMNS: dict[str, pa.Array] = {
    "bool": pa.array([True, False, None]),
    "int8": pa.array([-128, 127], pa.int8()),
    "uint8": pa.array([255], pa.uint8()),
    "int16": pa.array([-(2**15), 2**15 - 1], pa.int16()),
    "uint16": pa.array([65535], pa.uint16()),
    "int32": pa.array([-(2**31), None], pa.int32()),
    "uint32": pa.array([2**32 - 1], pa.uint32()),
    "int64": pa.array([-(2**63), 2**53 + 1], pa.int64()),
    "uint64": pa.array([2**64 - 1], pa.uint64()),
    "float32": pa.array([1.5, INF, -0.0, NAN], pa.float32()),
    "float64": pa.array([0.1, -INF, -0.0, 5e-324, NAN, None], pa.float64()),
    "decimal 38,9": pa.array([Decimal("12345678901234567890123456789.123456789"), None], pa.decimal128(38, 9)),
    "decimal 38,0": pa.array([Decimal("9" * 38), Decimal(-1)], pa.decimal128(38, 0)),
    "decimal 5,2": pa.array([Decimal("1.50")], pa.decimal128(5, 2)),
    "text": pa.array(["", None, "é😀", "a\nb\\c\t", "x" * 1_000_000]),
    "large string": pa.array(["x", None], pa.large_string()),
    "string view": pa.array(["x" * 20], pa.string_view()),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "bytes": pa.array([b"", b"\x00\xff", None]),
    "large bytes": pa.array([b"\x00"], pa.large_binary()),
    "fixed bytes": pa.array([b"ab"], pa.binary(2)),
    "date": pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
    "date64": pa.array([dt.date(2020, 1, 2)], pa.date64()),
    "time": pa.array([dt.time(0), dt.time(23, 59, 59, 999999)], pa.time64("us")),
    "time s": pa.array([dt.time(1, 2, 3)], pa.time32("s")),
    "time ns": pa.array([1_000], pa.time64("ns")),
    "stamp": pa.array([dt.datetime.min, dt.datetime.max, STAMP], pa.timestamp("us")),  # noqa: DTZ901
    "stamp s": pa.array([0, 1], pa.timestamp("s")),
    "stamp ns": pa.array([1_000], pa.timestamp("ns")),
    "stamptz": pa.array([dt.datetime(1883, 11, 18, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    "stamptz elsewhere": pa.array([dt.datetime(2024, 7, 1, tzinfo=UTC)], pa.timestamp("ms", "Europe/Berlin")),
    "uuid": pa.array([ID.bytes, None], pa.binary(16)).cast(pa.uuid()),
    "json": pa.array(['{"a":  1}', None], pa.json_()),
    "duration": pa.array([dt.timedelta(days=400, microseconds=1), dt.timedelta(seconds=-1), None]),
    "duration s": pa.array([5], pa.duration("s")),
    "ints": pa.array([[1, None], [], None], pa.list_(pa.int32())),
    "large list": pa.array([[1]], pa.large_list(pa.int64())),
    "fixed size list": pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    "texts": pa.array([["a", "", None], []]),
    "decimals": pa.array([[Decimal("1.5"), None]], pa.list_(pa.decimal128(5, 1))),
    "stampstz": pa.array([[dt.datetime(2024, 7, 1, tzinfo=UTC), None]], pa.list_(pa.timestamp("us", "UTC"))),
    "dates": pa.array([[dt.date(2024, 7, 1)]]),
    "floats": pa.array([[0.1, -0.0, NAN, None]]),
    "bools": pa.array([[True, None]]),
    "blobs": pa.array([[b"\x00\xff", None]]),
    "durations": pa.array([[dt.timedelta(days=1), None]]),
    "durations ms": pa.array([[dt.timedelta(days=1), None]], pa.list_(pa.duration("ms"))),
    "uuids": pa.array([[ID.bytes, None]], pa.list_(pa.binary(16))).cast(pa.list_(pa.uuid())),
    "jsons": pa.array([['{"a":  1}']], pa.list_(pa.string())).cast(pa.list_(pa.json_())),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_staged_and_published_sums_up_as_the_snapshot(db: Database, kind: str) -> None:
    array = COLUMNS[kind]
    table = pa.table({"n": range(len(array)), "v": array})
    one = promotion(db, {"s.t": table}).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    [(_, snapshot)] = one.wanted
    if "duration" not in kind and kind != "decimals":
        found = plugin.checksum(one.context, target_of(db, "s.t"))
        assert found == checksum_of(snapshot.reader())
    # And into a table that is there already.
    two = promotion(db, {"s.t": table}, id="p-2").stage()
    two.verify()


OTHERS: dict[str, tuple[str, str, pa.Array]] = {
    "jsonb": ("jsonb", "{}", pa.array(['{"b":  2, "a": 1}', None])),
    "jsonb from json": ("jsonb", "{}", pa.array(['{"b":  2}'], pa.json_())),
    "json": ("json", "{}", pa.array(['{"b":  2}'])),
    "enum": ("s.mood", "sad", pa.array(["happy"])),
    "enum from dictionary": ("s.mood", "sad", pa.array(["happy"]).dictionary_encode()),
    "varchar": ("varchar(5)", "x", pa.array(["12345"])),
    "char": ("char(5)", "x", pa.array(["12", "1 "])),
    "inet": ("inet", "10.0.0.1", pa.array(["10.0.0.2", "::0001"])),
    "uuid from text": ("uuid", str(ID), pa.array([str(ID).upper()])),
    "uuid from bytes": ("uuid", str(ID), pa.array([ID.bytes], pa.binary(16))),
    "uuids from text": ("uuid[]", "{}", pa.array([[str(ID).upper()]])),
    "text from uuid": ("text", "x", pa.array([ID.bytes], pa.binary(16)).cast(pa.uuid())),
    "interval from text": ("interval", "1 day", pa.array(["1 week"])),
    "domain": ("s.positive", "1", pa.array([7], pa.int32())),
    "numeric": ("numeric", "1", pa.array([Decimal("1.25")], pa.decimal128(5, 2))),
    "wider numeric": ("numeric(12,4)", "1", pa.array([Decimal("1.25")], pa.decimal128(5, 2))),
    "int in numeric": ("numeric(38,2)", "1", pa.array([2**60], pa.int64())),
    "int in double": ("float8", "1", pa.array([2**30], pa.int32())),
    "float in double": ("float8", "1", pa.array([0.1], pa.float32())),
    "decimal in int": ("integer", "1", pa.array([Decimal(7)], pa.decimal128(9, 0))),
    "date in timestamp": ("timestamp", "2020-01-01", pa.array([dt.date(1999, 1, 1)])),
    "timestamps tz": ("timestamptz[]", "{}", pa.array([[STAMP]], pa.list_(pa.timestamp("us", "UTC")))),
    "narrower int": ("bigint", "1", pa.array([1], pa.int16())),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_a_column_of_somebodys_own_type_sums_up_as_what_was_sent(db: Database, case: str) -> None:
    kind, old, array = OTHERS[case]
    db.execute(
        "CREATE SCHEMA s",
        "CREATE TYPE s.mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN s.positive AS int CHECK (VALUE > 0)",
        f"CREATE TABLE s.t (id bigint PRIMARY KEY, v {kind})",
        f"INSERT INTO s.t VALUES (0, '{old}'), (5, '{old}')",
    )
    table = pa.table({"id": range(len(array)), "v": array})
    one = promotion(db, {"s.t": table}, context=db.context(adopt=True)).stage()
    one.verify()
    plugin.publish(one.context, one.batch())
    columns = db.rows(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 's.t'::regclass AND attnum > 0"
    )
    assert columns == [("id",), ("v",)]
    assert db.value("SELECT count(*) FROM s.t") == len(array)


def test_a_thousand_columns_and_rows_in_any_order(db: Database) -> None:
    table = pa.table({f"c{n}": [n, None, n + 1] for n in range(1000)})
    one = promotion(db, {"s.t": table}).stage()
    one.verify()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {} SET v = 'B' WHERE id = 2",
        "UPDATE {} SET v = NULL WHERE id = 2",
        "UPDATE {} SET v = '' WHERE v IS NULL",
        "DELETE FROM {} WHERE id = 1",
        "INSERT INTO {} SELECT * FROM {} LIMIT 1",
    ],
)
def test_staged_rows_that_were_damaged_do_not_sum_up(db: Database, damage: str) -> None:
    table = pa.table({"id": [1, 2, 3], "v": ["a", "b", None]})
    one = promotion(db, {"s.t": table}).stage()
    stage = db.value(
        "SELECT '_seeknal_prod.' || relname FROM pg_class WHERE relname LIKE 'stage\\_%'"
    )
    db.execute(damage.replace("{}", stage))
    [(target, snapshot)] = one.wanted
    assert plugin.checksum(one.context, target) != checksum_of(snapshot.reader())


def test_each_column_has_a_sum_of_its_own(db: Database) -> None:
    table = pa.table({"id": [1, 2], "v": ["a", "b"]})
    one = promotion(db, {"s.t": table}).stage()
    [target] = one.targets
    found: Any = plugin.checksum(one.context, target)
    assert found.rows == 2
    assert set(found.columns) == {"id", "v"}
