"""``seeknal run --dry-run``: what would run, found out without touching anything.

No store is connected and no file written, so a source that lies in a store is
"read again", and what hangs below it runs if that brings other rows.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.apply.run import RunRequest
from seeknal_core.plan import keys
from seeknal_core.plan.scope import Scope, make_scope
from seeknal_core.plan.targets import (
    Need,
    Production,
    TargetCheck,
    bindings_digest,
    fallback_identity,
    guard,
    need,
    source_binding,
)
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.project.specs import PythonNode, SourceNode, SqlNode
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.opening import (
    is_stored,
    other_records,
    production_record,
    refuse_protected,
    refuse_rolled_back,
    refuse_shared_prefix,
    refuse_unfinished,
)
from seeknal_core.workspace.session import Bindings, Session, bind, load_plugins, needs_python


class Action(enum.Enum):
    """What would happen to a node."""

    COMPUTE = "compute"
    READ = "read again"
    REUSE = "reuse"
    DEPENDS = "compute if an input brings other rows"


class WriteAction(enum.Enum):
    """What would happen to a target."""

    WRITE = "write"
    KEEP = "unchanged"
    DEPENDS = "write if the rows differ"
    SAME_AS_PRODUCTION = "same as production: linked, copied or left out"


@attrs.frozen(kw_only=True)
class NodeStep:
    """A node and what would happen to it."""

    id: str
    action: Action
    reason: str = ""


@attrs.frozen(kw_only=True)
class TargetStep:
    """A target, under its final name, and what would happen to it."""

    key: str
    node: str
    type: str
    connection: str
    name: str
    mode: str
    action: WriteAction
    reason: str = ""


@attrs.frozen(kw_only=True)
class Preview:
    """Everything a run would do, in order."""

    nodes: tuple[NodeStep, ...]
    targets: tuple[TargetStep, ...]


def preview(session: Session, request: RunRequest) -> Preview:
    """Find out what a run would do.

    Raises:
        ConfigError, PluginError, EnvironmentStateError: as the
            run would, as far as that shows without asking a store.
    """
    everything = list(session.graph.nodes.values())
    load_plugins(session, everything)
    bindings = bind(session, everything)
    record = session.state.load(session.environment.name)
    known = record or EnvironmentRecord(name=session.environment.name)
    refuse_unfinished(session)
    refuse_protected(session, known)
    refuse_rolled_back(session, known)
    scope = make_scope(
        session, request.select, request.exclude, record, bindings.sources, is_stored(session)
    )
    refuse_shared_prefix(session)
    checks = {
        resolved.target.key: _check(resolved, record)
        for resolved in bindings.targets.values()
        if resolved.spec.node in scope.selected
    }
    guard(
        session,
        checks,
        other_records(session),
        allow_production=request.allow_production_targets,
        connect=False,
    )
    base = production_record(session)
    predictor = _Predictor(session, bindings, scope, record, base)
    nodes = tuple(predictor.step(id) for id in scope.order)
    production = Production.of(
        session.settings,
        base,
        all_targets=request.all_targets,
        only_changed=request.only_changed,
    )
    targets = tuple(
        _target_step(
            session, check, predictor.known.get(check.resolved.spec.node), record, production
        )
        for check in checks.values()
    )
    return Preview(nodes=nodes, targets=targets)


class _Predictor:
    """Predicts content keys in graph order; None where only a store could tell."""

    def __init__(
        self,
        session: Session,
        bindings: Bindings,
        scope: Scope,
        record: EnvironmentRecord | None,
        base: EnvironmentRecord | None,
    ) -> None:

        self._session = session
        self._bindings = bindings
        self._scope = scope
        self._record = record
        self._base = base
        self._store = session.snapshot_store()
        self._digests = session.file_digests()
        self.known: dict[str, str] = {}

    def step(self, id: str) -> NodeStep:
        """Predict one node; its inputs came before it."""
        if id in self._scope.recorded:
            self.known[id] = self._scope.recorded[id].content_key
            return NodeStep(id=id, action=Action.REUSE, reason="not selected, taken as recorded")
        node = self._session.graph.nodes[id]
        volatile = self._session.graph.volatile.get(id)
        match node:
            case SourceNode() if (held := self._assumed(node)) is not None:
                self.known[id] = held.content_key
                return NodeStep(id=id, action=Action.REUSE, reason=f"changes: {node.changes.value}")
            case SourceNode() if id in self._bindings.sources or keys.is_remote(node):
                return NodeStep(id=id, action=Action.READ, reason=f"from {node.type}")
            case SourceNode():
                scratch = self._session.layout.scratch
                key = keys.file_read(self._session, node, self._digests, scratch).content_key
            case PythonNode() if node.kind == "source":
                return self._python_source(node)
            case _:
                inputs = self._session.graph.inputs[id]
                unknown = [input for input in inputs if input not in self.known]
                if unknown and not volatile:
                    return NodeStep(id=id, action=Action.DEPENDS, reason=", ".join(unknown))
                key = self._transform_key(node, [self.known.get(input, "") for input in inputs])
        if volatile:
            why = needs_python(self._session, id) or f"uses {', '.join(volatile)}"
            return NodeStep(id=id, action=Action.COMPUTE, reason=why)
        self.known[id] = self._store.resolve(key)
        if self._store.contains(key):
            return NodeStep(id=id, action=Action.REUSE)
        return NodeStep(
            id=id,
            action=Action.COMPUTE,
            reason=needs_python(self._session, id) or self._why(id),
        )

    def _python_source(self, node: PythonNode) -> NodeStep:
        """Predict a Python source, which is read each time, unless no Python may run."""
        refused = needs_python(self._session, node.id)
        if not refused:
            return NodeStep(id=node.id, action=Action.READ, reason="from Python")
        held = self._record.nodes.get(node.id) if self._record else None
        if held is None and self._base is not None:
            held = self._base.nodes.get(node.id)
        now = (
            self._session.graph.definitions[node.id],
            keys.local_binding(self._session, node),
        )
        if held is None or (held.definition, held.binding) != now:
            return NodeStep(id=node.id, action=Action.COMPUTE, reason=refused)
        self.known[node.id] = held.content_key
        return NodeStep(id=node.id, action=Action.REUSE, reason="as stored, no Python runs")

    def _assumed(self, node: SourceNode) -> NodeRecord | None:
        """Return what is recorded of a store's source that the run will not look at again."""
        resolved = self._bindings.sources.get(node.id)
        held = self._record.nodes.get(node.id) if self._record else None
        if held is None and self._base is not None:
            held = self._base.nodes.get(node.id)
        if resolved is None or held is None:
            return None
        binding = source_binding(resolved)
        assumed = keys.is_assumed_unchanged(self._session, node, binding, held)
        return held if assumed and self._store.contains(held.content_key) else None

    def _transform_key(self, node: SqlNode | PythonNode, inputs: Sequence[str]) -> str:
        if isinstance(node, PythonNode):
            return keys.python_key(self._session, node, inputs)
        from seeknal_core.graph import render

        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        return keys.sql_key(self._session, node, rendered.tokens, inputs)

    def _why(self, id: str) -> str:
        held = self._record.nodes.get(id) if self._record else None
        if held is None:
            return "new"
        if held.definition != self._session.graph.definitions[id]:
            return "changed"
        return "what it reads changed"


def _check(resolved: ResolvedTarget, record: EnvironmentRecord | None) -> TargetCheck:
    """Say where a target is, without asking the store: alike bindings and name mean one table."""
    from seeknal_core.graph import target_fingerprint

    held = record.targets.get(resolved.target.key) if record else None
    bindings = bindings_digest(resolved.connection)
    unmoved = held is not None and (held.bindings, held.name) == (
        bindings,
        str(resolved.target.name),
    )
    return TargetCheck(
        resolved=resolved,
        identity=held.identity if held and unmoved else fallback_identity(resolved),
        bindings=bindings,
        fingerprint=target_fingerprint(resolved.spec, resolved.target.mode),
        state=None,
    )


def _target_step(
    session: Session,
    check: TargetCheck,
    content_key: str | None,
    record: EnvironmentRecord | None,
    production: Production,
) -> TargetStep:
    action, reason = _write_action(session, check, content_key, record, production)
    resolved = check.resolved
    return TargetStep(
        key=resolved.target.key,
        node=resolved.target.node,
        type=resolved.target.type,
        connection=resolved.connection.name,
        name=str(resolved.target.name),
        mode=resolved.target.mode.value,
        action=action,
        reason=reason,
    )


def _write_action(
    session: Session,
    check: TargetCheck,
    content_key: str | None,
    record: EnvironmentRecord | None,
    production: Production,
) -> tuple[WriteAction, str]:
    target = check.resolved.target
    why = need(
        check,
        content_key or "",
        session.graph.definitions[target.node],
        record.targets.get(target.key) if record else None,
        production,
        full_refresh=session.context.full_refresh,
    )
    perhaps_same = why is Need.NEW and production.record is not None and not production.all_targets
    if content_key is None and (why is Need.CONTENT or perhaps_same):
        return WriteAction.DEPENDS, ""
    if why is Need.SAME_AS_PRODUCTION:
        return WriteAction.SAME_AS_PRODUCTION, ""
    return (WriteAction.WRITE, why.value) if why.writes else (WriteAction.KEEP, "")


def as_mapping(result: Preview) -> Mapping[str, object]:
    """Return the preview as JSON-able values, for ``--json``."""
    return {
        "nodes": [
            {"id": step.id, "action": step.action.value, "reason": step.reason}
            for step in result.nodes
        ],
        "targets": [{**attrs.asdict(step), "action": step.action.value} for step in result.targets],
    }
