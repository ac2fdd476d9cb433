"""Audits of what is about to be promoted and was audited upon other rows, or never."""

from __future__ import annotations

from collections.abc import Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING

import attrs

from seeknal_core.apply.node import Computer, missing_snapshot
from seeknal_core.apply.report import Reporter
from seeknal_core.contract.errors import AuditFailed, VerificationFailed
from seeknal_core.contract.types import Snapshot, redact
from seeknal_core.contract.types.digests import Fingerprint
from seeknal_core.plan.keys import audits_key
from seeknal_core.plan.proofs import Prover
from seeknal_core.plan.scope import compared
from seeknal_core.promote.report import Rows
from seeknal_core.promote.work import Promoting, Side
from seeknal_core.state.records import NodeRecord

if TYPE_CHECKING:
    from seeknal_core.engine.snapshots import SnapshotStore


def audit(work: Promoting) -> Promoting:
    """Run the audits that no record says have passed on just these rows."""
    records = audit_promoted(
        work.destination, work.choice.promoted, work.records, work.store, work.reporter
    )
    return attrs.evolve(work, records=records)


def audit_promoted(
    destination: Side,
    promoted: Mapping[str, Rows],
    records: Mapping[str, NodeRecord],
    store: SnapshotStore,
    reporter: Reporter,
) -> dict[str, NodeRecord]:
    """Run the audits of promoted nodes that no record says have passed on just these rows.

    What was rebuilt has been audited by that. Rows that are shipped may be compared
    with others over there than where they passed; rows that are kept may have new audits.

    Returns:
        The records, with the audits that passed.

    Raises:
        VerificationFailed: an audit of severity ``error`` failed; nothing was staged.
    """
    session = destination.session
    found = dict(records)
    due: dict[str, Fingerprint] = {}
    for id, rows in promoted.items():
        node = session.graph.nodes[id]
        if not node.audits or rows is Rows.REBUILT:
            continue
        related = {other: records[other].content_key for other in _related(destination, id)}
        key = audits_key(node, records[id].content_key, related)
        if records[id].audits != key:
            due[id] = key
    if not due:
        return found

    def snapshot_of(id: str) -> Snapshot:
        snapshot = store.find(id, records[id].content_key, verify=True)
        if snapshot is None:
            raise missing_snapshot(session, id)
        return snapshot

    warnings: SimpleQueue[str] = SimpleQueue()
    digests = session.file_digests()
    computer = Computer(
        session, store, digests, destination.bindings.sources, warnings.put, Prover(session, [])
    )
    failures: list[str] = []
    try:
        for id, key in due.items():
            session.context.cancellation.check()
            related_rows = {other: snapshot_of(other) for other in _related(destination, id)}
            try:
                clean = computer.check(session.graph.nodes[id], snapshot_of(id), related_rows)
            except AuditFailed as error:
                failures.append(f"{id}: {error}")
                continue
            found[id] = attrs.evolve(records[id], audits=key if clean else "")
    finally:
        computer.close()
        while not warnings.empty():
            reporter.warn(redact(warnings.get()))
    if failures:
        raise VerificationFailed(
            "audits failed on what would be promoted, nothing was published:\n"
            + "\n".join(failures),
            "look at the rows, fix them or the node, then plan and apply again",
        )
    return found


def _related(side: Side, id: str) -> list[str]:
    graph = side.session.graph
    return sorted({*graph.inputs[id], *compared(graph, id)})
