"""``seeknal env plan``: find out what an apply, or a run, would do. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.plan.compared import Comparison
from seeknal_core.plan.decide import Action, Production, SharedDecision
from seeknal_core.plan.document import Change, NodeStep, Plan, TargetStep
from seeknal_core.plan.node_steps import NodePlanner
from seeknal_core.plan.proofs import Prover, references
from seeknal_core.plan.scope import Scope, make_scope
from seeknal_core.plan.shapes import Shapes
from seeknal_core.plan.target_steps import TargetPlanner, gone_targets
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.digests import digest, moved_digest
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.bindings import Bindings
from seeknal_core.workspace.opening import Opened, opening
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What is planned.

    Attributes:
        run: the plan of a ``seeknal run``: sources are read anew, and each node of the
            selection is looked at.
        select, exclude: the nodes of a run; all of them where nothing is said.
        refresh_sources: read sources anew. Of a run, which does that anyway: ask the stores for
            the versions of sources, so that the plan knows which have other rows.
        ask: whether the stores may be asked. If not, no table is looked at.
        for_apply: leave out all that is only shown: diffs, notes, previews of writes, and the
            look at files that are read in a moment anyway.
    """

    refresh_sources: bool = False
    all_targets: bool = False
    only_changed: bool = False
    allow_production_targets: bool = False
    prune: bool = False
    given_profile: str = ""
    exact: bool = False
    run: bool = False
    select: Sequence[str] = ()
    exclude: Sequence[str] = ()
    ask: bool = True
    for_apply: bool = False


def make_plan(session: Session, request: PlanRequest) -> Plan:
    """Plan an environment upon its base.

    Raises:
        ConfigError, PluginError, ProtectedEnvironment, CollisionRefused: as an
            apply would.
        BackendError: a store that holds one of the targets does not answer.
    """
    with opening(session, writes=False) as opened:
        return _made(opened, request)


def _made(opened: Opened, request: PlanRequest) -> Plan:
    session, bindings, base = opened.session, opened.bindings, opened.base
    planner = Planner(session, bindings, opened.record, base, request)
    nodes = planner.nodes()
    try:
        targets = planner.targets()
    finally:
        planner.close()
    return Plan(
        id=f"plan-{session.context.run_id}",
        project=session.settings.name,
        environment=session.environment.name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=session.profile.path or "",
        profile_reason=session.profile.reason,
        bindings=bindings_of(bindings),
        definitions=dict(session.graph.definitions),
        base=base.name if base is not None else "",
        base_state=moved_digest(base),
        nodes=nodes,
        targets=targets,
        rebound=tuple(planner.rebound),
        variables=dict(session.variables.vars),
        all_targets=request.all_targets,
        only_changed=request.only_changed,
        refresh_sources=request.refresh_sources,
        prune=request.prune,
        given_profile=request.given_profile,
        warnings=(*map(str, session.warnings), *map(str, opened.failures), *planner.warnings),
    )


def bindings_of(bindings: Bindings) -> dict[str, str]:
    """Digest where each connection of a project's targets and sources leads, by name."""
    used = [found.connection for found in bindings.targets.values()]
    used += [found.connection for found in bindings.sources.values()]
    return {
        connection.name: bindings_digest(connection)
        + (digest("reads", dict(connection.reads())) if connection.reads() else "")
        for connection in used
    }


class Planner:
    """Plans the nodes and the targets of a command over what is recorded and stored.

    ``scope`` are the nodes of a run, None for a plan of the whole project. ``store``,
    ``digests`` and ``known`` (the environments that proofs may refer to) serve whoever carries
    the plan out, too.
    """

    def __init__(
        self,
        session: Session,
        bindings: Bindings,
        record: EnvironmentRecord,
        base: EnvironmentRecord | None,
        request: PlanRequest,
    ) -> None:
        self._session = session
        self._bindings = bindings
        self._record = record
        self._base = base
        self._request = request
        self.store = session.snapshot_store()
        self.digests = session.file_digests()
        self.known = references(session, record, base)
        self.scope = self._scope() if request.run else None
        manifest = next((each.manifest for each in self.known if each.record is record), {})
        #: Content keys as far as they can be known without reading a store.
        keys: dict[str, str] = {}
        self._shapes = Shapes(session, self.store, keys, record, manifest)
        self._nodes = NodePlanner(
            session,
            bindings,
            self.store,
            self.digests,
            self._shapes,
            Prover(session, self.known),
            keys,
            record,
            base,
            recorded=self.scope.recorded if self.scope is not None else {},
            anew=request.run or request.refresh_sources,
            run=request.run,
            versions=request.run and request.ask and request.refresh_sources,
            brief=request.for_apply,
        )
        self._targets = TargetPlanner(
            session,
            self.store,
            self._shapes,
            keys,
            record,
            Production.of(
                session.settings,
                base,
                all_targets=request.all_targets,
                only_changed=request.only_changed,
            ),
            allow_production=request.allow_production_targets,
            exact=request.exact,
            ask=request.ask,
            brief=request.for_apply,
        )
        self._comparison = Comparison(
            session,
            self.known[0] if self.known else None,
            base,
            self._nodes.steps,
            self._nodes.rebound,
            keys,
        )

    def _scope(self) -> Scope:
        return make_scope(
            self._session,
            self._request.select,
            self._request.exclude,
            self._record,
            self._bindings.sources,
            self.store.contains,
        )

    @property
    def is_whole(self) -> bool:
        """Whether every node of the project is planned."""
        return self.scope is None or self.scope.selected == frozenset(self._session.graph.nodes)

    @property
    def rebound(self) -> Sequence[str]:
        """The sources that are bound to another place than in the base."""
        return self._nodes.rebound

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should hear of the plan."""
        return (*self._nodes.warnings, *self._targets.warnings)

    @property
    def checks(self) -> Mapping[str, TargetCheck]:
        """The targets as the stores showed them."""
        return self._targets.checks

    @property
    def decisions(self) -> Mapping[str, SharedDecision]:
        """What becomes of the targets that are the same as production's."""
        return self._targets.decisions

    @property
    def chosen(self) -> Mapping[str, ResolvedTarget]:
        """The targets of the nodes that are planned, by key."""
        if self.scope is None:
            return self._bindings.targets
        return {
            key: found
            for key, found in self._bindings.targets.items()
            if found.spec.node in self.scope.selected
        }

    def nodes(self) -> tuple[NodeStep, ...]:
        """Plan every node, and name those that are gone."""
        graph = self._session.graph
        order = self.scope.order if self.scope is not None else graph.order
        self._nodes.plan(order, None if self._request.for_apply else self._comparison)
        steps = tuple(self._nodes.steps.values())
        if not self.is_whole:
            return steps
        gone = sorted(self._record.nodes.keys() - graph.nodes.keys())
        if not self._record.nodes and self._base is not None:
            gone = sorted(self._base.nodes.keys() - graph.nodes.keys())
        return (
            *steps,
            *(NodeStep(id=id, change=Change.REMOVED, action=Action.NONE) for id in gone),
        )

    def targets(self) -> tuple[TargetStep, ...]:
        """Plan every target, and ask the stores what stands there."""
        steps = self._targets.plan(self.chosen)
        if not self.is_whole:
            return steps
        gone = gone_targets(self._record, self._bindings.targets, prune=self._request.prune)
        return (*steps, *gone)

    def close(self) -> None:
        """Close what predicting columns opened."""
        self._shapes.close()
