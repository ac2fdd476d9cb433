"""The parts of a promotion: what goes to one connection's store, and how stores are called."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import attrs

from seeknal_core.apply.write import TOGETHER
from seeknal_core.contract.errors import (
    EngineError,
    PromotionInterrupted,
    SeeknalError,
    StateError,
    Unreachable,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Batch, Connection
from seeknal_core.promote.targets import batch_of
from seeknal_core.state import promotions
from seeknal_core.state.promotions import Part, Promotion, Write
from seeknal_core.workspace import parallel
from seeknal_core.workspace.session import Session

T = TypeVar("T")
R = TypeVar("R")

#: Targets staged and verified at a time; a store's own pool may allow fewer.
WORKERS = 4

#: How often a store that does not answer in the middle of a publish is asked again,
#: and the seconds between two tries.
_TRIES = 5
_PAUSE = 1.0


def in_parallel(session: Session, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call for each item, several at a time; raise the first failure after all that ran ended."""
    return parallel.in_parallel(session.context.cancellation, call, items, at_once=WORKERS)


@attrs.frozen(kw_only=True)
class OpenPart:
    """A part, ready for its hooks."""

    part: Part
    connection: Connection
    batch: Batch
    prepares: bool


def opened(session: Session, promotion: Promotion, *, publishing: bool = False) -> list[OpenPart]:
    """Make the parts of a promotion ready for their hooks; `publishing` as for `resolve`.

    Raises:
        SeeknalError: the project or its profile leads to them no more.
    """
    found = []
    for part in promotion.parts:
        connection, batch = batch_of(session, part, publishing=publishing)
        prepares = session.dispatcher.supports(connection.type, Hook.PREPARE_PUBLISH)
        found.append(OpenPart(part=part, connection=connection, batch=batch, prepares=prepares))
    return found


def reopened(session: Session, promotion: Promotion, *, publishing: bool = False) -> list[OpenPart]:
    """Make the parts of a promotion that is under way ready for their hooks.

    Raises:
        PromotionInterrupted: the project or its profile leads to them no more.
    """
    try:
        return opened(session, promotion, publishing=publishing)
    except SeeknalError as error:
        raise PromotionInterrupted(
            f"{error}; {promotions.sentence(promotion)}",
            f"{error.hint or 'when that is fixed'}; then: {promotions.ways_out(promotion)}",
        ) from error


@contextlib.contextmanager
def interrupted_without_state(promotion: Promotion, what: str) -> Iterator[None]:
    """Turn a failure to save state in the middle of publishing into exit code 5.

    The stores have moved, or may have, and what is written down leads on from there.

    Args:
        what: what happened in the stores, as the beginning of a sentence.

    Raises:
        PromotionInterrupted: with the command that goes on.
    """
    try:
        yield
    except (StateError, EngineError) as error:
        fix = f"{error.hint}: " if error.hint else "when that is fixed: "
        raise PromotionInterrupted(
            f"{what}, and the state could not be saved: {error}",
            f"{fix.replace(', then run again', ', then run')}{promotions.resume_command(promotion)}",
        ) from error


def patiently(call: Callable[[], R]) -> R:
    """Call again, a few times, while a store does not answer; hooks allow for it."""
    for left in reversed(range(_TRIES)):
        try:
            return call()
        except Unreachable:
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def grouped(
    writes: Sequence[Write], is_small: Callable[[Write], bool]
) -> Iterator[Sequence[Write]]:
    """Split writes into those that go alone, and groups of small ones."""
    small: list[Write] = []
    large: list[Write] = []
    for write in writes:
        (small if is_small(write) else large).append(write)
    yield from ([write] for write in large)
    size = min(TOGETHER, max(1, -(-len(small) // WORKERS)))
    for start in range(0, len(small), size):
        yield small[start : start + size]
