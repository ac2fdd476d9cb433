"""Make a `Graph` of a project's nodes, and report all that keeps them from being one."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import date

import attrs

from seeknal_core.contract.errors import GraphError, Problem
from seeknal_core.contract.types import Location
from seeknal_core.contract.types.digests import Definition
from seeknal_core.graph import templates
from seeknal_core.graph.cycles import cycles
from seeknal_core.graph.fingerprints import definition
from seeknal_core.graph.forms import Reference
from seeknal_core.graph.graph import Graph
from seeknal_core.graph.lookup import Lookup
from seeknal_core.graph.texts import texts
from seeknal_core.graph.tokens import tokenize
from seeknal_core.graph.volatility import volatile_parts
from seeknal_core.project.allowed_variables import ListedVariables
from seeknal_core.project.specs import AnyNode, PythonNode, SourceNode, SqlNode

#: What templates give while only names are looked for. A name must not depend on them.
_STAND_INS = templates.Variables(today=date(2000, 1, 1), run_id="run", env_name="env")


def build_graph(
    nodes: Sequence[AnyNode],
    *,
    vars: Mapping[str, object],
    skipped: Mapping[str, Location] | None = None,
    listed: ListedVariables | None = None,
) -> Graph:
    """Connect `nodes` by what they read.

    Args:
        vars: what ``var(...)`` gives (``--vars``).
        skipped: nodes of kinds that are not run here, by id, left out by the user's wish.
        listed: the environment variables that templates may read.

    Raises:
        GraphError: references to nothing or to a skipped node, wrong templates,
            duplicate ids, cycles; all of them, each with its place.
    """
    builder = _Builder(nodes, vars, skipped or {}, listed or ListedVariables())
    for node in builder.nodes.values():
        builder.connect(node)
    return builder.finish()


def _variables_in(nodes: Sequence[AnyNode]) -> frozenset[str]:
    """Return the environment variables that the templates of all nodes name."""
    found: set[str] = set()
    for node in nodes:
        for text in node.covers or ():
            found |= templates.variables_in(text)
        if isinstance(node, SqlNode):
            found |= templates.variables_in(node.sql, sql=True)
        elif isinstance(node, SourceNode):
            for _, text in templates.texts([node.table or "", dict(node.params)], ""):
                found |= templates.variables_in(text)
    return frozenset(found)


@attrs.define
class _Links:
    """What one node reads."""

    inputs: tuple[str, ...] = ()
    positional: bool = False
    volatile: tuple[str, ...] = ()


class _Builder:
    def __init__(
        self,
        nodes: Sequence[AnyNode],
        vars: Mapping[str, object],
        skipped: Mapping[str, Location],
        listed: ListedVariables,
    ) -> None:
        self._vars = vars
        self._listed = attrs.evolve(listed, used=_variables_in(nodes))
        self._skipped = skipped
        self._skipped_ids = Lookup(skipped)
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []
        self._links: dict[str, _Links] = {}
        self.nodes: dict[str, AnyNode] = {}
        for node in nodes:
            first = self.nodes.setdefault(node.id, node)
            if first is not node:
                message = f"{node.id} stands in {first.location} already"
                self._wrong(message, node.location, "give one of them another name")
        self._ids = Lookup(self.nodes)

    def connect(self, node: AnyNode) -> None:
        """Note what a node reads."""
        match node:
            case SourceNode():
                self._links[node.id] = _Links(volatile=self._source(node))
            case PythonNode():
                declared = self._declared(node, node.inputs)
                run_id = ("run_id",) if "run_id" in node.context_names else ()
                in_sql = [
                    part for text in node.sql_texts for part in volatile_parts(tokenize(text))
                ]
                volatile = tuple(dict.fromkeys([*run_id, *node.volatile, *in_sql]))
                self._links[node.id] = _Links(inputs=_known(declared), volatile=volatile)
            case SqlNode():
                self._links[node.id] = self._sql(node)
        for text in node.covers or ():
            self._problems += templates.problems(
                text, self._vars, self._listed, location=node.location, path="covers"
            )
        for audit in node.audits:
            if audit.to is not None:
                self._resolve(audit.to.split(".", 1), audit.location or node.location)

    def finish(self) -> Graph:
        """Order the nodes and give them their definitions."""
        inputs = {id: links.inputs for id, links in self._links.items()}
        order = _order(inputs)
        if len(order) < len(inputs):
            left = {id: inputs[id] for id in sorted(inputs.keys() - set(order))}
            for path in cycles(left):
                self._cycle(path)
        if self._problems:
            raise GraphError(sorted(self._problems, key=lambda p: (p.file, p.line, p.column)))
        definitions: dict[str, str] = {}
        for id in order:
            definitions[id] = definition(
                self.nodes[id],
                [(input, definitions[input]) for input in inputs[id]],
                self._vars,
                positional=self._links[id].positional,
            )
        return Graph(
            nodes={id: self.nodes[id] for id in order},
            inputs=inputs,
            order=order,
            definitions={id: Definition(found) for id, found in definitions.items()},
            volatile={id: links.volatile for id, links in self._links.items() if links.volatile},
            warnings=tuple(self._warnings),
        )

    def _source(self, node: SourceNode) -> tuple[str, ...]:
        found = templates.texts(dict(node.params), "params")
        if node.table is not None:
            found.append(("table", node.table))
        names: list[str] = []
        for path, text in found:
            self._problems += templates.problems(
                text, self._vars, self._listed, location=node.location, path=path
            )
            names += [template.expression.name for template in templates.find(text)]
        return ("run_id",) if "run_id" in names else ()

    def _sql(self, node: SqlNode) -> _Links:
        declared = self._declared(node, node.inputs)
        wrong = templates.problems(
            node.sql, self._vars, self._listed, location=node.sql_location, sql=True
        )
        self._problems += wrong
        stand_ins = attrs.evolve(_STAND_INS, vars=self._vars, listed=self._listed)
        expanded = templates.expand_sql(node.sql, stand_ins)
        known_text = texts.sql(expanded.text)
        if not known_text.statements:
            self._wrong(f"{node.id} has no SQL", node.sql_location, "write a SELECT")
            return _Links(inputs=_known(declared))
        references = known_text.references
        named: dict[str, None] = {}
        for reference in references:
            if reference.form == "bare":
                continue
            if wrong and self._ids.find(reference.parts) is None:
                continue  # its name may be a template's
            at = templates.place(node.sql_location, node.sql, expanded.original(reference.start))
            position = reference.position
            if position is None:
                found = self._named(reference, at)
            else:
                found = self._positioned(reference, position, declared, at)
            if found is not None:
                named[found] = None
        known = _known(declared)
        # What is listed or written out in full decides what a bare name means.
        certain = Lookup([*known, *named])
        for reference in references:
            if reference.form == "bare":
                name = reference.parts[0]
                among = certain if certain.with_name(name) else self._ids
                found = among.find_bare(name, inside=node.id)
                if found is not None:
                    named[found] = None
        for input in known:
            if input not in named:
                message = f"{node.id} never names its input {input}"
                hint = f"use it in the SQL, or take it out of inputs: ref('{input}')"
                self._warnings.append(_problem(message, node.location, hint))
        run_id = any(
            found.expression.name == "run_id" for found in templates.find(node.sql, sql=True)
        )
        return _Links(
            inputs=tuple(dict.fromkeys([*known, *named])),
            positional=any(reference.position is not None for reference in references),
            volatile=(*(("run_id",) if run_id else ()), *known_text.volatile),
        )

    def _declared(self, node: AnyNode, inputs: Sequence[str]) -> list[str | None]:
        return [self._resolve(written.split(".", 1), node.location) for written in inputs]

    def _named(self, reference: Reference, at: Location) -> str | None:
        found = self._ids.find(reference.parts)
        if found is not None or reference.form == "whole":
            return found
        if reference.form == "soft" and self._skipped_ids.find(reference.parts) is None:
            return None
        return self._resolve(reference.parts, at)

    def _positioned(
        self, reference: Reference, position: int, declared: Sequence[str | None], at: Location
    ) -> str | None:
        if position < len(declared):
            return declared[position]
        has = {0: "no inputs", 1: "one input"}.get(len(declared), f"{len(declared)} inputs")
        last = f": input_0 … input_{len(declared) - 1}" if len(declared) > 1 else ""
        message = f"{reference.parts[0]} names no input: the node has {has}{last}"
        self._wrong(message, at, "list it under inputs, or write ref('kind.name')")
        return None

    def _resolve(self, parts: Sequence[str], at: Location) -> str | None:
        found = self._ids.find(parts)
        if found is not None:
            return found
        written = ".".join(parts)
        skipped = self._skipped_ids.find(parts)
        if skipped is not None:
            self._wrong(
                f"{skipped} ({self._skipped[skipped]}) is of a kind that is not run here",
                at,
                "take the reference out, or leave this node out too",
            )
        else:
            self._wrong(f"{written!r} is no node of this project", at, self._ids.suggest(parts))
        return None

    def _cycle(self, path: Sequence[str]) -> None:
        names = " -> ".join([*path, path[0]])
        first = self.nodes[path[0]]
        if len(path) == 1:
            message = f"{path[0]} reads itself: {names}"
        else:
            files = dict.fromkeys(self.nodes[id].location.file for id in path)
            message = f"cycle, each reads the next: {names} (in {', '.join(files)})"
        self._wrong(message, first.location, "take one of these references out")

    def _wrong(self, message: str, at: Location, hint: str = "") -> None:
        self._problems.append(_problem(message, at, hint))


def _problem(message: str, at: Location, hint: str) -> Problem:
    return Problem(message, at.file, at.line, at.column, hint=hint)


def _known(inputs: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(input for input in inputs if input is not None))


def _order(inputs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Sort topologically, by name where the graph leaves a choice; nodes on cycles are left out."""
    waiting = {id: len(above) for id, above in inputs.items()}
    below: dict[str, list[str]] = {id: [] for id in inputs}
    for id, above in inputs.items():
        for input in above:
            below[input].append(id)
    ready = [id for id, count in waiting.items() if not count]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        id = heapq.heappop(ready)
        order.append(id)
        for child in below[id]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, child)
    return tuple(order)
