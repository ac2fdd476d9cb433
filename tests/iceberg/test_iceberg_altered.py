"""Sources and targets after somebody else altered the table, or reached it by another address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.schema import Schema
from pyiceberg.types import IntegerType, LongType, NestedField, StringType

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import Mode, Source
from seeknal_iceberg import plugin
from seeknal_iceberg.source.options import IcebergSourceOptions
from support.cli import Cli, write
from support.iceberg import Bench


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace that nobody else uses."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def version(bench: Bench, target: Any, **options: Any) -> str | None:
    source = Source(
        node="s",
        type="iceberg",
        parts=target.name.parts,
        options=IcebergSourceOptions(**options) if options else None,
    )
    return plugin.read_source(bench.context, source).version


def test_a_source_has_the_columns_that_the_table_has_now(any_bench: tuple[Bench, str]) -> None:
    """apache/iceberg-python#2467, trinodb/trino#23601."""
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.people")
    rows = {
        "id": pa.array([1, 2], pa.int32()),
        "email": ["a@x", "b@x"],
        "name": ["A", "B"],
        "f": pa.array([0.5, None], pa.float32()),
        "s": [{"a": 1, "secret": "x"}, None],
    }
    first = bench.write(target, pa.table(rows))
    seen = [version(bench, target)]
    old = version(bench, target, snapshot_id=int(first.version))

    def altered() -> Any:
        seen.append(version(bench, target))
        return bench.read(target)

    table = bench.table(target)
    with table.update_schema() as update:
        update.delete_column("email").delete_column("s.secret")
    found = altered()
    assert found.column_names == ["id", "name", "f", "s"]
    assert found["s"].to_pylist() == [{"a": 1}, None]
    with table.update_schema() as update:
        update.rename_column("name", "full").add_column("phone", StringType())
    found = altered()
    assert found.select(["full", "phone"]).to_pydict() == {"full": ["A", "B"], "phone": [None] * 2}
    with table.update_schema() as update:
        update.update_column("id", LongType())
    assert altered()["id"].to_pylist() == [1, 2]
    assert bench.read(target).schema.field("id").type == pa.int64()
    with table.update_schema() as update:
        update.move_first("f").add_column("email", StringType())
    found = altered()
    assert found.column_names == ["f", "id", "full", "s", "phone", "email"]
    assert found["email"].to_pylist() == [None, None]  # what was dropped does not come back
    # Each ALTER is a change of the source; none is one of the snapshot that was named.
    assert len(set(seen)) == len(seen)
    assert version(bench, target, snapshot_id=int(first.version)) == old

    def read(*columns: str, **options: Any) -> list[dict[str, Any]]:
        picked = IcebergSourceOptions(**options)
        return bench.read(target, columns=columns, options=picked).to_pylist()  # type: ignore[no-any-return]

    assert read("full", "id", filter="full = 'B' and id > 1") == [{"full": "B", "id": 2}]
    assert read("phone", filter="email is null and id = 1") == [{"phone": None}]
    with pytest.raises(BackendError, match="no column 'name'"):
        read("name")
    with pytest.raises(BackendError, match="the filter \"name = 'B'\" is wrong"):
        read("full", filter="name = 'B'")
    past: dict[str, Any] = {"snapshot_id": int(first.version)}
    assert read("name", "email", filter="email = 'b@x'", **past) == [{"name": "B", "email": "b@x"}]
    assert (
        bench.read(target, options=IcebergSourceOptions(**past)).to_pylist()
        == pa.table(rows).to_pylist()
    )
    with pytest.raises(BackendError, match="no column 'full' in that snapshot"):
        read("full", **past)
    with pytest.raises(BackendError, match="the filter \"full = 'B'\" is wrong"):
        read("name", filter="full = 'B'", **past)
    assert bench.count(target) == 2


def test_a_filter_on_a_renamed_column_finds_the_partitions(bench: Bench) -> None:
    target = bench.target(partition_by=("day",))
    first = bench.write(target, {"day": ["a", "b"], "n": [1, 2]})
    with bench.table(target).update_schema() as update:
        update.rename_column("day", "d")
    current = IcebergSourceOptions(filter="d = 'b'")
    assert bench.read(target, options=current).to_pylist() == [{"d": "b", "n": 2}]
    past = IcebergSourceOptions(filter="day = 'b'", snapshot_id=int(first.version))
    assert bench.read(target, options=past).to_pylist() == [{"day": "b", "n": 2}]


def test_rows_from_before_and_after_an_alter_are_read_together(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, {"id": [1], "x": [10]})
    with bench.table(target).update_schema() as update:
        update.delete_column("x").add_column("x", IntegerType())
    bench.write(target, {"id": [2], "x": pa.array([20], pa.int32())})
    assert bench.rows(target) == [{"id": 1, "x": None}, {"id": 2, "x": 20}]


def project(root: Path, connections: dict[str, Any], nodes: dict[str, str]) -> Cli:
    """Make a project, and return the command in it."""
    write(
        root,
        {
            "seeknal_project.yml": "name: shop\n",
            "profiles.yml": json.dumps({"connections": connections}),
            **nodes,
        },
    )
    return Cli(cwd=root, environ={"HOME": str(root / "home")}, warm=True)


def test_an_alter_reaches_what_is_made_of_a_source(
    tmp_path: Path, sqlite_lake: dict[str, str]
) -> None:
    catalog = load_catalog("default", **sqlite_lake)
    catalog.create_namespace("raw")
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "email", StringType()))
    table = catalog.create_table("raw.people", schema)
    table.append(pa.table({"id": [1], "email": ["a@x"]}))
    nodes = {
        "seeknal/people.yml": "kind: source\nname: people\nsource: iceberg\ntable: raw.people\n"
        "params: {connection: lake}\n",
        "seeknal/copied.yml": "kind: transform\nname: copied\n"
        "transform: SELECT * FROM source.people\n"
        "materialization: {type: iceberg, connection: lake, table: out.copied}\n",
    }
    lake = {"type": "iceberg", "catalog": sqlite_lake}
    seeknal = project(tmp_path / "shop", {"lake": lake}, nodes)
    seeknal("run")
    with table.update_schema() as update:
        update.delete_column("email").add_column("phone", StringType())
    seeknal("run")
    asked = seeknal("query", "SELECT * FROM source.people", "--json").json()
    assert asked["columns"] == ["id", "phone"]
    copied = catalog.load_table("out.copied").scan().to_arrow()
    assert copied.select(["id", "phone"]).to_pylist() == [{"id": 1, "phone": None}]
    assert "email" not in copied.column_names or copied["email"].to_pylist() == [None]


def test_two_spellings_of_one_catalog_are_one_table(rest: Bench, lake_namespace: str) -> None:
    catalog = dict(rest.options["catalog"])  # type: ignore[call-overload]
    catalog["uri"] = catalog["uri"].replace("127.0.0.1", "localhost").rstrip("/")
    named = Bench({"catalog": catalog}, rest.root)
    table = f"{lake_namespace}.t"
    one = rest.target(table)
    other = attrs.evolve(named.target(table), key="transform.other > iceberg:lake:x")
    rest.write(one, {"id": [1]})
    assert rest.inspect(one).identity != named.inspect(other).identity
    assert rest.inspect(one).table_id == named.inspect(other).table_id is not None
    with pytest.raises(WriteRefused, match=r"written by another target of this run.*one catalog"):
        named.write(other, {"id": [2]})
    assert rest.rows(one) == [{"id": 1}]
    named.close()


def test_two_targets_that_meet_in_one_table_are_refused(
    tmp_path: Path, rest: Bench, lake_namespace: str
) -> None:
    catalog = dict(rest.options["catalog"])  # type: ignore[call-overload]
    elsewhere = {**catalog, "uri": catalog["uri"].replace("127.0.0.1", "localhost")}
    connections = {
        "lake": {"type": "iceberg", "catalog": catalog},
        "pond": {"type": "iceberg", "catalog": elsewhere},
    }
    nodes = {
        f"seeknal/{name}.yml": f"kind: transform\nname: {name}\ntransform: SELECT {number} AS id\n"
        f"materialization: {{type: iceberg, connection: {where}, table: {lake_namespace}.t}}\n"
        for number, (name, where) in enumerate((("one", "lake"), ("two", "pond")))
    }
    seeknal = project(tmp_path / "shop", connections, nodes)
    # Nobody has made the table yet: whoever comes second is told.
    first = seeknal("run", "--threads", "1", code=1)
    assert "two connections lead to one catalog" in first.said
    assert len(rest.rows(rest.target(f"{lake_namespace}.t"))) == 1
    again = seeknal("run", code=2)
    assert "two targets write the same table" in again.said
