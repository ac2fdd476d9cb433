"""Writes by key leave the columns alone that the node does not give."""

from __future__ import annotations

from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import (
    BinaryType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
)

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, Target
from support.iceberg import Bench

WIDE = pa.schema(
    [
        ("id", pa.int64()),
        ("part", pa.string()),
        ("v", pa.int64()),
        ("it's-theirs", pa.string()),
        ("raw", pa.binary()),
        ("inner", pa.struct([("content-type", pa.string()), ("n", pa.list_(pa.int64()))])),
    ]
)
THEIRS: list[dict[str, Any]] = [
    {"it's-theirs": None, "raw": None, "inner": None},
    {"it's-theirs": "two", "raw": b"\x00", "inner": {"content-type": "x", "n": [1, None]}},
    {"it's-theirs": "three", "raw": b"", "inner": {"content-type": None, "n": None}},
]


def begin(bench: Bench, **fields: Any) -> tuple[Target, list[dict[str, Any]]]:
    """Write three rows by key, and let somebody else add columns and fill them."""
    target = bench.target(
        mode=Mode.UPSERT_BY_KEY, unique_keys=fields.pop("unique_keys", ("id", "part")), **fields
    )
    ours = {"id": [1, 2, 3], "part": ["a", "b", "b"], "v": [10, 20, 30]}
    bench.write(target, ours)
    table = bench.table(target)
    with table.update_schema() as update:
        update.add_column("it's-theirs", StringType())
        update.add_column("raw", BinaryType())
        inner = StructType(
            NestedField(90, "content-type", StringType(), required=False),
            NestedField(91, "n", ListType(92, LongType(), element_required=False), required=False),
        )
        update.add_column("inner", inner)
    rows = [
        {**dict(zip(ours, row, strict=True)), **more}
        for row, more in zip(zip(*ours.values(), strict=True), THEIRS, strict=True)
    ]
    bench.table(target).overwrite(pa.Table.from_pylist(rows, schema=WIDE))
    assert by_id(bench, target) == rows
    return target, rows


def by_id(bench: Bench, target: Target) -> list[dict[str, Any]]:
    return sorted(bench.read(target).to_pylist(), key=lambda row: row["id"])


@pytest.mark.parametrize("promotes", [False, True])
@pytest.mark.parametrize("partition_by", [(), ("part",)])
def test_somebody_elses_values_survive_a_write_by_key(
    bench: Bench, promotes: bool, partition_by: tuple[str, ...]
) -> None:
    target, rows = begin(bench, partition_by=partition_by)
    new = {"id": [2, 4], "part": ["b", "c"], "v": [21, 41]}
    if promotes:
        promotion = bench.promotion()
        promotion.stage(target, new)
        promotion.publish()
    else:
        result = bench.write(target, new)
        assert any("'raw' was not made by Seeknal: it is kept" in note for note in result.notes)
        assert not any("survive" in note for note in result.notes)
    nothing = dict.fromkeys(THEIRS[0])
    expected = [rows[0], {**rows[1], "v": 21}, rows[2], {"id": 4, "part": "c", "v": 41, **nothing}]
    assert by_id(bench, target) == expected
    if promotes:
        promotion.discard()
        assert by_id(bench, target) == expected


def test_a_column_of_ours_that_left_keeps_its_values_in_a_write_by_key(bench: Bench) -> None:
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, {"id": [1, 2], "old": ["x", "y"], "v": [1, 2]})
    bench.write(target, {"id": [2, 3], "v": [20, 30]})
    assert bench.rows(target) == [
        {"id": 1, "old": "x", "v": 1},
        {"id": 2, "old": "y", "v": 20},
        {"id": 3, "old": None, "v": 30},
    ]


def test_two_rows_of_a_key_become_one_of_them(bench: Bench) -> None:
    """Somebody appended a key twice; the write by key puts one row in their place."""
    target, rows = begin(bench)
    bench.table(target).append(pa.Table.from_pylist([{**rows[1], "raw": b"x"}], schema=WIDE))
    bench.write(target, {"id": [2], "part": ["b"], "v": [21]})
    (found,) = [row for row in by_id(bench, target) if row["id"] == 2]
    assert found["v"] == 21
    assert found["it's-theirs"] == "two"
    assert found["raw"] in (b"x", b"\x00")
    assert bench.count(target) == 3


def test_values_are_looked_up_anew_where_another_writer_was_faster(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seeknal_iceberg.write import materialize

    target, rows = begin(bench)
    commit = getattr(materialize, "commit")  # noqa: B009
    sent: list[int] = []

    def late(*args: Any, **named: Any) -> Any:
        if not sent:
            sent.append(1)
            changed = [rows[0], {**rows[1], "it's-theirs": "new"}, rows[2]]
            bench.other().table(target).overwrite(pa.Table.from_pylist(changed, schema=WIDE))
        return commit(*args, **named)

    monkeypatch.setattr(materialize, "commit", late)
    bench.write(target, {"id": [2], "part": ["b"], "v": [21]})
    found = by_id(bench, target)[1]
    assert sent
    assert found == {**rows[1], "it's-theirs": "new", "v": 21}
    assert bench.notes() == []


def test_zero_is_one_key_whatever_its_sign(bench: Bench) -> None:
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("f",))
    bench.write(target, {"f": [0.0, float("nan")], "v": [1, 2]})
    bench.write(target, {"f": [-0.0, float("nan")], "v": [3, 4]})
    assert sorted(row["v"] for row in bench.rows(target)) == [3, 4]
    with pytest.raises(WriteRefused, match="are duplicated in the snapshot"):
        bench.write(target, {"f": [0.0, -0.0], "v": [5, 6]})


@pytest.mark.parametrize(
    ("mode", "fields"),
    [
        (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}),
        (Mode.INCREMENTAL_BY_TIME, {"time_column": "id"}),
    ],
)
@pytest.mark.parametrize("promotes", [False, True])
def test_a_table_without_the_key_is_refused(
    bench: Bench, mode: Mode, fields: dict[str, Any], promotes: bool
) -> None:
    """Somebody renamed the column by which the mode finds rows."""
    target = bench.target(mode=mode, **fields)
    rows = {"id": [date(2024, 1, 1)], "v": [1]}
    bench.write(target, rows)
    with bench.table(target).update_schema() as update:
        update.rename_column("id", "key")
    write = bench.promotion().stage if promotes else bench.write
    with pytest.raises(WriteRefused, match=f"no column 'id', by which mode {mode.value}"):
        write(target, rows)
    assert bench.count(target) == 1
    assert bench.notes() == []
