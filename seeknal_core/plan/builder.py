"""``seeknal env plan``: find out what an apply would do. Writes nothing."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Drift
from seeknal_core.graph.fingerprints import target_fingerprint
from seeknal_core.plan import keys
from seeknal_core.plan.advice import consequence, refusal
from seeknal_core.plan.as_production import Candidate, Decision, Way, decide, left_out, rows_of
from seeknal_core.plan.describe import (
    metadata_digest,
    own_definition,
    statements_of,
    text_of,
)
from seeknal_core.plan.document import Action, Change, NodeStep, Plan, TargetStep, Writing
from seeknal_core.plan.look import look
from seeknal_core.plan.proofs import Prover, Reference, references
from seeknal_core.plan.shapes import Shapes
from seeknal_core.plan.targets import (
    Need,
    Production,
    TargetCheck,
    bindings_digest,
    check_targets,
    guard,
    in_words,
    is_bound_alike,
    need,
    source_binding,
)
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.digests import digest, moved_digest
from seeknal_core.state.manifest import load_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.opening import (
    other_records,
    production_record,
    refuse_protected,
    refuse_rolled_back,
    refuse_shared_prefix,
    refuse_unfinished,
)
from seeknal_core.workspace.session import Bindings, Session, bind, load_plugins, needs_python

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore


#: Bytes of CSV files that a plan reads to say what their types will be.
_READ_BY_PLAN = 100_000_000


@attrs.frozen(kw_only=True)
class PlanRequest:
    """What ``seeknal env plan`` was asked for.

    ``for_apply`` leaves out all that is only shown: diffs, notes, previews of writes, and the
    look at files that are read in a moment anyway.
    """

    refresh_sources: bool = False
    all_targets: bool = False
    only_changed: bool = False
    allow_production_targets: bool = False
    prune: bool = False
    given_profile: str = ""
    exact: bool = False
    for_apply: bool = False


def make_plan(session: Session, request: PlanRequest) -> Plan:
    """Plan an environment upon its base.

    Raises:
        ConfigError, PluginError, ProtectedEnvironment, CollisionRefused: as an
            apply would.
        BackendError: a store that holds one of the targets does not answer.
    """
    everything = list(session.graph.nodes.values())
    failures = load_plugins(session, everything)
    bindings = bind(session, everything)
    name = session.environment.name
    record = session.state.load(name) or EnvironmentRecord(name=name)
    base = production_record(session)
    refuse_unfinished(session)
    refuse_protected(session, record)
    refuse_rolled_back(session, record)
    refuse_shared_prefix(session)
    planner = Planner(session, bindings, record, base, request)
    nodes = planner.nodes()
    try:
        targets = planner.targets()
    finally:
        planner.close()
    return Plan(
        id=f"plan-{session.context.run_id}",
        project=session.settings.name,
        environment=name,
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
        warnings=(*map(str, session.warnings), *map(str, failures), *planner.warnings),
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
    """Predicts content keys in graph order and compares with what is recorded.

    ``checks`` are the targets as the stores showed them, and ``decisions`` what becomes of
    those that are the same as production's: an apply need not ask again.
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
        self._production = Production.of(
            session.settings,
            base,
            all_targets=request.all_targets,
            only_changed=request.only_changed,
        )
        self._store: SnapshotStore = session.snapshot_store()
        self._digests = session.file_digests()
        self._known = references(session, record, base)
        self._prover = Prover(session, self._known)
        self._compared = self._known[0] if self._known else None
        #: Content keys as far as they can be known without reading a store.
        self._keys: dict[str, str] = {}
        self._steps: dict[str, NodeStep] = {}
        manifest = load_manifest(session.state, session.environment.name)
        self._shapes = Shapes(session, self._store, self._keys, record, manifest)
        self.rebound: list[str] = []
        self.warnings: list[str] = []
        self.checks: dict[str, TargetCheck] = {}
        self.decisions: dict[str, Decision] = {}

    def nodes(self) -> tuple[NodeStep, ...]:
        """Plan every node, and name those that are gone."""
        for id in self._session.graph.order:
            self._steps[id] = self._node(id)
            refused = needs_python(self._session, id)
            if refused and self._steps[id].action in (Action.COMPUTE, Action.READ):
                self.warnings.append(f"{id} {refused}: an apply without it is refused")
            elif refused and self._steps[id].action is Action.DEPENDS:
                self.warnings.append(f"{id} {refused}: an apply is refused if it has other rows")
        gone = sorted(self._record.nodes.keys() - self._session.graph.nodes.keys())
        if not self._record.nodes and self._base is not None:
            gone = sorted(self._base.nodes.keys() - self._session.graph.nodes.keys())
        return (
            *self._steps.values(),
            *(NodeStep(id=id, change=Change.REMOVED, action=Action.NONE) for id in gone),
        )

    def _node(self, id: str) -> NodeStep:
        node = self._session.graph.nodes[id]
        if isinstance(node, SourceNode) or node.kind == "source":
            step = self._source(node)
        else:
            step = self._transform(node)
        return step if self._request.for_apply else self._compare(step, node)

    def _source(self, node: AnyNode) -> NodeStep:
        """Take the base's snapshot of a source that is bound alike, else this one's own."""
        id = node.id
        assert not isinstance(node, SqlNode)
        resolved = self._bindings.sources.get(id)
        binding = source_binding(resolved) if resolved else keys.local_binding(self._session, node)
        blank = NodeStep(id=id, change=Change.UNCHANGED, action=Action.READ)
        held = self._base.nodes.get(id) if self._base else None
        mine = self._record.nodes.get(id)
        own = mine.binding if mine is not None else ""
        alike = held is not None and is_bound_alike(held.binding, binding, own)
        if held is not None and self._same(id, held) and not alike:
            self.rebound.append(id)
        local = resolved is None and isinstance(node, SourceNode) and not keys.is_remote(node)
        local = local and not self._request.for_apply
        if self._request.refresh_sources and not needs_python(self._session, id):
            if local:
                self._foresee_notes(node)  # type: ignore[arg-type]
            return attrs.evolve(blank, reason="sources are read anew")
        for reference in (self._base, self._record):
            found = reference.nodes.get(id) if reference else None
            if found is None or not self._same(id, found):
                continue
            if not is_bound_alike(found.binding, binding, own):
                continue
            if not self._store.contains(found.content_key):
                continue
            assert reference is not None
            self._warn_of_changed_files(node, found)
            return self._reused(blank, found, reference.name)
        reason = "bound to another place" if id in self.rebound else ""
        if local:
            self._predict_file(node)  # type: ignore[arg-type]
            self._foresee_notes(node)  # type: ignore[arg-type]
        return attrs.evolve(blank, reason=reason)

    def _same(self, id: str, held: NodeRecord) -> bool:
        return held.definition == self._session.graph.definitions[id]

    def _warn_of_changed_files(self, node: AnyNode, held: NodeRecord) -> None:
        """Say that a local file is not the one that was read; a look costs a stat."""
        local = isinstance(node, SourceNode) and node.id not in self._bindings.sources
        if self._request.for_apply or not local or keys.is_remote(node):  # type: ignore[arg-type]
            return
        scratch = self._session.layout.scratch
        found = keys.file_read(self._session, node, self._digests, scratch)  # type: ignore[arg-type]
        if self._store.resolve(found.content_key) != held.content_key:
            self.warnings.append(
                f"{node.id}: its files changed since they were read; "
                "--refresh-sources, or a run, reads them"
            )

    def _foresee_notes(self, node: SourceNode) -> None:
        """Say what a run will say of several CSV files: guessed types that get wider, above all.

        The files are read for that, and thrown away; large ones only by the run.
        """
        if node.type != "csv":
            return
        scratch = self._session.layout.scratch
        try:
            read = keys.file_read(self._session, node, self._digests, scratch)
            if self._store.contains(read.content_key):
                notes = self._store.notes_of(read.content_key)
            elif len(read.files.files) > 1 and (
                sum(path.stat().st_size for path in read.files.files) <= _READ_BY_PLAN
            ):
                notes = self._shapes.notes_of_files(read.source, read.files)
            else:
                return
        except (SeeknalError, OSError):
            return  # What is wrong with them, the run says.
        self.warnings += [f"{node.id}: {note}" for note in notes]

    def _predict_file(self, node: SourceNode) -> None:
        scratch = self._session.layout.scratch
        found = keys.file_read(self._session, node, self._digests, scratch)
        self._keys[node.id] = self._store.resolve(found.content_key)

    def _transform(self, node: AnyNode) -> NodeStep:
        id = node.id
        blank = NodeStep(id=id, change=Change.UNCHANGED, action=Action.COMPUTE)
        inputs = self._session.graph.inputs[id]
        volatile = self._session.graph.volatile.get(id)
        if volatile:
            return attrs.evolve(blank, reason=f"uses {', '.join(volatile)}, not reusable")
        unknown = [input for input in inputs if input not in self._keys]
        if unknown:
            return attrs.evolve(blank, action=Action.DEPENDS, reason=", ".join(unknown))
        read = {input: self._keys[input] for input in inputs}
        self._prover.note(id, read)
        key = self._key(node, list(read.values()))
        if self._store.contains(key):
            return self._stored(blank, self._store.resolve(key))
        proof = self._prover.prove(id, read)
        if proof is not None and self._store.contains(proof.stored):
            step = self._stored(blank, self._store.resolve(proof.stored))
            return attrs.evolve(
                step, action=Action.CHECK, change=Change.UNAFFECTED, reason=proof.sentence
            )
        self._keys[id] = key
        return attrs.evolve(blank, content_key=key)

    def _key(self, node: AnyNode, inputs: Sequence[str]) -> str:
        if isinstance(node, PythonNode):
            return keys.python_key(self._session, node, inputs)
        from seeknal_core.graph import render

        assert isinstance(node, SqlNode)
        rendered = render(node, self._session.graph.inputs[node.id], self._session.variables)
        return keys.sql_key(self._session, node, rendered.tokens, inputs)

    def _stored(self, blank: NodeStep, key: str) -> NodeStep:
        """Reuse what is stored; look at it again where no record says its audits passed."""
        for reference in (self._record, self._base):
            held = reference.nodes.get(blank.id) if reference else None
            if reference is None or held is None or held.content_key != key:
                continue
            if self._same(blank.id, held):
                return self._reused(blank, held, reference.name)
        self._keys[blank.id] = key
        return attrs.evolve(blank, action=Action.CHECK, content_key=key, reason="stored already")

    def _reused(self, blank: NodeStep, held: NodeRecord, name: str) -> NodeStep:
        self._keys[blank.id] = held.content_key
        step = attrs.evolve(
            blank,
            action=Action.REUSE,
            content_key=held.content_key,
            reused_from=name,
            held=attrs.evolve(held, definition=self._session.graph.definitions[blank.id]),
        )
        if not self._audits_hold(blank.id, held):
            return attrs.evolve(step, action=Action.CHECK, reason="its audits are to be run")
        return step

    def _audits_hold(self, id: str, held: NodeRecord) -> bool:
        from seeknal_core.plan.keys import audits_key
        from seeknal_core.plan.scope import compared

        node = self._session.graph.nodes[id]
        if getattr(node, "freshness", None) is not None:
            return False
        related: dict[str, str] = {}
        if node.audits:
            for other in (*self._session.graph.inputs[id], *compared(self._session.graph, id)):
                if other not in self._keys:
                    return False
                related[other] = self._keys[other]
        return held.audits == audits_key(node, held.content_key, related)

    def _compare(self, step: NodeStep, node: AnyNode) -> NodeStep:
        """Say what became of a node since the environment was applied, or since its base."""
        id = node.id
        definition = self._session.graph.definitions[id]
        compared = self._compared
        held = compared.record.nodes.get(id) if compared else None
        if compared is None or held is None:
            return attrs.evolve(step, change=Change.ADDED)
        if held.definition == definition:
            return attrs.evolve(step, change=self._change_of_content(step, node, held, compared))
        told = compared.node(id)
        own = told is None or told[1].own != own_definition(self._session, id)
        if not own:
            if step.change is Change.UNAFFECTED:
                return step
            return attrs.evolve(step, change=Change.AFFECTED, reason=self._above(id) or step.reason)
        text = told[1].text if told else ""
        return self._changed(step, node, text, told[1].statements if told else ())

    def _changed(
        self, step: NodeStep, node: AnyNode, text: str, statements: Sequence[str]
    ) -> NodeStep:
        from seeknal_core.graph.changes import classify

        diff = "".join(
            difflib.unified_diff(
                text.splitlines(keepends=True),
                text_of(node).splitlines(keepends=True),
                f"{node.id} before",
                f"{node.id} now",
            )
        )
        breaking, reason = True, step.reason
        columns: tuple[str, ...] = ()
        if statements and isinstance(node, SqlNode):
            change = classify(statements, statements_of(self._session, node.id))
            breaking, columns = not change.additive, tuple(change.columns)
            reason = change.reason or reason
        return attrs.evolve(
            step,
            change=Change.CHANGED,
            breaking=breaking,
            columns=columns,
            diff=diff,
            reason=reason,
        )

    def _change_of_content(
        self, step: NodeStep, node: AnyNode, held: NodeRecord, compared: Reference
    ) -> Change:
        if step.id in self.rebound and compared.record is self._base:
            return Change.REBOUND
        above = [self._steps[input].change for input in self._session.graph.inputs[step.id]]
        key = self._keys.get(step.id)
        if key is None or key != held.content_key:
            if Change.REBOUND in above:
                return Change.REBOUND
            if key is not None and step.action is not Action.DEPENDS:
                return Change.CONTENT
        told = compared.node(step.id)
        if told is not None and told[1].metadata != metadata_digest(node):
            return Change.METADATA
        return Change.UNCHANGED

    def _above(self, id: str) -> str:
        """Name the nodes above whose change reaches this one."""
        changed = [
            input
            for input in self._session.graph.inputs[id]
            if self._steps[input].change
            in (Change.ADDED, Change.CHANGED, Change.AFFECTED, Change.CONTENT)
        ]
        return f"reads {', '.join(changed)}" if changed else ""

    def close(self) -> None:
        """Close what predicting columns opened."""
        self._shapes.close()

    def targets(self) -> tuple[TargetStep, ...]:
        """Plan every target, and ask the stores what stands there."""
        steps: dict[str, TargetStep] = {}
        checks = check_targets(self._session, self._bindings.targets.values())
        guard(
            self._session,
            checks,
            other_records(self._session),
            allow_production=self._request.allow_production_targets,
        )
        checks = look(self._session, checks, self._record, exact=self._request.exact)
        self.checks = checks
        same: list[Candidate] = []
        for key, check in checks.items():
            content_key = self._keys.get(check.resolved.spec.node)
            if content_key is not None and self._need(check, content_key) is (
                Need.SAME_AS_PRODUCTION
            ):
                same.append(Candidate(check=check, bytes=self._size(check)))
            else:
                steps[key] = self._written(check)
        steps |= self._as_production(same)
        staged = Counter(
            step.connection
            for step in steps.values()
            if step.staged and step.writing in (Writing.WRITE, Writing.DEPENDS)
        )
        listed = [
            attrs.evolve(steps[key], atomic_with=max(0, staged[steps[key].connection] - 1))
            if steps[key].writing in (Writing.WRITE, Writing.DEPENDS)
            else steps[key]
            for key in self._bindings.targets
        ]
        if not self._request.for_apply:
            self._foresee_publish(listed)
        return (*listed, *self._gone())

    def _foresee_publish(self, steps: Sequence[TargetStep]) -> None:
        """Warn of what a promotion of all that is written may fail by."""
        if self._session.environment.is_production:
            return
        by_connection: dict[str, list[ResolvedTarget]] = {}
        for step in steps:
            if step.staged and step.writing in (Writing.WRITE, Writing.DEPENDS):
                found = self._bindings.targets[step.key]
                by_connection.setdefault(step.connection, []).append(found)
        for together in by_connection.values():
            self.warnings += self._session.dispatcher.preview_publish(
                self._session.context, together
            )

    def _gone(self) -> list[TargetStep]:
        """Name the recorded targets that the project lacks now."""
        prune = self._request.prune
        return [
            TargetStep(
                key=key,
                node=held.node,
                type=held.type,
                connection=held.connection,
                name=held.name,
                mode="",
                writing=Writing.DROP if prune else Writing.GONE,
                reason="no longer in the project" if prune else "stays; plan --prune drops it",
            )
            for key, held in sorted(self._record.targets.items())
            if key not in self._bindings.targets
        ]

    def _size(self, check: TargetCheck) -> int:
        """Return how many bytes a target's rows take, as they are stored."""
        node = check.resolved.spec.node
        found = self._store.find(node, self._keys[node])
        return found.bytes if found is not None else 0

    def _as_production(self, candidates: Sequence[Candidate]) -> dict[str, TargetStep]:
        """Plan the targets that are the same as production's."""
        decisions = decide(self._session, candidates, self._record, self._production)
        self.warnings += left_out(decisions)
        self.decisions = {one.check.resolved.target.key: one for one in decisions}
        return {
            one.check.resolved.target.key: attrs.evolve(
                self._target_step(one.check.resolved, _WAYS[one.way], one.reason, check=one.check),
                bytes=one.bytes,
                rows=rows_of(one.check, self._production),
                content_key=self._keys[one.check.resolved.spec.node],
            )
            for one in decisions
        }

    def _need(self, check: TargetCheck, key: str) -> Need:
        target = check.resolved.target
        return need(
            check,
            key,
            self._session.graph.definitions[target.node],
            self._record.targets.get(target.key),
            self._production,
            full_refresh=self._session.context.full_refresh,
        )

    def _written(self, check: TargetCheck) -> TargetStep:
        resolved = check.resolved
        key = self._keys.get(resolved.spec.node)
        why = self._need(check, key or "")
        open_key = key is None or self._steps[resolved.spec.node].action is Action.DEPENDS
        perhaps_same = why is Need.NEW and self._base is not None and not self._request.all_targets
        if open_key and (why is Need.CONTENT or perhaps_same):
            return self._target_step(resolved, Writing.DEPENDS, check=check)
        if why is Need.REFUSED:
            held = self._record.targets.get(resolved.target.key)
            said, hint = refusal(self._session, check, held)
            self.warnings.append(f"{resolved.target.name}: {said}. Next: {hint}")
            return self._target_step(resolved, Writing.REFUSED, said, check=check)
        if check.drift is not Drift.NONE:
            self.warnings.append(f"{resolved.target.name}: {consequence(check, why)}")
        if why.writes:
            step = self._target_step(resolved, Writing.WRITE, in_words(why, check), check=check)
            linked = check.state is not None and check.state.linked
            foresees = check.state is not None and check.state.foresees
            looks = ((step.exists and not linked) or foresees) and not self._request.for_apply
            return self._foreseen(step, resolved) if looks else step
        return self._target_step(resolved, Writing.KEEP, check=check)

    def _foreseen(self, step: TargetStep, resolved: ResolvedTarget) -> TargetStep:
        """Say what a write does to the columns of a table that is there, or what refuses it."""
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

    def _target_step(
        self,
        resolved: ResolvedTarget,
        writing: Writing,
        reason: str = "",
        *,
        check: TargetCheck | None = None,
    ) -> TargetStep:
        target, state = resolved.target, check.state if check is not None else None
        return TargetStep(
            key=target.key,
            node=target.node,
            type=target.type,
            connection=resolved.connection.name,
            name=str(target.name),
            mode=target.mode.value,
            writing=writing,
            reason=reason,
            staged=self._session.dispatcher.supports(target.type, Hook.STAGE),
            exists=state.exists if state is not None else None,
            notes=state.notes if state is not None else (),
        )


_WAYS = {Way.LINK: Writing.LINK, Way.COPY: Writing.COPY, Way.LEFT_OUT: Writing.LEFT_OUT}


def steps_by_id(plan: Plan) -> Mapping[str, NodeStep]:
    """Return a plan's nodes by id."""
    return {step.id: step for step in plan.nodes}
