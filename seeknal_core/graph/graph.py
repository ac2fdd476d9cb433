"""The graph of a project's nodes, as the commands use it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

import attrs

from seeknal_core.contract.errors import Problem
from seeknal_core.contract.types.digests import Definition
from seeknal_core.project.specs import AnyNode


@attrs.frozen(kw_only=True)
class Graph:
    """All nodes, what each reads, and what each means.

    ``inputs`` holds a node's inputs in its own order, each once: first those it
    declares, then those that only its SQL names. ``order`` has every node after its
    inputs, the same for the same project. ``definitions`` are the logical
    fingerprints. ``volatile`` names, for the nodes that have any, the functions and
    templates that give another answer in the next run.
    """

    nodes: Mapping[str, AnyNode]
    inputs: Mapping[str, tuple[str, ...]]
    order: tuple[str, ...]
    definitions: Mapping[str, Definition]
    volatile: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    warnings: tuple[Problem, ...] = ()

    @functools.cached_property
    def _children(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {id: [] for id in self.order}
        for id in self.order:
            for input in self.inputs[id]:
                found[input].append(id)
        return {id: tuple(children) for id, children in found.items()}

    def children(self, id: str) -> tuple[str, ...]:
        """Return the nodes that read `id` directly, in graph order."""
        return self._children[id]

    def ancestors(self, id: str, depth: int | None = None) -> frozenset[str]:
        """Return what `id` reads, directly or not; at most `depth` steps away if given."""
        return _reached(self.inputs, id, depth)

    def descendants(self, id: str, depth: int | None = None) -> frozenset[str]:
        """Return what reads `id`, directly or not; at most `depth` steps away if given."""
        return _reached(self._children, id, depth)


def _reached(edges: Mapping[str, Iterable[str]], start: str, depth: int | None) -> frozenset[str]:
    seen: set[str] = set()
    edge = [start]
    steps = 0
    while edge and (depth is None or steps < depth):
        edge = [next for id in edge for next in edges[id] if next not in seen]
        seen.update(edge)
        edge = list(dict.fromkeys(edge))
        steps += 1
    return frozenset(seen - {start})
