"""Schema, partitioning, names and times: they change with the publish, and back with its undoing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import attrs
import pyarrow as pa
import pytest
from pyiceberg.table.refs import SnapshotRef

from seeknal_core.errors import NamespaceRefused, StaleStage, WriteRefused
from seeknal_core.types import Mode, SchemaChange, Target
from seeknal_iceberg.connection.catalog import open_catalog
from seeknal_iceberg.ledger.staged_write import StagedWrite, undo_tag
from support.iceberg import Bench


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace of its own, on an embedded catalog and on a REST one."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def shape(bench: Bench, target: Target) -> tuple[Any, ...]:
    """What a table is to its readers and to the next writer."""
    table = bench.table(target)
    metadata = table.metadata
    return (
        str(metadata.schema()),
        str(metadata.spec()),
        metadata.name_mapping(),
        dict(table.properties),
        {name: ref.model_dump() for name, ref in metadata.refs.items()},
        [each.snapshot_id for each in metadata.snapshots],
        bench.rows(target),
    )


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY])
def test_the_schema_changes_with_the_publish_and_back(
    any_bench: tuple[Bench, str], mode: Mode
) -> None:
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t", mode, unique_keys=("id",))
    narrow = {"id": pa.array([1, 2], pa.int32()), "n": [{"a": 1}, None]}
    bench.write(target, pa.table(narrow))
    before = shape(bench, target)
    promotion = bench.promotion()
    wide = {"id": pa.array([2, 2**40], pa.int64()), "n": [{"a": 1, "b": "x"}, None], "c": [1.5, 2]}
    promotion.stage(target, pa.table(wide))
    assert shape(bench, target) == before
    promotion.publish()
    assert [(c.name, c.type) for c in bench.inspect(target).columns][0::2] == [
        ("id", "long"),
        ("c", "double"),
    ]
    rows = {row["id"]: row for row in bench.rows(target)}
    assert rows[2**40] == {"id": 2**40, "n": None, "c": 2.0}
    assert set(rows) == ({2, 2**40} if mode is Mode.FULL else {1, 2, 2**40})
    promotion.revert()
    assert shape(bench, target) == before
    promotion.discard()
    assert shape(bench, target) == before
    again = bench.promotion("p-2")
    again.stage(target, pa.table(wide))
    again.publish()
    assert {row["id"] for row in bench.rows(target)} == set(rows)


def test_a_column_that_is_dropped_comes_back(any_bench: tuple[Bench, str]) -> None:
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t", on_schema_change=SchemaChange.SYNC)
    bench.write(target, {"id": [1], "old": ["x"]})
    before = shape(bench, target)
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2], "new": [True]})
    promotion.publish()
    assert bench.rows(target) == [{"id": 2, "new": True}]
    promotion.revert()
    assert shape(bench, target) == before


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY])
def test_the_partitioning_changes_with_the_publish_and_back(
    any_bench: tuple[Bench, str], mode: Mode
) -> None:
    bench, namespace = any_bench
    rows = {
        "id": list(range(12)),
        "day": [date(2024, 1, 1) + timedelta(n % 3) for n in range(12)],
        "s": [None if n == 5 else f"s{n}" for n in range(12)],
    }
    first = bench.target(f"{namespace}.t", mode, unique_keys=("id",), partition_by=("day",))
    bench.write(first, rows)
    before = shape(bench, first)
    second = attrs.evolve(first, partition_by=("month(day)", "bucket(3, id)", "truncate(1, s)"))
    promotion = bench.promotion()
    staged = promotion.stage(second, {**rows, "id": list(range(6, 18))})
    assert bench.count(staged) == 12
    assert shape(bench, first) == before
    promotion.publish()
    expected = {Mode.FULL: 12, Mode.APPEND: 24, Mode.UPSERT_BY_KEY: 18}[mode]
    assert bench.count(first) == len(bench.rows(first)) == expected
    assert [field.name for field in bench.table(first).spec().fields][-1] == "s_trunc"
    promotion.revert()
    assert shape(bench, first) == before
    promotion.discard()
    bench.write(first, rows)


@pytest.mark.parametrize("time", [datetime(2024, 1, 3, 12, tzinfo=UTC), date(2024, 1, 3)])
def test_an_interval_is_replaced_with_the_publish_and_comes_back(
    any_bench: tuple[Bench, str], time: Any
) -> None:
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t", Mode.INCREMENTAL_BY_TIME, time_column="at")
    bench.write(target, {"id": [1, 2, 3], "at": [time + timedelta(n) for n in (-1, 0, 1)]})
    before = shape(bench, target)
    promotion = bench.promotion()
    promotion.stage(target, {"id": [20, 30], "at": [time, time + timedelta(1)]})
    (published,) = promotion.publish().targets
    assert [row["id"] for row in bench.rows(target)] == [1, 20, 30]
    assert published.rows_after == 3
    promotion.revert()
    assert shape(bench, target) == before


@pytest.mark.parametrize("mode", [Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME, Mode.FULL])
@pytest.mark.parametrize("exists", [True, False])
def test_a_snapshot_without_rows_is_published_too(bench: Bench, mode: Mode, exists: bool) -> None:
    target = bench.target(mode=mode, unique_keys=("id",), time_column="at")
    rows = pa.table({"id": [1], "at": [date(2024, 1, 1)]})
    if exists:
        bench.write(target, rows)
    state = bench.inspect(target)
    promotion = bench.promotion()
    staged = promotion.stage(target, rows.slice(0, 0))
    assert bench.count(staged) == 0
    assert [column.name for column in bench.inspect(staged).columns] == ["id", "at"]
    (published,) = promotion.publish().targets
    assert published.version == bench.inspect(target).version
    left = 1 if exists and mode is not Mode.FULL else 0
    assert published.rows_after == bench.count(target) == left
    promotion.revert()
    promotion.discard()
    assert bench.inspect(target) == state
    assert bench.notes() == []


def test_an_empty_table_is_empty_again(any_bench: tuple[Bench, str]) -> None:
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t")
    bench.write(target, {"id": [1]})
    catalog = open_catalog(bench.context)
    catalog.drop_table(target.name.parts)
    catalog.create_table(target.name.parts, pa.schema([("id", pa.int64())]))
    adopting = bench.other(adopt=True)
    before = adopting.inspect(target)
    promotion = adopting.promotion()
    promotion.stage(target, {"id": [2], "more": ["x"]})
    promotion.publish()
    assert len(bench.rows(target)) == 1
    promotion.revert()
    assert adopting.inspect(target) == before
    assert bench.rows(target) == []
    assert not promotion.revert()
    promotion.discard()
    assert bench.table(target).metadata.refs == {}
    adopting.close()


def test_settings_of_the_main_branch_come_back(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    table = bench.table(target)
    table.manage_snapshots().create_branch(
        table.metadata.current_snapshot_id, "main", min_snapshots_to_keep=7
    ).commit()
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    promotion.publish()
    promotion.revert()
    found: SnapshotRef = bench.table(target).metadata.refs["main"]
    assert found.min_snapshots_to_keep == 7


def test_the_undo_survives_the_expiry_of_snapshots(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    promotion.publish()
    table = bench.table(target)
    assert undo_tag("p-1") in table.metadata.refs
    table.maintenance.expire_snapshots().older_than(datetime.now(UTC) + timedelta(1)).commit()
    promotion.revert()
    assert bench.rows(target) == [{"id": 1}]


def test_a_schema_that_somebody_changes_meanwhile_is_stale(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    from pyiceberg.types import StringType

    with bench.table(target).update_schema() as update:
        update.add_column("theirs", StringType())
    with pytest.raises(StaleStage, match="another schema"):
        promotion.publish()


def test_a_write_on_a_branch_meanwhile_is_stale(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    table = bench.table(target)
    current = table.metadata.current_snapshot_id
    table.manage_snapshots().create_branch(current, "theirs").commit()
    bench.table(target).append(pa.table({"id": [9]}), branch="theirs")
    with pytest.raises(StaleStage, match="on a branch"):
        promotion.publish()
    promotion.discard()
    again = bench.promotion("p-2")
    again.stage(target, {"id": [2]})
    again.publish()
    assert bench.rows(target) == [{"id": 2}]


def test_staged_files_that_somebody_deleted_are_not_published(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    staged = promotion.stage(target, {"id": [2]})
    assert staged.staged is not None
    for path in bench.root.glob(f"warehouse/**/*{StagedWrite.of(staged.staged).write_id}*.avro"):
        path.unlink()
    with pytest.raises(StaleStage, match="is gone"):
        promotion.publish()
    assert bench.rows(target) == [{"id": 1}]


@pytest.mark.parametrize(
    "table",
    ['"odd name"."é"', 'lake."a b"."x;y"."q""t"', '"UPPER"."Case"', '"$x"."50%"'],
)
def test_odd_names_are_promoted_and_go_again(bench: Bench, table: str) -> None:
    target = bench.target(table)
    bench.write(bench.target("first.t"), {"id": [1]})
    files = bench.files()
    promotion = bench.promotion()
    promotion.stage(target, {"id": [1]})
    promotion.publish()
    assert bench.count(target) == 1
    promotion.revert()
    promotion.discard()
    assert bench.files() == files


def test_names_that_a_rest_catalog_takes_are_promoted(rest: Bench, lake_namespace: str) -> None:
    promotion = rest.promotion()
    targets = [
        rest.target(f'lake.{lake_namespace}."0-x"."{name}"') for name in ("1_a", "b-2", "c__c")
    ]
    for target in targets:
        promotion.stage(target, {"id": [1]})
    promotion.publish()
    assert [rest.count(target) for target in targets] == [1, 1, 1]
    promotion.revert()
    promotion.discard()
    assert [rest.inspect(target).exists for target in targets] == [False] * 3


def test_what_is_refused_is_refused_when_it_is_staged(bench: Bench) -> None:
    target = bench.target(on_schema_change=SchemaChange.FAIL)
    bench.write(target, {"id": [1]})
    files = bench.files()
    promotion = bench.promotion()
    cases: list[tuple[Target, dict[str, Any]]] = [
        (target, {"id": [1], "new": [1]}),
        (bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",)), {"id": ["text"]}),
        (bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",)), {"id": [1, 1]}),
        (bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",)), {"id": [1, None]}),
        (bench.target(), {"id": [1], "bad": pa.nulls(1)}),
    ]
    for refused, rows in cases:
        with pytest.raises(WriteRefused):
            promotion.stage(refused, rows)
    with pytest.raises(NamespaceRefused):
        promotion.stage(bench.target('lake."a."."b".t'), {"id": [1]})
    assert bench.files() == files
    assert bench.notes() == []


def test_what_is_staged_holds_no_list_of_files_and_no_secret(
    rest: Bench, lake_namespace: str
) -> None:
    target = rest.target(f"{lake_namespace}.t", partition_by=("id",))
    rest.write(target, {"id": [1]})
    staged = rest.promotion().stage(target, {"id": list(range(100))})
    assert staged.staged is not None
    text = json.dumps(staged.staged.data)
    assert len(text) < 8000
    assert "secret" not in text
    assert text.count(".parquet") == 0
