"""References in SQL: found in every accepted form, replaced by place, and run by DuckDB."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from seeknal_core.contract.errors import GraphError
from seeknal_core.graph.references import _created, _with_aliases, analyze
from seeknal_core.graph.scanning import scan
from seeknal_core.graph.tokens import split, tokenize
from support.nodes import graph_of, source, sql, statements


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute('CREATE VIEW "source.orders" AS SELECT 1 AS id, 10 AS amount, 5 AS o_id')
        connection.execute('CREATE VIEW "transform.orders" AS SELECT 1 AS id, 99 AS amount')
        connection.execute('CREATE VIEW "source.Odd-Name" AS SELECT 1 AS id, 7 AS amount')
        yield connection


NODES = (source("orders"), source("Odd-Name"), sql("orders", "select 1 as id, 99 as amount"))


def run(engine: duckdb.DuckDBPyConnection, text: str, *inputs: str) -> list[tuple[object, ...]]:
    graph = graph_of(*NODES, sql("it", text, *inputs))
    result: list[tuple[object, ...]] = []
    for statement in statements(graph, "transform.it"):
        result = engine.execute(statement).fetchall()
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select amount from source.orders", 10),
        ("select amount from SOURCE.orders", 10),
        ("select amount from source.ORDERS", 10),
        ('select amount from "source"."orders"', 10),
        ('select amount from "source.orders"', 10),
        ("select amount from ref('source.orders')", 10),
        ('select amount from ref("transform.orders")', 99),
        ("select amount from REF ( 'source.orders' )", 10),
        ("select amount from source.\"Odd-Name\"", 7),
        ("select amount from ref('source.Odd-Name')", 7),
        ("select amount from ref('source.odd-name')", 7),
        ("select orders.amount from source.orders", 10),
        ("select orders.amount from ref('source.orders')", 10),
        ("select source.orders.amount from source.orders", 10),
        ('select "source".orders.amount from source.orders', 10),
        ("select source.orders.* exclude (id, o_id) from source.orders", 10),
        ("select o.amount from source.orders o", 10),
        ("select o.amount from source.orders as o", 10),
        ("select o.amount from o : source.orders", 10),
        ("select __THIS__.amount from __THIS__", 10),
        ("select input_1.amount from input_1", 99),
        ("from source.orders select amount", 10),
        ("select a.amount + b.amount from source.orders a, transform.orders b", 109),
        ("select source.orders.amount + transform.orders.amount"
         " from source.orders join transform.orders on source.orders.id = transform.orders.id", 109),
        ("select x.a from (select max(amount) as a from source.orders) x", 10),
        ("with t as (select * from source.orders) select t.amount from t", 10),
        ("with input_0 as (select amount + 1 as amount from input_0) select amount from input_0", 11),
        ("select (select max(amount) from transform.orders"
         " where transform.orders.id = source.orders.id) from source.orders", 99),
        ("select amount from source.orders where exists (from transform.orders)", 10),
        ("select l.a from source.orders, lateral (select source.orders.amount + 1 as a) l", 11),
        ("select max(amount) from (select amount from source.orders union all"
         " select amount from transform.orders)", 99),
        ("select count(*) from source.orders, range(3), (values (1)) source(orders)", 3),
        ("create temp table input_0 as select 3 as amount; select amount from input_0", 3),
        ("create temp view v as select * from source.orders; select amount from v;", 10),
        ("select source.amount from ref('source.orders') as source", 10),
        ("select source.orders.amount from (select {'amount': 4} as orders) as source", 4),
        ("select (select source.orders.amount from (select {'amount': 4} as orders) as source)"
         " from source.orders", 4),
        ("with source as (select {'amount': 4} as orders) select (select source.orders.amount"
         " from source) from source.orders", 4),
        ("select 'from source.x' || amount from source.orders -- source.y", "from source.x10"),
        ("select amount from source.orders where id is not distinct from source.orders.id", 10),
        ("select extract(year from date '2020-01-01') from source.orders", 2020),
        ("select \"n\" from (select count(*) as n from (summarize source.orders))", 3),
        ("select amount from source.orders tablesample 100 percent (bernoulli)", 10),
        ("select \"10\" from (pivot source.orders on amount using count(*))", 1),
        ("select amount from (table source.orders)", 10),
        ("select [x for x in [1, 2] if x > 1][1] + amount from source.orders", 12),
        ("select amount from source.orders positional join transform.orders t2(a, b)", 10),
    ],
)  # fmt: skip
def test_a_reference_reads_its_node_however_it_is_written(
    engine: duckdb.DuckDBPyConnection, text: str, expected: object
) -> None:
    assert run(engine, text, "source.orders", "transform.orders")[0][0] == expected


def scanned(text: str) -> list[tuple[object, ...]]:
    found, created = [], set[str]()
    for tokens in split(tokenize(text)):
        found += _with_aliases(scan(tokens, created))
        created |= _created(tokens)
    return [
        (each.form, each.parts, each.start, each.alias, sorted(each.qualifiers)) for each in found
    ]


@pytest.mark.parametrize(
    "text",
    [
        "select source.a.x from source.a, transform.b t, ref('source.c') where 1 in (1, 2)",
        "with t as (select * from source.a), input_0 as (from input_0) select * from t, input_0",
        'select a from (select b from source.a join ref("source.b") using (k)) as x, __THIS__',
        "select trim(both from x), extract(day from source.y) from t where a is distinct from b.c",
        "select f(a, b), [c, d] from f : source.a, range(3) order by 1, source.a.x",
        "select * from source.a union select * from source.b, source.c limit 3",
        "create temp table input_1 as from source.a; select * from input_1, input_2",
        "select source.a.x from source.a as source; describe source.a",
        "select * from ((source.a join source.b on true) join source.c on true)",
        "select source.* from t as source where source.x > 1",
        "select x, (select max(y), z from source.b) from source.a",
        "pivot source.a on x using sum(y)",
    ],
)
def test_the_tokens_alone_tell_the_same_as_the_parser(text: str) -> None:
    analysis = analyze(text)
    assert analysis.unparsed == 0
    parsed = [
        (each.form, each.parts, each.start, each.alias, sorted(each.qualifiers))
        for each in analysis.references
    ]
    assert sorted(scanned(text)) == sorted(parsed)


def test_a_statement_that_the_parser_cannot_read_is_scanned() -> None:
    text = "select ?! source.orders.amount from source.orders, ref('transform.b') b some new clause"
    analysis = analyze(text)
    assert analysis.unparsed == 1
    assert [(each.parts, each.alias) for each in analysis.references] == [
        (("source", "orders"), "orders"),
        (("transform", "b"), None),
    ]
    assert len(analysis.references[0].qualifiers) == 1


@pytest.mark.parametrize(
    "text",
    [
        "select source.x from t as source",
        "select source.x, source.y.z from t as source",
        "with source as (select 1 as x) select source.x from source",
        "select 'source.x', $$from source.x$$ /* from source.x */ -- source.x",
        "select * from main.source.x, information_schema.tables",
        "select * from read_csv('source.x'), 'source.x', source.f(1)",
        "create temp table source.x as select 1",
        "select sum(x) over source from t window source as (order by 1)",
        "with recursive input_0 as (select 1 union all select * from input_0) from input_0",
    ],
)
def test_what_only_looks_like_a_reference_is_none(text: str) -> None:
    hard = [each for each in analyze(text).references if each.form not in ("soft", "bare")]
    assert hard == []


def test_rendering_changes_nothing_but_the_names() -> None:
    text = "/* why */ SELECT  a ,\n '{{ today }}' -- x\nFROM source.orders  WHERE\ta>1 ;"
    graph = graph_of(source("orders"), sql("it", text))
    assert statements(graph, "transform.it") == (
        'SELECT  a ,\n \'2026-01-02\' -- x\nFROM "source.orders" AS "orders"  WHERE\ta>1',
    )


def test_a_name_with_a_quote_is_quoted() -> None:
    graph = graph_of(source('o"x'), sql("it", 'from source."o""x"'))
    assert statements(graph, "transform.it") == ('from "source.o""x" AS "o""x"',)


def test_a_name_that_depends_on_the_environment_is_refused_where_it_leads_elsewhere() -> None:
    nodes = (source("a_env"), sql("it", "from source.a_{{ env_name }}"))
    graph = graph_of(*nodes)
    with pytest.raises(GraphError, match=r"it.sql:1:6: source.a_dev is no input of transform.it"):
        statements(graph, "transform.it")


def test_a_name_may_be_made_of_a_variable() -> None:
    graph = graph_of(source("a_eu"), sql("it", "from source.a_{{ var('region') }}"), region="eu")
    assert graph.inputs["transform.it"] == ("source.a_eu",)
    assert statements(graph, "transform.it", region="eu") == ('from "source.a_eu" AS "a_eu"',)


def test_a_column_of_an_inner_table_called_as_a_kind_is_not_taken_for_the_outer_reference() -> None:
    inner = "(select source.a.x from (select 1 as a) as source)"
    (found,) = analyze(f"select {inner}, source.a.y from source.a").references
    assert found.qualifiers == ((len(f"select {inner}, "), len(f"select {inner}, source.a")),)


def test_a_statement_of_very_many_tokens_is_scanned() -> None:
    text = (
        "with c as (select * from source.a) select source.b.x, y in ({}) as z"
        " from c, source.b join ref('transform.d') as d using (k), orders"
    )
    small, large = (analyze(text.format(", ".join("1" * n))) for n in (9, 20_000))
    assert (small.unparsed, large.unparsed) == (0, 1)
    found = [
        [(each.form, each.parts, each.alias) for each in one.references] for one in (small, large)
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 4
