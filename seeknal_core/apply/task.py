"""What a worker does for one node: find or compute its rows, check them, write that down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue

import attrs

from seeknal_core.apply.find import Computed
from seeknal_core.apply.node import Computer, missing_snapshot
from seeknal_core.apply.report import NodeOutcome, NodeStatus
from seeknal_core.apply.write import Finished, log, was_stopped
from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.types import Snapshot, redact
from seeknal_core.contract.types.digests import BindingDigest, ContentKey
from seeknal_core.plan.decide import audits_hold
from seeknal_core.plan.keys import audits_key
from seeknal_core.plan.scope import Scope
from seeknal_core.project.specs import AnyNode
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.bindings import expanded_covers
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class NodeEnd:
    """What a node's task gives back: its outcome, and its snapshot if it has one."""

    outcome: NodeOutcome
    snapshot: Snapshot | None = None


class NodeTasks:
    """Carries out the nodes of a scope. Thread-safe: a call per node, several at once.

    Args:
        record: the environment's, and ``base`` the one it is based on.
        find: returns a stored snapshot of a node by its key.
        warnings: takes what is noted of rows.
    """

    def __init__(
        self,
        session: Session,
        scope: Scope,
        computer: Computer,
        journal: Finished,
        *,
        record: EnvironmentRecord,
        base: EnvironmentRecord | None,
        find: Callable[[str, str], Snapshot | None],
        warnings: SimpleQueue[str],
    ) -> None:
        self._session = session
        self._scope = scope
        self._computer = computer
        self._journal = journal
        self._record = record
        self._base = base
        self._find = find
        self._warnings = warnings
        #: The outputs of the nodes that ended well, by node.
        self.outputs: dict[str, Computed] = {}

    def carry_out(self, id: str, known: Mapping[str, Snapshot]) -> NodeEnd:
        """Find or compute a node, check it and journal it; a failure is in the outcome.

        Args:
            known: the snapshots of what the node waits for.
        """
        started = time.monotonic()
        node = self._session.graph.nodes[id]
        try:
            self._session.context.cancellation.check()
            if id in self._scope.recorded:
                return self._recorded(id, started)
            inputs = {input: known[input] for input in self._session.graph.inputs[id]}
            held = self._held(id)
            computed = self._computer.compute(node, inputs, held)
            audits = self._check(node, computed, known, held)
            snapshot = computed.snapshot
            self.outputs[id] = computed
            self._journal.node(id, self._record_of(node, computed, inputs, audits))
        except SeeknalError as error:
            log.debug("%s failed", id, exc_info=error)
            return NodeEnd(
                outcome=NodeOutcome(
                    id=id,
                    status=NodeStatus.SKIPPED
                    if was_stopped(self._session, error)
                    else NodeStatus.FAILED,
                    seconds=time.monotonic() - started,
                    detail=redact(str(error)),
                    hint=redact(error.hint),
                    error=error.__class__.__name__,
                )
            )
        outcome = NodeOutcome(
            id=id,
            status=NodeStatus.REUSED if computed.reused else NodeStatus.COMPUTED,
            rows=snapshot.row_count,
            seconds=time.monotonic() - started,
            detail=f"unaffected: {computed.proof}" if computed.proof else "",
            content_key=ContentKey(snapshot.content_key),
            notes=computed.notes,
        )
        for note in computed.notes:
            self._warnings.put(f"{id}: {note}")
        return NodeEnd(outcome=outcome, snapshot=snapshot)

    def _record_of(
        self, node: AnyNode, computed: Computed, inputs: Mapping[str, Snapshot], audits: str
    ) -> NodeRecord:
        snapshot = computed.snapshot
        return NodeRecord(
            definition=self._session.graph.definitions[node.id],
            content_key=ContentKey(snapshot.content_key),
            rows=snapshot.row_count,
            binding=BindingDigest(computed.binding),
            read_at=computed.read_at,
            audits=audits,
            inputs={input: ContentKey(found.content_key) for input, found in inputs.items()},
            proof=computed.proof,
            covers=expanded_covers(self._session, getattr(node, "covers", None), node.location),
            stored=snapshot.document,
        )

    def _held(self, id: str) -> NodeRecord | None:
        """Return what is known of a node: this environment's own, else its base's."""
        base = self._base
        return self._record.nodes.get(id) or (base.nodes.get(id) if base else None)

    def _recorded(self, id: str, started: float) -> NodeEnd:
        held = self._scope.recorded[id]
        snapshot = self._find(id, held.content_key)
        if snapshot is None:
            raise missing_snapshot(self._session, id)
        outcome = NodeOutcome(
            id=id,
            status=NodeStatus.REUSED,
            rows=snapshot.row_count,
            seconds=time.monotonic() - started,
            detail="not selected, taken as recorded",
            content_key=held.content_key,
        )
        return NodeEnd(outcome=outcome, snapshot=snapshot)

    def _check(
        self,
        node: AnyNode,
        computed: Computed,
        known: Mapping[str, Snapshot],
        held: NodeRecord | None,
    ) -> str:
        """Audit the output unless just these audits passed on just these rows before."""
        # Its inputs and the nodes that relationships compare it with.
        related = dict(sorted(known.items())) if node.audits else {}
        fingerprint = audits_key(
            node,
            computed.snapshot.content_key,
            {id: snapshot.content_key for id, snapshot in related.items()},
        )
        ages = getattr(node, "freshness", None) is not None
        if audits_hold(held, fingerprint, ages=ages):
            return fingerprint
        clean = self._computer.check(node, computed.snapshot, related)
        # What was warned about is looked at, and warned about, again next time.
        return fingerprint if clean else ""
