"""Calls that go to stores several at a time, and stop when the user does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from seeknal_core.contract.types import Cancellation

T = TypeVar("T")
R = TypeVar("R")

#: Seconds between two looks at whether the user stopped the command.
_HEARTBEAT = 0.1


def in_parallel(
    cancellation: Cancellation,
    call: Callable[[T], R],
    items: Iterable[T],
    *,
    at_once: int,
    abandon: bool = False,
) -> list[R]:
    """Call for each item, some at a time, and return the results in the items' order.

    The first failure, or a stop by the user, keeps the calls that wait from being begun.

    Args:
        at_once: how many calls run at a time, at most.
        abandon: whether calls that run are left alone then. Right for calls that only look: a
            store that does not answer must not delay the message. Calls that change a store
            are waited for, since what they did has to be known.

    Raises:
        Interrupted: the user stopped the command.
        Exception: the first failure, in the items' order.
    """
    listed = list(items)
    if not listed:
        return []
    pool = ThreadPoolExecutor(min(at_once, len(listed)))
    futures = [pool.submit(call, item) for item in listed]
    stopped = False
    try:
        waiting: set[Future[R]] = set(futures)
        while waiting and not stopped:
            ended, waiting = wait(waiting, timeout=_HEARTBEAT, return_when=FIRST_EXCEPTION)
            stopped = cancellation.requested or any(
                future.exception() is not None for future in ended
            )
    finally:
        pool.shutdown(wait=not abandon, cancel_futures=True)
    for future in futures:
        if future.done() and not future.cancelled():
            future.result()
    if stopped:
        cancellation.check()
    return [future.result() for future in futures]
