"""Choose nodes: ``--select`` and ``--exclude``.

The grammar is dbt's: a term is a name, an id, a pattern (``transform.stg_*``),
``tag:x`` or ``path:folder``; ``+`` before it adds what it reads, after it what reads
it, ``2+`` at most two steps. A comma means both, a space or a second option either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.contract.options import nearest
from seeknal_core.graph.graph import Graph

_TERM = re.compile(r"(?P<up>\d*\+)?(?P<body>.*?)(?P<down>\+\d*)?", re.S)
_WILD = re.compile(r"[*?\[]")


def select(graph: Graph, select: Sequence[str], exclude: Sequence[str]) -> frozenset[str]:
    """Return the ids that `select` chooses (all where it is empty), less those of `exclude`.

    Raises:
        ConfigError: a term that matches nothing, with the nearest name; all of them.
    """
    problems: list[Problem] = []
    chosen = _union(graph, select, "--select", problems) if select else frozenset(graph.nodes)
    left_out = _union(graph, exclude, "--exclude", problems)
    if problems:
        raise ConfigError(problems)
    return chosen - left_out


def _union(
    graph: Graph, texts: Sequence[str], option: str, problems: list[Problem]
) -> frozenset[str]:
    found: set[str] = set()
    for text in texts:
        whole = _matching(graph, text)
        if whole and text.strip():  # a name may hold spaces, commas and plus signs
            found |= whole
            continue
        parts = text.split()
        if not parts:
            problems.append(Problem(f"{option} is empty", hint="give a node's name"))
        for part in parts:
            sets = [_term(graph, term, option, problems) for term in part.split(",") if term]
            if sets:
                found |= frozenset.intersection(*sets)
            else:
                problems.append(Problem(f"{option} {part}: names nothing"))
    return frozenset(found)


def _term(graph: Graph, text: str, option: str, problems: list[Problem]) -> frozenset[str]:
    exact = _matching(graph, text)
    if exact:
        return exact
    parsed = _TERM.fullmatch(text)
    assert parsed is not None
    body, up, down = parsed["body"], parsed["up"], parsed["down"]
    start = _matching(graph, body) if body else frozenset()
    if not start:
        problems.append(Problem(f"{option} {text}: {_nothing(graph, body)}"))
        return frozenset()
    found = set(start)
    for id in start:
        if up:
            found |= graph.ancestors(id, _depth(up))
        if down:
            found |= graph.descendants(id, _depth(down))
    return frozenset(found)


def _depth(operator: str) -> int | None:
    digits = operator.strip("+")
    # No graph is that deep, and Python reads no number of thousands of digits.
    return int(digits) if 0 < len(digits) < 10 else None


def _matching(graph: Graph, body: str) -> frozenset[str]:
    """Return the nodes that a term without operators means."""
    method, colon, value = body.partition(":")
    if colon and method == "tag":
        return frozenset(
            id
            for id, node in graph.nodes.items()
            if any(fnmatchcase(tag, value) for tag in node.tags)
        )
    if colon and method == "path":
        folder = value.removeprefix("./").rstrip("/")
        return frozenset(
            id
            for id, node in graph.nodes.items()
            if node.location.file == folder
            or node.location.file.startswith(folder + "/")
            or fnmatchcase(node.location.file, folder)
        )
    if body in graph.nodes:
        return frozenset({body})
    named = frozenset(id for id, node in graph.nodes.items() if node.name == body)
    if named or not _WILD.search(body):
        return named
    return frozenset(
        id
        for id, node in graph.nodes.items()
        if fnmatchcase(id, body) or fnmatchcase(node.name, body)
    )


def _nothing(graph: Graph, body: str) -> str:
    """Return the sentence and the hint for a selection that matches nothing."""
    method, colon, value = body.partition(":")
    if colon and method == "tag":
        tags = {tag for node in graph.nodes.values() for tag in node.tags}
        said, suggestion = f"no node has the tag {value!r}", nearest(value, sorted(tags))
    elif colon and method == "path":
        said, suggestion = f"no node stands in {value!r}", ""
    elif colon:
        said, suggestion = f"unknown method {method!r}", nearest(method, ("tag", "path"))
    else:
        names = [*graph.nodes, *(node.name for node in graph.nodes.values())]
        said, suggestion = f"no node is called {body!r}", nearest(body, names)
    return f"{said}; {suggestion}" if suggestion else said
