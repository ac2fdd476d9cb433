"""The graph: inputs, mistakes, order, definitions, fingerprints."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import attrs
import pytest

from seeknal_core.contract.errors import GraphError
from seeknal_core.contract.types import Location, Mode, SchemaChange, TargetSpec
from seeknal_core.graph import audits_fingerprint, build_graph, render, target_fingerprint
from seeknal_core.project.specs import AnyNode, Audit, ColumnSpec, PythonNode, Severity, SqlNode
from support.nodes import VARIABLES, graph_of, source, sql


def mistakes(*nodes: AnyNode, **vars: object) -> list[str]:
    with pytest.raises(GraphError) as caught:
        graph_of(*nodes, **vars)
    return [str(problem) for problem in caught.value.problems]


def definition(*nodes: AnyNode, **vars: object) -> str:
    """The definition of the last node."""
    return graph_of(*nodes, **vars).definitions[nodes[-1].id]


def python(name: str, *inputs: str, **fields: object) -> PythonNode:
    place = Location(file=f"{name}.py", line=1)
    given: dict[str, object] = {"location": place, "load": lambda: python, "qualname": "python"}
    given["inputs"] = inputs
    return PythonNode(name=name, **(given | fields))  # type: ignore[arg-type]


def test_a_reference_that_inputs_lacks_is_added_behind_those_declared() -> None:
    graph = graph_of(
        source("a"), source("b"), source("c"), sql("t", "from source.a, input_0", "source.c")
    )
    assert graph.inputs["transform.t"] == ("source.c", "source.a")
    assert graph.children("source.a") == ("transform.t",)
    assert graph.warnings == ()


def test_an_input_that_the_sql_never_names_stays_and_is_warned_about() -> None:
    graph = graph_of(source("a"), source("b"), sql("t", "from source.a", "source.b"))
    assert graph.inputs["transform.t"] == ("source.b", "source.a")
    assert [str(each) for each in graph.warnings] == [
        "t.sql:1:1: transform.t never names its input source.b;"
        " use it in the SQL, or take it out of inputs: ref('source.b')"
    ]


def test_all_mistakes_of_all_nodes_are_told_at_once_with_their_places() -> None:
    place = Location(file="b.yml", line=10, column=5)
    assert mistakes(
        source("orders"),
        sql("a", "select *\nfrom source.order,\n  ref('orders') x, input_1", "source.orders"),
        sql("b", "select 1,\n{{ todya }} from transform.none", sql_location=place),
        sql("c", "-- nothing\n;"),
        source("p", params={"path": "{{ var('where') }}"}),
        python("d", "source.ordres"),
    ) == [
        "a.sql:2:6: 'source.order' is no node of this project; did you mean 'source.orders'?",
        "a.sql:3:3: 'orders' is no node of this project; did you mean 'source.orders'?",
        "a.sql:3:20: input_1 names no input: the node has one input;"
        " list it under inputs, or write ref('kind.name')",
        "b.yml:11:5: unknown template 'todya'; did you mean 'today'?",
        "c.sql:1:1: transform.c has no SQL; write a SELECT",
        "d.py:1: 'source.ordres' is no node of this project; did you mean 'source.orders'?",
        "p.yml:1:1: params.path: the variable 'where' is not set;"
        " pass --vars '{\"where\": …}', or give var('where', default)",
    ]


def test_the_place_of_a_reference_behind_a_template_is_that_in_the_file() -> None:
    found = mistakes(sql("a", "select '{{ var('x', 'a long default') }}' from source.b"))
    assert found == ["a.sql:1:48: 'source.b' is no node of this project"]


def test_a_cycle_is_told_as_a_path_with_its_files() -> None:
    assert mistakes(
        sql("a", "from transform.b"),
        sql("b", "from transform.c"),
        sql("c", "from transform.a, transform.b"),
        sql("d", "from transform.d, transform.a"),
    ) == [
        "a.sql:1:1: cycle, each reads the next: transform.a -> transform.b -> transform.c"
        " -> transform.a (in a.sql, b.sql, c.sql); take one of these references out",
        "d.sql:1:1: transform.d reads itself: transform.d -> transform.d;"
        " take one of these references out",
    ]


def test_a_reference_to_a_node_that_is_not_run_is_refused_by_name() -> None:
    skipped = {"aggregation.daily": Location(file="x.yml", line=3)}
    nodes = (sql("a", "from aggregation.daily"), sql("b", "from ref('aggregation.daily')"))
    with pytest.raises(GraphError) as caught:
        build_graph(nodes, vars={}, skipped=skipped)
    assert [problem.message for problem in caught.value.problems] == [
        "aggregation.daily (x.yml:3:0) is of a kind that is not run here"
    ] * 2


def test_a_schema_that_is_no_kind_of_node_is_left_to_the_engine() -> None:
    assert graph_of(sql("a", "from information_schema.tables")).inputs["transform.a"] == ()


def test_two_nodes_of_one_id_are_told_with_both_files() -> None:
    other = source("a", location=Location(file="other.yml", line=2, column=1))
    assert mistakes(source("a"), other) == [
        "other.yml:2:1: source.a stands in a.yml:1:1 already; give one of them another name"
    ]


def test_an_audit_that_names_no_node_is_a_mistake() -> None:
    audit = Audit(type="relationships", columns=("a",), to="source.bb", field="id")
    assert mistakes(source("b"), source("a", audits=(audit,))) == [
        "a.yml:1:1: 'source.bb' is no node of this project; did you mean 'source.b'?"
    ]


def test_the_order_is_topological_and_does_not_hang_on_the_order_of_files() -> None:
    nodes: list[AnyNode] = [
        sql("a", "from transform.z"),
        sql("z", "from source.q"),
        source("q"),
        source("b"),
    ]
    expected = ("source.b", "source.q", "transform.z", "transform.a")
    assert graph_of(*nodes).order == graph_of(*nodes[::-1]).order == expected


def test_a_chain_of_thousands_of_nodes_is_no_recursion() -> None:
    nodes: list[AnyNode] = [python("n0")]
    nodes += [python(f"n{i}", f"transform.n{i - 1}") for i in range(1, 5000)]
    graph = graph_of(*nodes)
    assert len(graph.order) == 5000
    assert len(graph.ancestors("transform.n4999")) == 4999
    assert len(graph.descendants("transform.n0")) == 4999
    nodes[0] = python("n0", "transform.n4999")
    (cycle,) = mistakes(*nodes)
    assert "transform.n0 -> transform.n4999 -> " in cycle


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select now(), 1", ("now",)),
        ("select t.now, today, random as uuid from t", ()),
        ("select current_date", ("current_date",)),
        ("select t.current_date, 1 as current_date from t", ()),
        ('select "random"(), RANDOM()', ("random",)),
        ("select 'now()' -- now()", ()),
        ("select age(ts), age(a, b)", ("age",)),
        ("select age(a, f(b, c))", ()),
        ("select '{{ run_id }}', '{{ today }}'", ("run_id",)),
        ("from t using sample 10%", ("sample",)),
        ("from t using sample 10% (bernoulli, 7)", ()),
        ("from t tablesample reservoir(20%) repeatable (7)", ()),
    ],
)
def test_what_gives_another_answer_each_time_is_named(text: str, expected: tuple[str, ...]) -> None:
    assert graph_of(sql("t", text)).volatile.get("transform.t", ()) == expected


def test_volatile_python_and_sources_are_named_too() -> None:
    graph = graph_of(
        python("p", context_names=("run_id",), sql_texts=("select now()",), volatile=("uuid4",)),
        source("s", params={"path": "{{ run_id }}.csv"}),
    )
    assert graph.volatile["transform.p"] == ("run_id", "uuid4", "now")
    assert graph.volatile["source.s"] == ("run_id",)


def test_a_definition_is_the_same_for_another_layout_and_other_metadata() -> None:
    first = sql("t", "select a from source.s")
    second = sql(
        "t",
        "SELECT a -- why\n FROM source . s;",
        description="d",
        owner="o",
        tags=("x",),
        audits=(Audit(type="not_null", columns=("a",)),),
        targets=(TargetSpec(node="transform.t", type="x", table="y"),),
        columns=(),
        location=Location(file="elsewhere.yml"),
    )
    assert definition(source("s"), first) == definition(source("s"), second)


@pytest.mark.parametrize(
    "other",
    [
        sql("t", "select b from source.s"),
        sql("t", "select A from source.s"),
        sql("t", "select a from source.s", columns=(ColumnSpec(name="a", dtype="integer"),)),
    ],
)
def test_a_definition_changes_with_what_decides_the_rows(other: SqlNode) -> None:
    assert definition(source("s"), other) != definition(
        source("s"), sql("t", "select a from source.s")
    )


def test_a_definition_changes_with_those_above_it() -> None:
    below = sql("u", "from transform.t")
    first = definition(source("s"), sql("t", "select a from source.s"), below)
    assert first != definition(source("s"), sql("t", "select b from source.s"), below)
    assert first != definition(
        source("s", table="other.csv"), sql("t", "select a from source.s"), below
    )


def test_inputs_count_by_position_where_the_sql_names_them_so_and_by_name_otherwise() -> None:
    above = (source("a"), source("b"))
    by_name = "from source.a, source.b"
    assert definition(*above, sql("t", by_name, "source.a", "source.b")) == definition(
        *above, sql("t", by_name, "source.b", "source.a")
    )
    by_place = "select * from input_0, input_1 b"
    assert definition(*above, sql("t", by_place, "source.a", "source.b")) != definition(
        *above, sql("t", by_place, "source.b", "source.a")
    )


def test_swapping_two_sources_is_a_change() -> None:
    node = sql("t", "select a.x from source.a a, source.b b")
    swapped = (source("a", table="b.csv"), source("b", table="a.csv"))
    assert definition(source("a"), source("b"), node) != definition(*swapped, node)


def test_templates_enter_a_definition_unexpanded_and_variables_filled_in() -> None:
    text = "select '{{ var('a', 1) }}', '{{today}}'"
    assert definition(sql("t", text)) == definition(sql("t", "select '1', '{{ today }}'"))
    assert definition(sql("t", text), a=2) != definition(sql("t", text), a=3)


def test_a_connection_is_no_part_of_a_definition() -> None:
    params = {"connection": "w", "host": "a", "s3.endpoint": "x", "query": "select 1"}
    moved = {"connection": "v", "host": "b", "port": 1, "query": "select 1"}
    first = definition(source("s", type="postgres", table=None, params=params))
    assert first == definition(source("s", type="postgresql", table=None, params=moved))
    other = {**params, "query": "select 2"}
    assert first != definition(source("s", type="postgresql", table=None, params=other))


def test_code_of_a_python_node_is_its_definition() -> None:
    assert definition(python("p", code_digest="1")) != definition(python("p", code_digest="2"))
    assert definition(python("p", code_digest="1")) == definition(
        python("p", code_digest="1", tags=("x",))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"table": "u"},
        {"type": "z"},
        {"unique_keys": ("a",)},
        {"time_column": "t"},
        {"lookback": timedelta(days=1)},
        {"partition_by": ("a",)},
        {"on_schema_change": SchemaChange.FAIL},
        {"options": {"a": 1}},
    ],
)
def test_a_target_counts_with_all_that_decides_how_it_is_written(change: dict[str, object]) -> None:
    spec = TargetSpec(node="transform.t", type="x", table="y", connection="c")
    first = target_fingerprint(spec, Mode.FULL)
    assert first != target_fingerprint(attrs.evolve(spec, **change), Mode.FULL)  # type: ignore[arg-type]
    assert first != target_fingerprint(spec, Mode.APPEND)
    moved = attrs.evolve(spec, connection="d", location=Location(file="a"), node="transform.u")
    assert first == target_fingerprint(moved, Mode.FULL)


def test_audits_count_with_their_severity_and_the_contract() -> None:
    audit = Audit(type="not_null", columns=("a",))
    prints = {
        audits_fingerprint(source("s")),
        audits_fingerprint(source("s", contract=True)),
        audits_fingerprint(source("s", audits=(audit,))),
        audits_fingerprint(source("s", audits=(attrs.evolve(audit, severity=Severity.WARN),))),
    }
    assert len(prints) == 4
    moved = attrs.evolve(audit, location=Location(file="x"))
    assert audits_fingerprint(source("s", audits=(moved,))) in prints


def test_the_expanded_tokens_differ_from_day_to_day_while_the_definition_stays() -> None:
    node = sql("t", "select '{{ today }}'")
    later = attrs.evolve(VARIABLES, today=VARIABLES.today + timedelta(days=1))
    assert render(node, (), VARIABLES).tokens == "SELECT '2026-01-02'"
    assert render(node, (), later).tokens == "SELECT '2026-01-03'"


def test_the_graph_is_imported_without_the_parser_and_the_engine() -> None:
    code = (
        "import sys, seeknal_core.graph, seeknal_core.pipeline;"
        "print([n for n in ('sqlglot', 'duckdb', 'pyarrow', 'cattrs') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
