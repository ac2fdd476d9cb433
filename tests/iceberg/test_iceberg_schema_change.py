"""Columns that leave, and types that change: written, promoted, brought back."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs
import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Batch, Mode, SchemaChange, Target
from seeknal_iceberg import plugin
from support.iceberg import Bench


@attrs.define
class Promotion:
    """One target and the rows that it is to hold."""

    bench: Bench
    wanted: tuple[Target, pa.Table]
    id: str = "p-1"
    batch: Batch | None = None
    notes: tuple[str, ...] = ()

    def stage(self) -> None:
        """Stage the rows."""
        target, rows = self.wanted
        snapshot = self.bench.snapshot(rows)
        staged = plugin.stage(self.bench.context, target, snapshot, self.id)
        generation = plugin.inspect_target(self.bench.context, target).generation + 1
        self.notes = staged.notes
        self.batch = Batch(
            promotion=self.id,
            generation=generation,
            targets=(attrs.evolve(target, staged=staged),),
            content_keys={target.key: snapshot.content_key},
        )

    def publish(self) -> None:
        """Make them visible."""
        assert self.batch is not None
        plugin.publish(self.bench.context, self.batch)

    def revert(self) -> bool:
        """Undo it."""
        assert self.batch is not None
        return plugin.revert(self.bench.context, self.batch, False)

    def discard(self) -> None:
        """Throw away what is kept."""
        assert self.batch is not None
        plugin.discard(self.bench.context, self.batch)


FULL = pa.table({"id": [1, 2], "name": ["a", "b"], "city": ["x", "y"]})
LESS = FULL.select(["id", "name"])

VALUES: Mapping[str, pa.Array] = {
    "boolean": pa.array([True, None]),
    "int": pa.array([1, None], pa.int32()),
    "long": pa.array([1, None], pa.int64()),
    "float": pa.array([1.5, None], pa.float32()),
    "double": pa.array([1.5, None], pa.float64()),
    "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(38, 2)),
    "decimal of more scale": pa.array([Decimal("1.500"), None], pa.decimal128(38, 3)),
    "string": pa.array(["one", None]),
    "date": pa.array([dt.date(2024, 1, 2), None]),
    "timestamp": pa.array([dt.datetime(2024, 1, 2, 3), None], pa.timestamp("us")),  # noqa: DTZ001
    "timestamptz": pa.array([dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC), None]),
    "time": pa.array([dt.time(3, 4), None]),
    "binary": pa.array([b"one", None]),
    "list": pa.array([[1], None], pa.list_(pa.int64())),
    "struct": pa.array([{"a": 1}, None]),
}

#: The default run tries some pairs; with this variable set, all.
ALL = bool(os.environ.get("SEEKNAL_TEST_ALL_TYPES"))
SOME = tuple(VALUES) if ALL else ("long", "decimal of more scale", "string")
OLD = tuple(VALUES) if ALL else ("decimal",)


def found(bench: Bench, target: Target, column: str = "v") -> list[Any]:
    read = bench.read(target).sort_by("id")
    return list(read[column].to_pylist())


def columns(bench: Bench, target: Target) -> dict[str, str]:
    return {one.name: str(one.field_type) for one in bench.table(target).schema().fields}


@pytest.mark.parametrize("old", OLD)
def test_any_type_becomes_any_other_and_comes_back(bench: Bench, old: str) -> None:
    """In mode full: by a promotion, by its rollback, and by a write."""
    for number, new in enumerate(SOME):
        target = bench.target(f"sales.t{number}")
        bench.write(target, pa.table({"id": [1, 2], "v": VALUES[old]}))
        before = columns(bench, target), found(bench, target)
        rows = pa.table({"id": [1, 2], "v": VALUES[new]})
        promotion = Promotion(bench, (target, rows), id=f"p-{number}")
        promotion.stage()
        promotion.publish()
        assert len(found(bench, target)) == 2
        assert promotion.revert()
        assert (columns(bench, target), found(bench, target)) == before, new
        promotion.discard()
        bench.write(target, rows)
        wanted = bench.target(f"sales.other{number}")
        bench.write(wanted, rows)
        if new not in ("int", "float", "decimal"):
            assert columns(bench, target)["v"].split("<")[0] in columns(bench, wanted)["v"]
        assert [str(v) for v in found(bench, target)][1] == "None"


def test_a_drifting_decimal_just_works(bench: Bench) -> None:
    """``sum(x) * 1.1``: decimal(38, 2) in one run, decimal(38, 3) in the next."""
    target = bench.target()
    for kind in (pa.decimal128(38, 2), pa.decimal128(38, 3), pa.decimal128(38, 2)):
        bench.write(target, pa.table({"id": [1], "v": pa.array([Decimal("1.50")], kind)}))
        assert found(bench, target) == [Decimal("1.5")]
    appended = bench.target("sales.log", Mode.APPEND)
    for number, scale in enumerate((2, 3, 2)):
        value = pa.array([Decimal("1.50")], pa.decimal128(38, scale))
        bench.write(appended, pa.table({"id": [number], "v": value}))
    assert found(bench, appended) == [Decimal("1.5")] * 3


@pytest.mark.parametrize("promotes", [False, True])
def test_a_column_that_left_is_kept_and_set_to_null(bench: Bench, promotes: bool) -> None:
    target = bench.target()
    bench.write(target, FULL)
    with bench.table(target).update_schema() as update:
        update.add_column("theirs", StringType())
    if promotes:
        promotion = Promotion(bench, (target, LESS))
        promotion.stage()
        notes = promotion.notes
        promotion.publish()
    else:
        notes = bench.write(target, LESS).notes
    assert any("'city' left the node: it is kept, and set to NULL" in note for note in notes)
    assert any("'theirs' was not made by Seeknal" in note for note in notes)
    assert set(columns(bench, target)) == {"id", "name", "city", "theirs"}
    assert found(bench, target, "city") == [None, None]
    if promotes:
        assert promotion.revert()
        assert found(bench, target, "city") == ["x", "y"]


def test_sync_drops_what_left_and_is_ours(bench: Bench) -> None:
    target = bench.target(on_schema_change=SchemaChange.SYNC)
    bench.write(target, FULL)
    with bench.table(target).update_schema() as update:
        update.add_column("theirs", StringType())
    notes = bench.write(target, LESS).notes
    assert any("'city' left the node: it is dropped" in note for note in notes)
    assert set(columns(bench, target)) == {"id", "name", "theirs"}
    bench.write(target, FULL)
    assert found(bench, target, "city") == ["x", "y"]


def test_without_a_list_a_column_is_somebody_elses(bench: Bench) -> None:
    target = bench.target(on_schema_change=SchemaChange.SYNC)
    bench.write(target, FULL)
    with bench.table(target).transaction() as transaction:
        transaction.remove_properties("seeknal.columns")
    notes = bench.write(target, LESS).notes
    assert any("'city' was not made by Seeknal" in note for note in notes)
    assert "city" in columns(bench, target)


MODES: dict[str, tuple[Mode, dict[str, Any]]] = {
    "append": (Mode.APPEND, {}),
    "upsert": (Mode.UPSERT_BY_KEY, {"unique_keys": ("id",)}),
    "incremental": (Mode.INCREMENTAL_BY_TIME, {"time_column": "at"}),
}


def dated(id: int, v: object) -> pa.Table:
    at = pa.array([dt.date(2024, 1, id)])
    return pa.table({"id": [id], "at": at, "v": pa.array([v])})


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_keep_rows_cast_them(bench: Bench, mode: str) -> None:
    kind, fields = MODES[mode]
    target = bench.target(mode=kind, **fields)
    bench.write(target, dated(1, "15"))
    bench.write(target, dated(3, "17"))
    bench.write(target, dated(2, 16))
    assert found(bench, target) == [15, 16, 17]
    promotion = Promotion(bench, (target, dated(4, dt.date(2024, 1, 1))))
    with pytest.raises(WriteRefused):
        promotion.stage()
    promotion = Promotion(bench, (target, dated(4, "x")), id="p-2")
    promotion.stage()
    promotion.publish()
    assert found(bench, target) == ["15", "16", "17", "x"]
    assert promotion.revert()
    assert found(bench, target) == [15, 16, 17]


@pytest.mark.parametrize(
    ("value", "new", "words"),
    [
        ("x1", 16, "x1 does not fit"),
        ("007", 16, "007 would become 7"),
        (1.5, 16, "1.5 does not fit"),
        ("12345678901234567890123456789012345678901", Decimal("1.5"), "cannot be cast"),
        (dt.datetime(2024, 1, 1, 5), dt.date(2024, 1, 2), "cannot be cast"),  # noqa: DTZ001
        ([1], "text", "rows that stay cannot be cast"),
        # Arrow casts these, by counting from 1970.
        (20240101, dt.date(2024, 1, 2), "is long there and date here, and rows that stay cannot"),
        (dt.time(1, 2), 5, "rows that stay cannot be cast"),
        (100, Decimal("1.50"), "100 does not fit"),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_a_value_that_does_not_fit_is_refused(
    bench: Bench, mode: str, value: object, new: object, words: str
) -> None:
    kind, fields = MODES[mode]
    target = bench.target(mode=kind, **fields)
    bench.write(target, dated(1, value))
    before = columns(bench, target)
    with pytest.raises(WriteRefused, match=words) as raised:
        bench.write(target, dated(2, new))
    assert "--full-refresh" in raised.value.hint
    assert columns(bench, target) == before and len(found(bench, target)) == 1


_A_UUID = uuid.UUID("b1a7e1de-9d58-4f5c-8d62-8b7b6c5b2a10")


@pytest.mark.parametrize(
    ("value", "new", "kept"),
    [
        # Arrow asks for room for the widest integer.
        (7, Decimal("1.5"), Decimal("7.0")),
        (Decimal("7.00"), 5, 7),
        (dt.time(1, 2), "x", "01:02:00.000000"),
        ("01:02:03.500000", dt.time(1, 2), dt.time(1, 2, 3, 500_000)),
        (_A_UUID, "x", str(_A_UUID)),
        (str(_A_UUID), _A_UUID, _A_UUID),
    ],
)
def test_a_value_that_fits_is_cast(bench: Bench, value: object, new: object, kept: object) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, dated(1, value))
    bench.write(target, dated(2, new))
    assert found(bench, target) == [kept, new]


def test_a_key_that_changes_its_type_is_refused(bench: Bench) -> None:
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, {"id": [1], "v": [1]})
    with pytest.raises(WriteRefused, match="finds rows by it"):
        bench.write(target, {"id": ["1"], "v": [1]})
