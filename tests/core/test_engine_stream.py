from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import BackendError, EngineError, Interrupted
from support.engines import Lab, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(tmp_path) as opened:
        yield opened


def store(
    lab: Lab,
    reader: pa.RecordBatchReader,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> None:
    with lab.store.staging() as staging:
        lab.engine.store_stream("source.s", reader, staging, max_rows=max_rows, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("given", "stored", "in_sql"),
    [
        (pa.array(["x"]).dictionary_encode(), pa.string(), "VARCHAR"),
        (pa.array(["x"], pa.large_string()), pa.string(), "VARCHAR"),
        (pa.array(["x"], pa.string_view()), pa.string(), "VARCHAR"),
        (pa.array([b"\0x"], pa.large_binary()), pa.binary(), "BLOB"),
        (pa.array([b"ab"], pa.binary(2)), pa.binary(2), "BLOB"),
        (pa.array([2**63 + 5], pa.uint64()), pa.uint64(), "UBIGINT"),
        (pa.array([Decimal("1.5")], pa.decimal256(38, 2)), pa.decimal128(38, 2), "DECIMAL(38,2)"),
        (pa.array([1.5], pa.float16()), pa.float32(), "FLOAT"),
        (pa.nulls(1), pa.int32(), "INTEGER"),
        (pa.array([0], pa.timestamp("s")), pa.timestamp("us"), "TIMESTAMP"),
        (pa.array([1], pa.timestamp("ns")), pa.timestamp("ns"), "TIMESTAMP_NS"),
        (
            pa.array([0], pa.timestamp("us", "Europe/Berlin")),
            pa.timestamp("us", "UTC"),
            "TIMESTAMP WITH TIME ZONE",
        ),
        (pa.array([1], pa.time32("s")), pa.time64("us"), "TIME"),
        (pa.array([86_400_000], pa.date64()), pa.date32(), "DATE"),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), pa.list_(pa.int64()), "BIGINT[]"),
        (pa.array([uuid.UUID(int=7).bytes], pa.uuid()), pa.uuid(), "UUID"),
        (pa.array([{"a": 1}]), pa.struct([("a", pa.int64())]), "STRUCT(a BIGINT)"),
    ],
)
def test_arrow_types_become_what_sql_and_backends_read_exactly(
    lab: Lab, given: pa.Array, stored: pa.DataType, in_sql: str
) -> None:
    made = lab.stream(pa.table({"a": given}))
    kind = made.schema.field("a").type
    assert kind == stored or str(kind).replace("element", "item") == str(stored)
    assert made.row_count == 1
    before = given.storage if isinstance(given, pa.ExtensionArray) else given
    after = made.reader().read_all()["a"].combine_chunks()
    after = after.storage if isinstance(after, pa.ExtensionArray) else after
    assert after.cast(before.type if before.type != pa.null() else pa.int32()).to_pylist() == (
        before.to_pylist()
    )
    typed = lab.sql('SELECT typeof(a) AS t, a IS NULL AS n FROM "source.s"', source_s=made)
    assert rows(typed) == [{"t": in_sql, "n": given.null_count == 1}]


@pytest.mark.parametrize(
    "given",
    [
        pa.array([Decimal(1)], pa.decimal256(60, 2)),
        pa.array([5], pa.duration("s")),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([[5]], pa.list_(pa.duration("s"))),
        pa.array([{}], pa.struct([])),
    ],
)
def test_an_arrow_type_without_counterpart_is_refused_by_its_column(
    lab: Lab, given: pa.Array
) -> None:
    with pytest.raises(EngineError, match="'odd'"):
        lab.stream(pa.table({"fine": [1], "odd": given}))


def test_a_stream_without_columns_or_with_two_of_a_name_is_refused(lab: Lab) -> None:
    with pytest.raises(EngineError, match="no column"):
        lab.stream(pa.table({}))
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(EngineError, match="more than one column named 'a'"):
        lab.stream(twice)


def test_zero_rows_keep_their_schema(lab: Lab) -> None:
    made = lab.stream(pa.table({"a": pa.array([], pa.int64())}))
    assert (made.row_count, len(made.files), made.schema.names) == (0, 1, ["a"])


def test_values_at_the_edges_survive(lab: Lab) -> None:
    given = [
        {"s": "", "f": float("inf"), "t": datetime(1, 1, 1, tzinfo=UTC), "i": -(2**63)},
        {"s": None, "f": -0.0, "t": datetime(9999, 12, 31, tzinfo=UTC), "i": 2**63 - 1},
        {"s": "a\0b\U0001f600", "f": 1e308, "t": None, "i": None},
    ]
    made = lab.stream(pa.Table.from_pylist(given))
    assert rows(made) == given
    through = lab.sql('SELECT * FROM "source.s"', source_s=made)
    assert rows(through) == given


def test_limits_are_told_by_name(lab: Lab) -> None:
    table = pa.table({"a": range(5000)})
    store(lab, table.to_reader(1000), max_rows=5000, max_bytes=40_000)
    with pytest.raises(EngineError, match=r"more than 4,999 rows \(max_rows\)"):
        store(lab, table.to_reader(1000), max_rows=4999)
    with pytest.raises(EngineError, match=r"bytes \(max_bytes\)"):
        store(lab, table.to_reader(1000), max_bytes=39_999)


def test_a_store_that_fails_in_between_is_heard(lab: Lab) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"a": [1]})
        raise BackendError("the store went away")

    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(BackendError, match="went away"):
        store(lab, pa.RecordBatchReader.from_batches(schema, batches()))


def test_a_request_to_stop_ends_a_stream(lab: Lab) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        while True:
            yield pa.record_batch({"a": [1]})
            lab.cancellation.request()

    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(Interrupted):
        store(lab, pa.RecordBatchReader.from_batches(schema, batches()))


def test_a_full_disk_is_told(lab: Lab) -> None:
    table = pa.table({"a": [bytes([n % 256]) * 100_000 for n in range(200)]})
    with lab.store.staging() as staging:
        staging.file().symlink_to("/dev/full")
        reader = table.to_reader()
        with pytest.raises(EngineError, match="no space left on device"):
            lab.engine.store_stream("source.s", reader, staging, max_rows=None, max_bytes=None)


def test_many_batches_become_few_row_groups(lab: Lab) -> None:
    import pyarrow.parquet as pq

    made = lab.stream(pa.table({"a": range(300_000)}), batch=1000)
    assert pq.ParquetFile(made.files[0]).num_row_groups == 2
    assert made.reader().read_all()["a"].to_pylist() == list(range(300_000))
