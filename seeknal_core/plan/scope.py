"""Which nodes a run touches, and what each of them is there for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import GraphError
from seeknal_core.contract.types import problem_at
from seeknal_core.plan.bindings import is_bound_alike, source_binding
from seeknal_core.plugins.resolved import ResolvedSource
from seeknal_core.state.records import EnvironmentRecord, NodeRecord
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.graph import Graph


@attrs.frozen(kw_only=True)
class Scope:
    """The nodes of a run.

    ``selected`` are brought up to date, with audits and targets. ``recorded``
    are inputs outside the selection, taken as the environment holds them.
    ``support`` are inputs outside the selection that it doesn't hold, or holds
    from another place: computed or found stored, and audited, without their
    targets. Another environment's are not taken: what it read is not what this
    one reads. ``order`` has all of them, and ``waits`` says what each of them
    waits for: its inputs, and the nodes that its audits compare it with.
    """

    selected: frozenset[str]
    recorded: Mapping[str, NodeRecord]
    support: frozenset[str]
    order: tuple[str, ...]
    waits: Mapping[str, frozenset[str]]

    @property
    def computed(self) -> tuple[str, ...]:
        """The nodes that are computed or found stored, in their order."""
        return tuple(id for id in self.order if id not in self.recorded)


def make_scope(
    session: Session,
    select: Sequence[str],
    exclude: Sequence[str],
    record: EnvironmentRecord | None,
    sources: Mapping[str, ResolvedSource],
    stored: Callable[[str], bool],
) -> Scope:
    """Choose the nodes.

    Args:
        record: what the environment holds.
        stored: tells whether a content key is in the snapshot store.
        sources: the sources in stores, as the environment's profile resolves them.

    Raises:
        ConfigError: a selection that matches nothing.
    """
    from seeknal_core.graph import select as select_nodes

    graph = session.graph
    selected = select_nodes(graph, select, exclude)
    recorded: dict[str, NodeRecord] = {}
    support: set[str] = set()
    waiting = [id for node in selected for id in (*graph.inputs[node], *compared(graph, node))]
    while waiting:
        id = waiting.pop()
        if id in selected or id in recorded or id in support:
            continue
        held = record.nodes.get(id) if record is not None else None
        bound_alike = held is not None and (
            id not in sources
            or is_bound_alike(held.binding, source_binding(sources[id]), held.binding)
        )
        if held is not None and bound_alike and stored(held.content_key):
            recorded[id] = held
        else:
            support.add(id)
            waiting += (*graph.inputs[id], *compared(graph, id))
    everything = selected | support | set(recorded)
    order = tuple(id for id in graph.order if id in everything)
    return Scope(
        selected=selected,
        recorded=recorded,
        support=frozenset(support),
        order=order,
        waits=waits_of(graph, order, recorded),
    )


def compared(graph: Graph, id: str) -> tuple[str, ...]:
    """Return the nodes whose rows a node's audits look at, its inputs aside."""
    return tuple(audit.to for audit in graph.nodes[id].audits if audit.to and audit.to != id)


def waits_of(
    graph: Graph,
    order: Sequence[str],
    recorded: Mapping[str, NodeRecord],
) -> dict[str, frozenset[str]]:
    """Return what each node of an order waits for; what is recorded waits for nothing.

    Raises:
        GraphError: audits that wait for one another.
    """
    waits = {
        id: frozenset() if id in recorded else frozenset((*graph.inputs[id], *compared(graph, id)))
        for id in order
    }
    _refuse_circles(graph, waits)
    return waits


def _refuse_circles(graph: Graph, waits: Mapping[str, frozenset[str]]) -> None:
    """Refuse audits that wait for one another: the inputs alone form no circle."""
    left = {id: set(needs) for id, needs in waits.items()}
    dependents: dict[str, list[str]] = {id: [] for id in left}
    for id, needs in left.items():
        for input in needs:
            dependents[input].append(id)
    ready = [id for id, needs in left.items() if not needs]
    while ready:
        id = ready.pop()
        del left[id]
        for child in dependents[id]:
            left[child].discard(id)
            if not left[child]:
                ready.append(child)
    problems = [
        problem_at(
            audit.location,
            f"waits for {audit.to}, which waits for {id}",
            path=f"{id}.audits",
            hint="let one of the two nodes be compared, not both",
        )
        for id in left
        for audit in graph.nodes[id].audits
        if audit.to in left
    ]
    if problems:
        raise GraphError(problems)
