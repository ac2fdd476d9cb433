"""``seeknal run``: plan and carry out in one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from seeknal_core.apply.carry import Work, carry_out
from seeknal_core.apply.finish import _now, is_whole, save
from seeknal_core.apply.report import Reporter, RunReport
from seeknal_core.apply.scheduler import Options
from seeknal_core.plan.look import look
from seeknal_core.plan.replacing import Confirm, replaced
from seeknal_core.plan.scope import Scope, make_scope
from seeknal_core.plan.targets import TargetCheck, check_targets, guard
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.digests import moved_digest
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.opening import (
    is_stored,
    other_records,
    production_record,
    refuse_protected,
    refuse_rolled_back,
    refuse_shared_prefix,
    refuse_unfinished,
)
from seeknal_core.workspace.session import Session, bind, load_plugins

#: Raises an error where something stands against writing these targets.
Refuse = Callable[[Session, Sequence[ResolvedTarget]], None]


@attrs.frozen(kw_only=True)
class RunRequest:
    """What ``seeknal run`` was asked for.

    ``exact`` looks at every target's rows. ``refuse`` hears of the targets, and ``confirm`` of
    the tables that lose rows to a full refresh, before anything is written; None asks nobody.
    """

    select: Sequence[str] = ()
    exclude: Sequence[str] = ()
    options: Options = Options()
    all_targets: bool = False
    only_changed: bool = False
    allow_production_targets: bool = False
    exact: bool = False
    confirm: Confirm | None = None
    refuse: Refuse | None = None


def run(session: Session, request: RunRequest, reporter: Reporter) -> RunReport:
    """Bring the selected nodes and their targets up to date.

    Raises:
        ConfigError, PluginError, CollisionRefused, BackendError, StateError:
            before anything was written. What fails later is in the report.
    """
    started = time.monotonic()
    for warning in session.warnings:
        reporter.warn(str(warning))
    graph = session.graph
    # Mistakes are looked for in the whole project, also where only a part of it runs.
    for failure in load_plugins(session, list(graph.nodes.values())):
        reporter.warn(f"{failure}; {failure.hint}" if failure.hint else str(failure))
    bindings = bind(session, list(graph.nodes.values()))
    name = session.environment.name
    with session.state.lock(name):
        session = attrs.evolve(
            session,
            context=attrs.evolve(session.context, state_id=session.state.state_id(create=True)),
        )
        record = session.state.load(name) or EnvironmentRecord(
            name=name, created_at=_now(), profile=session.profile.path or ""
        )
        base = production_record(session)
        refuse_unfinished(session)
        refuse_protected(session, record)
        refuse_rolled_back(session, record)
        scope = make_scope(
            session, request.select, request.exclude, record, bindings.sources, is_stored(session)
        )
        _warn_of_edited_inputs(session, scope, reporter)
        chosen = [
            resolved
            for resolved in bindings.targets.values()
            if resolved.spec.node in scope.selected
        ]
        refuse_shared_prefix(session)

        def check() -> Mapping[str, TargetCheck]:
            if request.refuse is not None:
                request.refuse(session, chosen)
            checks = check_targets(session, chosen)
            others = other_records(session)
            guard(session, checks, others, allow_production=request.allow_production_targets)
            looked = look(session, checks, record, exact=request.exact)
            if request.confirm is not None:
                request.confirm(replaced(session, looked.values(), record))
            return looked

        work = Work(
            scope=scope,
            check=check,
            sources=bindings.sources,
            record=record,
            base=base,
            options=request.options,
            all_targets=request.all_targets,
            only_changed=request.only_changed,
        )
        base_state = moved_digest(base)
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
        save(
            session, report, ended, base=base, base_state=base_state, whole=is_whole(session, scope)
        )
    return report


def _warn_of_edited_inputs(session: Session, scope: Scope, reporter: Reporter) -> None:
    """Say that rows of an older definition are used where only a part is run."""
    definitions = session.graph.definitions
    edited = [id for id, held in scope.recorded.items() if held.definition != definitions[id]]
    if edited:
        reporter.warn(
            f"{', '.join(sorted(edited))} changed and is not selected; the rows of its older "
            "definition are used"
        )
    if not scope.selected and session.graph.nodes:
        reporter.warn("nothing is selected: --exclude leaves out all that --select names")
