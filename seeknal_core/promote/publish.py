"""Stage, verify, publish, revert, discard: a promotion's work in the stores.

The stores' order is in ``docs/adr/0006``: those that can prepare do all fallible
work first and wait; the others publish by compare-and-set; the prepared ones
commit. Whatever fails before the last commit undoes all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import attrs

from seeknal_core.apply.write import SMALL, TOGETHER, log
from seeknal_core.contract.errors import (
    BackendError,
    EngineError,
    PromotionInterrupted,
    SeeknalError,
    StaleStage,
    StateError,
    Unreachable,
    VerificationFailed,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import (
    Batch,
    Cancellation,
    Checksum,
    Connection,
    Published,
    Snapshot,
    redact,
)
from seeknal_core.plan.targets import check_targets
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.promote import documents as promotions
from seeknal_core.promote import notes
from seeknal_core.promote.documents import Part, Promotion, Step, Write
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace import parallel
from seeknal_core.workspace.session import Session

T = TypeVar("T")
R = TypeVar("R")

#: Targets staged and verified at a time; a store's own pool may allow fewer.
_WORKERS = 4

#: How often a store that does not answer in the middle of a publish is asked again,
#: and the seconds between two tries.
_TRIES = 5
_PAUSE = 1.0


def in_parallel(session: Session, call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call for each item, several at a time; raise the first failure after all that ran ended."""
    return parallel.in_parallel(session.context.cancellation, call, items, at_once=_WORKERS)


def stage_all(
    session: Session, promotion: Promotion, snapshots: Mapping[str, Snapshot]
) -> Promotion:
    """Stage every write of a promotion.

    Args:
        snapshots: by content key.

    Raises:
        BackendError: one could not be staged; nothing is visible anywhere.
        DamagedOutput: a snapshot's bytes are not those that were stored.
    """
    resolved = {
        write.key: promotions.resolve(session, attrs.evolve(write, staged=None))
        for write in promotion.writes
    }

    def stage(batch: str, write: Write) -> Write:
        session.context.cancellation.check()
        with snapshots[write.content_key].confirmed() as snapshot:
            staged = session.dispatcher.stage(session.context, resolved[write.key], snapshot, batch)
        return attrs.evolve(write, staged=staged)

    def stage_group(item: tuple[str, Sequence[Write]]) -> list[Write]:
        batch, writes = item
        session.context.cancellation.check()
        if len(writes) > 1:
            try:
                with contextlib.ExitStack() as stack:
                    found = session.dispatcher.stage_targets(
                        session.context,
                        [resolved[write.key] for write in writes],
                        [
                            stack.enter_context(snapshots[write.content_key].confirmed())
                            for write in writes
                        ],
                        batch,
                    )
                return [
                    attrs.evolve(write, staged=staged)
                    for write, staged in zip(writes, found, strict=True)
                ]
            except BackendError as error:
                # Whatever is wrong with one of them, it is told of that one below.
                log.debug("staging %d targets one by one", len(writes), exc_info=error)
        return [stage(batch, write) for write in writes]

    def is_small(write: Write) -> bool:
        type = resolved[write.key].target.type
        together = session.dispatcher.together(type, Hook.STAGE_TARGETS)
        return together and snapshots[write.content_key].bytes <= SMALL

    groups = [
        (part.batch, group) for part in promotion.parts for group in _grouped(part.writes, is_small)
    ]
    staged = {
        write.key: write for writes in in_parallel(session, stage_group, groups) for write in writes
    }
    return attrs.evolve(
        promotion,
        parts=tuple(
            attrs.evolve(part, writes=tuple(staged[write.key] for write in part.writes))
            for part in promotion.parts
        ),
    )


def _grouped(
    writes: Sequence[Write], is_small: Callable[[Write], bool]
) -> Iterator[Sequence[Write]]:
    """Part writes into those that go alone, and groups of small ones."""
    small: list[Write] = []
    large: list[Write] = []
    for write in writes:
        (small if is_small(write) else large).append(write)
    yield from ([write] for write in large)
    size = min(TOGETHER, max(1, -(-len(small) // _WORKERS)))
    for start in range(0, len(small), size):
        yield small[start : start + size]


def verify_all(
    session: Session,
    promotion: Promotion,
    snapshots: Mapping[str, Snapshot],
    *,
    checksums: Callable[[Snapshot], bool],
) -> None:
    """Compare what is staged, as the stores tell it, with the snapshots.

    Args:
        checksums: whether a snapshot's contents are compared, too.

    Raises:
        VerificationFailed: with both numbers and names.
    """
    resolved = {write.key: promotions.resolve(session, write) for write in promotion.writes}
    checks = check_targets(session, resolved.values())
    summed = _sum_up(session, promotion, resolved, snapshots, checksums)

    def verify(write: Write) -> list[str]:
        session.context.cancellation.check()
        snapshot = snapshots[write.content_key]
        assert write.staged is not None
        # Summing up the staged rows counts them as well.
        sums = summed.get(write.key)
        rows = (
            sums.rows
            if sums is not None
            else session.dispatcher.count_rows(session.context, resolved[write.key])
        )
        rule = resolved[write.key].target.mode.rule
        if rule.once and write.staged.rows == 0 == rows:
            return []  # the ledger has these rows appended already
        if rows != snapshot.row_count:
            return [f"{write.name}: {rows:,} rows staged, {snapshot.row_count:,} in {write.node}"]
        state = checks[write.key].state
        found = {column.name for column in state.columns} if state else set()
        wanted = set(snapshot.schema.names)
        if found != wanted:
            lacks, more = sorted(wanted - found), sorted(found - wanted)
            return [
                f"{write.name}: staged with other columns than {write.node}: "
                f"lacks {', '.join(lacks) or 'none'}, has besides {', '.join(more) or 'none'}"
            ]
        return _checksum_problems(write, snapshot, sums) if sums is not None else []

    problems = [line for lines in in_parallel(session, verify, promotion.writes) for line in lines]
    if problems:
        raise VerificationFailed(
            "what was staged is not what it should be; nothing was published:\n"
            + "\n".join(problems),
            f"try again: seeknal env promote {promotion.source} {promotion.destination}; if it says "
            "the same again, the store does not keep these values as they are: CAST the columns "
            "named in the nodes' SQL to a type that it keeps (text always is), then: "
            f"seeknal run --env {promotion.source}, and promote",
        )


def _sum_up(
    session: Session,
    promotion: Promotion,
    resolved: Mapping[str, ResolvedTarget],
    snapshots: Mapping[str, Snapshot],
    checksums: Callable[[Snapshot], bool],
) -> dict[str, Checksum]:
    """Return the checksums of what is staged, by key; small targets are asked about together."""

    def is_small(write: Write) -> bool:
        type = resolved[write.key].target.type
        together = session.dispatcher.together(type, Hook.CHECKSUM_TARGETS)
        return together and snapshots[write.content_key].bytes <= SMALL

    def sum_group(writes: Sequence[Write]) -> list[tuple[str, Checksum | None]]:
        session.context.cancellation.check()
        asked = [resolved[write.key] for write in writes]
        found = (
            session.dispatcher.checksum_targets(session.context, asked)
            if len(writes) > 1
            else [session.dispatcher.checksum(session.context, one) for one in asked]
        )
        return [(write.key, sums) for write, sums in zip(writes, found, strict=True)]

    groups = [
        group
        for part in promotion.parts
        for group in _grouped(
            [write for write in part.writes if checksums(snapshots[write.content_key])], is_small
        )
    ]
    found = [one for some in in_parallel(session, sum_group, groups) for one in some]
    return {key: sums for key, sums in found if sums is not None}


def _checksum_problems(write: Write, snapshot: Snapshot, staged: Checksum) -> list[str]:
    from seeknal_core.contract.checksums import checksum_of

    wanted = checksum_of(snapshot.reader())
    return [
        f"{write.name}: column {name} was staged with other values than {write.node} has"
        for name, sum in wanted.columns.items()
        if staged.columns.get(name) != sum
    ]


@attrs.frozen(kw_only=True)
class _Open:
    """A part, ready for its hooks."""

    part: Part
    connection: Connection
    batch: Batch
    prepares: bool


def _opened(session: Session, promotion: Promotion, *, publishing: bool = False) -> list[_Open]:
    found = []
    for part in promotion.parts:
        connection, batch = promotions.batch_of(session, part, publishing=publishing)
        prepares = session.dispatcher.supports(connection.type, Hook.PREPARE_PUBLISH)
        found.append(_Open(part=part, connection=connection, batch=batch, prepares=prepares))
    return found


def _reopened(session: Session, promotion: Promotion, *, publishing: bool = False) -> list[_Open]:
    """Make the parts of a promotion that is under way ready for their hooks.

    Raises:
        PromotionInterrupted: the project or its profile leads to them no more.
    """
    try:
        return _opened(session, promotion, publishing=publishing)
    except SeeknalError as error:
        raise PromotionInterrupted(
            f"{error}; {promotions.sentence(promotion)}",
            f"{error.hint or 'when that is fixed'}; then: {promotions.ways_out(promotion)}",
        ) from error


def publish_all(session: Session, promotion: Promotion) -> Promotion:
    """Publish every part, or none.

    Raises:
        StaleStage, BackendError: nothing is published; all was undone and discarded.
        PromotionInterrupted: a store stopped answering, or somebody wrote meanwhile
            where it had to be undone; the same command goes on.
    """
    parts = _reopened(session, promotion, publishing=True)
    done: dict[str, Published] = {}
    try:
        for one in parts:
            if one.prepares:
                _patiently(
                    lambda one=one: session.dispatcher.prepare_publish(  # type: ignore[misc]
                        session.context, one.connection, one.batch
                    )
                )
        for one in sorted(parts, key=lambda one: one.prepares):
            done[one.part.batch] = _patiently(
                lambda one=one: session.dispatcher.publish(  # type: ignore[misc]
                    session.context, one.connection, one.batch
                )
            )
    except Unreachable as error:
        raise PromotionInterrupted(
            f"{error}; the promotion stopped in the middle of publishing",
            f"when the store is back: {promotions.ways_out(promotion)}",
        ) from error
    except SeeknalError as error:
        with interrupted_without_state(promotion, f"{error}; it has to be undone"):
            give_up(session, promotion)
        if isinstance(error, BackendError):
            error.hint = error.hint or f"seeknal env promote {promotion.source}"
        raise
    published = {
        one.key: {
            "version": one.version,
            "rows": one.rows_after,
            "created": one.created,
            "mark": one.mark,
        }
        for result in done.values()
        for one in result.targets
    }
    return attrs.evolve(promotion, step=Step.PUBLISHED, published=published)


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
        mend = f"{error.hint}: " if error.hint else "when that is fixed: "
        raise PromotionInterrupted(
            f"{what}, and the state could not be saved: {error}",
            f"{mend.replace(', then run again', ', then run')}{promotions.resume_command(promotion)}",
        ) from error


def _patiently(call: Callable[[], R]) -> R:
    """Call again, a few times, while a store does not answer; hooks allow for it."""
    for left in reversed(range(_TRIES)):
        try:
            return call()
        except Unreachable:
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError("unreachable")


def give_up(session: Session, promotion: Promotion, *, overwrite: bool = False) -> None:
    """Undo whatever was published, discard everything, and forget the promotion.

    Raises:
        PromotionInterrupted: somebody wrote a published target since, or a store
            does not answer; what has to be undone stays written down.
    """
    published = promotion.published_maybe or promotion.step in (Step.VERIFIED, Step.PUBLISHED)
    promotions.save(
        session.state,
        attrs.evolve(promotion, step=Step.REVERTING, published_maybe=published),
    )
    # Who asked to stop wants this done: it is what leads back to a consistent state.
    session = attrs.evolve(
        session, context=attrs.evolve(session.context, cancellation=Cancellation())
    )
    revert_all(session, promotion, overwrite=overwrite)
    if published and promotion.before.targets:
        session.state.save(restored(session, promotion))
    discard_or_outdate(session, promotion)
    promotions.forget(session.state, promotion.destination)


def revert_all(session: Session, promotion: Promotion, *, overwrite: bool) -> None:
    """Undo every part that was published, the last one first.

    Raises:
        PromotionInterrupted: a part could not be undone.
    """
    for one in sorted(_reopened(session, promotion), key=lambda one: one.prepares, reverse=True):
        try:
            _patiently(
                lambda one=one: session.dispatcher.revert(  # type: ignore[misc]
                    session.context, one.connection, one.batch, overwrite=overwrite
                )
            )
        except StaleStage as error:
            raise PromotionInterrupted(
                f"{error}; it was left alone",
                "decide whose rows stay: to leave the tables as they are: "
                f"{promotions.keep_command(promotion)}; to undo it all the same, and lose what was "
                f"written: {promotions.keep_command(promotion).removesuffix('keep')}overwrite",
            ) from error
        except BackendError as error:
            raise PromotionInterrupted(
                f"{error}; undoing stopped there",
                f"{error.hint or 'when that is fixed'}; then: {promotions.ways_out(promotion)}",
            ) from error


def discard_all(session: Session, promotion: Promotion) -> None:
    """Throw away what the stores keep for a promotion.

    Raises:
        BackendError: a store does not answer.
    """
    for one in _opened(session, promotion):
        session.dispatcher.discard(session.context, one.connection, one.batch)
    notes.forget(session, promotion)


def discard_or_outdate(session: Session, promotion: Promotion) -> None:
    """Throw away what the stores keep for a promotion that is undone, or say that it stays.

    A store that refuses keeps nobody waiting: the next promotion asks it again.

    Raises:
        PromotionInterrupted: a store does not answer.
    """
    try:
        discard_all(session, promotion)
    except Unreachable as error:
        raise PromotionInterrupted(
            f"{error}; all is undone, but what was kept for it is not thrown away",
            f"when the store is back: {promotions.ways_out(promotion)}",
        ) from error
    except BackendError as error:
        promotions.outdate(session.state, promotion)
        log.warning(
            "what the stores kept for the promotion is left, and goes with the next one, or by seeknal "
            "gc: %s",
            redact(str(error)),
        )
        return
    promotions.forget_undone(session.state, promotion)


def keep(session: Session, promotion: Promotion) -> None:
    """End an unfinished promotion and leave the tables as they are, whatever the stores say."""
    try:
        discard_all(session, promotion)
        promotions.forget_undone(session.state, promotion)
    # It may lead elsewhere by now, or need a plugin that is gone: nobody is kept waiting.
    except SeeknalError as error:
        promotions.outdate(session.state, promotion)
        log.warning(
            "what the stores kept for the promotion is left, and goes with the next one, or by seeknal "
            "gc: %s",
            redact(str(error)),
        )
    promotions.forget(session.state, promotion.destination)


def discard_outdated(session: Session) -> None:
    """Throw away what the stores keep for promotions that can't be undone any more.

    Raises:
        BackendError: a store does not answer; what it keeps is thrown away another time.
    """
    for old in promotions.outdated(session.state, session.environment.name):
        discard_all(session, old)
        promotions.forget_undone(session.state, old)
        promotions.forget(session.state, old.destination, promotions.outdated_name(old))


def restored(session: Session, promotion: Promotion) -> EnvironmentRecord:
    """Return the destination's record before a promotion, over what was undone of it.

    The rows are the same, and so is what is recorded of them; the stores call them by
    another version. A target that the role may not read any more keeps the version that
    is recorded: undoing a promotion that touched nothing needs no right on it.

    Raises:
        PromotionInterrupted: a store does not answer.
    """
    targets = dict(promotion.before.targets)
    for write in promotion.writes:
        if write.key not in targets:
            continue
        resolved = promotions.resolve(session, attrs.evolve(write, staged=None))
        try:
            state = session.dispatcher.inspect_target(session.context, resolved)
        except Unreachable as error:
            raise PromotionInterrupted(
                f"{error}; all is undone, but how the tables are now could not be looked at",
                f"when the store is back: {promotions.ways_out(promotion)}",
            ) from error
        except BackendError as error:
            log.debug("%s keeps its recorded version", write.name, exc_info=error)
            continue
        if state is not None and state.version is not None:
            targets[write.key] = attrs.evolve(
                targets[write.key], version=state.version, mark=state.mark or "", run_id=""
            )
    return attrs.evolve(promotion.before, targets=targets)


def refuse_moved(session: Session, promotion: Promotion) -> None:
    """Refuse to undo a promotion whose targets were written since; asks, changes nothing.

    Raises:
        StaleStage: naming every such target and both versions.
    """

    def look(write: Write) -> str | None:
        resolved = promotions.resolve(session, attrs.evolve(write, staged=None))
        state = session.dispatcher.inspect_target(session.context, resolved)
        wanted = str(promotion.published[write.key]["version"])
        if state is None or state.version == wanted:
            return None
        return f"{write.name}: published as {wanted}, now {state.version or 'missing'}"

    moved: Sequence[str] = [line for line in in_parallel(session, look, promotion.writes) if line]
    if moved:
        raise StaleStage(
            "targets were written since the promotion, so it is not undone:\n" + "\n".join(moved),
            f"look at them: seeknal env status {promotion.destination}; to undo it all the same, "
            f"and lose what was written: seeknal env rollback {promotion.destination} "
            "--abort=overwrite",
        )
