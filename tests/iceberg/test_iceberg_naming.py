"""Names: how a table splits, which catalog it means, what it is called in an environment."""

from __future__ import annotations

import attrs
import pytest

from seeknal_core.errors import OptionError
from seeknal_core.types import (
    ConnectionSpec,
    ExecutionContext,
    QualifiedName,
    SourceSpec,
    TargetSpec,
)
from seeknal_iceberg import plugin
from support.contexts import make_context


def context(
    *names: str, other: str = "", prefix: str = "", legacy: str | None = None
) -> ExecutionContext:
    connections = {name: ConnectionSpec(name=name, type="iceberg", options={}) for name in names}
    if other:
        connections[other] = ConnectionSpec(name=other, type="postgresql", options={})
    return make_context(connections=connections, prefix=prefix, catalog_connection=legacy)


def spec(table: str, connection: str | None = None) -> TargetSpec:
    return TargetSpec(node="transform.x", type="iceberg", table=table, connection=connection)


def name(table: str, prefix: str = "") -> QualifiedName:
    made = context("lake", prefix=prefix)
    target = spec(table)
    target = attrs.evolve(target, parts=plugin.bind_target(made, target).parts)
    return plugin.namespace_for(made, target)


def test_the_named_connection_wins_over_the_label() -> None:
    binding = plugin.bind_target(context("atlas", "lake"), spec("atlas.sales.orders", "lake"))
    assert (binding.connection, binding.parts) == ("lake", ("sales", "orders"))


def test_the_first_part_chooses_the_connection_of_that_name() -> None:
    binding = plugin.bind_target(context("atlas", "lake"), spec("atlas.eu.sales.orders"))
    assert (binding.connection, binding.parts) == ("atlas", ("eu", "sales", "orders"))


def test_the_catalog_of_older_projects_comes_before_the_only_connection() -> None:
    made = context("a", "b", legacy="b")
    assert plugin.bind_target(made, spec("x.sales.orders")).connection == "b"


def test_the_only_connection_of_the_type_is_meant() -> None:
    made = context("lake", other="warehouse")
    assert plugin.bind_target(made, spec("sales.orders")).connection == "lake"


def test_two_parts_are_namespace_and_table_even_where_a_connection_has_that_name() -> None:
    binding = plugin.bind_target(context("atlas"), spec("atlas.orders"))
    assert (binding.connection, binding.parts) == ("atlas", ("atlas", "orders"))


@pytest.mark.parametrize(
    ("made", "target", "path", "words"),
    [
        (context("a", "b"), spec("x.s.t"), "connection", "a or b"),
        (context(), spec("x.s.t"), "connection", "add a connection"),
        (context("lake"), spec("s.t", "lak"), "connection", "did you mean 'lake'"),
        (context("lake", other="pg"), spec("s.t", "pg"), "connection", "of type postgresql"),
        (context("lake"), spec("orders"), "table", "namespace.orders"),
        (context("lake"), spec("a..b"), "table", "empty part"),
        (context("lake"), spec('a."b'), "table", "not closed"),
        (context("lake"), spec('a."b"c'), "table", "beside a quoted part"),
    ],
)
def test_what_cannot_be_bound_is_named(
    made: ExecutionContext, target: TargetSpec, path: str, words: str
) -> None:
    with pytest.raises(OptionError) as caught:
        plugin.bind_target(made, target)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert words in str(problem)


def test_the_prefix_goes_before_the_first_level_of_the_namespace() -> None:
    assert name("atlas.sales.orders", "dev_").quoted == "atlas.dev_sales.orders"
    assert name("atlas.eu.sales.orders", "dev_").parts == ("dev_eu", "sales", "orders")
    assert name("sales.orders", "dev_").quoted == "dev_sales.orders"


def test_quoted_parts_keep_their_dots_and_are_shown_quoted() -> None:
    found = name('lake."my ns"."a.b""c"', "dev_")
    assert found.parts == ("dev_my ns", 'a.b"c')
    assert found.quoted == 'lake."dev_my ns"."a.b""c"'


def test_different_names_are_shown_differently() -> None:
    assert name('a."b.c"').quoted != name("x.a.b.c").quoted.removeprefix("x.")


def test_a_query_needs_its_table_named() -> None:
    source = SourceSpec(node="source.x", type="iceberg", params={"query": "SELECT 1"})
    with pytest.raises(OptionError, match="needs to be named"):
        plugin.bind_source(context("lake"), source)


def test_a_source_with_inline_options_needs_no_connection() -> None:
    source = SourceSpec(
        node="source.x", type="iceberg", table="c.s.t", params={"catalog_uri": "http://c"}
    )
    binding = plugin.bind_source(context(), source)
    assert (binding.connection, binding.parts) == ("", ("s", "t"))
    named = attrs.evolve(source, connection="lake")
    assert plugin.bind_source(context("lake"), named).connection == "lake"
