"""Habits of catalogs that pyiceberg's own server doesn't have: each command gets along with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import Drift, Mode, OwnedKind, Since
from seeknal_iceberg import plugin
from seeknal_iceberg.commit import capabilities
from seeknal_iceberg.connection.catalog import open_catalog
from support import catalog_failing as failing
from support import catalog_layers as ways
from support import catalog_names as names
from support.catalog_proxy import CatalogProxy, answer, changes_of, commits, path
from support.iceberg import Bench, Promotion
from support.rest_server import RestServer


class Habit:
    """A catalog over HTTP, whose files are in a folder, and a proxy that gives it habits."""

    def __init__(self, server: RestServer, proxy: CatalogProxy, root: Path) -> None:
        self.server, self.proxy, self.root = server, proxy, root
        self.options = {**server.catalog_options(), "uri": proxy.uri}
        self.bench = Bench({"catalog": self.options}, root)

    def again(self, **options: Any) -> Bench:
        """Return a bench of another command, with other options of the connection."""
        self.bench.close()
        self.bench = Bench({"catalog": self.options, **options}, self.root)
        return self.bench

    def files(self) -> list[str]:
        """List the tables' files but the catalog's own metadata."""
        found = (self.root / "rest" / "warehouse").rglob("*")
        return sorted(
            path.name for path in found if path.is_file() and "metadata.json" not in path.name
        )

    def table(self, name: str) -> Any:
        """Load a table past the proxy."""
        return self.server.catalog.load_table(("sales", name))


@pytest.fixture
def habit(tmp_path: Path) -> Iterator[Habit]:
    """A catalog without any habit yet."""
    with RestServer(tmp_path / "rest") as server, CatalogProxy(server.uri) as proxy:
        made = Habit(server, proxy, tmp_path)
        yield made
        made.bench.close()


def delete_all(bench: Bench) -> list[bool]:
    """Drop what the environment made, as `env delete` does."""
    return [plugin.drop_target(bench.context, one) for one in plugin.list_owned(bench.context)]


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_a_table_is_dropped_with_its_files_where_the_catalog_refuses_to_purge(
    habit: Habit, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    habit.proxy.behave(ways.NoPurge(status))
    target = habit.bench.target("sales.t")
    habit.bench.write(target, {"id": [1]})
    habit.bench.write(target, {"id": [2]})
    theirs = habit.root / "rest" / "warehouse" / "sales" / "t" / "theirs.parquet"
    (place,) = (habit.root / "rest" / "warehouse").rglob("data")
    theirs = place / "theirs.parquet"
    theirs.write_bytes(b"of somebody else")
    assert delete_all(habit.bench) == [True, True]
    assert habit.files() == ["theirs.parquet"]
    assert "what others wrote, stay in" in caplog.text
    habit.bench.write(target, {"id": [3]})
    assert habit.bench.rows(target) == [{"id": 3}]


def test_what_was_promoted_is_undone_where_the_catalog_refuses_to_purge(habit: Habit) -> None:
    habit.proxy.behave(ways.NoPurge(403))
    promotion = habit.bench.promotion()
    promotion.stage(habit.bench.target("sales.new"), {"id": [1]})
    promotion.publish()
    promotion.revert()
    promotion.discard()
    assert habit.files() == []
    assert habit.bench.notes() == []


def test_a_killed_drop_without_purge_is_finished_by_the_same_call(
    habit: Habit, monkeypatch: pytest.MonkeyPatch
) -> None:
    habit.proxy.behave(ways.NoPurge(403))
    habit.bench.write(habit.bench.target("sales.t"), {"id": [1]})
    with monkeypatch.context() as patch:
        patch.setattr("seeknal_iceberg.commit.dropped_files.finish", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            delete_all(habit.bench)
    assert habit.files() != []
    assert delete_all(habit.again()) == [True, True]
    assert habit.files() == []


def _interrupted(*_args: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("purge", ["yes", True])
def test_a_refused_purge_is_the_message_where_the_profile_insists(
    habit: Habit, purge: object
) -> None:
    habit.proxy.behave(ways.NoPurge(403))
    bench = habit.again(purge=purge)
    bench.write(bench.target("sales.t"), {"id": [1]})
    with pytest.raises(WriteRefused, match="refuses to drop it with its files") as caught:
        delete_all(bench)
    assert "purge: auto" in caught.value.hint
    assert habit.table("t").scan().to_arrow().num_rows == 1


def test_a_catalog_that_drops_only_with_purge_is_asked_so(habit: Habit) -> None:
    habit.proxy.rule(path("purgeRequested=[Ff]alse", "DELETE"), answer(400))
    habit.bench.write(habit.bench.target("sales.t"), {"id": [1]})
    bench = habit.again(purge="no")
    with pytest.raises(WriteRefused, match="refuses to drop it") as caught:
        delete_all(bench)
    assert "purge: auto" in caught.value.hint
    assert delete_all(habit.again()) == [True, True]


def test_a_lost_answer_to_a_drop_is_no_failure(habit: Habit) -> None:
    habit.bench.write(habit.bench.target("sales.t"), {"id": [1]})
    habit.proxy.rule(path("/tables/t", "DELETE"), answer(500, landed=True), times=1)
    assert delete_all(habit.bench) == [True, True]


def test_a_namespace_that_holds_what_was_dropped_stays_and_is_named(
    habit: Habit, caplog: pytest.LogCaptureFixture
) -> None:
    target = habit.bench.target("sales.t")
    habit.bench.write(target, {"id": [1]})
    habit.proxy.rule(path("/namespaces/sales$", "DELETE"), answer(409))
    assert delete_all(habit.bench) == [True, False]
    assert "still keeps tables that were dropped" in caplog.text
    habit.bench.write(target, {"id": [2]})
    assert habit.bench.rows(target) == [{"id": 2}]


def staged(bench: Bench, name: str = "p-1", generation: int = 1, **rows: int) -> Promotion:
    """Stage new rows for tables, and publish them."""
    promotion = bench.promotion(name, generation)
    for table, value in rows.items():
        promotion.stage(bench.target(f"sales.{table}"), {"id": [value]})
    promotion.publish()
    return promotion


@pytest.mark.parametrize("hinted", [True, False])
def test_a_promotion_is_undone_where_only_the_current_snapshot_is_seen(
    habit: Habit, hinted: bool
) -> None:
    habit.proxy.behave(ways.OneSnapshot(), *([ways.is_nessie] if hinted else []))
    bench = habit.bench
    target = bench.target("sales.t")
    bench.write(target, {"id": [1]})
    bench.write(bench.target("sales.t", Mode.APPEND), {"id": [2]})
    first = staged(bench, "p-1", 1, t=3)
    assert bench.rows(target) == [{"id": 3}]
    second = staged(bench, "p-2", 2, t=4)
    # What undid the first one goes; the second still needs the first one's files.
    first.discard()
    bench = habit.again()
    assert plugin.sweep(bench.context, ("p-2",), False, ()).kept == ()
    second.revert(bench)
    second.discard(bench)
    assert bench.rows(target) == [{"id": 3}]
    bench.write(bench.target("sales.t", Mode.APPEND), {"id": [5]})
    assert bench.rows(target) == [{"id": 3}, {"id": 5}]
    assert not [name for name in bench.table(target).properties if "undo" in name]
    assert not bench.notes()
    assert delete_all(bench) == [True, True]
    if hinted:  # else the server behind the proxy deletes what it knows of
        assert not [name for name in habit.files() if name.endswith(".parquet")]


def test_an_empty_table_is_empty_again_where_references_stay(habit: Habit) -> None:
    bench = habit.bench
    target = bench.target("sales.t")
    bench.write(target, {"id": [1]})
    habit.proxy.behave(ways.removals_fail)
    habit.proxy.behave(ways.references_stay)
    catalog = open_catalog(bench.context)
    catalog.create_table(("sales", "empty"), bench.table(target).schema())
    adopting = bench.other(adopt=True)
    promotion = adopting.promotion()
    promotion.stage(adopting.target("sales.empty"), {"id": [1]})
    promotion.publish()
    promotion.revert()
    promotion.discard()
    assert bench.rows(bench.target("sales.empty")) == []
    adopting.close()


def test_a_tag_that_stays_is_named_by_gc_and_fails_nothing(
    habit: Habit, caplog: pytest.LogCaptureFixture
) -> None:
    bench = habit.bench
    bench.write(bench.target("sales.t"), {"id": [1]})
    habit.proxy.behave(ways.references_stay)
    promotion = staged(bench, t=2)
    promotion.revert()
    assert promotion.revert() is False  # as after a crash: the tag alone proves nothing
    promotion.discard()
    assert bench.rows(bench.target("sales.t")) == [{"id": 1}]
    assert "keeps the tag seeknal-undo-p-1" in caplog.text
    target = bench.target("sales.t")
    state = bench.inspect(target)
    known = Since(version=str(state.version), mark=str(state.mark), rows=1)
    (change,) = plugin.changes_since(bench.context, (target,), (known,))
    assert (change.drift, "2 tags of ours (seeknal-undo-p-1, …)" in change.detail) == (
        Drift.NONE,
        True,
    )
    (said,) = plugin.sweep(bench.context, (), False, ()).kept
    assert "sales.t: the catalog keeps the tag seeknal-undo-p-1" in said
    again = staged(bench, "p-2", 2, t=3)
    assert bench.rows(bench.target("sales.t")) == [{"id": 3}]
    again.revert()
    again.discard()
    assert bench.rows(bench.target("sales.t")) == [{"id": 1}]
    state = bench.inspect(target)
    known = Since(version=str(state.version), mark=str(state.mark), rows=1)
    (change,) = plugin.changes_since(bench.context, (target,), (known,))
    # Two of undo, and the fences of what was staged.
    assert re.search(r"keeps \d+ tags of ours \(seeknal-", change.detail), change.detail
    habit.proxy.heal()
    assert plugin.sweep(bench.context, (), False, ()).kept == ()
    assert set(habit.table("t").metadata.refs) <= {
        "main", "seeknal-fence-p-1", "seeknal-fence-p-2"
    }  # fmt: skip


def test_undoing_needs_no_commit_that_removes_snapshots(habit: Habit) -> None:
    bench = habit.bench
    bench.write(bench.target("sales.t"), {"id": [1]})
    habit.proxy.behave(ways.removals_fail)
    promotion = staged(bench, t=2)
    promotion.revert()
    promotion.discard()
    assert bench.rows(bench.target("sales.t")) == [{"id": 1}]
    again = staged(bench, "p-2", 2, t=3)
    assert bench.rows(bench.target("sales.t")) == [{"id": 3}]
    again.revert()
    assert bench.rows(bench.target("sales.t")) == [{"id": 1}]


def test_an_undo_that_goes_on_failing_ends_with_the_catalogs_words(habit: Habit) -> None:
    bench = habit.bench
    bench.write(bench.target("sales.t"), {"id": [1]})
    promotion = staged(bench, t=2)
    before = habit.proxy.count(commits())
    habit.proxy.rule(commits(), answer(500))
    with pytest.raises(BackendError, match="the proxy says 500; it was asked 3 times"):
        promotion.revert()
    assert habit.proxy.count(commits()) == before + 3


@pytest.mark.parametrize("status", [500, 502, 503, 504, 409])
@pytest.mark.parametrize("who", ["revert", "untag", "adopt"])
def test_a_lost_answer_is_looked_for_whoever_sent_the_commit(
    habit: Habit, status: int, who: str
) -> None:
    bench = habit.bench
    target = bench.target("sales.t")
    bench.write(target, {"id": [1]})
    promotion = staged(bench, t=2)
    habit.proxy.rule(
        lambda request: bool(changes_of(request)), answer(status, landed=True), times=1
    )
    if who == "adopt":
        before = habit.proxy.count(lambda request: bool(changes_of(request)))
        plugin.adopt_target(bench.context, target, "taken")
        assert habit.proxy.count(lambda request: bool(changes_of(request))) == before + 1
        assert habit.table("t").properties["seeknal.content_key"] == "taken"
        return
    if who == "revert":
        promotion.revert()
    promotion.discard()
    assert bench.rows(target) == [{"id": 1 if who == "revert" else 2}]
    assert "seeknal-undo-p-1" not in habit.table("t").metadata.refs


def test_what_may_not_be_looked_at_is_made(habit: Habit) -> None:
    habit.proxy.behave(ways.hides)
    bench = habit.bench
    target = bench.target("sales.t")
    assert not bench.inspect(target).exists
    bench.write(target, {"id": [1]})
    promotion = staged(bench, t=2, new=2)
    promotion.revert()
    promotion.discard()
    assert bench.rows(target) == [{"id": 1}]
    assert bench.notes() == []
    assert delete_all(bench) == [True, True]
    assert plugin.list_owned(bench.context) == ()
    assert habit.files() == []


def test_a_table_that_is_there_and_may_not_be_read_is_the_message(habit: Habit) -> None:
    bench = habit.bench
    bench.write(bench.target("sales.t"), {"id": [1]})
    habit.proxy.rule(path("/tables/t$", "GET", "HEAD"), answer(403))
    with pytest.raises(WriteRefused, match="the proxy says 403"):
        bench.write(bench.target("sales.t"), {"id": [2]})
    with pytest.raises(WriteRefused, match="the proxy says 403"):
        bench.promotion().stage(bench.target("sales.t"), {"id": [2]})
    assert habit.table("t").scan().to_arrow().to_pylist() == [{"id": 1}]


@pytest.mark.parametrize("folds", [True, False])
def test_names_that_differ_in_case_are_compared_as_the_catalog_does(
    habit: Habit, folds: bool
) -> None:
    bench = habit.bench
    bench.write(bench.target("sales.first"), {"id": [1]})
    if folds:
        habit.proxy.behave(names.AnyCase())
    bench = habit.again()
    places = [bench.inspect(bench.target(name)).table_id for name in ("sales.A", "sales.a")]
    assert (places[0] == places[1]) is folds
    assert capabilities.of(bench.context).folds_case is folds
    there = [bench.inspect(bench.target(name)).table_id for name in ("sales.FIRST", "sales.first")]
    assert (there[0] == there[1]) is folds


def test_what_a_catalog_cannot_do_is_said_before(habit: Habit) -> None:
    habit.proxy.behave(ways.OneSnapshot(), ways.is_nessie)
    habit.proxy.behave(failing.NoMultiTable(404))
    bench = habit.bench
    said = plugin.check_connection(bench.context)
    assert "shows only the current snapshot" in said
    notes = bench.inspect(bench.target("sales.t")).notes
    assert any("a rollback adds a snapshot" in note for note in notes)
    assert json.dumps(notes)


def test_only_owned_things_are_listed(habit: Habit) -> None:
    habit.bench.write(habit.bench.target("sales.t"), {"id": [1]})
    kinds = [one.kind for one in plugin.list_owned(habit.bench.context)]
    assert kinds == [OwnedKind.TABLE, OwnedKind.NAMESPACE]


@pytest.mark.parametrize("exists", [True, False])
def test_a_commit_that_is_too_large_is_refused_with_its_size_before_anything_is_written(
    habit: Habit, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seeknal_iceberg.connection.rest import commit_body, rest_catalog

    monkeypatch.setattr(commit_body, "MOST", 8000)
    monkeypatch.setattr(rest_catalog, "_ROOM", 2000)
    bench = habit.bench
    target = bench.target("sales.t")
    if exists:
        bench.write(target, {"id": [1]})
    habit.proxy.behave(failing.SmallBodies(8000))
    before = habit.files()
    with pytest.raises(WriteRefused, match=r"sales\.t: .* request of \d+,\d+ bytes"):
        bench.write(target, {"id": [1], **{f"column_with_a_long_name_{n}": [n] for n in range(99)}})
    assert habit.files() == before
    assert bench.notes() == []


def _is_plain(name: str) -> bool:
    return name.isalnum() and name.islower()


@pytest.mark.parametrize(
    ("table", "hint"),
    [("Sales.t", "lower case"), ("sales.a+b", "letters, digits"), ("sales.eu.t", "one level")],
)
def test_a_name_that_the_catalog_refuses_is_named_before_anything_is_written(
    habit: Habit, table: str, hint: str
) -> None:
    habit.proxy.behave(names.NewNames(_is_plain, "the name is not allowed", levels=1))
    bench = habit.bench
    parts = [part if part.isalnum() else f'"{part}"' for part in table.split(".")]
    with pytest.raises(WriteRefused) as caught:
        bench.write(bench.target(f"lake.{'.'.join(parts)}"), {"id": [1]})
    assert hint in caught.value.hint
    assert "refuses to make" in str(caught.value)
    assert habit.files() == []
    assert open_catalog(bench.context).list_namespaces() == []  # nor what was made for it
