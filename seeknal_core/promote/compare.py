"""Which of the destination's targets differ from what is promoted, and what that will do to them."""

from __future__ import annotations

import attrs

from seeknal_core.contract.hooks import Hook
from seeknal_core.plan.decide import is_as_promoted
from seeknal_core.plan.replacing import Replaced, replaced
from seeknal_core.plan.targets import TargetCheck, covering
from seeknal_core.promote.report import PromotedNode, PromotedTarget, PromotionReport
from seeknal_core.promote.targets import together
from seeknal_core.promote.work import Promoting


def show_or_confirm(work: Promoting) -> Promoting:
    """Show what would be done and end there, or have the loss of rows confirmed."""
    work = attrs.evolve(work, wanted=_wanted(work))
    if work.request.dry_run:
        report = _report(work)
        foreseen = (*_foreseen_publish(work), *_foreseen(work))
        losses = map(str, _replaced(work))
        return attrs.evolve(
            work, ended=attrs.evolve(report, notes=(*report.notes, *foreseen, *losses))
        )
    if work.request.confirm is not None:
        work.request.confirm(_replaced(work))
    return work


def compare(work: Promoting) -> Promoting:
    """Find the targets to publish, now that the rows of all nodes are known."""
    work = attrs.evolve(work, wanted=_wanted(work))
    return attrs.evolve(work, report=_report(work))


def end_if_idle(work: Promoting) -> Promoting:
    """End where nothing is to be promoted; say what publishing may fail by."""
    report = work.report
    assert report is not None
    idle = not work.choice.promoted and not work.wanted and not work.choice.removed
    if idle and not (work.request.prune and report.left):
        return attrs.evolve(work, ended=attrs.evolve(report, id="", outcome="nothing to promote"))
    for sentence in _foreseen_publish(work):
        work.reporter.warn(sentence)
    return work


def _replaced(work: Promoting) -> tuple[Replaced, ...]:
    """Return the tables that lose rows to a full refresh."""
    return replaced(work.session, work.wanted, work.destination.record)


def _wanted(work: Promoting) -> list[TargetCheck]:
    """Return the destination's targets that differ from what is promoted."""
    found = []
    for key, check in work.checks.items():
        id = check.resolved.spec.node
        if id not in work.choice.promoted:
            continue
        held = work.destination.record.targets.get(key)
        new = work.records.get(id)
        current = (
            held is not None
            and new is not None
            and not work.session.context.full_refresh
            and is_as_promoted(check, new.content_key, held)
        )
        if not current:
            found.append(check if new is None else covering(check, new.covers))
    return found


def _foreseen(work: Promoting) -> list[str]:
    """Return what the promotion does to columns of tables that are there, or what refuses it."""
    said: list[str] = []
    for check in work.wanted:
        id = check.resolved.spec.node
        # A rebuilt node gives the columns that it gave in the environment.
        held = work.choice.nodes.get(id) or work.source.record.nodes.get(id)
        if held is None or check.state is None or not check.state.exists or check.state.linked:
            continue
        said += [f"{check.resolved.target.name}: {note}" for note in check.state.notes]
        snapshot = work.store.find(id, held.content_key)
        if snapshot is None:
            continue
        found = work.session.dispatcher.preview_write(
            work.session.context, check.resolved, snapshot.schema
        )
        if found is not None:
            said += found.notes
            said += [f"will be refused: {found.refused}; {found.hint}"] if found.refused else []
    return said


def _foreseen_publish(work: Promoting) -> list[str]:
    """Return what publishing that many targets together may fail by."""
    return [
        sentence
        for found in together(work.session, work.wanted).values()
        for sentence in work.session.dispatcher.preview_publish(
            work.session.context, [check.resolved for check in found]
        )
    ]


def _report(work: Promoting) -> PromotionReport:
    """Report what would be promoted, with the rows on either side."""
    records = work.records
    before = work.destination.record.nodes
    return PromotionReport(
        id="",
        source=work.source.record.name,
        destination=work.destination.record.name,
        nodes=tuple(
            PromotedNode(
                id=id,
                rows=rows,
                count=records[id].rows if id in records else None,
                source_count=work.source.record.nodes[id].rows,
                before_count=before[id].rows if id in before else None,
            )
            for id, rows in work.choice.promoted.items()
        ),
        targets=tuple(
            PromotedTarget(
                key=check.resolved.target.key,
                node=check.resolved.target.node,
                name=str(check.resolved.target.name),
                mode=check.resolved.target.mode.value,
                rows=None,
                staged=work.session.dispatcher.supports(check.resolved.target.type, Hook.STAGE),
            )
            for check in work.wanted
        ),
        removed=work.choice.removed,
        left=tuple(
            held.name
            for key, held in sorted(work.destination.record.targets.items())
            if key not in work.destination.bindings.targets
        ),
        notes=tuple(
            f"the stored output of {id} is gone"
            for id in work.choice.promoted
            if id in records and not work.store.contains(records[id].content_key)
        ),
        outcome="planned",
    )
