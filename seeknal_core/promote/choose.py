"""Which nodes a promotion takes, and whose rows: shipped, or rebuilt over there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from seeknal_core.plan import keys
from seeknal_core.plan.bindings import is_bound_alike, source_binding
from seeknal_core.plan.decide import gives_rows_of, has_inputs_of
from seeknal_core.plan.describe import audits_of, own_definition, target_fingerprints
from seeknal_core.plugins.resolve import target_mode
from seeknal_core.project.specs import PythonNode, SourceNode
from seeknal_core.promote.report import Rows
from seeknal_core.promote.work import Choice, Policy, Promoting, Side
from seeknal_core.state.manifest import Manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.bindings import enabled_targets
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore


def choose_nodes(work: Promoting) -> Promoting:
    """Choose the nodes to promote, and whose rows each has."""
    choice = choose(work.source, work.destination, work.store, work.request.policy)
    return attrs.evolve(work, choice=choice, records=dict(choice.nodes))


def choose(source: Side, destination: Side, store: SnapshotStore, policy: Policy) -> Choice:
    """Choose the nodes whose definition, targets or audits differ, and what they affect.

    A node is shipped exactly when the content key that it would get over the
    destination's references is the source environment's.
    """
    chooser = _Chooser(source, destination, store, policy)
    for id in destination.session.graph.order:
        chooser.look(id)
    return Choice(
        promoted=chooser.promoted,
        nodes=chooser.nodes,
        removed=tuple(
            sorted(destination.record.nodes.keys() - destination.session.graph.nodes.keys())
        ),
    )


class _Chooser:
    def __init__(
        self, source: Side, destination: Side, store: SnapshotStore, policy: Policy
    ) -> None:
        self._source = source
        self._destination = destination
        self._store = store
        self._policy = policy
        self._graph = destination.session.graph
        self.promoted: dict[str, Rows] = {}
        self.nodes: dict[str, NodeRecord] = {}

    def look(self, id: str) -> None:
        """Decide one node; its inputs came before it."""
        held = self._destination.record.nodes.get(id)
        reads = self._reads(id)
        changed = self._differs(id, held)
        if held is not None and not changed and not self._is_affected(held, reads):
            self.nodes[id] = held
            return
        if held is not None and self._has_same_rows(id, held, reads):
            # Audits or targets differ: the rows are the ones that are there.
            self.promoted[id] = Rows.KEPT
            self.nodes[id] = attrs.evolve(held, definition=self._graph.definitions[id])
            return
        theirs = self._source.record.nodes[id]
        same = self._ships(id, theirs, reads)
        if same:
            self.nodes[id] = theirs
        if same and (self._policy is Policy.SHIP or not self._is_incremental(id)):
            self.promoted[id] = Rows.SHIPPED
        else:
            self.promoted[id] = Rows.REBUILT

    def _is_incremental(self, id: str) -> bool:
        """Return whether a target of the node keeps rows that the snapshot lacks.

        Such a node's rows are what it gives over there, unless ``--ship`` says otherwise.
        """
        session = self._destination.session
        return any(
            not target_mode(spec, session.context).rule.replaces
            for spec in enabled_targets(session, [self._graph.nodes[id]])
        )

    def _reads(self, id: str) -> dict[str, str] | None:
        """Return the content keys of a node's inputs over there; None where one is rebuilt."""
        inputs = self._graph.inputs[id]
        if any(input not in self.nodes for input in inputs):
            return None
        return {input: self.nodes[input].content_key for input in inputs}

    def _differs(self, id: str, held: NodeRecord | None) -> bool:
        """Return whether definition, targets or audits are others than over there."""
        if held is None or held.definition != self._graph.definitions[id]:
            return True
        told = self._destination.manifest.get(id)
        if told is None:
            return True
        audits = audits_of(self._destination.session, id)
        targets = target_fingerprints(self._destination.session, id)
        return told.audits != audits or dict(told.targets) != targets

    @staticmethod
    def _is_affected(held: NodeRecord, reads: Mapping[str, str] | None) -> bool:
        return reads is None or not has_inputs_of(held, reads)

    def _has_same_rows(self, id: str, held: NodeRecord, reads: Mapping[str, str] | None) -> bool:
        """Return whether what is stored over there is what the node would give."""
        if reads is None or self._policy is Policy.REBUILD:
            return False
        if not self._store.contains(held.content_key):
            return False
        if self._is_source(id):
            return held.definition == self._graph.definitions[id]
        if held.definition == self._graph.definitions[id]:
            return has_inputs_of(held, reads)
        return gives_rows_of(held, id, self._key(id, reads), self._store)

    def _ships(self, id: str, theirs: NodeRecord, reads: Mapping[str, str] | None) -> bool:
        if not self._store.contains(theirs.content_key):
            return False
        if self._policy is Policy.SHIP:
            return True
        if self._policy is Policy.REBUILD or self._graph.volatile.get(id) or reads is None:
            return False
        if self._is_source(id):
            held = self._destination.record.nodes.get(id)
            return is_bound_alike(
                theirs.binding, self._binding(id), held.binding if held is not None else ""
            )
        return gives_rows_of(theirs, id, self._key(id, reads), self._store)

    def _is_source(self, id: str) -> bool:
        return self._graph.nodes[id].kind == "source"

    def _binding(self, id: str) -> str:
        """Return where a source leads by the destination's profile."""
        resolved = self._destination.bindings.sources.get(id)
        if resolved is not None:
            return source_binding(resolved)
        node = self._graph.nodes[id]
        assert isinstance(node, (SourceNode, PythonNode))
        return keys.local_binding(self._destination.session, node)

    def _key(self, id: str, reads: Mapping[str, str]) -> str:
        """Return the content key that a transform would get over there."""
        read = [reads[input] for input in self._graph.inputs[id]]
        return keys.transform_key(self._destination.session, self._graph.nodes[id], read)


def differing(session: Session, record: EnvironmentRecord, manifest: Manifest) -> list[str]:
    """Return the nodes of which an environment holds another form than the folder's.

    Its definition, its own text, its audits or its targets are others, or it is
    missing on one of the two sides.
    """
    found = sorted(session.graph.nodes.keys() ^ record.nodes.keys())
    for id in session.graph.nodes:
        held, told = record.nodes.get(id), manifest.get(id)
        if held is None:
            continue
        same = held.definition == session.graph.definitions[id] and (
            told is None
            or (
                (
                    # Equal definitions over the same names are equal texts.
                    list(held.inputs) == list(session.graph.inputs[id])
                    or told.own == own_definition(session, id)
                )
                and told.audits == audits_of(session, id)
                and dict(told.targets) == target_fingerprints(session, id)
            )
        )
        if not same:
            found.append(id)
    return found
