"""Nodes for tests of the graph, without files."""

from __future__ import annotations

from datetime import date

import attrs

from seeknal_core.contract.types import Location
from seeknal_core.graph import Graph, Variables, build_graph, render
from seeknal_core.project.specs import AnyNode, SourceNode, SqlNode

VARIABLES = Variables(today=date(2026, 1, 2), run_id="run-7", env_name="dev", vars={})


def source(name: str, **fields: object) -> SourceNode:
    given: dict[str, object] = {
        "location": Location(file=f"{name}.yml", line=1, column=1),
        "type": "csv",
        "table": f"{name}.csv",
    }
    return SourceNode(name=name, **(given | fields))  # type: ignore[arg-type]


def sql(name: str, text: str, *inputs: str, **fields: object) -> SqlNode:
    place = Location(file=f"{name}.sql", line=1, column=1)
    given: dict[str, object] = {"location": place, "sql_location": place}
    return SqlNode(name=name, sql=text, inputs=inputs, **(given | fields))  # type: ignore[arg-type]


def graph_of(*nodes: AnyNode, **vars: object) -> Graph:
    return build_graph(nodes, vars=vars)


def statements(graph: Graph, id: str, **vars: object) -> tuple[str, ...]:
    node = graph.nodes[id]
    assert isinstance(node, SqlNode)
    variables = attrs.evolve(VARIABLES, vars=vars)
    return render(node, graph.inputs[id], variables).statements
