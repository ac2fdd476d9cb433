"""A table that exists meets a snapshot with other columns, or other partitions."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import ListType, LongType, NestedField, StringType, StructType

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Interval, Mode, SchemaChange
from seeknal_iceberg.write.evolution import spelled
from support.iceberg import Bench


def types(bench: Bench) -> dict[str, str]:
    return {column.name: column.type for column in bench.inspect(bench.target()).columns}


def test_a_new_column_is_added_and_old_rows_have_null(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    result = bench.write(target, {"id": [2], "new": ["x"]})
    assert "column 'new' added" in result.notes[0]
    assert bench.rows(target) == [{"id": 1, "new": None}, {"id": 2, "new": "x"}]


@pytest.mark.parametrize(
    ("old", "new", "type"),
    [
        (pa.int32(), pa.int64(), "long"),
        (pa.float32(), pa.float64(), "double"),
        (pa.decimal128(9, 2), pa.decimal128(20, 2), "decimal(20, 2)"),
    ],
)
def test_a_wider_type_widens_the_column(
    bench: Bench, old: pa.DataType, new: pa.DataType, type: str
) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, pa.table({"v": pa.array([decimal.Decimal(1)], pa.decimal128(3)).cast(old)}))
    bench.write(target, pa.table({"v": pa.array([decimal.Decimal(2)], pa.decimal128(3)).cast(new)}))
    assert types(bench) == {"v": type}
    assert sorted(float(row["v"]) for row in bench.rows(target)) == [1.0, 2.0]


def test_a_narrower_type_is_stored_in_the_columns_own(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, pa.table({"v": pa.array([2**40], pa.int64())}))
    bench.write(target, pa.table({"v": pa.array([2], pa.int32())}))
    assert types(bench) == {"v": "long"}
    assert sorted(bench.read(target)["v"].to_pylist()) == [2, 2**40]


def test_order_and_case_of_columns_follow_the_table(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"Id": [1], "v": ["a"]})
    bench.write(target, {"v": ["b"], "id": [2]})
    assert bench.rows(target) == [{"Id": 1, "v": "a"}, {"Id": 2, "v": "b"}]


def test_keys_are_found_in_a_table_that_writes_them_in_other_case(bench: Bench) -> None:
    bench.write(bench.target(), {"Id": [1, 2], "v": ["a", "b"]})
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, {"id": [2], "v": ["B"]})
    assert bench.rows(target) == [{"Id": 1, "v": "a"}, {"Id": 2, "v": "B"}]


def test_a_new_field_of_a_struct_in_a_list_is_added(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"l": [[{"a": 1}]]})
    bench.write(target, {"l": [[{"a": 2, "b": "x"}]]})
    assert sorted(map(str, bench.read(target)["l"].to_pylist())) == [
        "[{'a': 1, 'b': None}]",
        "[{'a': 2, 'b': 'x'}]",
    ]


def test_upsert_with_a_new_column_keeps_the_other_rows(bench: Bench) -> None:
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, pa.table({"id": pa.array([1, 2], pa.int32()), "v": ["a", "b"]}))
    bench.write(target, pa.table({"id": pa.array([2], pa.int64()), "v": ["B"], "n": [5]}))
    assert bench.rows(target) == [{"id": 1, "v": "a", "n": None}, {"id": 2, "v": "B", "n": 5}]


@pytest.mark.parametrize("mode", [Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME])
def test_modes_that_keep_rows_keep_the_values_of_a_column_that_left(
    bench: Bench, mode: Mode
) -> None:
    day = [datetime(2024, 1, 1, tzinfo=UTC)]
    bench.write(bench.target(), {"id": [1], "t": day, "old": ["x"]})
    target = bench.target(mode=mode, unique_keys=("id",), time_column="t")
    next_day = [datetime(2024, 1, 2, tzinfo=UTC)]
    result = bench.write(target, {"id": [2], "t": next_day})
    assert "'old' left the node: it is kept, and NULL in new rows" in result.notes[0]
    assert {row["id"]: row["old"] for row in bench.rows(target)} == {1: "x", 2: None}


def test_an_append_refuses_a_schema_that_shrinks(bench: Bench) -> None:
    bench.write(bench.target(), {"id": [1], "old": ["x"]})
    target = bench.target(mode=Mode.APPEND)
    with pytest.raises(WriteRefused, match="lacks the table's column 'old'"):
        bench.write(target, {"id": [2]})
    assert bench.count(target) == 1


@pytest.mark.parametrize(
    "rows",
    [{"id": ["a"]}, {"id": [1.5]}, {"id": [[1]]}, {"id": pa.array([1], pa.decimal128(20, 0))}],
)
def test_a_type_that_does_not_widen_is_changed_in_full(bench: Bench, rows: Any) -> None:
    bench.write(bench.target(), {"id": [1]})
    result = bench.write(bench.target(), rows)
    assert "column 'id' becomes" in result.notes[0] and ", was long" in result.notes[0]
    assert bench.read(bench.target())["id"].to_pylist() == pa.array(rows["id"]).to_pylist()


@pytest.mark.parametrize(
    "rows",
    [{"id": [1], "new": [1]}, {}, {"id": pa.array([1], pa.int64())}],
    ids=["new", "missing", "wider"],
)
def test_fail_refuses_every_change_of_schema(bench: Bench, rows: Any) -> None:
    bench.write(bench.target(), {"id": pa.array([1], pa.int32()), "v": [1]})
    target = bench.target(on_schema_change=SchemaChange.FAIL)
    with pytest.raises(WriteRefused, match="on_schema_change is fail"):
        bench.write(target, {"v": [2], **rows})
    bench.write(target, {"id": pa.array([2], pa.int32()), "v": [2]})
    assert bench.rows(target) == [{"id": 2, "v": 2}]


def test_a_required_column_of_the_table_takes_no_null(bench: Bench) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    from seeknal_iceberg.connection.catalog import open_catalog

    catalog = open_catalog(bench.context)
    catalog.create_namespace("sales")
    catalog.create_table("sales.orders", Schema(NestedField(1, "id", LongType(), required=True)))
    adopting = bench.other(adopt=True)
    with pytest.raises(WriteRefused, match="required there and has NULLs here"):
        adopting.write(bench.target(), bench.snapshot({"id": pa.array([None], pa.int64())}))
    adopting.write(bench.target(), bench.snapshot({"id": [7]}))
    adopting.close()
    assert bench.rows(bench.target()) == [{"id": 7}]


def spec(bench: Bench) -> list[str]:
    return [
        f"{field.name}:{field.transform}" for field in bench.table(bench.target()).spec().fields
    ]


def rows(count: int = 10) -> dict[str, Any]:
    return {
        "id": list(range(count)),
        "s": [f"name{number % 3}" for number in range(count)],
        "t": [
            datetime(2024, 1 + number % 3, 1, number % 24, tzinfo=UTC) for number in range(count)
        ],
    }


@pytest.mark.parametrize(
    ("by", "fields", "partitions"),
    [
        (("s",), ["s:identity"], 3),
        (("identity(s)",), ["s:identity"], 3),
        (("year(t)",), ["t_year:year"], 1),
        (("month(t)",), ["t_month:month"], 3),
        (("day(t)",), ["t_day:day"], 3),
        (("hour(t)",), ["t_hour:hour"], 10),
        (("bucket(4, id)",), ["id_bucket:bucket[4]"], 4),
        (("truncate(5, id)",), ["id_trunc:truncate[5]"], 2),
        (("truncate(4, s)", "month(t)"), ["s_trunc:truncate[4]", "t_month:month"], 3),
    ],
)
def test_rows_lie_in_the_partitions_of_their_transforms(
    bench: Bench, by: tuple[str, ...], fields: list[str], partitions: int
) -> None:
    target = bench.target(partition_by=by)
    bench.write(target, rows())
    assert spec(bench) == fields
    tasks = list(bench.table(target).scan().plan_files())
    assert len({str(task.file.partition) for task in tasks}) == partitions
    assert [row["id"] for row in bench.rows(target)] == list(range(10))
    # A reader that prunes by partition finds the rows, so the values are the right ones.
    assert bench.table(target).scan(row_filter="id = 7").to_arrow()["id"].to_pylist() == [7]
    assert bench.table(target).scan(row_filter="s = 'name1'").to_arrow().num_rows == 3
    hour = "t = '2024-02-01T07:00:00+00:00'"
    assert bench.table(target).scan(row_filter=hour).to_arrow()["id"].to_pylist() == [7]


def test_null_and_odd_values_have_their_partitions(bench: Bench) -> None:
    target = bench.target(partition_by=("s", "bucket(2, id)"))
    odd = {"id": pa.array([1, None, 3], pa.int64()), "s": [None, "a/b=c 🦆", ""]}
    bench.write(target, odd)
    bench.write(target, odd)
    assert sorted(map(repr, bench.read(target)["s"].to_pylist())) == ["''", "'a/b=c 🦆'", "None"]


def test_many_partitions_in_random_order_make_one_file_each(bench: Bench) -> None:
    target = bench.target(partition_by=("p",))
    count = 200
    bench.write(target, {"p": [number * 37 % count for number in range(count * 10)]})
    assert len(list(bench.data_files())) == count
    assert bench.count(target) == count * 10


def test_modes_work_on_partitioned_tables(bench: Bench) -> None:
    fields: dict[str, Any] = {"partition_by": ("month(t)", "bucket(2, id)")}
    bench.write(bench.target(**fields), rows())
    upsert = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",), **fields)
    bench.write(upsert, {**rows(1), "s": ["new"]})
    covers = Interval(start=datetime(2024, 2, 1), end=datetime(2024, 2, 2))  # noqa: DTZ001
    fields |= {"time_column": "t", "covers": covers}
    interval = bench.target(mode=Mode.INCREMENTAL_BY_TIME, **fields)
    at = datetime(2024, 2, 1, 23, tzinfo=UTC)
    result = bench.write(interval, {"id": [99], "s": ["x"], "t": [at]})
    found = {row["id"]: row["s"] for row in bench.rows(interval)}
    assert sorted(found) == [0, 2, 3, 5, 6, 8, 9, 99]
    assert found[0] == "new"
    assert result.rows_after == 8


def test_another_partitioning_holds_for_new_rows(bench: Bench) -> None:
    bench.write(bench.target(mode=Mode.APPEND, partition_by=("s",)), rows())
    bench.write(bench.target(mode=Mode.APPEND, partition_by=("day(t)",)), rows(5))
    assert spec(bench) == ["t_day:day"]
    assert bench.count(bench.target()) == 15
    bench.write(bench.target(partition_by=("s",)), rows(4))
    assert spec(bench) == ["s:identity"]
    assert bench.count(bench.target()) == 4


def test_a_target_that_names_no_partitioning_keeps_the_tables(bench: Bench) -> None:
    bench.write(bench.target(partition_by=("s",)), rows())
    bench.write(bench.target(), rows(6))
    assert spec(bench) == ["s:identity"]
    bench.write(bench.target(), {"id": [1]})
    assert bench.rows(bench.target()) == [{"id": 1, "s": None, "t": None}]
    with pytest.raises(WriteRefused, match="partitions the table"):
        bench.write(bench.target(on_schema_change=SchemaChange.SYNC), {"id": [1]})


def test_a_column_that_once_partitioned_the_table_stays(bench: Bench) -> None:
    bench.write(bench.target(partition_by=("s",)), rows())
    target = bench.target(partition_by=("bucket(2, id)",), on_schema_change=SchemaChange.SYNC)
    with pytest.raises(WriteRefused, match="partitions the table, or did"):
        bench.write(target, {"id": [1, 2]})
    bench.write(target, rows(2))
    with pytest.raises(WriteRefused, match="partitions the table, or did"):
        bench.write(target, {"id": [1, 2]})


def test_fail_refuses_another_partitioning(bench: Bench) -> None:
    bench.write(bench.target(partition_by=("s",)), rows())
    target = bench.target(partition_by=("day(t)",), on_schema_change=SchemaChange.FAIL)
    with pytest.raises(WriteRefused, match="partitioned otherwise"):
        bench.write(target, rows())


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("week(t)", "no transform 'week'"),
        ("day(tt)", "no column 'tt'"),
        ("colour", "no column 'colour'"),
        ("day(s)", "'s' is string"),
        ("bucket(id)", "takes a number and a column"),
        ("bucket(0, id)", "takes a number and a column"),
        ("truncate(3, t)", "'t' is timestamptz"),
    ],
)
def test_a_wrong_partitioning_is_refused_before_anything_is_made(
    bench: Bench, by: str, words: str
) -> None:
    with pytest.raises(WriteRefused) as caught:
        bench.write(bench.target(partition_by=(by,)), rows())
    assert words in str(caught.value)
    assert caught.value.hint
    assert not bench.inspect(bench.target()).exists
    assert list(bench.data_files()) == []


def test_types_are_spelled_without_the_ids_of_fields() -> None:
    inner = StructType(NestedField(7, "x y", LongType(), required=True))
    type = StructType(
        NestedField(-1, "p", StringType(), required=False),
        NestedField(2, "list", ListType(3, inner, False), required=True),
    )
    assert spelled(type) == "struct<p string, list list<struct<x y long>>>"
