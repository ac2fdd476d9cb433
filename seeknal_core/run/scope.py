"""Which nodes a run touches, and what each of them is there for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.run.session import Session
from seeknal_core.state.records import EnvironmentRecord, NodeRecord


@attrs.frozen(kw_only=True)
class Scope:
    """The nodes of a run.

    ``selected`` are brought up to date, with audits and targets. ``recorded``
    are inputs outside the selection, taken as the environment (or production)
    holds them. ``support`` are inputs outside the selection that nobody holds:
    computed, with neither audits nor targets. ``order`` has all of them.
    """

    selected: frozenset[str]
    recorded: Mapping[str, NodeRecord]
    support: frozenset[str]
    order: tuple[str, ...]


def make_scope(
    session: Session,
    select: Sequence[str],
    exclude: Sequence[str],
    record: EnvironmentRecord | None,
    base: EnvironmentRecord | None,
) -> Scope:
    """Choose the nodes.

    Raises:
        ConfigError: a selection that matches nothing.
    """
    from seeknal_core.graph import select as select_nodes

    graph = session.graph
    selected = select_nodes(graph, select, exclude)
    recorded: dict[str, NodeRecord] = {}
    support: set[str] = set()
    waiting = [id for node in selected for id in graph.inputs[node] if id not in selected]
    while waiting:
        id = waiting.pop()
        if id in selected or id in recorded or id in support:
            continue
        held = _held(id, graph.definitions[id], record, base)
        if held is not None:
            recorded[id] = held
        else:
            support.add(id)
            waiting += graph.inputs[id]
    everything = selected | support | set(recorded)
    return Scope(
        selected=selected,
        recorded=recorded,
        support=frozenset(support),
        order=tuple(id for id in graph.order if id in everything),
    )


def _held(
    id: str,
    definition: str,
    record: EnvironmentRecord | None,
    base: EnvironmentRecord | None,
) -> NodeRecord | None:
    """Return what the environment holds of a node; production's only where defined alike."""
    if record is not None and id in record.nodes:
        return record.nodes[id]
    if base is not None and id in base.nodes and base.nodes[id].definition == definition:
        return base.nodes[id]
    return None
