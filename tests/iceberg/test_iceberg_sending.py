"""Every commit is one that the oldest readers of the specification take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seeknal_core.types import Mode, SchemaChange
from seeknal_iceberg import plugin
from seeknal_iceberg.connection.rest import commit_body
from support import catalog_failing as failing
from support import catalog_layers as ways
from support.catalog_proxy import changes_of, commits
from support.proxied import ProxiedLake

if TYPE_CHECKING:
    from support.lake import LakeServer


@pytest.fixture
def through(lake: LakeServer, tmp_path: Path, lake_namespace: str) -> Iterator[ProxiedLake]:
    """A REST catalog that reads as Nessie 0.99 does."""
    made = ProxiedLake(lake, tmp_path, lake_namespace)
    made.proxy.behave(ways.strict_updates)
    yield made
    made.close()


def test_an_old_reader_takes_every_commit(through: ProxiedLake) -> None:
    for table in ("a", "b"):
        through.bench.write(through.target(table), {"id": [1]})
    evolving = through.target("a", Mode.APPEND, on_schema_change=SchemaChange.EVOLVE)
    through.bench.write(evolving, {"id": [2], "name": ["x"]})
    through.bench.write(through.target("a", partition_by=("id",)), {"id": [1], "name": ["x"]})
    plugin.adopt_target(through.bench.context, through.target("b"), "taken")
    promotion = through.bench.promotion()
    promotion.stage(through.target("a"), {"id": [3], "name": ["y"], "more": [{"x": 1}]})
    promotion.stage(through.target("b"), {"id": [3]})
    promotion.stage(through.target("new"), {"id": [3]})
    promotion.publish()
    assert [through.ids(table) for table in ("a", "b", "new")] == [[3]] * 3
    promotion.revert()
    promotion.discard()
    assert [through.ids(table) for table in ("a", "b", "new")] == [[1], [1], None]
    flaws = [ways.flaw_for_old_readers(request) for request in through.proxy.requests]
    assert not any(flaws)
    assert through.proxy.count(commits()) >= 6


def test_a_schema_is_added_with_the_highest_id_that_the_table_ever_gave(
    through: ProxiedLake,
) -> None:
    target = through.target("t", on_schema_change=SchemaChange.SYNC)
    through.bench.write(target, {"id": [1], "gone": [1]})
    through.bench.write(target, {"id": [1]})
    through.bench.write(target, {"id": [1], "nested": [[{"x": 1}]]})
    assert through.table("t").metadata.last_column_id == 5


def test_commits_of_several_tables_are_split_where_they_are_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_body, "MOST", 1000)
    bodies = [{"updates": "x" * size} for size in (400, 400, 400, 1500, 10)]
    assert commit_body.groups(bodies) == [[0, 1], [2], [3], [4]]
    assert commit_body.groups([]) == []


def published(through: ProxiedLake) -> list[int]:
    """Publish two tables, take it back and publish again; count the tables of each commit."""
    for table in ("a", "b"):
        through.bench.write(through.target(table), {"id": [1]})
    before = len(through.proxy.requests)
    promotion = through.bench.promotion()
    for table in ("a", "b"):
        promotion.stage(through.target(table), {"id": [2]})
    promotion.publish()
    assert [through.ids(table) for table in ("a", "b")] == [[2], [2]]
    promotion.revert()
    assert [through.ids(table) for table in ("a", "b")] == [[1], [1]]
    promotion.discard()
    made = [each for each in through.proxy.requests[before:] if commits()(each)]
    return [len(changes_of(request)) for request in made]


@pytest.mark.parametrize("status", [400, 404, 405, 413, 501])
def test_tables_change_one_by_one_where_a_catalog_refuses_to_change_several(
    through: ProxiedLake, status: int
) -> None:
    through.proxy.behave(failing.NoMultiTable(status))
    # A commit of nothing that is answered by 400 proves nothing: the first real one does.
    assert published(through) in ([1] * 6, [2] + [1] * 6)


NAMES = "namespaces/{namespace}"
LISTED = [
    *(f"{method} /v1/{{prefix}}/{NAMES}" for method in ("GET", "HEAD", "DELETE")),
    *(f"{method} /v1/{{prefix}}/namespaces" for method in ("GET", "POST")),
    *(f"{method} /v1/{{prefix}}/{NAMES}/tables" for method in ("GET", "POST")),
    *(f"{method} /v1/{{prefix}}/{NAMES}/tables/{{table}}" for method in ("GET", "POST", "DELETE")),
]


@pytest.mark.parametrize("listed", [True, False])
def test_a_list_of_endpoints_decides_whether_several_tables_change_at_once(
    through: ProxiedLake, listed: bool
) -> None:
    more = ["POST /v1/{prefix}/transactions/commit"] if listed else []
    through.proxy.behave(failing.ListsEndpoints([*LISTED, *more]))
    assert published(through) == ([2, 2, 2] if listed else [1] * 6)
    assert not any(request.body == b'{"table-changes":[]}' for request in through.proxy.requests)


def test_a_commit_that_is_too_large_goes_in_parts(
    through: ProxiedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_body, "MOST", 3000)
    through.proxy.behave(failing.SmallBodies(3000))
    assert published(through) == [1, 1, 2, 2]
    sizes = [len(each.body) for each in through.proxy.requests if commits()(each)]
    assert max(sizes) <= 3000
