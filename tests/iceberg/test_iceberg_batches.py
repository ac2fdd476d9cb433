"""Batches: all of a connection's tables change, or none; whoever else writes, and what dies when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import requests
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError

from seeknal_core.errors import StaleStage, Unreachable, WriteRefused
from seeknal_core.types import Mode, Target
from seeknal_iceberg import plugin
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from support.iceberg import Bench, Promotion

TESTS = str(Path(__file__).parents[1])
UPSERT: dict[str, Any] = {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",)}


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace of its own, on an embedded catalog and on a REST one."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def ids(bench: Bench, target: Target) -> list[int] | None:
    plain = attrs.evolve(target, staged=None)
    if not bench.inspect(plain).exists:
        return None
    return sorted(row["id"] for row in bench.rows(plain))


class Four:
    """Two tables that exist and two new ones, and a promotion that changes all four."""

    def __init__(self, bench: Bench, namespace: str) -> None:
        self.bench = bench
        self.full = bench.target(f"{namespace}.full")
        self.upsert = bench.target(f"{namespace}.upsert", **UPSERT)
        self.new = bench.target(f"{namespace}.new")
        self.newer = bench.target(f"lake.{namespace}.north.newer", Mode.APPEND)
        bench.write(self.full, {"id": [1]})
        bench.write(self.upsert, {"id": [1, 2]})
        self.before = self.states()
        self.promotion = bench.promotion()

    @property
    def targets(self) -> tuple[Target, ...]:
        return (self.full, self.new, self.upsert, self.newer)

    def stage(self, promotion: Promotion | None = None) -> None:
        for target in self.targets:
            (promotion or self.promotion).stage(target, {"id": [2, 5]})

    def seen(self) -> list[list[int] | None]:
        return [ids(self.bench, target) for target in self.targets]

    def states(self) -> list[Any]:
        return [self.bench.inspect(target) for target in self.targets]


OLD: list[list[int] | None] = [[1], None, [1, 2], None]
NEW: list[list[int] | None] = [[2, 5], [2, 5], [1, 2, 5], [2, 5]]


@pytest.fixture
def four(any_bench: tuple[Bench, str]) -> Four:
    """Four tables on either catalog."""
    return Four(*any_bench)


def test_new_and_existing_tables_change_together_and_back(four: Four) -> None:
    four.stage()
    assert four.seen() == OLD
    published = four.promotion.publish()
    assert four.seen() == NEW
    assert [one.key for one in published.targets] == [target.key for target in four.targets]
    assert [one.version for one in published.targets] == [each.version for each in four.states()]
    assert [one.rows_after for one in published.targets] == [2, 2, 3, 2]
    assert [one.created for one in published.targets] == [False, True, False, True]
    other = four.bench.other()
    assert four.promotion.publish(other) == published
    assert four.promotion.revert(other)
    assert four.seen() == OLD
    assert four.states() == four.before
    assert not four.promotion.revert(other)
    four.promotion.discard(other)
    other.close()
    assert four.bench.notes() == []


def somebody_writes(four: Four) -> None:
    four.bench.write(attrs.evolve(four.upsert, mode=Mode.APPEND), {"id": [77]})


def test_a_row_that_somebody_adds_after_staging_stops_the_whole_batch(four: Four) -> None:
    four.stage()
    somebody_writes(four)
    with pytest.raises(StaleStage, match=r"upsert.*version \d+ then, \d+ now"):
        four.promotion.publish()
    assert four.seen() == [[1], None, [1, 2, 77], None]
    assert four.bench.inspect(four.full) == four.before[0]
    four.promotion.discard()
    assert four.seen() == [[1], None, [1, 2, 77], None]


def test_a_row_that_somebody_adds_during_the_publish_stops_the_whole_batch(
    four: Four, monkeypatch: pytest.MonkeyPatch
) -> None:
    four.stage()
    writes = [lambda: somebody_writes(four)]

    def before(original: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if writes and (len(args) == 1 or args[0].name()[-1] == "upsert"):
                writes.pop()()
            return original(self, *args, **kwargs)

        return call

    monkeypatch.setattr(SqlCatalog, "commit_table", before(SqlCatalog.commit_table))
    monkeypatch.setattr(
        PatientRestCatalog, "commit_tables", before(PatientRestCatalog.commit_tables)
    )
    with pytest.raises(StaleStage):
        four.promotion.publish()
    assert writes == []
    assert four.seen() == [[1], None, [1, 2, 77], None]
    four.promotion.discard()
    assert four.bench.notes() == []


def test_a_table_that_somebody_makes_meanwhile_is_not_overwritten(four: Four) -> None:
    four.stage()
    four.bench.write(four.newer, {"id": [77]})
    with pytest.raises(
        StaleStage,
        match=r"newer was changed by somebody else since it was staged: version \(no table\) then",
    ):
        four.promotion.publish()
    four.promotion.discard()
    assert four.seen() == [[1], None, [1, 2], [77]]


@pytest.mark.parametrize("again", [True, False])
def test_a_table_that_somebody_drops_meanwhile_is_not_made_anew(bench: Bench, again: bool) -> None:
    four = Four(bench, "sales")
    four.stage()
    from seeknal_iceberg.connection.catalog import open_catalog

    open_catalog(bench.context).drop_table(four.full.name.parts)
    if again:
        bench.write(four.full, {"id": [77]})
    with pytest.raises(StaleStage, match="full"):
        four.promotion.publish()
    four.promotion.discard()
    assert four.seen() == [[77] if again else None, None, [1, 2], None]


def test_of_two_promotions_at_once_one_is_stale(four: Four) -> None:
    second = four.bench.promotion("p-2")
    four.stage()
    four.stage(second)
    four.promotion.publish()
    with pytest.raises(StaleStage):
        second.publish()
    second.discard()
    assert four.seen() == NEW
    four.promotion.revert()
    four.promotion.discard()
    assert four.states() == four.before


def test_a_generation_that_is_not_the_next_one_is_stale(bench: Bench) -> None:
    first, second = bench.target("sales.a"), bench.target("sales.b")
    for target in (first, second):
        bench.write(target, {"id": [1]})
    promotion = bench.promotion("p-1", generation=4)
    promotion.stage(first, {"id": [2]})
    promotion.publish()
    assert [bench.inspect(target).generation for target in (first, second)] == [4, 0]
    late = bench.promotion("p-2", generation=4)
    late.stage(first, {"id": [3]})
    late.stage(second, {"id": [3]})
    with pytest.raises(StaleStage, match="generation 4 is there, and 4 was to come"):
        late.publish()
    late.discard()
    assert [ids(bench, target) for target in (first, second)] == [[2], [1]]
    following = bench.promotion("p-3", generation=5)
    following.stage(first, {"id": [3]})
    following.stage(second, {"id": [3]})
    following.publish()
    assert [bench.inspect(target).generation for target in (first, second)] == [5, 5]
    following.revert()
    assert [bench.inspect(target).generation for target in (first, second)] == [4, 0]


def test_existing_tables_of_a_rest_catalog_change_in_one_commit(
    rest: Bench, lake_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = Four(rest, lake_namespace)
    four.stage()
    commits: list[int] = []
    single: list[str] = []
    together, alone = PatientRestCatalog.commit_tables, PatientRestCatalog.commit_table

    def commit_tables(self: Any, changes: Any) -> None:
        commits.append(len(changes))
        together(self, changes)

    def commit_table(self: Any, table: Any, *args: Any) -> Any:
        single.append(table.name()[-1])
        return alone(self, table, *args)

    monkeypatch.setattr(PatientRestCatalog, "commit_tables", commit_tables)
    monkeypatch.setattr(PatientRestCatalog, "commit_table", commit_table)
    four.promotion.publish()
    # The first one sets the fences.
    assert (commits, single) == ([2, 2], ["new", "newer"])
    four.promotion.revert()
    # The last one removes what the undoing left out of sight.
    assert (commits, single) == ([2, 2, 2, 2], ["new", "newer"])
    assert four.states() == four.before


def test_a_rest_catalog_without_such_commits_changes_table_by_table(
    rest: Bench, lake_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "seeknal_iceberg.connection.rest.rest_catalog._TRANSACTIONS", "transactions/nothing-here"
    )
    four = Four(rest, lake_namespace)
    four.stage()
    four.promotion.publish()
    assert four.seen() == NEW
    four.promotion.revert()
    # A catalog that lists such commits is known by the first one that it can't carry out.
    assert _without_notes(four.states()) == _without_notes(four.before)
    assert all("one table at a time" in note for state in four.states() for note in state.notes)
    four.promotion.discard()


def _without_notes(states: list[Any]) -> list[Any]:
    return [attrs.evolve(state, notes=()) for state in states]


def test_somebody_elses_later_write_is_undone_only_when_asked(four: Four) -> None:
    four.stage()
    published = four.promotion.publish()
    somebody_writes(four)
    version = four.bench.inspect(four.upsert).version
    with pytest.raises(StaleStage) as caught:
        four.promotion.revert()
    assert published.targets[2].version in str(caught.value)
    assert str(version) in str(caught.value)
    assert four.seen() == [[2, 5], [2, 5], [1, 2, 5, 77], [2, 5]]
    assert four.promotion.publish().targets[2].version == published.targets[2].version
    assert four.promotion.revert(overwrite=True)
    assert four.seen() == OLD
    assert four.states() == four.before
    assert not four.promotion.revert(overwrite=True)
    four.promotion.discard()
    assert four.seen() == OLD


def test_a_publish_is_known_also_where_somebody_expired_its_snapshot(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    before = bench.inspect(target)
    promotion = bench.promotion()
    promotion.stage(target, {"id": [2]})
    published = promotion.publish()
    bench.write(target, {"id": [77]})
    version = int(published.targets[0].version)
    bench.table(target).maintenance.expire_snapshots().by_id(version).commit()
    assert promotion.publish() == published
    with pytest.raises(StaleStage, match=str(version)):
        promotion.revert()
    assert promotion.revert(overwrite=True)
    assert bench.inspect(target) == before
    assert ids(bench, target) == [1]


def test_a_new_table_that_somebody_wrote_to_since_stays(four: Four) -> None:
    four.stage()
    four.promotion.publish()
    four.bench.write(four.newer, {"id": [77]})
    with pytest.raises(StaleStage, match="newer"):
        four.promotion.revert()
    assert four.seen() == [*NEW[:3], [2, 5, 77]]
    assert four.promotion.revert(overwrite=True)
    assert four.seen() == OLD


def test_what_was_not_published_is_left_alone(four: Four) -> None:
    four.stage()
    somebody_writes(four)
    assert not four.promotion.revert()
    assert not four.promotion.revert(overwrite=True)
    assert four.seen() == [[1], None, [1, 2, 77], None]
    four.promotion.discard()
    assert not four.promotion.revert()


def test_a_commit_that_the_catalog_forbids_changes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = Four(bench, "sales")
    four.stage()
    original = SqlCatalog.commit_table
    forbids = [True]

    def commit_table(self: Any, table: Any, *args: Any) -> Any:
        if table.name()[-1] == "upsert" and forbids:
            forbids.clear()
            raise ForbiddenError("not yours")
        return original(self, table, *args)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    with pytest.raises(WriteRefused, match="not yours"):
        four.promotion.publish()
    assert four.states() == four.before


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("call", ["publish", "revert"])
def test_a_lost_answer_is_looked_for_in_the_tables(
    four: Four, monkeypatch: pytest.MonkeyPatch, landed: bool, call: str
) -> None:
    monkeypatch.setattr("seeknal_iceberg.promotion.publish.LOOKS", (0.05, 0.05))
    four.stage()
    if call == "revert":
        four.promotion.publish()
    lost = ["one"]

    def losing(original: Any) -> Any:
        def send(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not lost or (len(args) > 1 and args[0].name()[-1] in ("new", "newer")):
                return original(self, *args, **kwargs)
            lost.clear()
            if landed:
                original(self, *args, **kwargs)
            raise requests.exceptions.ReadTimeout("no answer")

        return send

    monkeypatch.setattr(SqlCatalog, "commit_table", losing(SqlCatalog.commit_table))
    monkeypatch.setattr(
        PatientRestCatalog, "commit_tables", losing(PatientRestCatalog.commit_tables)
    )
    if call == "publish" and not landed:
        with pytest.raises(Unreachable):
            four.promotion.publish()
        assert four.seen()[0::2] == OLD[0::2]
    if call == "publish":
        four.promotion.publish()
        assert four.seen() == NEW
    else:
        four.promotion.revert()
        assert four.states() == four.before
    assert lost == []


@pytest.mark.parametrize("rows", [{"id": [2]}, {"id": [2], "more": [1.5]}])
def test_an_append_published_twice_adds_its_rows_once(bench: Bench, rows: dict[str, Any]) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    snapshot = bench.snapshot(rows)
    for generation in (1, 2):
        promotion = bench.promotion(f"p-{generation}", generation)
        staged = promotion.stage(target, snapshot)
        assert staged.staged is not None
        assert staged.staged.rows == bench.count(staged) == (1 if generation == 1 else 0)
        (published,) = promotion.publish().targets
        assert published.version == bench.inspect(target).version
        assert published.rows_after == 2
        assert promotion.publish().targets == (published,)
        assert promotion.revert() is False or generation == 1
        if generation == 1:
            promotion.stage(target, snapshot)
            promotion.publish()
        promotion.discard()
    assert ids(bench, target) == [1, 2]


def test_a_full_refresh_stages_a_replacement_in_every_mode(bench: Bench) -> None:
    target = bench.target(**UPSERT)
    bench.write(target, {"id": [1, 2]})
    fresh = bench.other(full_refresh=True)
    promotion = fresh.promotion()
    promotion.stage(target, {"id": [2, 5]})
    promotion.publish(bench)
    assert ids(bench, target) == [2, 5]
    promotion.revert(bench)
    assert ids(bench, target) == [1, 2]
    fresh.close()


def test_a_table_that_is_not_ours_is_promoted_over_only_when_adopted(bench: Bench) -> None:
    theirs = bench.other(project="theirs")
    theirs.write(theirs.target(), {"id": [1]})
    with pytest.raises(WriteRefused, match="theirs"):
        bench.promotion().stage(bench.target(), {"id": [2]})
    adopting = bench.other(adopt=True)
    promotion = adopting.promotion()
    promotion.stage(adopting.target(), {"id": [2]})
    promotion.publish()
    owner = bench.inspect(bench.target()).owner
    assert owner is not None
    assert owner.project == "shop"
    assert plugin.list_owned(bench.context) == ()
    promotion.revert()
    owner = bench.inspect(bench.target()).owner
    assert owner is not None
    assert owner.project == "theirs"
    theirs.close()
    adopting.close()
