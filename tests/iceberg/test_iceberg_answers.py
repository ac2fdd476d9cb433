"""A catalog's answers that get lost, lie, or come late: rows, tables and files are right."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seeknal_core.errors import BackendError, Unreachable
from seeknal_core.types import Mode
from seeknal_iceberg import plugin
from seeknal_iceberg.ledger import write_notes
from support.catalog_proxy import (
    Action,
    Hold,
    answer,
    commits,
    commits_references,
    drop,
    path,
    reads,
    short,
    silence,
    truncate,
    twice,
)
from support.iceberg import Promotion
from support.proxied import ProxiedLake

if TYPE_CHECKING:
    from support.lake import LakeServer

#: Ways in which the answer to a commit that landed gets lost or is wrong.
LANDED: dict[str, Action] = {
    "sent twice": twice,
    "cut off": drop(landed=True),
    "409": answer(409, landed=True),
    "500": answer(500, landed=True),
    "503": answer(503, landed=True),
    "half an answer": short(40),
}
#: Ways in which a commit does not land, and is not clearly refused.
NOT_LANDED: dict[str, Action] = {
    "cut off": drop(landed=False),
    "502": answer(502, body="<html>bad gateway</html>"),
    "504": answer(504),
    "429": answer(429, {"Retry-After": "1"}),
}


@pytest.fixture
def through(lake: LakeServer, tmp_path: Path, lake_namespace: str) -> Iterator[ProxiedLake]:
    """A REST catalog that is reached through a proxy."""
    made = ProxiedLake(lake, tmp_path, lake_namespace)
    yield made
    made.close()


def is_clean(through: ProxiedLake) -> None:
    assert through.sweep() == ()
    assert through.unreferenced() == []
    assert through.bench.notes() == []


@pytest.mark.parametrize("way", LANDED)
@pytest.mark.parametrize("exists", [True, False])
def test_a_commit_that_landed_is_recognized_whatever_the_answer(
    through: ProxiedLake, way: str, exists: bool
) -> None:
    target = through.target("t", Mode.APPEND)
    if exists:
        through.bench.write(target, {"id": [1]})
    through.proxy.rule(commits("t"), LANDED[way], times=1)
    through.bench.write(target, {"id": [2]})
    assert through.ids("t") == ([1, 2] if exists else [2])
    assert through.proxy.count(commits("t")) == 1 + exists
    is_clean(through)


@pytest.mark.parametrize("way", NOT_LANDED)
def test_a_commit_that_did_not_land_is_sent_again(through: ProxiedLake, way: str) -> None:
    target = through.target("t", Mode.APPEND)
    through.bench.write(target, {"id": [1]})
    through.proxy.rule(commits("t"), NOT_LANDED[way], times=1)
    through.bench.write(target, {"id": [2]})
    assert through.ids("t") == [1, 2]
    is_clean(through)


def test_a_catalog_that_goes_on_failing_is_no_conflict_with_other_writers(
    through: ProxiedLake,
) -> None:
    target = through.target("t", Mode.APPEND)
    through.bench.write(target, {"id": [1]})
    through.proxy.rule(commits("t"), answer(500))
    with pytest.raises(Unreachable, match="the proxy says 500"):
        through.bench.write(target, {"id": [2]})
    assert through.proxy.count(commits("t")) == 1 + 3
    through.proxy.heal()
    through.bench.write(target, {"id": [3]})
    assert through.ids("t") == [1, 3]
    is_clean(through)


@pytest.mark.parametrize("exists", [True, False])
def test_gc_deletes_what_a_failing_catalog_left(
    through: ProxiedLake, exists: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = through.target("t")
    if exists:
        through.bench.write(target, {"id": [1]})
    hold = Hold(answer(500))
    through.proxy.rule(commits("t"), hold, times=1)
    through.proxy.rule(commits("t"), answer(500))
    with pytest.raises(Unreachable):
        through.bench.write(target, {"id": [2]})
    through.proxy.heal()
    kept = through.sweep()
    if exists:
        assert "fences off a commit" in kept[0]
        assert through.unreferenced() == []
        assert hold.release().status == 409
        assert through.ids("t") == [1]
    else:
        assert "in case it still lands" in kept[0]
        assert through.unreferenced() != []
    monkeypatch.setattr(write_notes, "LATEST", 0.0)
    is_clean(through)
    assert through.refs("t") in (["main"], [])


def test_the_next_write_takes_a_fence_away(through: ProxiedLake) -> None:
    target = through.target("t")
    through.bench.write(target, {"id": [1]})
    through.proxy.rule(commits("t"), answer(500))
    with pytest.raises(Unreachable):
        through.bench.write(target, {"id": [2]})
    through.proxy.heal()
    assert len(through.sweep()) == 1
    assert len(through.refs("t")) == 2
    through.bench.write(target, {"id": [3]})
    assert through.refs("t") == ["main"]
    is_clean(through)


def three(through: ProxiedLake) -> Callable[[], list[list[int] | None]]:
    """Make two tables, and stage new rows for them and for a third one."""
    for table in ("a", "b"):
        through.bench.write(through.target(table), {"id": [1]})
    return lambda: [through.ids(table) for table in ("a", "b", "new")]


OLD: list[list[int] | None] = [[1], [1], None]
NEW: list[list[int] | None] = [[2], [2], [2]]


def staged(through: ProxiedLake, name: str = "p-1") -> Promotion:
    promotion = through.bench.promotion(name)
    for table in ("a", "b", "new"):
        promotion.stage(through.target(table), {"id": [2]})
    return promotion


def publish_patiently(promotion: Promotion) -> None:
    """Publish as the core does: again where it is not known whether it went through."""
    for _ in range(4):
        with contextlib.suppress(Unreachable):
            promotion.publish()
            return
    promotion.publish()


@pytest.mark.parametrize("way", ["sent twice", "409", "cut off", "503"])
@pytest.mark.parametrize("which", ["several", "new", "fence"])
def test_a_publish_that_landed_is_recognized_whatever_the_answer(
    through: ProxiedLake, way: str, which: str
) -> None:
    seen = three(through)
    promotion = staged(through)
    question = {
        "several": commits("a"),
        "new": commits("new"),
        "fence": commits_references("a"),
    }[which]
    through.proxy.rule(question, LANDED[way], times=1)
    publish_patiently(promotion)
    assert seen() == NEW
    assert through.refs("a") == ["main", "seeknal-undo-p-1"]
    promotion.revert()
    assert seen() == OLD
    promotion.discard()
    assert through.refs("a") == through.refs("b") == ["main"]
    is_clean(through)


@pytest.mark.parametrize("table", ["a", "new"])
def test_a_publish_that_lands_late_finds_its_fence_gone(
    through: ProxiedLake, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seeknal_iceberg.commit.fences.LOST_ANSWER", 0.5)
    seen = three(through)
    promotion = staged(through)
    hold = Hold(answer(504))
    through.proxy.rule(commits(table), hold, times=1)
    with pytest.raises(Unreachable):
        promotion.publish()
    assert hold.reached.is_set()
    promotion.revert()
    promotion.discard()
    if table == "a":
        assert through.unreferenced() == []
        assert hold.release().status == 409
        assert seen() == OLD
    else:
        # Nothing can fence off a commit that makes a table: its files wait with it.
        assert hold.release().status == 200
        assert seen() == [[1], [1], [2]]
    assert through.refs("a") == ["main"]
    monkeypatch.setattr(write_notes, "LATEST", 0.0)
    is_clean(through)
    again = staged(through, "p-2") if table == "a" else None
    if again is not None:
        publish_patiently(again)
        assert seen() == NEW


def test_a_fence_that_is_set_late_is_swept(
    through: ProxiedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = three(through)
    promotion = staged(through)
    hold = Hold(answer(504))
    through.proxy.rule(commits_references("a"), hold, times=1)
    with pytest.raises(Unreachable):
        promotion.publish()
    promotion.revert()
    promotion.discard()
    assert hold.release().status in (200, 204)
    assert through.refs("a") == ["main", "seeknal-fence-p-1"]
    assert seen() == OLD
    assert through.sweep() == ()
    assert through.refs("a") == through.refs("b") == ["main"]
    is_clean(through)


def test_reads_are_repeated_while_the_catalog_is_busy(
    through: ProxiedLake, caplog: pytest.LogCaptureFixture
) -> None:
    target = through.target("t")
    through.bench.write(target, {"id": [1]})
    for way in (
        answer(503, {"Retry-After": "1"}),
        answer(429, {"Retry-After": "0"}),
        answer(502, body="<html/>"),
        drop(landed=False),
        truncate(30),
    ):
        through.proxy.rule(reads("tables/t"), way, times=1)
    began = time.monotonic()
    assert through.bench.count(target) == 1
    assert time.monotonic() - began >= 1.0
    assert caplog.records == []


def test_a_busy_probe_for_commits_of_several_tables_is_repeated(through: ProxiedLake) -> None:
    seen = three(through)
    promotion = staged(through)
    through.proxy.rule(
        lambda request: request.body == b'{"table-changes":[]}', answer(503), times=2
    )
    promotion.publish()
    assert seen() == NEW
    together = [
        request
        for request in through.proxy.requests
        if commits("a")(request) and request.path.endswith("transactions/commit")
    ]
    assert len(together) == 1


@pytest.mark.parametrize("method", ["cut off", "short"])
def test_a_truncated_answer_is_one_sentence(through: ProxiedLake, method: str) -> None:
    target = through.target("t")
    through.bench.write(target, {"id": [1]})
    if method == "short":
        through.proxy.rule(reads("tables/t"), short(200))
    else:
        through.proxy.rule(reads("tables/t"), answer(200, body='{"metadata": null}'))
    with pytest.raises(BackendError, match="what is no answer of an Iceberg catalog") as caught:
        through.bench.count(target)
    assert "the request for a table" in str(caught.value)
    assert "pydantic" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silent_catalog_ends_and_the_user_hears_what_is_waited_for(
    through: ProxiedLake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("seeknal_iceberg.connection.patience.READ_TOTAL", 3.0)
    monkeypatch.setattr("seeknal_iceberg.connection.patience.TOLD_AFTER", 1.0)
    monkeypatch.setattr("seeknal_iceberg.connection.patience.SILENT_TOTAL", 0.2)
    target = through.target("t")
    through.bench.write(target, {"id": [1]})
    through.proxy.rule(reads(), silence)
    with caplog.at_level(logging.WARNING, "seeknal"), pytest.raises(Unreachable) as caught:
        through.bench.count(target)
    assert "does not answer" in str(caught.value)
    assert "waiting for the catalog" in caplog.text
    assert "tables/t" in caplog.text
    sent = through.proxy.count(reads("tables/t"))
    with pytest.raises(Unreachable):
        plugin.check_connection(through.bench.context)
    assert through.proxy.count(path("namespaces$", "GET")) <= 1
    assert through.proxy.count(reads("tables/t")) == sent


def test_of_two_that_make_a_namespace_none_fails(through: ProxiedLake) -> None:
    # The other one is faster between our look and our request, which the catalog fails.
    through.proxy.rule(path("/namespaces$", "POST"), answer(500, landed=True), times=1)
    target = through.target("t")
    through.bench.write(target, {"id": [1]})
    assert through.ids("t") == [1]
