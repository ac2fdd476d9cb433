"""The nodes of a plan: facts about each are found and handed to the decider, in graph order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import Interrupted, SeeknalError
from seeknal_core.plan import keys
from seeknal_core.plan.bindings import is_bound_alike, source_binding
from seeknal_core.plan.compared import Comparison
from seeknal_core.plan.decide import (
    Action,
    Holder,
    NodeDecision,
    SourceFacts,
    TransformFacts,
    audits_hold,
    has_rows_of,
    source,
    transform,
)
from seeknal_core.plan.document import Change, NodeStep
from seeknal_core.plan.proofs import Prover
from seeknal_core.plan.scope import compared as compared_with
from seeknal_core.plan.shapes import Shapes
from seeknal_core.plugins.resolved import ResolvedSource
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.bindings import Bindings
from seeknal_core.workspace.session import Session, needs_python

if TYPE_CHECKING:
    from seeknal_core.engine.files.digests import FileDigests
    from seeknal_core.engine.snapshots import SnapshotStore

#: Bytes of CSV files that a plan reads to say what their types will be.
_READ_BY_PLAN = 100_000_000


class NodePlanner:
    """Decides about nodes as far as that is possible without reading a store.

    Args:
        keys: takes the content keys of nodes, as far as they are known.
        recorded: nodes that are not selected and are taken as they are recorded.
        anew: whether sources are read anew.
        run: whether each node is looked at by a run, and not only those that work.
        versions: whether stores are asked for the versions of sources that are read anew.
        brief: leaves out all that is only shown, and the look at files that are read in a
            moment anyway.
    """

    def __init__(
        self,
        session: Session,
        bindings: Bindings,
        store: SnapshotStore,
        digests: FileDigests,
        shapes: Shapes,
        prover: Prover,
        keys: dict[str, str],
        record: EnvironmentRecord,
        base: EnvironmentRecord | None,
        *,
        recorded: Mapping[str, NodeRecord],
        anew: bool,
        run: bool,
        versions: bool,
        brief: bool,
    ) -> None:
        self._session = session
        self._bindings = bindings
        self._store = store
        self._digests = digests
        self._shapes = shapes
        self._prover = prover
        self._keys = keys
        self._record = record
        self._base = base
        self._recorded = recorded
        self._anew = anew
        self._run = run
        self._versions = versions
        self._brief = brief
        self._scratch = session.layout.scratch
        #: Sources that are bound to another place than in the base.
        self.rebound: list[str] = []
        self.warnings: list[str] = []
        self.steps: dict[str, NodeStep] = {}

    def plan(self, order: Sequence[str], comparison: Comparison | None) -> None:
        """Decide about nodes, in the graph's order.

        Args:
            comparison: says what became of each; None: nobody wants to know.
        """
        for id in order:
            node = self._session.graph.nodes[id]
            decision = self._decide(node)
            if decision.content_key:
                self._keys[id] = decision.content_key
            step = self._step(id, decision)
            self.steps[id] = step if comparison is None else comparison.step(step, node)
            self._warn_without_python(id, decision.action)

    def _decide(self, node: AnyNode) -> NodeDecision:
        held = self._recorded.get(node.id)
        if held is not None:
            return NodeDecision(
                action=Action.REUSE,
                reason="not selected, taken as recorded",
                content_key=held.content_key,
                reused_from=self._record.name,
                held=held,
            )
        if isinstance(node, SourceNode) or node.kind == "source":
            assert not isinstance(node, SqlNode)
            return self._source(node)
        return self._transform(node)

    def _step(self, id: str, decision: NodeDecision) -> NodeStep:
        held, definition = decision.held, self._session.graph.definitions[id]
        # Rows that a proof makes this node's were recorded under another definition.
        if (
            held is not None
            and decision.reused_from
            and held.definition != definition
            and id not in self._recorded
        ):
            held = attrs.evolve(held, definition=definition)
        return NodeStep(
            id=id,
            change=Change.UNAFFECTED if decision.proof else Change.UNCHANGED,
            action=decision.action,
            reason=decision.reason,
            content_key=decision.content_key,
            reused_from=decision.reused_from,
            held=held,
        )

    def _warn_without_python(self, id: str, action: Action) -> None:
        if self._session.trust.python:
            return
        refused = needs_python(self._session, id)
        if not refused:
            return
        command = "a run" if self._run else "an apply"
        if action in (Action.COMPUTE, Action.READ):
            self.warnings.append(f"{id} {refused}: {command} without it is refused")
        elif action is Action.DEPENDS:
            self.warnings.append(f"{id} {refused}: {command} is refused if it has other rows")

    def _holders(self, id: str, *records: EnvironmentRecord | None) -> list[Holder]:
        return [
            Holder(name=record.name, record=record.nodes[id])
            for record in records
            if record is not None and id in record.nodes
        ]

    def _source(self, node: SourceNode | PythonNode) -> NodeDecision:
        """Decide about a source: a plan takes the base's snapshot of one that is bound alike."""
        id = node.id
        definition = self._session.graph.definitions[id]
        resolved = self._bindings.sources.get(id)
        binding = source_binding(resolved) if resolved else keys.local_binding(self._session, node)
        mine = self._record.nodes.get(id)
        own = mine.binding if mine is not None else ""
        held = self._base.nodes.get(id) if self._base else None
        rebound = (
            held is not None
            and held.definition == definition
            and not is_bound_alike(held.binding, binding, own)
        )
        if rebound:
            self.rebound.append(id)
        order = (self._record, self._base) if self._anew else (self._base, self._record)
        facts = SourceFacts(
            id=id,
            definition=definition,
            binding=binding,
            own=own,
            anew=self._anew,
            rebound=rebound,
            in_store=resolved is not None,
            refused=needs_python(self._session, id),
            holders=self._holders(id, *order),
        )
        if isinstance(node, SourceNode):
            facts = attrs.evolve(facts, changes=node.changes, assume_for=node.assume_unchanged_for)
        local = resolved is None and isinstance(node, SourceNode) and not keys.is_remote(node)
        if self._brief or not local:
            decision = source(facts, self._store, lambda record: self._passed(node, record))
            if decision.action is not Action.READ or resolved is None or not self._versions:
                return decision
            facts = attrs.evolve(facts, key=self._key_of_version(resolved))
            return source(facts, self._store, lambda record: self._passed(node, record))
        assert isinstance(node, SourceNode)
        return self._file(node, facts)

    def _file(self, node: SourceNode, facts: SourceFacts) -> NodeDecision:
        """Decide about files on this machine, which are digested for it."""
        if not facts.anew:
            decision = source(facts, self._store, lambda record: self._passed(node, record))
            if decision.held is not None:
                self._warn_of_changed_files(node, decision.held)
                return decision
        facts = attrs.evolve(facts, key=self._key_of_files(node))
        decision = source(facts, self._store, lambda record: self._passed(node, record))
        self._foresee_notes(node)
        return decision

    def _key_of_version(self, resolved: ResolvedSource) -> str:
        """Ask a store for the version of a source; empty where it has none, or is away."""
        found = resolved.source
        self._session.context.cancellation.check()
        try:
            with self._session.dispatcher.read_source(self._session.context, resolved) as stream:
                if stream.version is None:
                    return ""
                return keys.stream_key(
                    self._session,
                    found.node,
                    keys.version_read(stream.identity, stream.version, found),
                )
        except Interrupted:
            raise
        except SeeknalError:
            return ""  # What is wrong with it, the run says.

    def _key_of_files(self, node: SourceNode) -> str:
        """Digest a source's files; a plan that reads all sources anew goes on without one."""
        try:
            return keys.file_read(self._session, node, self._digests, self._scratch).content_key
        except (SeeknalError, OSError):
            if self._run or not self._anew:
                raise
            return ""  # What is wrong with them, the apply says.

    def _warn_of_changed_files(self, node: SourceNode, held: NodeRecord) -> None:
        """Say that a file is not the one that was read; a look costs a stat."""
        found = keys.file_read(self._session, node, self._digests, self._scratch)
        if not has_rows_of(held, self._store.resolve(found.content_key)):
            self.warnings.append(
                f"{node.id}: its files changed since they were read; "
                "--refresh-sources, or a run, reads them"
            )

    def _foresee_notes(self, node: SourceNode) -> None:
        """Report what a run will say of several CSV files: guessed types that get wider, above all.

        The files are read for that, and thrown away; large ones only by the run.
        """
        if node.type != "csv":
            return
        try:
            read = keys.file_read(self._session, node, self._digests, self._scratch)
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

    def _transform(self, node: AnyNode) -> NodeDecision:
        id = node.id
        inputs = self._session.graph.inputs[id]
        volatile = self._session.graph.volatile.get(id, ())
        unknown = [input for input in inputs if input not in self._keys]
        read: dict[str, str] = {}
        known = not volatile and not unknown
        if known:
            read = {input: self._keys[input] for input in inputs}
            self._prover.note(id, read)
        return transform(
            TransformFacts(
                id=id,
                definition=self._session.graph.definitions[id],
                volatile=volatile,
                unknown=unknown,
                key=keys.transform_key(self._session, node, list(read.values())) if known else "",
                holders=self._holders(id, self._record, self._base) if known else (),
            ),
            self._store,
            lambda: self._prover.prove(id, read),
            lambda held: self._passed(node, held),
        )

    def _passed(self, node: AnyNode, held: NodeRecord) -> bool:
        """Return whether a node's audits passed on the very rows of a record."""
        ages = getattr(node, "freshness", None) is not None
        related: dict[str, str] = {}
        if node.audits and not ages:
            for other in (
                *self._session.graph.inputs[node.id],
                *compared_with(self._session.graph, node.id),
            ):
                if other not in self._keys:
                    return False
                related[other] = self._keys[other]
        audits = keys.audits_key(node, held.content_key, related)
        return audits_hold(held, audits, ages=ages)
