"""The way back: undo a promotion that is under way, end it as it is, or roll the last one back."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from seeknal_core.apply.write import log
from seeknal_core.contract.errors import (
    BackendError,
    ConfigError,
    PromotionInterrupted,
    SeeknalError,
    StaleStage,
    Unreachable,
)
from seeknal_core.contract.types import Cancellation, redact
from seeknal_core.promote import recover
from seeknal_core.promote.parts import (
    in_parallel,
    interrupted_without_state,
    opened,
    patiently,
    reopened,
)
from seeknal_core.promote.targets import resolve
from seeknal_core.state import promotions
from seeknal_core.state.digests import definitions_digest
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.promotion_table import TABLE, Abort, Command, Does, state_of
from seeknal_core.state.promotions import Phase, Promotion, Write
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.opening import opening, refuse_unfinished
from seeknal_core.workspace.session import Session


def rollback(session: Session, *, abort: Abort | None = None) -> Promotion:
    """Undo the last promotion into the session's environment, in all its stores.

    Args:
        abort: `Abort.OVERWRITE` undoes also where somebody wrote since; `Abort.KEEP` ends a
            rollback that is unfinished, and leaves the tables as they are; None, like
            `Abort.UNDO`, does neither.

    Raises:
        ConfigError: there is none to undo.
        StaleStage: targets were written since; they are named, nothing is undone.
        PromotionInterrupted: a store stopped answering; the same command goes on.
    """
    command = {
        Abort.OVERWRITE: Command.ROLLBACK_OVERWRITE,
        Abort.KEEP: Command.ROLLBACK_KEEP,
    }.get(abort or Abort.UNDO, Command.ROLLBACK)
    with opening(session, binds=False, refused=()) as opened:
        session, name = opened.session, opened.session.environment.name
        found = promotions.load(session.state, name)
        last = promotions.load(session.state, name, "last") if found is None else None
        match TABLE[command][state_of(found, last)]:
            case Does.ROLL_BACK:
                if found is None:
                    found = _begun(session, _undoable(last), check=not abort)
                return _roll_back(session, found, overwrite=abort is Abort.OVERWRITE)
            case Does.LEAVE:
                assert found is not None
                return _leave(session, found)
            case Does.REFUSE:
                refuse_unfinished(session)
            case Does.NOTHING if command is Command.ROLLBACK_KEEP:
                raise ConfigError(
                    f"no rollback of {name!r} is unfinished", f"seeknal env status {name}"
                )
            case Does.NOTHING:
                known = session.state.load(name) is not None
                shown = f"what {name!r} holds is shown by: seeknal env show {name}"
                raise ConfigError(
                    f"there is no promotion into {name!r} to undo",
                    shown if known else "seeknal env list",
                )
    raise AssertionError(command)


def _roll_back(session: Session, found: Promotion, *, overwrite: bool) -> Promotion:
    """Undo a promotion in all its stores; every step may be repeated after a crash."""
    revert_all(session, found, overwrite=overwrite)
    definitions = {id: node.definition for id, node in found.after.nodes.items()}
    with interrupted_without_state(found, "every store has undone it"):
        _restore(session, found, definitions_digest(definitions))
        discard_or_outdate(session, found)
        _discard_outdated(session)
        promotions.forget(session.state, found.destination, "last")
        promotions.forget(session.state, found.destination)
    return found


def _begun(session: Session, last: Promotion, *, check: bool) -> Promotion:
    """Write down that a promotion is being undone.

    Args:
        check: refuse where somebody wrote its targets since.

    Raises:
        StaleStage, BackendError: nothing is undone, and nothing is unfinished.
    """
    if check and not _was_left(session, last):
        refuse_moved(session, last)
    found = attrs.evolve(last, step=Phase.REVERTING, rollback=True)
    promotions.save(session.state, found)
    try:
        recover.put(session, found)
    except SeeknalError:
        promotions.forget(session.state, last.destination)
        recover.quietly(session, attrs.evolve(last, step=Phase.DONE))
        raise
    return found


def _was_left(session: Session, last: Promotion) -> bool:
    """Return whether an undoing of a promotion was ended half-way, and nothing was run since.

    What it undid has other versions than were published; the stores know of it.
    """
    if last.step is not Phase.REVERTING:
        return False
    record = session.state.load(last.destination)
    held = record.targets if record is not None else {}
    return all(
        write.key in held and held[write.key].version == last.published[write.key]["version"]
        for write in last.writes
    )


def _discard_outdated(session: Session) -> None:
    """Throw away older undo data; where a store refuses, it stays until the next promotion."""
    try:
        discard_outdated(session)
    except BackendError as error:
        log.warning(
            "data that undid an earlier promotion is left, and goes with the next promotion, or by "
            "seeknal gc: %s",
            redact(str(error)),
        )


def _leave(session: Session, found: Promotion) -> Promotion:
    """End an unfinished rollback and leave the tables as they are; asks no store for anything.

    What undoes the promotion stays, so that it can be rolled back later.
    """
    name = session.environment.name
    last = promotions.load(session.state, name, "last")
    is_last = last is not None and last.id == found.id
    if last is not None and is_last:
        # Some of it may be undone by now.
        promotions.save(session.state, attrs.evolve(last, step=Phase.REVERTING), "last")
    promotions.forget(session.state, name)
    if last is not None and is_last:
        recover.quietly(session, attrs.evolve(last, step=Phase.DONE))
    return found


def _undoable(last: Promotion | None) -> Promotion:
    """Return the last promotion.

    Raises:
        ConfigError: it wrote what can't be undone.
    """
    assert last is not None
    if last.direct:
        listed = ", ".join(write.name for write in last.direct)
        raise ConfigError(
            f"{listed} cannot be undone: the backend does not stage",
            f"promote an earlier state instead: seeknal env promote {last.source} "
            f"{last.destination}",
        )
    return last


def _restore(session: Session, found: Promotion, undone: str) -> None:
    """Put the destination's record back; versions are the stores' after the undoing."""
    before = attrs.evolve(
        restored(session, found),
        rolled_back=undone,
        generation=found.after.generation + 1,
    )
    save_manifest(session.state, before.name, load_manifest(session.state, found.id))
    session.state.save(before)


def give_up(session: Session, promotion: Promotion, *, overwrite: bool = False) -> None:
    """Undo whatever was published, discard everything, and forget the promotion.

    Raises:
        PromotionInterrupted: somebody wrote a published target since, or a store
            does not answer; what has to be undone stays written down.
    """
    published = promotion.published_maybe or promotion.step in (Phase.VERIFIED, Phase.PUBLISHED)
    promotions.save(
        session.state,
        attrs.evolve(promotion, step=Phase.REVERTING, published_maybe=published),
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
    for one in sorted(reopened(session, promotion), key=lambda one: one.prepares, reverse=True):
        try:
            patiently(
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
    for one in opened(session, promotion):
        session.dispatcher.discard(session.context, one.connection, one.batch)
    recover.forget(session, promotion)


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
        resolved = resolve(session, attrs.evolve(write, staged=None))
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
        resolved = resolve(session, attrs.evolve(write, staged=None))
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
