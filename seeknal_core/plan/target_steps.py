"""The targets of a plan: what the stores show of each is handed to the decider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Drift
from seeknal_core.graph.fingerprints import target_fingerprint
from seeknal_core.plan.advice import consequence, refusal
from seeknal_core.plan.as_production import left_out, rows_of, share
from seeknal_core.plan.decide import (
    Candidate,
    Production,
    SharedDecision,
    TargetDecision,
    Writing,
    gone,
    in_words,
    target,
)
from seeknal_core.plan.decide.shared import left_out_on_request
from seeknal_core.plan.document import TargetStep
from seeknal_core.plan.guard import guard
from seeknal_core.plan.look import look
from seeknal_core.plan.shapes import Shapes
from seeknal_core.plan.targets import TargetCheck, check_targets, check_unasked
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.opening import other_records
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore

_WRITTEN = (Writing.WRITE, Writing.DEPENDS)


class TargetPlanner:
    """Decides about targets, as far as their nodes' content keys are known.

    ``checks`` are the targets as the stores showed them, and ``decisions`` what becomes of
    those that are the same as production's: an apply need not ask again.

    Args:
        keys: the content keys of nodes, as far as they are known.
        ask: whether the stores may be asked. If not, no table is looked at.
        brief: leaves out all that is only shown.
    """

    def __init__(
        self,
        session: Session,
        store: SnapshotStore,
        shapes: Shapes,
        keys: Mapping[str, str],
        record: EnvironmentRecord,
        production: Production,
        *,
        allow_production: bool,
        exact: bool,
        ask: bool,
        brief: bool,
    ) -> None:
        self._session = session
        self._store = store
        self._shapes = shapes
        self._keys = keys
        self._record = record
        self._production = production
        self._allow_production = allow_production
        self._exact = exact
        self._ask = ask
        self._brief = brief
        self.warnings: list[str] = []
        self.checks: dict[str, TargetCheck] = {}
        self.decisions: dict[str, SharedDecision] = {}

    def plan(self, targets: Mapping[str, ResolvedTarget]) -> tuple[TargetStep, ...]:
        """Look at targets and decide about all of them, in their order.

        Raises:
            CollisionRefused: two of them, or one and another environment's, are one table.
            BackendError: a store does not answer.
        """
        self.checks = self._look(targets)
        steps: dict[str, TargetStep] = {}
        same: list[Candidate] = []
        for key, check in self.checks.items():
            decision = self._decide(check)
            asks = self._ask or left_out_on_request(self._production)
            if decision.writing is Writing.SHARED and asks:
                same.append(Candidate(check=check, bytes=self._size(check)))
            else:
                steps[key] = self._step(check, decision)
        steps |= self._as_production(same)
        staged = Counter(
            step.connection for step in steps.values() if step.staged and step.writing in _WRITTEN
        )
        listed = [
            attrs.evolve(steps[key], atomic_with=max(0, staged[steps[key].connection] - 1))
            if steps[key].writing in _WRITTEN
            else steps[key]
            for key in targets
        ]
        if self._ask and not self._brief:
            self._foresee_publish(listed, targets)
        return tuple(listed)

    def _look(self, targets: Mapping[str, ResolvedTarget]) -> dict[str, TargetCheck]:
        """Return what stands where the targets are, as far as the stores may be asked."""
        held = self._record.targets
        checks = (
            check_targets(self._session, targets.values())
            if self._ask
            else {key: check_unasked(found, held.get(key)) for key, found in targets.items()}
        )
        guard(
            self._session,
            checks,
            other_records(self._session),
            allow_production=self._allow_production,
            connect=self._ask,
        )
        return look(self._session, checks, self._record, exact=self._exact) if self._ask else checks

    def _decide(self, check: TargetCheck) -> TargetDecision:
        key = check.resolved.target.key
        node = check.resolved.target.node
        return target(
            check,
            self._keys.get(node),
            self._record.targets.get(key),
            self._production,
            full_refresh=self._session.context.full_refresh,
            adopt=self._session.context.adopt,
            looked=self._ask,
        )

    def _step(self, check: TargetCheck, decision: TargetDecision) -> TargetStep:
        resolved, why = check.resolved, decision.need
        match decision.writing:
            case Writing.DEPENDS | Writing.SHARED:
                return self._blank(check, decision.writing)
            case Writing.REFUSED:
                held = self._record.targets.get(resolved.target.key)
                said, hint = refusal(self._session, check, held)
                self.warnings.append(f"{resolved.target.name}: {said}. Next: {hint}")
                return self._blank(check, Writing.REFUSED, said)
        if check.drift is not Drift.NONE:
            self.warnings.append(f"{resolved.target.name}: {consequence(check, why)}")
        match decision.writing:
            case Writing.WRITE:
                step = self._blank(check, Writing.WRITE, in_words(why, check))
                linked = check.state is not None and check.state.linked
                foresees = check.state is not None and check.state.foresees
                looks = ((step.exists and not linked) or foresees) and not self._brief
                return self._foreseen(step, resolved) if looks else step
            case Writing.UNLOOKED:
                return self._blank(check, Writing.UNLOOKED, "not looked")
            case writing:
                return self._blank(check, writing)

    def _blank(self, check: TargetCheck, writing: Writing, reason: str = "") -> TargetStep:
        found, state = check.resolved.target, check.state
        return TargetStep(
            key=found.key,
            node=found.node,
            type=found.type,
            connection=check.resolved.connection.name,
            name=str(found.name),
            mode=found.mode.value,
            writing=writing,
            reason=reason,
            staged=self._session.dispatcher.supports(found.type, Hook.STAGE),
            exists=state.exists if state is not None else None,
            notes=state.notes if state is not None else (),
        )

    def _size(self, check: TargetCheck) -> int:
        """Return how many bytes a target's rows take, as they are stored."""
        node = check.resolved.spec.node
        found = self._store.find(node, self._keys[node])
        return found.bytes if found is not None else 0

    def _as_production(self, candidates: Sequence[Candidate]) -> dict[str, TargetStep]:
        """Decide about the targets that are the same as production's."""
        decisions = share(self._session, candidates, self._record, self._production)
        self.warnings += left_out(decisions)
        self.decisions = {one.check.resolved.target.key: one for one in decisions}
        return {
            one.check.resolved.target.key: attrs.evolve(
                self._blank(one.check, one.writing, one.reason),
                bytes=one.bytes,
                rows=rows_of(one.check, self._production),
                content_key=self._keys[one.check.resolved.spec.node],
            )
            for one in decisions
        }

    def _foreseen(self, step: TargetStep, resolved: ResolvedTarget) -> TargetStep:
        """Return what a write does to the columns of a table that is there, or what refuses it."""
        id = resolved.spec.node
        if not self._session.dispatcher.supports(resolved.target.type, Hook.PREVIEW_WRITE):
            return step
        record = self._record.targets.get(resolved.target.key)
        fingerprint = target_fingerprint(resolved.spec, resolved.target.mode)
        unchanged = record is not None and record.fingerprint == fingerprint
        if unchanged and self._shapes.is_same(id):
            return step
        schema = self._shapes.of(id)
        if schema is None and step.exists:
            return step
        if schema is None:
            import pyarrow as pa

            schema = pa.schema([])
        found = self._session.dispatcher.preview_write(self._session.context, resolved, schema)
        if found is None:
            return step
        notes = [note.removeprefix(f"{step.name}: ") for note in found.notes]
        return attrs.evolve(
            step, notes=(*step.notes, *notes), refused=found.refused, hint=found.hint
        )

    def _foresee_publish(
        self, steps: Sequence[TargetStep], targets: Mapping[str, ResolvedTarget]
    ) -> None:
        """Warn of what a promotion of all that is written may fail by."""
        if self._session.environment.is_production:
            return
        by_connection: dict[str, list[ResolvedTarget]] = {}
        for step in steps:
            if step.staged and step.writing in _WRITTEN:
                by_connection.setdefault(step.connection, []).append(targets[step.key])
        for together in by_connection.values():
            self.warnings += self._session.dispatcher.preview_publish(
                self._session.context, together
            )


def gone_targets(
    record: EnvironmentRecord, targets: Mapping[str, ResolvedTarget], *, prune: bool
) -> list[TargetStep]:
    """Name the recorded targets that the project lacks now."""
    writing, reason = gone(prune=prune)
    return [
        TargetStep(
            key=key,
            node=held.node,
            type=held.type,
            connection=held.connection,
            name=held.name,
            mode="",
            writing=writing,
            reason=reason,
        )
        for key, held in sorted(record.targets.items())
        if key not in targets
    ]
