"""``seeknal env apply``: plan anew, and carry it out where the saved plan proposes the same.

A plan is a file that anybody may have changed since it was made. Its words are compared, its
options are taken, and nothing else of it is used.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from seeknal_core.apply.planned import Callbacks, Planned, Refuse, carry_out_plan
from seeknal_core.apply.prune import drop_removed
from seeknal_core.apply.report import Reporter, RunReport
from seeknal_core.apply.scheduler import Options
from seeknal_core.contract.errors import StalePlan, UnknownEnvironment
from seeknal_core.contract.shown import first_few
from seeknal_core.contract.types import Drift, redact
from seeknal_core.plan.builder import PlanRequest, bindings_of
from seeknal_core.plan.decide import Writing, keeps_rows
from seeknal_core.plan.document import Plan, load_plan
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.digests import moved_digest
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.bindings import Bindings
from seeknal_core.workspace.opening import opening
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class ApplyRequest:
    """What ``seeknal env apply`` was asked for.

    ``plan`` is a file, None for the saved one. ``refuse`` hears of the targets before anything
    is written; None asks nobody.
    """

    plan: Path | None = None
    force: bool = False
    options: Options = Options()
    allow_production_targets: bool = False
    exact: bool = False
    refuse: Refuse | None = None


def saved_plan(session: Session, path: Path | None) -> Plan:
    """Load the plan to apply.

    Raises:
        UnknownEnvironment: there is none.
        StalePlan: it was made for another project or environment.
    """
    name = session.environment.name
    again = plan_command(session)
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
    """Plan anew and carry that out, where it is what the saved plan proposes.

    Nothing of the saved plan is carried out itself: whoever changed the file could have rows or
    a password sent elsewhere.

    Raises:
        StalePlan: definitions, bindings, targets or the base are others than the plan's;
            nothing was written.
        BackendError, CollisionRefused, ...: before anything was written.
    """
    started = time.monotonic()
    name = session.environment.name
    plan = saved_plan(session, request.plan)
    with opening(session) as opened:
        session = opened.session
        for sentence in opened.sentences():
            reporter.warn(sentence)
        proposal = _Proposal(session, plan, opened.bindings, opened.record, opened.base)
        if not request.force:
            proposal.refuse(proposal.differences())

        def looked(planned: Planned, checks: Mapping[str, TargetCheck]) -> None:
            if not request.force:
                proposal.refuse(proposal.drifted(planned.planner.checks))
            if request.refuse is not None:
                request.refuse(session, [check.resolved for check in checks.values()])

        wanted = PlanRequest(
            refresh_sources=plan.refresh_sources,
            all_targets=plan.all_targets,
            only_changed=plan.only_changed,
            prune=plan.prune,
            allow_production_targets=request.allow_production_targets,
            exact=request.exact,
            for_apply=True,
        )
        report = carry_out_plan(
            opened,
            Planned(opened, wanted),
            wanted,
            Callbacks(looked=looked),
            request.options,
            reporter,
            started=started,
        )
        if plan.prune and not report.failed and not report.interrupted:
            dropped, left = drop_removed(session, name)
            for sentence in (*(f"dropped {one}" for one in dropped), *left):
                reporter.warn(sentence)
    return report


class _Proposal:
    """A saved plan, compared with what the project, the profile and the stores are now."""

    def __init__(
        self,
        session: Session,
        plan: Plan,
        bindings: Bindings,
        record: EnvironmentRecord,
        base: EnvironmentRecord | None,
    ) -> None:
        self._session = session
        self._plan = plan
        self._bindings = bindings
        self._record = record
        self._base = base

    def refuse(self, moved: Sequence[str]) -> None:
        """Refuse to apply where something moved.

        Raises:
            StalePlan: with what moved, and the command that plans anew.
        """
        if not moved:
            return
        raise StalePlan(
            f"since {self._plan.id} was made, {first_few(moved, separator='; ')}",
            f"look at a new plan: {plan_command(self._session)} (or apply it unseen: --force)",
        )

    def differences(self) -> list[str]:
        """Return what differs from the plan, as far as no store has to be asked.

        Data that moved on is no difference.
        """
        plan, session = self._plan, self._session
        moved: list[str] = []
        if dict(plan.variables) != dict(session.variables.vars):
            return [f"--vars changed: the plan was made with {_shown(plan.variables)}"]
        now = session.graph.definitions
        names = now.keys() | plan.definitions.keys()
        changed = sorted(id for id in names if now.get(id) != plan.definitions.get(id))
        if changed:
            moved.append(f"definitions changed: {', '.join(changed)}")
        bindings = bindings_of(self._bindings)
        elsewhere = sorted(
            name
            for name in bindings.keys() | plan.bindings.keys()
            if bindings.get(name) != plan.bindings.get(name)
        )
        if elsewhere:
            moved.append(f"connections lead elsewhere: {', '.join(elsewhere)}{self._profiles()}")
        if moved_digest(self._base) != plan.base_state:
            name = plan.base or session.settings.production
            moved.append(f"{name} was run or promoted into anew")
        if not changed and self._targets() != self._planned():
            moved.append("targets changed")
        return moved

    def _profiles(self) -> str:
        """Return which profile the plan was made with, where this command has another."""
        here = self._session.profile.path or ""
        if self._plan.profile == here:
            return ""
        return f" (planned with {self._plan.profile or 'no profile'}, now {here or 'none'})"

    def _targets(self) -> set[tuple[str, ...]]:
        found: set[tuple[str, ...]] = {
            (key, one.target.node, one.target.type, one.connection.name, str(one.target.name),
             one.target.mode.value)
            for key, one in self._bindings.targets.items()
        }  # fmt: skip
        if self._plan.prune:
            gone = self._record.targets.keys() - self._bindings.targets.keys()
            found |= {(key, self._record.targets[key].name) for key in gone}
        return found

    def _planned(self) -> set[tuple[str, ...]]:
        gone = (Writing.GONE, Writing.DROP)
        found: set[tuple[str, ...]] = {
            (step.key, step.node, step.type, step.connection, step.name, step.mode)
            for step in self._plan.targets
            if step.writing not in gone
        }
        if self._plan.prune:
            found |= {(step.key, step.name) for step in self._plan.targets if step.writing in gone}
        return found

    def drifted(self, checks: Mapping[str, TargetCheck]) -> list[str]:
        """Name the targets that the plan leaves as they are, and somebody else has changed."""
        kept = {step.key for step in self._plan.targets if step.writing is Writing.KEEP}
        drifted = []
        for key, check in checks.items():
            name = check.resolved.target.name
            if key not in kept:
                continue
            if key in self._record.targets and check.state is not None and not check.state.exists:
                drifted.append(f"{name} is missing")
            elif check.drift is Drift.ADDED and keeps_rows(check):
                continue
            elif check.change is not None and check.drift is not Drift.NONE:
                drifted.append(f"{name}: {check.change.detail or check.drift.value}")
        return drifted


def plan_command(session: Session) -> str:
    """Return the command that plans an environment anew, with this command's options."""
    return session.again("env", "plan", session.environment.name)


def _shown(variables: Mapping[str, object]) -> str:
    if not variables:
        return "none"
    return redact(json.dumps(dict(variables), ensure_ascii=False, default=str))
