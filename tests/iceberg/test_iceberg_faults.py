"""Other writers, lost answers, killed processes: one commit lands once, or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError

from seeknal_core.errors import Interrupted, StaleStage, Unreachable, WriteRefused
from seeknal_core.types import Mode
from seeknal_iceberg.commit import one_table
from seeknal_iceberg.write import materialize
from support.iceberg import Bench

TESTS = str(Path(__file__).parents[1])


def notes(bench: Bench) -> list[Path]:
    return list((bench.root / "target").rglob("*.json"))


def between(monkeypatch: pytest.MonkeyPatch, action: Any, times: int = 1) -> None:
    """Run an action just before each of the next commits, as another writer would."""
    original = SqlCatalog.commit_table
    left = [times]

    def commit_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            current, left[0] = left[0], 0
            action()
            left[0] = current
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (Mode.FULL, [5]),
        (Mode.APPEND, [1, 2, 5, 9]),
        (Mode.UPSERT_BY_KEY, [1, 2, 5, 9]),
    ],
)
def test_a_write_looks_again_where_another_was_faster(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, mode: Mode, expected: list[int]
) -> None:
    bench.write(bench.target(), {"id": [1, 2]})
    other = bench.other()
    append = bench.target(mode=Mode.APPEND)
    between(monkeypatch, lambda: other.write(append, {"id": [9]}))
    bench.write(bench.target(mode=mode, unique_keys=("id",)), {"id": [5]})
    other.close()
    assert [row["id"] for row in bench.rows(bench.target())] == expected
    assert notes(bench) == []


def test_an_upsert_never_loses_a_row_that_came_between(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",))
    bench.write(target, {"id": [1, 2], "v": ["a", "b"]})
    other = bench.other()
    between(monkeypatch, lambda: other.write(target, {"id": [1], "v": ["A"]}))
    bench.write(target, {"id": [2], "v": ["B"]})
    other.close()
    assert [row["v"] for row in bench.rows(target)] == ["A", "B"]


def test_of_two_that_make_a_table_both_rows_are_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bench.target(mode=Mode.APPEND)
    other = bench.other()
    between(monkeypatch, lambda: other.write(target, {"id": [1]}))
    result = bench.write(target, {"id": [2]})
    other.close()
    assert result.created is False
    assert [row["id"] for row in bench.rows(target)] == [1, 2]


def test_the_same_append_of_two_writers_is_added_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    snapshot = bench.snapshot({"id": [2]})
    other = bench.other()
    between(monkeypatch, lambda: other.write(target, snapshot))
    assert bench.write(target, snapshot).rows_written == 0
    other.close()
    assert bench.count(target) == 2
    assert len(list(bench.data_files())) == 2


def test_a_write_that_never_gets_through_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialize, "ATTEMPTS", 3)
    bench.write(bench.target(), {"id": [1]})
    other = bench.other()
    number = iter(range(100, 200))
    append = bench.target(mode=Mode.APPEND)
    between(monkeypatch, lambda: other.write(append, {"id": [next(number)]}), times=3)
    with pytest.raises(StaleStage, match="3 times"):
        bench.write(bench.target(), {"id": [77]})
    other.close()
    assert len(list(bench.data_files())) == 4
    assert notes(bench) == []


def lose_answer(monkeypatch: pytest.MonkeyPatch, *, landed: bool) -> list[int]:
    """Make the next commit's answer get lost, after or before it lands; count the commits."""
    original = SqlCatalog.commit_table
    left = [1]
    calls: list[int] = []

    def commit_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if left[0]:
            left[0] -= 1
            if landed:
                original(self, *args, **kwargs)
            raise requests.exceptions.ReadTimeout("no answer")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    return calls


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_a_lost_answer_adds_rows_exactly_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, landed: bool, exists: bool
) -> None:
    target = bench.target(mode=Mode.APPEND)
    if exists:
        bench.write(target, {"id": [1]})
    commits = lose_answer(monkeypatch, landed=landed)
    result = bench.write(target, {"id": [2]})
    assert len(commits) == (1 if landed else 2)
    assert result.rows_written == 1
    assert [row["id"] for row in bench.rows(target)] == ([1, 2] if exists else [2])
    assert len(bench.table(target).snapshots()) == (2 if exists else 1)
    assert notes(bench) == []


@pytest.mark.parametrize("mode", [Mode.APPEND, Mode.FULL])
def test_a_commit_that_lands_late_is_recognized(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    bench.write(bench.target(), {"id": [1]})
    original = SqlCatalog.commit_table
    late: list[Any] = []
    calls: list[int] = []

    def commit_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            late.append((args, kwargs))
            raise requests.exceptions.ReadTimeout("no answer")
        if late:
            first, named = late.pop()
            original(self, *first, **named)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    target = bench.target(mode=mode)
    result = bench.write(target, {"id": [2]})
    assert len(calls) == 2
    assert result.rows_written == 1
    assert [row["id"] for row in bench.rows(target)] == ([2] if mode is Mode.FULL else [1, 2])
    assert len(bench.table(target).snapshots()) == 2


def test_where_the_catalog_stays_silent_no_file_is_deleted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_table, "LOST_ANSWER", 1.0)
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    snapshot = bench.snapshot({"id": [2]})
    with monkeypatch.context() as silence:
        lose_answer(silence, landed=True)
        original = SqlCatalog.load_table
        calls = [0]

        def load_table(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls[0] += 1
            # The look before the write and the commit's own are answered.
            if calls[0] > 2:
                raise requests.exceptions.ConnectionError("gone")
            return original(self, *args, **kwargs)

        silence.setattr(SqlCatalog, "load_table", load_table)
        with pytest.raises(Unreachable, match="whether it landed is not known"):
            bench.write(target, snapshot)
    assert len(list(bench.data_files())) == 2
    assert len(notes(bench)) == 1
    assert bench.write(target, snapshot).rows_written == 0
    assert [row["id"] for row in bench.rows(target)] == [1, 2]
    bench.write(target, {"id": [3]})
    assert notes(bench) == []
    assert [row["id"] for row in bench.rows(target)] == [1, 2, 3]


def test_a_commit_that_the_catalog_forbids_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    files = list(bench.data_files())

    def commit_table(*args: Any, **kwargs: Any) -> Any:
        raise ForbiddenError("no write for you")

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    with pytest.raises(WriteRefused, match="no write for you"):
        bench.write(target, {"id": [2]})
    assert list(bench.data_files()) == files
    assert notes(bench) == []


def test_a_cancelled_write_leaves_nothing(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    files = list(bench.data_files())
    bench.context.cancellation.request()
    with pytest.raises(Interrupted):
        bench.write(target, {"id": [2]})
    assert list(bench.data_files()) == files
    assert notes(bench) == []


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from pyiceberg.catalog.sql import SqlCatalog
from seeknal_core.types import Mode
from support.iceberg import Bench

original = SqlCatalog.commit_table
def commit_table(self, *args, **kwargs):
    if {landed}:
        original(self, *args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
SqlCatalog.commit_table = commit_table
bench = Bench({{"warehouse": "./warehouse"}}, Path({root!r}))
bench.write(bench.target(mode=Mode.APPEND), {{"id": [2]}})
"""


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_after_kill_9_the_next_write_leaves_no_file_too_many(
    bench: Bench, landed: bool, exists: bool
) -> None:
    target = bench.target(mode=Mode.APPEND)
    if exists:
        bench.write(target, {"id": [1]})
    code = textwrap.dedent(KILLED).format(tests=TESTS, root=str(bench.root), landed=landed)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(notes(bench)) == 1

    bench.write(target, {"id": [2]})
    bench.write(target, {"id": [3]})
    assert notes(bench) == []
    expected = [1, 2, 3] if exists else [2, 3]
    assert [row["id"] for row in bench.rows(target)] == expected
    assert len(list(bench.data_files())) == len(expected)
    manifests = [path.name for path in bench.root.glob("warehouse/**/metadata/*-m0.avro")]
    assert len(manifests) == len(expected)


def test_a_write_under_way_is_not_cleaned_up_by_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1]})
    other = bench.other()

    def meanwhile() -> None:
        before = len(list(bench.data_files()))
        other.write(target, {"id": [2]})
        assert len(list(bench.data_files())) == before + 1

    between(monkeypatch, meanwhile)
    bench.write(target, {"id": [3]})
    other.close()
    assert [row["id"] for row in bench.rows(target)] == [1, 2, 3]


def test_threads_that_write_one_catalog_lose_no_row(bench: Bench) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(3):
                target = bench.target("sales.shared", mode=Mode.APPEND)
                bench.write(target, bench.snapshot({"id": [number * 100 + step]}))
                bench.write(bench.target(f"sales.own{number}"), {"id": [step]})
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert bench.count(bench.target("sales.shared")) == 12


PROCESS = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from seeknal_core.types import Mode
from support.iceberg import Bench
root, number = Path(sys.argv[1]), int(sys.argv[2])
bench = Bench({{"warehouse": str(root / "warehouse")}}, root / f"checkout{{number}}")
for step in range(5):
    bench.write(bench.target(mode=Mode.APPEND), {{"id": [number * 100 + step]}})
bench.close()
"""


def test_processes_that_write_one_table_lose_no_row(tmp_path: Path) -> None:
    code = textwrap.dedent(PROCESS).format(tests=TESTS)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(number)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    bench = Bench({"warehouse": str(tmp_path / "warehouse")}, tmp_path)
    found = sorted(row["id"] for row in bench.rows(bench.target()))
    assert found == sorted(number * 100 + step for number in range(3) for step in range(5))
    bench.close()


def test_a_reader_sees_the_old_rows_or_the_new(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [0] * 10})
    reader = bench.other()
    seen: list[set[int]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            ids = reader.read(target)["id"].to_pylist()
            assert len(ids) == 10
            seen.append(set(ids))

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(1, 6):
        bench.write(target, {"id": [number] * 10})
    time.sleep(0.1)
    stop.set()
    thread.join()
    reader.close()
    assert all(len(values) == 1 for values in seen)
    assert len(seen) > 3
