"""Properties, sort order and file size that a target declares of its table."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.errors import OptionError, WriteRefused
from seeknal_core.structure import structure
from seeknal_core.types import Mode, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.write.options import IcebergTargetOptions, read_sorting
from support.iceberg import Bench

SIZE = "write.target-file-size-bytes"


def options(**given: object) -> IcebergTargetOptions:
    return structure(given, IcebergTargetOptions)


def declaring(bench: Bench, mode: Mode = Mode.FULL, **given: object) -> Target:
    return bench.target(mode=mode, options=options(**given))


def properties(bench: Bench, target: Target) -> dict[str, str]:
    found = bench.table(target).properties
    return {name: value for name, value in found.items() if not name.startswith("seeknal.")}


def sorting(bench: Bench, target: Target) -> list[tuple[str, str, str]]:
    table = bench.table(target)
    return [
        (table.schema().find_column_name(f.source_id), f.direction.value, f.null_order.value)
        for f in table.sort_order().fields
    ]


def files(bench: Bench, target: Target) -> list[pa.Table]:
    tasks = bench.table(target).scan().plan_files()
    return [pq.read_table(task.file.file_path.removeprefix("file://")) for task in tasks]


def test_properties_follow_what_the_target_declares(bench: Bench) -> None:
    first = declaring(bench, properties={"owner": "ann", "keep": True, "gc.enabled": "false"})
    bench.write(first, {"id": [1]})
    made = properties(bench, first)
    assert {"owner": "ann", "keep": "true", "gc.enabled": "false"}.items() <= made.items()
    table = bench.table(first)
    table.transaction().set_properties({"others": "1"}).commit_transaction()
    second = declaring(bench, properties={"owner": "bob", "new": 5})
    notes = bench.write(second, {"id": [2]}).notes
    now = properties(bench, second)
    assert {"owner": "bob", "new": "5", "others": "1"}.items() <= now.items()
    assert not {"keep", "gc.enabled"} & now.keys()
    assert any("owner changes from 'ann' to 'bob'" in note for note in notes)
    bench.write(bench.target(), {"id": [3]})
    assert {"others": "1"}.items() <= properties(bench, second).items()
    assert not {"owner", "new"} & properties(bench, second).keys()


def test_the_plan_names_what_changes(bench: Bench) -> None:
    bench.write(declaring(bench, properties={"a": "1"}), {"id": [1]})
    target = declaring(bench, properties={"b": "2"}, sort_order=["id desc"])
    schema = pa.schema([("id", pa.int64())])
    notes = "\n".join(plugin.preview_write(bench.context, target, schema).notes)
    assert "property b is set to '2'" in notes
    assert "property a ('1') is removed" in notes
    assert "sort order changes to id desc" in notes
    same = declaring(bench, properties={"a": "1"})
    assert plugin.preview_write(bench.context, same, schema).notes == ()


def test_a_promotion_carries_them_and_its_undo_takes_them_back(bench: Bench) -> None:
    bench.write(declaring(bench, properties={"a": "1", "gone": "x"}), {"id": [1]})
    before = properties(bench, bench.target())
    target = declaring(bench, properties={"a": "2", "b": "3"}, sort_order=["id desc"])
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2, 3]})
    assert properties(bench, target) == before
    promotion.publish()
    assert {"a": "2", "b": "3"}.items() <= properties(bench, target).items()
    assert "gone" not in properties(bench, target)
    assert sorting(bench, target) == [("id", "desc", "nulls-last")]
    promotion.revert()
    assert properties(bench, target) == before
    assert sorting(bench, target) == []


@pytest.mark.parametrize("partition", [(), ("p",)])
def test_rows_are_sorted_within_each_file(bench: Bench, partition: tuple[str, ...]) -> None:
    draw = random.Random(3)
    rows = {
        "p": [draw.choice([1, 2]) for _ in range(500)],
        "x": [draw.choice([None, 1.0, -2.5, float("nan"), float("inf")]) for _ in range(500)],
        "s": [draw.choice([None, "a", "B", "é"]) for _ in range(500)],
    }
    target = bench.target(
        partition_by=partition,
        options=options(sort_order=["x desc nulls first", "s"]),
    )
    bench.write(target, rows)
    assert sorting(bench, target) == [
        ("x", "desc", "nulls-first"),
        ("s", "asc", "nulls-first"),
    ]

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        x, s = row["x"], row["s"]
        by_x = (0,) if x is None else (1,) if x != x else (2, -x)
        return (by_x, s is not None, (s or "").encode())

    found = files(bench, target)
    assert len(found) == (2 if partition else 1)
    for file in found:
        got = [key(row) for row in file.to_pylist()]
        assert got == sorted(got)
    assert sum(file.num_rows for file in found) == 500
    orders = {t.file.sort_order_id for t in bench.table(target).scan().plan_files()}
    assert orders == {bench.table(target).sort_order().order_id}
    bench.write(bench.target(partition_by=partition), rows)
    assert sorting(bench, target) == []


def test_a_sort_order_names_columns_that_can_be_sorted(bench: Bench) -> None:
    with pytest.raises(WriteRefused, match="no column 'idd'") as caught:
        bench.write(declaring(bench, sort_order=["idd desc"]), {"id": [1]})
    assert "did you mean 'id'" in caught.value.hint
    with pytest.raises(WriteRefused, match="no rows can be sorted"):
        bench.write(declaring(bench, sort_order=["l"]), {"l": [[1]]})
    odd = declaring(bench, sort_order=["a desc", "a"])
    bench.write(odd, {"a": [2, 1], "a desc": [1, 1]})
    assert sorting(bench, odd)[0] == ("a desc", "asc", "nulls-first")
    bench.write(declaring(bench, sort_order=["new"]), {"new": [2, 1]})
    assert sorting(bench, odd) == [("new", "asc", "nulls-first")]


def test_files_are_ended_at_the_size_that_is_wanted(bench: Bench) -> None:
    draw = random.Random(1)
    rows = pa.table({"x": [draw.random() for _ in range(300_000)]})
    target = declaring(bench, target_file_size="500KB")
    bench.write(target, rows)
    assert properties(bench, target)[SIZE] == "500000"
    sizes = [t.file.file_size_in_bytes for t in bench.table(target).scan().plan_files()]
    assert len(sizes) > 2
    assert max(sizes) < 1_500_000
    assert bench.count(target) == 300_000


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"properties": {"seeknal.project": "x"}}, "properties.seeknal.project"),
        ({"properties": {"format-version": 3}}, "properties.format-version"),
        ({"properties": {"a": [1]}}, "properties.a"),
        ({"target_file_size": "big"}, "target_file_size"),
        ({"target_file_size": 0}, "target_file_size"),
        ({"target_file_size": 5, "properties": {SIZE: "5"}}, f"properties.{SIZE}"),
        ({"sort_order": [""]}, "sort_order[0]"),
        ({"sort_by": ["id"]}, "sort_by"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: dict[str, Any], path: str) -> None:
    with pytest.raises(OptionError) as caught:
        options(**given)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_sort_entries_are_read() -> None:
    assert read_sorting("a b").column == "a b"
    assert read_sorting("a DESC Nulls First") == read_sorting("a desc nulls first")
