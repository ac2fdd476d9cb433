"""Find the cycles of a graph that cannot be ordered."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence


def cycles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return one shortest cycle for each group of nodes that reach one another.

    Args:
        edges: node -> nodes it leads to; those that are no key are ignored.

    Returns:
        Each cycle once, starting with its first name in alphabetical order of the
        group, in the direction of the edges. No recursion, whatever the size.
    """
    found = []
    for group in _components(edges):
        start = min(group)
        if len(group) == 1 and start not in edges[start]:
            continue
        found.append(_shortest(edges, set(group), start))
    return sorted(found)


def _shortest(edges: Mapping[str, Sequence[str]], group: set[str], start: str) -> list[str]:
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for next in edges[node]:
            if next == start:
                path = [node]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return path[::-1]
            if next in group and next not in came_from:
                came_from[next] = node
                queue.append(next)
    raise AssertionError(f"{start} is on no cycle")


def _components(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components (SIAM J. Comput. 1, 1972), with a stack of our own."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    result: list[list[str]] = []
    for root in edges:
        if root in number:
            continue
        work = [(root, iter(edges[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, nexts = work[-1]
            for next in nexts:
                if next not in edges:
                    continue
                if next not in number:
                    number[next] = low[next] = len(number)
                    stack.append(next)
                    on_stack.add(next)
                    work.append((next, iter(edges[next])))
                    break
                if next in on_stack:
                    low[node] = min(low[node], number[next])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    group: list[str] = []
                    while not group or group[-1] != node:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    result.append(group)
    return result
