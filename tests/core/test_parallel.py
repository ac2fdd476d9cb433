"""Calls to stores, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from seeknal_core.contract.errors import Interrupted
from seeknal_core.contract.types import Cancellation
from seeknal_core.workspace.parallel import in_parallel


def test_results_come_in_the_order_of_the_items() -> None:
    second = threading.Event()

    def call(item: int) -> int:
        if item == 1:
            second.wait(10)
        second.set()
        return item * 10

    assert in_parallel(Cancellation(), call, [1, 2, 3], at_once=2) == [10, 20, 30]
    assert in_parallel(Cancellation(), call, [], at_once=2) == []


def test_no_more_run_at_a_time_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0
    pause = threading.Event()

    def call(_: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.01)
        with lock:
            running -= 1

    in_parallel(Cancellation(), call, range(20), at_once=3)
    assert most == 3


def test_a_failure_keeps_what_waits_from_being_begun_and_waits_for_what_runs() -> None:
    ended: list[int] = []
    fails = threading.Event()

    def call(item: int) -> None:
        if item == 0:
            fails.wait(10)
            raise ValueError("no")
        fails.set()
        threading.Event().wait(0.3)
        ended.append(item)

    with pytest.raises(ValueError, match="no"):
        in_parallel(Cancellation(), call, range(50), at_once=2)
    assert ended
    assert len(ended) < 5
    before = list(ended)
    threading.Event().wait(0.5)
    assert ended == before


@pytest.mark.parametrize("abandon", [True, False])
def test_the_user_stops_it(abandon: bool) -> None:
    cancellation = Cancellation()
    silent, ended = threading.Event(), threading.Event()

    def call(item: int) -> None:
        if item == 0:
            cancellation.request()
        silent.wait(0.5 if not abandon else 30)
        ended.set()

    with pytest.raises(Interrupted):
        in_parallel(cancellation, call, range(10), at_once=2, abandon=abandon)
    assert ended.is_set() is not abandon
    silent.set()


def test_a_call_that_raises_interrupted_ends_all() -> None:
    def call(item: int) -> int:
        raise Interrupted("stopped by the user")

    calls: Callable[[int], int] = call
    with pytest.raises(Interrupted):
        in_parallel(Cancellation(), calls, [1, 2], at_once=1)
