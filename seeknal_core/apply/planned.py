"""A plan that is carried out: by ``seeknal run`` in one step, by ``seeknal env apply`` later.

The nodes are planned at once, so that files can be read while the stores are asked; the
targets when the stores have answered. What depends on rows is decided again when they are
known, by the decider that made the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from seeknal_core.apply.carry import Late, Work, carry_out
from seeknal_core.apply.finish import save
from seeknal_core.apply.report import Reporter, RunReport
from seeknal_core.apply.scheduler import Options
from seeknal_core.contract.types import Snapshot
from seeknal_core.plan.builder import Planner, PlanRequest
from seeknal_core.plan.decide import Action, Writing
from seeknal_core.plan.document import TargetStep
from seeknal_core.plan.scope import Scope, compared, waits_of
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.digests import moved_digest
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.opening import Opened
from seeknal_core.workspace.session import Session

#: Raises an error where something stands against writing these targets.
Refuse = Callable[[Session, Sequence[ResolvedTarget]], None]

#: Targets about which an apply has to decide once more, when their rows are there.
_WRITTEN = (Writing.WRITE, Writing.DEPENDS, Writing.REFUSED, Writing.ADOPT, Writing.COPY)


@attrs.frozen(kw_only=True)
class Callbacks:
    """What a command wants to know before anything is written; each may refuse by an error.

    ``before`` is called before the stores are asked, ``looked`` with the targets that are
    written or linked, as the stores showed them.
    """

    before: Callable[[Sequence[ResolvedTarget]], None] = lambda targets: None
    looked: Callable[[Planned, Mapping[str, TargetCheck]], None]


class Planned:
    """A plan in the making: its nodes at once, its targets when the stores are asked."""

    def __init__(self, opened: Opened, request: PlanRequest) -> None:
        self._graph = opened.session.graph
        self._request = request
        self.planner = Planner(opened.session, opened.bindings, opened.record, opened.base, request)
        self._nodes = self.planner.nodes()
        self._targets: tuple[TargetStep, ...] = ()
        #: The references of the nodes that are not looked at: a run looks at all of its own.
        self.taken: dict[str, NodeRecord] = {
            step.id: step.held
            for step in self._nodes
            if step.action is Action.REUSE and step.held is not None and not request.run
        }

    @property
    def whole(self) -> bool:
        """Whether every node of the project is planned."""
        return self.planner.is_whole

    def look(self) -> dict[str, TargetCheck]:
        """Plan the targets; return those that are touched, as the stores showed them."""
        try:
            self._targets = self.planner.targets()
        finally:
            self.planner.close()
        if self._request.run:
            return dict(self.planner.checks)
        touched = (*_WRITTEN, Writing.LINK)
        wanted = {step.key for step in self._targets if step.writing in touched}
        return {key: check for key, check in self.planner.checks.items() if key in wanted}

    def late(self) -> Late:
        """Return what is to be done, once the targets are planned."""
        linked = {
            step.key: Snapshot(
                node=step.node,
                content_key=step.content_key,
                row_count=step.rows,
                files=(),
                bytes=step.bytes,
            )
            for step in self._targets
            # A run looks at the node, too, whose audits may fail.
            if step.writing is Writing.LINK and not self._request.run
        }
        return Late(scope=self.scope(), linked=linked, decisions=self.planner.decisions)

    def scope(self) -> Scope:
        """Visit the nodes that work, what they read, and those with targets to write."""
        if self.planner.scope is not None:
            return self.planner.scope
        graph = self._graph
        working = {step.id for step in self._nodes if step.action.works}
        visited = working | {step.node for step in self._targets if step.writing in _WRITTEN}
        for id in working:
            visited |= {*graph.inputs[id], *compared(graph, id)}
        order = tuple(id for id in graph.order if id in visited)
        return Scope(
            selected=frozenset(graph.nodes),
            recorded=self.taken,
            support=frozenset(),
            order=order,
            waits=waits_of(graph, order, self.taken),
        )


def carry_out_plan(
    opened: Opened,
    planned: Planned,
    request: PlanRequest,
    callbacks: Callbacks,
    options: Options,
    reporter: Reporter,
    *,
    started: float,
) -> RunReport:
    """Carry out a plan and write down how it ended.

    Args:
        started: when the command began, by `time.monotonic`.

    Raises:
        SeeknalError: what the callbacks, the guard or a store refuse; nothing was written.
    """
    session, planner = opened.session, planned.planner
    base_state = moved_digest(opened.base)

    def check() -> Mapping[str, TargetCheck]:
        callbacks.before(list(planner.chosen.values()))
        checks = planned.look()
        callbacks.looked(planned, checks)
        return checks

    work = Work(
        scope=planned.scope(),
        check=check,
        sources=opened.bindings.sources,
        record=opened.record,
        base=opened.base,
        options=options,
        all_targets=request.all_targets,
        only_changed=request.only_changed,
        then=planned.late,
    )
    with session.state.journal(session.environment.name) as journal:
        ended = carry_out(
            session, work, journal, reporter, planner.known, planner.store, planner.digests
        )
    report = RunReport(
        run_id=session.context.run_id,
        environment=session.environment.name,
        profile=session.profile.path or "",
        profile_reason=session.profile.reason,
        nodes=ended.nodes,
        targets=ended.targets,
        seconds=time.monotonic() - started,
        interrupted=session.context.cancellation.requested,
    )
    save(
        session,
        report,
        ended,
        base=opened.base,
        base_state=base_state,
        whole=planned.whole,
        taken=planned.taken,
    )
    return report
