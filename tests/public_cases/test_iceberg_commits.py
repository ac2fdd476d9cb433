"""Commits of Iceberg tables whose answer is lost, late or wrong: every way, mode and kind of table.

The whole matrix; `tests/iceberg/test_iceberg_answers.py` has a cheap selection.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from seeknal_core.contract.errors import Unreachable
from seeknal_core.contract.types import Mode, Target
from seeknal_iceberg.ledger import write_notes
from support.catalog_proxy import (
    Action,
    Hold,
    Question,
    answer,
    commits,
    commits_references,
    delay,
    drop,
    short,
    truncate,
    twice,
)
from support.iceberg import Promotion
from support.proxied import ProxiedLake

if TYPE_CHECKING:
    from support.lake import LakeServer

WAYS: dict[str, Action] = {
    "iceberg#14583: the request is sent twice": twice,
    "slow": delay(0.5),
    "half an answer": short(40),
    "cut in the middle": truncate(40),
    "cut off, landed": drop(landed=True),
    "cut off": drop(landed=False),
    "409, landed": answer(409, landed=True),
    **{f"{status}, landed": answer(status, landed=True) for status in (500, 502, 503, 504)},
    **{str(status): answer(status) for status in (429, 500, 502, 503, 504)},
    "a proxy's page": answer(502, body="<html><h1>Bad gateway</h1></html>"),
}

FIELDS: dict[str, dict[str, Any]] = {
    "full": {"mode": Mode.FULL},
    "append": {"mode": Mode.APPEND},
    "upsert": {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",)},
    "incremental": {"mode": Mode.INCREMENTAL_BY_TIME, "time_column": "at"},
}
DAYS = [datetime(2024, 5, day, tzinfo=UTC) for day in (1, 2, 3)]
FIRST = {"id": [1, 2], "at": DAYS[:2]}
NEXT = {"id": [2, 3], "at": DAYS[1:]}
EVOLVED = {**NEXT, "more": ["x", None]}
EXPECTED = {
    "full": [2, 3],
    "append": [1, 2, 2, 3],
    "upsert": [1, 2, 3],
    "incremental": [1, 2, 3],
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


def publish(promotion: Promotion) -> None:
    for _ in range(4):
        with contextlib.suppress(Unreachable):
            promotion.publish()
            return
    promotion.publish()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", FIELDS)
@pytest.mark.parametrize("table", ["new", "there", "evolved"])
def test_iceberg_14583_a_run_writes_once_whatever_the_answer(
    through: ProxiedLake, way: str, mode: str, table: str
) -> None:
    """apache/iceberg#14583: a 409 for a commit that landed made the writer delete its files."""
    target = through.target("t", **FIELDS[mode])
    if table != "new":
        through.bench.write(target, FIRST)
    rule = through.proxy.rule(commits("t"), WAYS[way], times=1)
    through.bench.write(target, EVOLVED if table == "evolved" else NEXT)
    assert rule.used == 1
    assert through.ids("t") == ([2, 3] if table == "new" else EXPECTED[mode])
    is_clean(through)


def batch(through: ProxiedLake) -> dict[str, Target]:
    """Make a table for each mode; a new one goes with them."""
    targets = {mode: through.target(mode, **fields) for mode, fields in FIELDS.items()}
    for target in targets.values():
        through.bench.write(target, FIRST)
    return {**targets, "new": through.target("new")}


def seen(through: ProxiedLake) -> dict[str, list[int] | None]:
    return {table: through.ids(table) for table in (*FIELDS, "new")}


OLD = {**{mode: [1, 2] for mode in FIELDS}, "new": None}
NEW = {**EXPECTED, "new": [2, 3]}
QUESTIONS: dict[str, Question] = {
    "existing": commits("append"),
    "new": commits("new"),
    "fence": commits_references("append"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", QUESTIONS)
@pytest.mark.parametrize("step", ["publish", "revert"])
def test_iceberg_14583_a_promotion_publishes_and_undoes_all_or_nothing(
    through: ProxiedLake, way: str, which: str, step: str
) -> None:
    """apache/iceberg#14583, for several tables in one commit, and new ones before them."""
    targets = batch(through)
    promotion = through.bench.promotion()
    for table, target in targets.items():
        promotion.stage(target, EVOLVED if table == "upsert" else NEXT)
    if step == "publish":
        through.proxy.rule(QUESTIONS[which], WAYS[way], times=1)
    publish(promotion)
    assert seen(through) == NEW
    if step == "revert":
        through.proxy.rule(QUESTIONS["existing"], WAYS[way], times=1)
    for _ in range(3):
        with contextlib.suppress(Unreachable):
            promotion.revert()
            break
    assert seen(through) == OLD
    promotion.discard()
    assert through.refs("append") == ["main"]
    is_clean(through)


@pytest.mark.parametrize("which", QUESTIONS)
@pytest.mark.parametrize("ends", ["abort", "gc"])
def test_a_held_commit_of_a_dead_promotion_lands_on_nothing(
    through: ProxiedLake, which: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this project: the catalog applied a held commit after --abort had deleted its files."""
    monkeypatch.setattr("seeknal_iceberg.commit.fences.LOST_ANSWER", 0.5)
    targets = batch(through)
    promotion = through.bench.promotion()
    for target in targets.values():
        promotion.stage(target, NEXT)
    hold = Hold(answer(504))
    through.proxy.rule(QUESTIONS[which], hold, times=1)
    with pytest.raises(Unreachable):
        promotion.publish()
    if ends == "abort":
        promotion.revert()
        promotion.discard()
    else:
        through.sweep()
    status = hold.release().status
    assert status == (409 if which == "existing" else 200 if which == "new" else 204)
    assert {**seen(through), "new": None} == OLD
    monkeypatch.setattr(write_notes, "LATEST", 0.0)
    is_clean(through)
    assert through.refs("append") == ["main"]
    if which != "new":
        again = through.bench.promotion("p-2", 2)
        for target in targets.values():
            again.stage(target, NEXT)
        publish(again)
        assert seen(through) == NEW


@pytest.mark.parametrize("mode", FIELDS)
@pytest.mark.parametrize("exists", [True, False])
def test_a_held_commit_of_a_run_lands_once_or_never(
    through: ProxiedLake, mode: str, exists: bool
) -> None:
    """Of this project: a request that the catalog applies after the next run's commit."""
    target = through.target("t", **FIELDS[mode])
    if exists:
        through.bench.write(target, FIRST)
    hold = Hold(drop(landed=False))
    through.proxy.rule(commits("t"), hold, times=1)
    through.bench.write(target, NEXT)
    wanted = EXPECTED[mode] if exists else [2, 3]
    assert through.ids("t") == wanted
    assert hold.release().status == 409
    time.sleep(0.1)
    assert through.ids("t") == wanted
    is_clean(through)
