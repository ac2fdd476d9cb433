"""Run the nodes whose rows the destination's own sources give."""

from __future__ import annotations

import attrs

from seeknal_core.apply.carry import Kept, Work, bound_anew, carry_out
from seeknal_core.apply.report import NodeStatus
from seeknal_core.contract.errors import (
    AuditFailed,
    DamagedOutput,
    DamagedSource,
    PromotionFailed,
    VerificationFailed,
)
from seeknal_core.plan.proofs import references
from seeknal_core.plan.scope import Scope, compared, waits_of
from seeknal_core.promote.work import Promoting


def rebuild(work: Promoting) -> Promoting:
    """Run nodes on the destination's sources, into snapshots only.

    Raises:
        PromotionFailed, VerificationFailed: one failed; no store was touched.
    """
    session, choice = work.session, work.choice
    graph = session.graph
    rebuilt = set(choice.rebuilt)
    if not rebuilt:
        return work
    visited = set(rebuilt)
    for id in rebuilt:
        visited |= {*graph.inputs[id], *compared(graph, id)}
    order = tuple(id for id in graph.order if id in visited)
    recorded = {id: choice.nodes[id] for id in order if id not in rebuilt}
    kept = Kept()
    todo = Work(
        scope=Scope(
            selected=frozenset(rebuilt),
            recorded=recorded,
            support=frozenset(),
            order=order,
            waits=waits_of(graph, order, recorded),
        ),
        check=dict,
        sources=work.destination.bindings.sources,
        record=work.destination.record,
        base=None,
        options=work.request.options,
    )
    known = references(session, work.destination.record, work.source.record)
    ended = carry_out(session, todo, kept, work.reporter, known)
    failed = [node for node in ended.nodes if node.status is NodeStatus.FAILED]
    if failed:
        verified = (AuditFailed.__name__, DamagedOutput.__name__, DamagedSource.__name__)
        raise (VerificationFailed if failed[0].error in verified else PromotionFailed)(
            f"rebuilding over {work.destination.record.name!r} failed, nothing was "
            f"published: {failed[0].id}: {failed[0].detail}",
            failed[0].hint,
        )
    session.context.cancellation.check()
    return attrs.evolve(work, records={**work.records, **bound_anew(kept.nodes, ended.documents)})
