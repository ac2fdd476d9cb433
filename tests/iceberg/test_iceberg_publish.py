"""Stage, publish, revert, discard: one table by each mode, on both kinds of catalog."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.update import update_table_metadata

from seeknal_core.checksums import checksum_of
from seeknal_core.types import Mode, Target
from seeknal_iceberg import plugin
from support.iceberg import Bench

FIRST = {"id": [1, 2, 3], "day": [1, 1, 2], "v": ["a", "b", None]}
#: By mode: what is promoted, and the ids with their values that a reader sees afterwards.
MODES: dict[Mode, tuple[dict[str, Any], dict[str, Any], dict[int, str | None]]] = {
    Mode.FULL: ({}, {"id": [7], "day": [9], "v": ["z"]}, {7: "z"}),
    Mode.APPEND: (
        {},
        {"id": [7], "day": [9], "v": ["z"]},
        {1: "a", 2: "b", 3: None, 7: "z"},
    ),
    Mode.UPSERT_BY_KEY: (
        {"unique_keys": ("id",)},
        {"id": [2, 7], "day": [1, 9], "v": ["B", "z"]},
        {1: "a", 2: "B", 3: None, 7: "z"},
    ),
}


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace of its own, on an embedded catalog and on a REST one."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def seen(bench: Bench, target: Target) -> dict[int, str | None]:
    return {row["id"]: row["v"] for row in bench.rows(attrs.evolve(target, staged=None))}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_staged_published_undone_and_forgotten(
    any_bench: tuple[Bench, str], mode: Mode
) -> None:
    bench, namespace = any_bench
    fields, rows, expected = MODES[mode]
    target = bench.target(f"{namespace}.orders", mode, **fields)
    bench.write(bench.target(f"{namespace}.orders"), FIRST)
    before = bench.inspect(target)
    properties = dict(bench.table(target).properties)
    promotion = bench.promotion()

    staged = promotion.stage(target, rows)
    assert staged.staged is not None
    assert staged.staged.base == before.version
    assert bench.count(staged) == staged.staged.rows == len(rows["id"])
    assert [column.name for column in bench.inspect(staged).columns] == ["id", "day", "v"]
    snapshot = bench.snapshot(rows)
    assert plugin.checksum(bench.context, staged) == checksum_of(snapshot.reader())
    assert bench.inspect(target) == before
    assert len(seen(bench, target)) == 3

    (published,) = promotion.publish().targets
    state = bench.inspect(target)
    assert (published.version, published.rows_after) == (state.version, len(expected))
    assert not published.created
    assert state.generation == 1
    assert seen(bench, target) == expected
    assert promotion.publish().targets == (published,)

    assert promotion.revert()
    assert bench.inspect(target) == before
    assert dict(bench.table(target).properties) == properties
    assert seen(bench, target) == {1: "a", 2: "b", 3: None}
    assert not promotion.revert()
    promotion.discard()
    promotion.discard()
    table = bench.table(target)
    assert list(table.metadata.refs) == ["main"]
    assert len(table.snapshots()) == 1
    assert bench.notes() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_new_table_is_not_there_before_its_publish_nor_after_its_undoing(
    any_bench: tuple[Bench, str], mode: Mode
) -> None:
    bench, namespace = any_bench
    fields, rows, _ = MODES[mode]
    target = bench.target(f"lake.{namespace}.north.orders", mode, **fields)
    promotion = bench.promotion()
    staged = promotion.stage(target, rows)
    assert staged.staged is not None
    assert staged.staged.base is None
    assert bench.count(staged) == len(rows["id"])
    assert not bench.inspect(target).exists

    (published,) = promotion.publish().targets
    state = bench.inspect(target)
    assert (published.created, published.version) == (True, state.version)
    assert state.generation == 1
    assert published.rows_after == bench.count(target) == len(rows["id"])
    assert promotion.publish().targets == (published,)
    assert promotion.revert()
    assert not promotion.revert()
    assert not bench.inspect(target).exists
    promotion.discard()
    promotion.discard()
    assert bench.notes() == []


def test_a_write_computes_its_metadata_once_after_each_change(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = update_table_metadata
    asked: list[tuple[Any, Any]] = []

    def counted(base: Any, updates: Any) -> Any:
        asked.append((base, updates))
        return compute(base, updates)

    monkeypatch.setattr("pyiceberg.table.update_table_metadata", counted)
    for rows in (FIRST, {"id": [1], "day": [1], "new": [2]}):
        bench.promotion().stage(bench.target(), rows)
        bench.write(bench.target(), rows)
    assert asked
    assert len({(id(base), id(updates)) for base, updates in asked}) == len(asked)


def test_discarding_loads_each_table_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once to look at it, and once by pyiceberg, before it commits that the tag goes."""
    targets = [bench.target(f"sales.t{number}") for number in range(3)]
    promotion = bench.promotion()
    for target in targets:
        bench.write(target, FIRST)
        promotion.stage(target, FIRST)
    promotion.publish()
    loaded: list[object] = []
    load = SqlCatalog.load_table

    def counted(self: SqlCatalog, name: Any) -> Any:
        loaded.append(name)
        return load(self, name)

    monkeypatch.setattr(SqlCatalog, "load_table", counted)
    promotion.discard()
    assert len(loaded) == 2 * len(targets)
    monkeypatch.undo()
    assert not [name for target in targets for name in bench.table(target).refs() if "undo" in name]
