"""``seeknal run``: a plan, and an apply of it, in one step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.apply.planned import Callbacks, Planned, Refuse, carry_out_plan
from seeknal_core.apply.report import Reporter, RunReport
from seeknal_core.apply.scheduler import Options
from seeknal_core.plan.builder import PlanRequest
from seeknal_core.plan.replacing import Confirm, replaced
from seeknal_core.plan.scope import Scope
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.workspace.opening import opening
from seeknal_core.workspace.session import Session


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

    @property
    def plan(self) -> PlanRequest:
        """What has to be planned for it."""
        return PlanRequest(
            run=True,
            select=self.select,
            exclude=self.exclude,
            all_targets=self.all_targets,
            only_changed=self.only_changed,
            allow_production_targets=self.allow_production_targets,
            exact=self.exact,
        )


def run(session: Session, request: RunRequest, reporter: Reporter) -> RunReport:
    """Bring the selected nodes and their targets up to date.

    Raises:
        ConfigError, PluginError, CollisionRefused, BackendError, StateError:
            before anything was written. What fails later is in the report.
    """
    started = time.monotonic()
    for warning in session.warnings:
        reporter.warn(str(warning))
    # Mistakes are looked for in the whole project, also where only a part of it runs.
    with opening(session) as opened:
        session, record = opened.session, opened.record
        for sentence in opened.sentences():
            reporter.warn(sentence)
        wanted = attrs.evolve(request.plan, for_apply=True)
        planned = Planned(opened, wanted)
        assert planned.planner.scope is not None
        _warn_of_edited_inputs(session, planned.planner.scope, reporter)

        def before(targets: Sequence[ResolvedTarget]) -> None:
            if request.refuse is not None:
                request.refuse(session, targets)

        def looked(_planned: Planned, checks: Mapping[str, TargetCheck]) -> None:
            if request.confirm is not None:
                request.confirm(replaced(session, checks.values(), record))

        return carry_out_plan(
            opened,
            planned,
            wanted,
            Callbacks(before=before, looked=looked),
            request.options,
            reporter,
            started=started,
        )


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
