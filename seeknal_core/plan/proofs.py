"""When stored rows are a node's rows although something above it changed.

A node that provably doesn't read what changed keeps its snapshot; its new key
becomes an alias of the stored one, with the proof (``docs/promotion.md``,
"An environment costs nothing"). In doubt there is no proof.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.plan.describe import own_definition, statements_of
from seeknal_core.project.specs import SqlNode
from seeknal_core.state.manifest import Manifest, ManifestNode, load_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class Reference:
    """An environment whose snapshots may be taken: its record and its manifest."""

    record: EnvironmentRecord
    manifest: Manifest

    def node(self, id: str) -> tuple[NodeRecord, ManifestNode] | None:
        """Return what is known of a node, if record and manifest are of the same definition."""
        held = self.record.nodes.get(id)
        told = self.manifest.get(id)
        if held is None or told is None or held.definition != told.definition:
            return None
        return held, told


@attrs.frozen(kw_only=True)
class Proof:
    """The stored key whose rows a node has, and why."""

    stored: str
    sentence: str


class Prover:
    """Looks for proofs over the recorded environments. Thread-safe."""

    def __init__(self, session: Session, references: Sequence[Reference]) -> None:
        self._session = session
        self._references = references
        self._inputs: dict[str, Mapping[str, str]] = {}
        self._lock = threading.Lock()

    def note(self, id: str, inputs: Mapping[str, str]) -> None:
        """Remember which content keys a node is computed of now."""
        with self._lock:
            self._inputs[id] = dict(inputs)

    def prove(self, id: str, inputs: Mapping[str, str]) -> Proof | None:
        """Return why a stored snapshot holds this node's rows, or None.

        Args:
            inputs: the content keys of its inputs now; all of them were noted before.
        """
        graph = self._session.graph
        if not isinstance(graph.nodes[id], SqlNode) or graph.volatile.get(id):
            return None
        for reference in self._references:
            sentence = self._over(reference, id, inputs)
            if sentence:
                return Proof(stored=reference.record.nodes[id].content_key, sentence=sentence)
        return None

    def _over(self, reference: Reference, id: str, inputs: Mapping[str, str]) -> str | None:
        known = reference.node(id)
        if known is None:
            return None
        held, told = known
        if set(held.inputs) != set(inputs) or told.own != own_definition(self._session, id):
            return None
        if not told.statements or told.statements != statements_of(self._session, id):
            return None
        sentences = []
        for input, key in inputs.items():
            if held.inputs[input] == key:
                continue
            sentence = self._unread(reference, told.statements, input, held.inputs[input])
            if sentence is None:
                return None
            sentences.append(sentence)
        return "; ".join(sentences) or "its inputs' rows are the same"

    def _unread(
        self, reference: Reference, statements: Sequence[str], parent: str, used: str
    ) -> str | None:
        """Return why readers of a changed parent cannot see the change."""
        from seeknal_core.engine.changes import classify, unaffected

        known = reference.node(parent)
        if known is None or self._session.graph.volatile.get(parent):
            return None
        held, told = known
        with self._lock:
            now = self._inputs.get(parent)
        # Only the parent's text changed, and the child was computed of that very parent.
        if held.content_key != used or now is None or dict(held.inputs) != dict(now):
            return None
        now_said = statements_of(self._session, parent)
        change = classify(told.statements, now_said, told.columns)
        if not change.additive:
            return None
        return unaffected(statements, parent, change.columns, told.columns)


def references(session: Session, *records: EnvironmentRecord | None) -> list[Reference]:
    """Pair records with their manifests."""
    return [
        Reference(record=record, manifest=load_manifest(session.state, record.name))
        for record in records
        if record is not None and record.nodes
    ]
