"""``seeknal env promote``: bring an environment's verified result into another one.

`STEPS` is the promotion, read from top to bottom. Each step says which phase the document is in
while it is taken; a phase is written down before its first step. So whatever dies, the document
says what may have happened, and `seeknal_core.state.promotion_table` what each command does then.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Sequence
from typing import assert_never

import attrs

from seeknal_core.apply.prune import drop_removed
from seeknal_core.apply.report import Reporter
from seeknal_core.contract.errors import (
    BackendError,
    ConfigError,
    PromotionInterrupted,
    SeeknalError,
    StalePlan,
)
from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.promote import recover
from seeknal_core.promote.audit import audit
from seeknal_core.promote.begin import put_tables_for_links, write_down
from seeknal_core.promote.choose import choose_nodes
from seeknal_core.promote.compare import compare, end_if_idle, show_or_confirm
from seeknal_core.promote.parts import interrupted_without_state
from seeknal_core.promote.preflight import check_environments, check_rows, check_tables
from seeknal_core.promote.publish import publish, publish_unstaged
from seeknal_core.promote.rebuild import rebuild
from seeknal_core.promote.record import forget_document, keep_undo, let_go, move_references
from seeknal_core.promote.report import LEFT, PromotionReport
from seeknal_core.promote.rollback import give_up, keep
from seeknal_core.promote.stage import stage
from seeknal_core.promote.verify import verify
from seeknal_core.promote.work import Policy, PromoteRequest, Promoting, Side, Sides
from seeknal_core.state import promotions
from seeknal_core.state.promotion_table import TABLE, Abort, Command, Does, state_of
from seeknal_core.state.promotions import Phase, Promotion
from seeknal_core.workspace.bindings import bind
from seeknal_core.workspace.opening import Opened, opening, refuse_unfinished
from seeknal_core.workspace.session import Session, sibling

__all__ = ["STEPS", "OnError", "Policy", "PromoteRequest", "Step", "promote"]


class OnError(enum.Enum):
    """What becomes of a promotion when a step of it fails. The value explains it."""

    STOP = "nothing was changed in a store: the error is all that is left"
    UNDO = "what is staged, or published, is taken back; the document goes"
    GO_ON = "the stores have moved: exit code 5, and the same command goes on"


@attrs.frozen(kw_only=True)
class Step:
    """A step of a promotion.

    ``at`` is the phase that is written down before the step, unless it is already; None while
    there is no document.
    """

    name: str
    does: Callable[[Promoting], Promoting]
    at: Phase | None
    on_error: OnError


def _before(name: str, does: Callable[[Promoting], Promoting]) -> Step:
    return Step(name=name, does=does, at=None, on_error=OnError.STOP)


def _staging(name: str, does: Callable[[Promoting], Promoting]) -> Step:
    return Step(name=name, does=does, at=Phase.STAGING, on_error=OnError.UNDO)


def _published(name: str, does: Callable[[Promoting], Promoting]) -> Step:
    return Step(name=name, does=does, at=Phase.PUBLISHED, on_error=OnError.GO_ON)


def note(work: Promoting) -> Promoting:
    """Keep the document in the stores that can, for a machine that is lost."""
    recover.put(work.session, work.promotion)
    return work


def note_verified(work: Promoting) -> Promoting:
    """Keep the document in the stores with what is staged, before anything is published."""
    recover.put(work.session, attrs.evolve(work.promotion, step=Phase.VERIFIED))
    return work


#: A promotion, from top to bottom.
STEPS: Sequence[Step] = (
    _before("check that the one is applied, and the other has not moved", check_environments),
    _before("choose the nodes, and whose rows each has", choose_nodes),
    _before("look at the destination's tables", check_tables),
    _before("show it and end (--dry-run), or confirm lost rows", show_or_confirm),
    _before("rebuild nodes on the destination's sources", rebuild),
    _before("find the targets to publish", compare),
    _before("check the numbers of rows", check_rows),
    _before("run audits that did not pass on just these rows", audit),
    _before("end where there is nothing to promote", end_if_idle),
    _before("put tables in the place of links, with the same rows", put_tables_for_links),
    _before("make the document, and keep the manifest to go back to", write_down),
    _staging("keep the document in the stores", note),
    _staging("stage every target, unseen by readers", stage),
    _staging("compare what is staged with what was computed", verify),
    _staging("keep the document in the stores, with what is staged", note_verified),
    Step(
        name="publish: every store, or none",
        does=publish,
        at=Phase.VERIFIED,
        on_error=OnError.UNDO,
    ),
    _published("write the targets that cannot be staged", publish_unstaged),
    _published("move the destination's references", move_references),
    _published("keep what undoes this promotion", keep_undo),
    _published("let go of what undid the one before", let_go),
    _published("forget the document", forget_document),
)


def promote(
    session: Session, source_name: str, request: PromoteRequest, reporter: Reporter
) -> PromotionReport:
    """Promote an environment into the session's, or go on with what was begun.

    Raises:
        NotApplied, StalePlan: nothing was touched.
        VerificationFailed: nothing was published, what was staged is discarded.
        PromotionInterrupted: it stopped between the stores; the same command goes on.
        BackendError: nothing was published.
    """
    name = session.environment.name
    if source_name == name:
        raise ConfigError(
            f"{name!r} cannot be promoted into itself", "name two environments: seeknal env list"
        )
    started = time.monotonic()
    # What is unfinished must be ended although the project has mistakes by now.
    with opening(session, binds=False, promoting=True, beside=(source_name,), refused=()) as opened:
        for sentence in opened.sentences():
            reporter.warn(sentence)
        report = _promote(opened, source_name, request, reporter)
    return attrs.evolve(
        report,
        profile=session.profile.path,
        profile_reason=session.profile.reason,
        seconds=time.monotonic() - started,
    )


def _promote(
    opened: Opened, source_name: str, request: PromoteRequest, reporter: Reporter
) -> PromotionReport:
    """Do what the table says of this command in the state that is found."""
    session = opened.session
    found = promotions.load(session.state, session.environment.name)
    if found is None and (request.resume or request.abort) and not request.dry_run:
        found = recover.take_over(session)
    if found is None:
        recover.refuse_unknown(session)
    else:
        opened, request = _as_begun(opened, found, request)
        session = opened.session
    work = Promoting(
        session=session,
        request=request,
        reporter=reporter,
        store=session.snapshot_store(),
        document=found,
    )
    does = TABLE[_command(source_name, request, found)][state_of(found)]
    match does:
        case Does.BEGIN | Does.SHOW:
            return _begin(opened, source_name, work)
        case Does.BEGIN_AGAIN:
            # Nothing was published, so going on means to begin again.
            give_up(session, work.promotion)
            return _begin(opened, source_name, attrs.evolve(work, document=None))
        case Does.PUBLISH | Does.FINISH:
            return attrs.evolve(_walk(work, _rest(work)), outcome="promoted, resumed")
        case Does.UNDO | Does.OVERWRITE:
            give_up(session, work.promotion, overwrite=does is Does.OVERWRITE)
            return _ended(work.promotion, "undone")
        case Does.LEAVE:
            keep(session, work.promotion)
            return _ended(work.promotion, LEFT)
        case Does.NOTHING:
            raise ConfigError(
                f"no promotion into {session.environment.name!r} is unfinished",
                f"seeknal env promote {source_name}",
            )
        case Does.REFUSE:
            refuse_unfinished(session)
    raise AssertionError(does)


def _command(source_name: str, request: PromoteRequest, found: Promotion | None) -> Command:
    if found is not None and not found.rollback and found.source != source_name:
        return Command.ANOTHER
    if request.dry_run:
        return Command.DRY_RUN
    match request.abort:
        case Abort.UNDO:
            return Command.ABORT
        case Abort.OVERWRITE:
            return Command.ABORT_OVERWRITE
        case Abort.KEEP:
            return Command.ABORT_KEEP
        case None:
            pass
        case _ as never:
            assert_never(never)
    return Command.RESUME if request.resume else Command.PROMOTE


def _ended(found: Promotion, outcome: str) -> PromotionReport:
    return PromotionReport(
        id=found.id, source=found.source, destination=found.destination, outcome=outcome
    )


def _as_begun(
    opened: Opened, found: Promotion, request: PromoteRequest
) -> tuple[Opened, PromoteRequest]:
    """Return what an unfinished promotion was asked for: what it replaces was confirmed then."""
    asked = opened.session.context
    context = attrs.evolve(asked, full_refresh=found.full_refresh, adopt=found.adopt)
    confirmed = found.full_refresh or not asked.full_refresh
    return (
        attrs.evolve(opened, session=attrs.evolve(opened.session, context=context)),
        attrs.evolve(request, confirm=None) if confirmed else request,
    )


def _begin(opened: Opened, source_name: str, work: Promoting) -> PromotionReport:
    """Take all steps, and drop what the project lacks now where that was asked for."""
    session, request = work.session, work.request
    bind(session)
    sides = Sides(
        source=_source_side(session, source_name, request.source_profile),
        destination=Side.of(session, opened.record),
    )
    with contextlib.nullcontext() if request.dry_run else work.store.shared_lock():
        report = _walk(attrs.evolve(work, sides=sides), STEPS)
    if not request.prune or not report.id:
        return report
    dropped, left = drop_removed(session, session.environment.name)
    return attrs.evolve(
        report,
        left=tuple(name for name in report.left if name not in dropped),
        notes=(*report.notes, *(f"dropped {name}" for name in dropped), *left),
    )


def _rest(work: Promoting) -> Sequence[Step]:
    """Return the steps that are left of a promotion that is verified or published."""
    phases = (Phase.VERIFIED, Phase.PUBLISHED)
    left = phases[phases.index(work.promotion.step) :] if work.promotion.step in phases else ()
    return [step for step in STEPS if step.at in (left or phases[1:])]


def _walk(work: Promoting, steps: Sequence[Step]) -> PromotionReport:
    """Take the steps; each phase is written down before its first one."""
    written = work.document.step if work.document is not None else None
    for step in steps:
        if step.at is not None and step.at is not written:
            work = _write_phase(work, step)
            written = step.at
        try:
            with _going_on(work, step):
                work = step.does(work)
        except PromotionInterrupted:
            raise
        except SeeknalError as error:
            if step.on_error is OnError.UNDO:
                _undo(work, error)
            raise
        if work.ended is not None:
            return work.ended
    raise AssertionError("the last step ends a promotion")


def _write_phase(work: Promoting, step: Step) -> Promoting:
    assert step.at is not None
    document = attrs.evolve(work.promotion, step=step.at)
    with _going_on(work, step):
        promotions.save(work.session.state, document)
    return attrs.evolve(work, document=document)


def _going_on(work: Promoting, step: Step) -> contextlib.AbstractContextManager[None]:
    """Turn a failure to save state into exit code 5 where the stores have moved."""
    if step.on_error is not OnError.GO_ON:
        return contextlib.nullcontext()
    return interrupted_without_state(work.promotion, "every store has published")


def _undo(work: Promoting, error: SeeknalError) -> None:
    """Take back what was staged or published, after an error."""
    promotion = work.promotion
    if promotion.step is Phase.STAGING:
        give_up(work.session, promotion)
        return
    with interrupted_without_state(promotion, f"{error}; it has to be undone"):
        give_up(work.session, promotion)
    if isinstance(error, BackendError):
        error.hint = error.hint or f"seeknal env promote {promotion.source}"


def _source_side(session: Session, name: str, explicit: str | None) -> Side:
    """Open the promoted environment, by the profile that the user or the rules choose.

    Raises:
        StalePlan: it was applied with a profile that the user named, and the one chosen now
            leads elsewhere. The recorded file is not opened: whoever may write the state could
            have named it.
    """
    record = session.state.load(name)
    given = record.given_profile if record is not None and explicit is None else ""
    command = session.again("env", "promote", name, session.environment.name)
    refused = StalePlan(
        f"{name!r} was applied with --profile {given}, and the profile that is chosen without it "
        "leads elsewhere",
        f"name the file again, if it is the one you mean: {command} --source-profile FILE",
    )
    try:
        side = Side.of(sibling(session, name, explicit=explicit), record)
        if not given or given == side.session.profile.path:
            return side
        bound = side.bindings.targets
    except ConfigError as error:
        if not given:
            raise
        raise refused from error
    for key, held in side.record.targets.items():
        found = bound.get(key)
        if found is not None and (held.bindings, held.name) != (
            bindings_digest(found.connection),
            str(found.target.name),
        ):
            raise refused
    return side
