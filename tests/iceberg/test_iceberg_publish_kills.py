"""A process that dies inside a hook: the same call again ends it, or undoes it, without leftovers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
import pytest

from iceberg.test_iceberg_batches import NEW, UPSERT, Four
from seeknal_core.types import Mode, Staged
from support.iceberg import Bench, Promotion

TESTS = str(Path(__file__).parents[1])
KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO
from seeknal_iceberg.connection.storage.local_files import DurableFileIO
from iceberg.test_iceberg_publish_kills import resumed
from seeknal_iceberg.commit import dropped_files
from support.iceberg import Bench
left = [{after}]

def deadly(original):
    def call(self, *args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args, **kwargs)
    return call

bench = Bench({{"warehouse": "./warehouse"}}, Path({root!r}))
four = resumed(bench, {staged!r})
for owner, name in {calls}:
    setattr(owner, name, deadly(getattr(owner, name)))
if {step!r} == "stage":
    four.stage()
elif {step!r} == "publish":
    four.promotion.publish()
elif {step!r} == "revert":
    four.promotion.revert()
else:
    four.promotion.discard()
os._exit(0)
"""


def resumed(bench: Bench, staged: str) -> Four:
    """Make the four again in another process, from what was written down."""
    four = Four.__new__(Four)
    four.bench = bench
    four.full = bench.target("sales.full")
    four.upsert = bench.target("sales.upsert", **UPSERT)
    four.new = bench.target("sales.new")
    four.newer = bench.target("lake.sales.north.newer", Mode.APPEND)
    four.promotion = bench.promotion()
    noted = json.loads(staged)
    for target in four.targets:
        if target.key in noted:
            target = attrs.evolve(target, staged=Staged(**noted[target.key]["staged"]))
            four.promotion.content_keys[target.key] = noted[target.key]["content_key"]
        four.promotion.targets.append(target)
    return four


def noted(promotion: Promotion) -> str:
    return json.dumps(
        {
            target.key: {
                "staged": attrs.asdict(target.staged),
                "content_key": promotion.content_keys[target.key],
            }
            for target in promotion.targets
            if target.staged is not None
        }
    )


def kill(four: Four, step: str, after: int, calls: str) -> bool:
    """Run a step in another process that dies at a call; tell whether it died."""
    code = textwrap.dedent(KILLED).format(
        tests=TESTS,
        root=str(four.bench.root),
        staged=noted(four.promotion),
        step=step,
        after=after,
        calls=calls,
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


COMMITS = '[(SqlCatalog, "commit_table"), (SqlCatalog, "drop_table")]'
FILES = '[(DurableFileIO, "new_output"), (PyArrowFileIO, "delete")]'


@pytest.mark.parametrize("after", [0, 3, 6])
def test_after_kill_9_while_staging_nothing_is_left(bench: Bench, after: int) -> None:
    four = Four(bench, "sales")
    before = bench.files()
    assert kill(four, "stage", after, FILES)
    assert bench.notes() != []
    assert four.states() == four.before
    four.promotion.targets = list(four.targets)
    four.promotion.discard()
    assert bench.files() == before
    assert bench.notes() == []


@pytest.mark.parametrize("after", [0, 1, 2, 3])
@pytest.mark.parametrize("goes", ["on", "back"])
def test_after_kill_9_while_publishing_it_goes_on_or_back(
    bench: Bench, after: int, goes: str
) -> None:
    four = Four(bench, "sales")
    before = bench.files()
    four.stage()
    assert kill(four, "publish", after, COMMITS)
    if goes == "on":
        assert [one.rows_after for one in four.promotion.publish().targets] == [2, 2, 3, 2]
        assert four.seen() == NEW
    four.promotion.revert()
    assert four.states() == four.before
    four.promotion.discard()
    assert bench.files() == before
    assert bench.notes() == []


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_after_kill_9_while_undoing_it_is_undone_by_the_same_call(bench: Bench, after: int) -> None:
    four = Four(bench, "sales")
    before = bench.files()
    four.stage()
    four.promotion.publish()
    assert kill(four, "revert", after, COMMITS)
    four.promotion.revert()
    assert four.states() == four.before
    four.promotion.discard()
    assert bench.files() == before
    assert bench.notes() == []


@pytest.mark.parametrize("call", ["revert", "discard"])
def test_after_kill_9_between_dropping_a_table_and_deleting_its_files_they_go(
    bench: Bench, call: str
) -> None:
    four = Four(bench, "sales")
    four.stage()
    four.promotion.publish()
    assert kill(four, "revert", 1, '[(dropped_files, "finish")]')
    assert any("newer" in path for path in bench.files())
    if call == "revert":
        assert four.promotion.revert()
    else:
        four.promotion.discard()
    assert not any("newer" in path for path in bench.files())


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_after_kill_9_while_discarding_it_is_gone_by_the_same_call(
    bench: Bench, published: bool, after: int
) -> None:
    four = Four(bench, "sales")
    before = bench.files()
    four.stage()
    if published:
        four.promotion.publish()
    died = kill(four, "discard", after, FILES[:-1] + ", " + COMMITS[1:])
    assert died or published
    four.promotion.discard()
    assert bench.notes() == []
    if not published:
        assert bench.files() == before
    else:
        assert four.seen() == NEW
