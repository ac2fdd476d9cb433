"""``seeknal env apply``: carry out the saved plan, or refuse before any write."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.dispatch import ResolvedTarget
from seeknal_core.environments import notes
from seeknal_core.environments.finishing import drop_removed
from seeknal_core.environments.plan import Action, Plan, Writing, load_plan
from seeknal_core.environments.planning import PlanRequest, bindings_of, make_plan
from seeknal_core.errors import GraphError, StalePlan, UnknownEnvironment
from seeknal_core.run.carry import Work, carry_out
from seeknal_core.run.execute import Options
from seeknal_core.run.looking import look
from seeknal_core.run.report import Reporter, RunReport
from seeknal_core.run.run import (
    is_stored,
    moved_digest,
    other_records,
    production_record,
    refuse_protected,
    refuse_rolled_back,
    refuse_shared_prefix,
    refuse_unfinished,
    save,
)
from seeknal_core.run.scope import Scope, compared, waits_of
from seeknal_core.run.session import Bindings, Session, bind, load_plugins
from seeknal_core.run.targets import TargetCheck, check_targets, guard, keeps_rows
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.types import Drift, Snapshot


@attrs.frozen(kw_only=True)
class ApplyRequest:
    """What ``seeknal env apply`` was asked for. ``plan`` is a file, None for the saved one."""

    plan: Path | None = None
    force: bool = False
    options: Options = Options()
    allow_production_targets: bool = False
    exact: bool = False


#: What a plan says of targets that an apply has to decide about again.
_WRITTEN = (Writing.WRITE, Writing.DEPENDS, Writing.REFUSED, Writing.COPY)


def saved_plan(session: Session, path: Path | None) -> Plan:
    """Load the plan to apply.

    Raises:
        UnknownEnvironment: there is none.
        StalePlan: it was made for another project or environment.
    """
    name = session.environment.name
    again = f"seeknal env plan {name}"
    found = load_plan(path or session.state.document_path("plans", name))
    if found is None:
        where = str(path) if path else f"environment {name!r}"
        raise UnknownEnvironment(f"there is no plan for {where}", again)
    if (found.project, found.environment) != (session.settings.name, name):
        raise StalePlan(
            f"the plan is for environment {found.environment!r} of project {found.project!r}", again
        )
    return found


def apply(session: Session, request: ApplyRequest, reporter: Reporter) -> RunReport:
    """Carry out a plan.

    Raises:
        StalePlan: definitions, bindings or the base moved since; nothing was written.
        BackendError, CollisionRefused, ...: before anything was written.
    """
    started = time.monotonic()
    nodes = list(session.graph.nodes.values())
    for failure in load_plugins(session, nodes):
        reporter.warn(f"{failure}; {failure.hint}" if failure.hint else str(failure))
    name = session.environment.name
    with session.state.lock(name):
        session = attrs.evolve(
            session,
            context=attrs.evolve(session.context, state_id=session.state.state_id(create=True)),
        )
        plan = _current_plan(session, request)
        session = attrs.evolve(
            session, variables=attrs.evolve(session.variables, vars=plan.variables)
        )
        bindings = bind(session, nodes)
        record = session.state.load(name) or EnvironmentRecord(name=name)
        base = production_record(session)
        refuse_unfinished(session)
        refuse_protected(session, record)
        refuse_rolled_back(session, record)
        refuse_shared_prefix(session)
        taken = _taken(plan)
        scope = _scope(session, plan, taken)

        def check() -> Mapping[str, TargetCheck]:
            wanted = _to_write(plan, bindings)
            notes.refuse_publishing(session, wanted)
            checks = check_targets(session, wanted)
            others = other_records(session)
            guard(session, checks, others, allow_production=request.allow_production_targets)
            return look(session, checks, record, exact=request.exact)

        work = Work(
            scope=scope,
            check=check,
            sources=bindings.sources,
            record=record,
            base=base,
            options=request.options,
            all_targets=plan.all_targets,
            only_changed=plan.only_changed,
            linked={
                step.key: Snapshot(
                    node=step.node,
                    content_key=step.content_key,
                    row_count=step.rows,
                    files=(),
                    bytes=step.bytes,
                )
                for step in plan.targets
                if step.writing is Writing.LINK
            },
        )
        with session.state.journal(name) as journal:
            ended = carry_out(session, work, journal, reporter)
        report = RunReport(
            run_id=session.context.run_id,
            environment=name,
            profile=session.profile.path or "",
            profile_reason=session.profile.reason,
            nodes=ended.nodes,
            targets=ended.targets,
            seconds=time.monotonic() - started,
            interrupted=session.context.cancellation.requested,
        )
        save(session, report, ended, base=base, base_state=plan.base_state, whole=True, taken=taken)
        if plan.prune and not report.failed and not report.interrupted:
            dropped, left = drop_removed(session, name)
            for sentence in (*(f"dropped {one}" for one in dropped), *left):
                reporter.warn(sentence)
    return report


def _current_plan(session: Session, request: ApplyRequest) -> Plan:
    plan = saved_plan(session, request.plan)
    moved = moved_since(session, plan) or drifted_since(session, plan, exact=request.exact)
    if moved and not request.force:
        shown = "; ".join(moved[:5]) + ("; ..." if len(moved) > 5 else "")
        raise StalePlan(
            f"since {plan.id} was made, {shown}",
            f"look at a new plan: seeknal env plan {plan.environment} (or apply it unseen: --force)",
        )
    if moved:
        wanted = PlanRequest(
            refresh_sources=plan.refresh_sources,
            all_targets=plan.all_targets,
            only_changed=plan.only_changed,
            prune=plan.prune,
            allow_production_targets=request.allow_production_targets,
        )
        return make_plan(session, wanted)
    return plan


def drifted_since(session: Session, plan: Plan, *, exact: bool) -> list[str]:
    """Name the targets that a plan leaves as they are, and somebody else has changed."""
    kept = {step.key for step in plan.targets if step.writing is Writing.KEEP}
    record = session.state.load(session.environment.name)
    if record is None or not kept:
        return []
    bound = bind(session, list(session.graph.nodes.values())).targets
    checks = check_targets(session, [found for key, found in bound.items() if key in kept])
    drifted = []
    for key, check in look(session, checks, record, exact=exact).items():
        name = check.resolved.target.name
        if key in record.targets and check.state is not None and not check.state.exists:
            drifted.append(f"{name} is missing")
        elif check.drift is Drift.ADDED and keeps_rows(check):
            continue
        elif check.change is not None and check.drift is not Drift.NONE:
            drifted.append(f"{name}: {check.change.detail or check.drift.value}")
    return drifted


def moved_since(session: Session, plan: Plan) -> list[str]:
    """Say what a plan was made upon and is so no more; empty where all holds."""
    moved: list[str] = []
    now = session.graph.definitions
    names = now.keys() | plan.definitions.keys()
    changed = sorted(id for id in names if now.get(id) != plan.definitions.get(id))
    if changed:
        moved.append(f"definitions changed: {', '.join(changed)}")
    bindings = bindings_of(bind(session, list(session.graph.nodes.values())))
    elsewhere = sorted(
        name
        for name in bindings.keys() | plan.bindings.keys()
        if bindings.get(name) != plan.bindings.get(name)
    )
    if elsewhere:
        moved.append(f"connections lead elsewhere: {', '.join(elsewhere)}")
    base = production_record(session)
    if moved_digest(base) != plan.base_state:
        moved.append(f"{plan.base or session.settings.production} was run or promoted into anew")
    if not changed and _targets_of(session, plan):
        moved.append("targets changed")
    gone = _gone(session, plan)
    if gone:
        moved.append(f"stored outputs are gone: {', '.join(gone)}")
    return moved


def _targets_of(session: Session, plan: Plan) -> bool:
    """Tell whether the folder's targets are others than the plan's."""
    found = {
        (target.target.key, str(target.target.name), target.target.mode.value)
        for target in bind(session, list(session.graph.nodes.values())).targets.values()
    }
    planned = {
        (step.key, step.name, step.mode)
        for step in plan.targets
        if step.writing not in (Writing.GONE, Writing.DROP)
    }
    return found != planned


def _gone(session: Session, plan: Plan) -> list[str]:
    stored = is_stored(session)
    return [
        step.id
        for step in plan.nodes
        if step.action is Action.REUSE and not stored(step.content_key)
    ]


def _taken(plan: Plan) -> dict[str, NodeRecord]:
    """Return the references of the nodes that are not touched."""
    return {
        step.id: step.held
        for step in plan.nodes
        if step.action is Action.REUSE and step.held is not None
    }


def _scope(session: Session, plan: Plan, taken: Mapping[str, NodeRecord]) -> Scope:
    """Visit the nodes that work, what they read, and those with targets to write."""
    graph = session.graph
    working = {step.id for step in plan.nodes if step.action.works}
    written = {step.node for step in plan.targets if step.writing in _WRITTEN}
    visited = working | written
    for id in working:
        visited |= {*graph.inputs[id], *compared(graph, id)}
    missing = visited - working - taken.keys()
    if missing:
        raise GraphError(f"the plan lacks {', '.join(sorted(missing))}")
    order = tuple(id for id in graph.order if id in visited)
    recorded = {id: taken[id] for id in order if id not in working}
    return Scope(
        selected=frozenset(graph.nodes),
        recorded=recorded,
        support=frozenset(),
        order=order,
        waits=waits_of(graph, order, recorded),
    )


def _to_write(plan: Plan, bindings: Bindings) -> Sequence[ResolvedTarget]:
    touched = (*_WRITTEN, Writing.LINK)
    wanted = {step.key for step in plan.targets if step.writing in touched}
    return [resolved for key, resolved in bindings.targets.items() if key in wanted]
