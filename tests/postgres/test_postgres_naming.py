"""Names: split, prefixed, shortened, bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeknal_core.errors import NamespaceRefused, OptionError
from seeknal_core.types import ConnectionSpec, SourceSpec, TargetSpec
from seeknal_postgres import names, plugin
from seeknal_postgres.connection.profile import PostgresConnection
from support.cli import Cli, write
from support.contexts import make_context

WAREHOUSE = ConnectionSpec(name="warehouse", type="postgresql", options={})
OTHER = ConnectionSpec(name="other", type="postgresql", options={})
LAKE = ConnectionSpec(name="lake", type="iceberg", options={})


@pytest.mark.parametrize(
    ("table", "parts"),
    [
        ("orders", ("orders",)),
        ("Sales.Orders", ("Sales", "Orders")),
        ("my schema.my table", ("my schema", "my table")),
        ('"a.b"."c""d"', ("a.b", 'c"d')),
        ('"a.b".c', ("a.b", "c")),
        ('x"y.z', ('x"y', "z")),
    ],
)
def test_a_table_splits_on_dots_outside_quotes(table: str, parts: tuple[str, ...]) -> None:
    assert names.split(table) == parts


@pytest.mark.parametrize("table", ["", ".", "a.", ".b", "a.b.c", '"a', '"a"b', '""', "a\0b"])
def test_a_table_that_is_no_name_is_refused(table: str) -> None:
    with pytest.raises(OptionError) as refused:
        names.split(table)
    assert [problem.path for problem in refused.value.problems] == ["table"]


part = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(part, min_size=1, max_size=2))
def test_quoted_parts_split_into_themselves(parts: list[str]) -> None:
    assert names.split(".".join(map(names.quote, parts))) == tuple(parts)


def named(table: str, prefix: str = "", schema: str = "public") -> str:
    connection = PostgresConnection(name="w", type="postgresql", default_schema=schema)
    context = make_context(connection, prefix=prefix)
    spec = TargetSpec(node="transform.t", type="postgresql", table=table, parts=names.split(table))
    return str(plugin.namespace_for(context, spec))


def test_the_prefix_goes_before_the_schema() -> None:
    assert named("analytics.orders") == "analytics.orders"
    assert named("analytics.orders", "dev_") == "dev_analytics.orders"
    assert named("orders", "dev_") == "dev_public.orders"
    assert named("orders", "dev_", schema="mart") == "dev_mart.orders"


def test_names_past_the_limit_are_shortened_and_stay_distinct() -> None:
    long = ["é" * 40 + end for end in ("a", "b")]
    found = {named(f"{schema}.{table}", "dev_") for schema in long for table in long}
    assert len(found) == 4
    for name in found:
        assert all(len(part.encode()) <= 63 for part in names.split(name))


def test_a_schema_that_the_server_reserves_is_refused() -> None:
    with pytest.raises(NamespaceRefused, match="pg_public"):
        named("orders", "pg_")


@pytest.mark.parametrize("table", ["_seeknal_prod.notes", '"_seeknal_dev".targets'])
def test_a_schema_of_seeknals_own_records_is_refused(table: str) -> None:
    with pytest.raises(NamespaceRefused, match="Seeknal's own"):
        named(table)
    own = named("orders").replace("public", "_seeknal")
    assert named(own) == own


def test_such_a_name_is_a_mistake_of_the_project_with_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "seeknal_project.yml": "name: p\n",
            "profiles.yml": "connections: {w: {type: postgresql, host: localhost}}\n",
            "seeknal/n.yml": "kind: transform\nname: n\ntransform: SELECT 1 AS a\n"
            "materialization: {type: postgresql, table: pg_x.t}\n",
        },
    )
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path)}, warm=True)
    for command in (("check",), ("run", "--dry-run"), ("run",)):
        said = seeknal(*command, code=2).err
        assert "seeknal/n.yml:4:1: transform.n.table: schema pg_x is reserved" in said


def bind(table: str = "orders", connection: str | None = None, *specs: ConnectionSpec) -> str:
    context = make_context(connections={spec.name: spec for spec in specs})
    spec = TargetSpec(node="transform.t", type="postgresql", table=table, connection=connection)
    return plugin.bind_target(context, spec).connection


def test_a_target_without_a_connection_means_the_only_one() -> None:
    assert bind("orders", None, WAREHOUSE, LAKE) == "warehouse"
    assert bind("orders", "other", WAREHOUSE, OTHER) == "other"


@pytest.mark.parametrize(
    ("connection", "specs", "words"),
    [
        (None, (LAKE,), "the profile has none"),
        (None, (WAREHOUSE, OTHER), "warehouse, other"),
        ("lake", (WAREHOUSE, LAKE), "of type 'iceberg'"),
        ("warehose", (WAREHOUSE,), "did you mean 'warehouse'"),
    ],
)
def test_a_connection_that_is_not_to_be_found_is_refused(
    connection: str | None, specs: tuple[ConnectionSpec, ...], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as refused:
        bind("orders", connection, *specs)
    assert refused.value.problems[0].path == "connection"


def test_a_partitioned_target_is_refused() -> None:
    spec = TargetSpec(node="t", type="postgresql", table="orders", partition_by=("day",))
    with pytest.raises(OptionError) as refused:
        plugin.bind_target(make_context(connections={"warehouse": WAREHOUSE}), spec)
    assert refused.value.problems[0].path == "partition_by"


def test_a_source_is_bound_by_its_table_its_query_or_its_own_options() -> None:
    context = make_context(connections={"warehouse": WAREHOUSE})

    def bound(**given: object) -> tuple[str, tuple[str, ...]]:
        spec = SourceSpec(node="source.s", type="postgresql", **given)  # type: ignore[arg-type]
        binding = plugin.bind_source(context, spec)
        return binding.connection, binding.parts

    assert bound(table="sales.orders") == ("warehouse", ("sales", "orders"))
    assert bound(params={"query": "SELECT 1"}) == ("warehouse", ())
    assert bound(table="orders", params={"host": "db", "database": "x"}) == ("", ("orders",))
    assert bound(table="orders", connection="warehouse", params={"host": "db"})[0] == "warehouse"
    with pytest.raises(OptionError, match="a table or a query"):
        bound()


@pytest.mark.parametrize(
    ("table", "shown"),
    [
        ("Sales.orders", '"Sales".orders'),
        ("sales.order", 'sales."order"'),
        ("sales.my table", 'sales."my table"'),
        ("sales.größe", 'sales."größe"'),
    ],
)
def test_a_name_is_quoted_when_printed_where_the_server_wants_it(table: str, shown: str) -> None:
    assert named(table) == shown
