"""The stories for which people leave other tools, told to their end on real stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Cli, write
from support.graphs import generator
from support.journeys import postgres_connection
from support.postgres import PostgresStore
from support.promotions import PROJECT, ROWS, Place, Shop

MODELS = 300


class Graph:
    """Three hundred models in ten layers, each with a table."""

    def __init__(self, root: Path, dsn: dict[str, Any], models: int) -> None:
        self.root = root
        self.dsn = dsn
        self._generator = generator()
        self.parents = self._generator.parents_of(models)
        self.layers = self._generator.model_names(models)
        connection = {**postgres_connection(dsn), "lock_wait": 5}
        self._generator.write_project(root, models, connection)
        self.seeknal = Cli(cwd=root, environ={"HOME": str(root / "home")}, warm=True)

    def change(self, name: str) -> None:
        """Give a model another constant."""
        self._generator.write_model(self.root, name, self.parents[name], 2)

    def contents(self, schema: str = "bench") -> dict[str, Any]:
        """Return every table's sum, and the transaction that wrote it."""
        with psycopg.connect(**self.dsn) as connection:
            names = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema]
            ).fetchall()
            query = " UNION ALL ".join(
                f"SELECT '{name}', sum(val), max(xmin::text::bigint) FROM {schema}.{name}"
                for (name,) in names
            )
            rows = connection.execute(query).fetchall() if query else []
            return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def graph(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresStore
) -> Iterator[Graph]:
    """All of it in production."""
    dsn = postgres_server.create_database()
    found = Graph(tmp_path_factory.mktemp("graph") / "bench", dsn, MODELS)
    found.seeknal("run")
    yield found
    postgres_server.drop_database(dsn)


def hooks(said: str) -> dict[str, int]:
    """Count the hook calls that a trace tells of."""
    names = [
        line.split("(")[0].split(".")[-1].split()[-1] for line in said.splitlines() if "(" in line
    ]
    return {name: names.count(name) for name in set(names)}


@pytest.mark.timeout(300)
def test_one_leaf_of_300_models_is_planned_applied_and_promoted_alone(graph: Graph) -> None:
    unchanged = graph.seeknal("env", "plan", "dev", "--json", "--exit-code").json()
    assert unchanged["has_changes"] is False
    assert {node["action"] for node in unchanged["nodes"]} == {"reuse"}
    before = graph.contents()
    assert len(before) == MODELS
    leaf = graph.layers[-1][0]
    graph.change(leaf)
    planned = graph.seeknal("env", "plan", "dev", "--json").json()
    working = [node["id"] for node in planned["nodes"] if node["action"] != "reuse"]
    assert working == [f"transform.{leaf}"]
    applied = graph.seeknal("env", "apply", "dev", "--json", SEEKNAL_TRACE_HOOKS="1")
    assert hooks(applied.err)["materialize"] == 1
    computed = [n for n in applied.json()["nodes"] if n["status"] == "computed"]
    assert [node["id"] for node in computed] == [f"transform.{leaf}"]
    assert list(graph.contents("dev_bench")) == [leaf]
    promoted = graph.seeknal("env", "promote", "dev", "--json", SEEKNAL_TRACE_HOOKS="1")
    counted = hooks(promoted.err)
    assert (counted["stage"], counted["publish"], counted.get("materialize", 0)) == (1, 1, 0)
    after = graph.contents()
    assert {name for name, found in after.items() if found != before[name]} == {leaf}


@pytest.mark.timeout(300)
def test_a_node_that_fails_200th_of_300_replaces_no_production_table(graph: Graph) -> None:
    before = graph.contents()
    middle = graph.layers[6][20]
    for layer in graph.layers[:6]:
        graph.change(layer[1])
    sql = "SELECT id, grp, error('no luck') AS val FROM source.seed"
    text = (graph.root / "seeknal" / f"{middle}.yml").read_text("utf-8")
    head, _, tail = text.partition("transform: |\n")
    materialization = tail[tail.index("materialization:") :]
    write(graph.root, {f"seeknal/{middle}.yml": f"{head}transform: |\n  {sql}\n{materialization}"})
    graph.seeknal("env", "plan", "dev")
    report = graph.seeknal("env", "apply", "dev", "--json", code=1).json()
    failed = [node["id"] for node in report["nodes"] if node["status"] == "failed"]
    assert failed == [f"transform.{middle}"]
    assert "not applied wholly" in graph.seeknal("env", "promote", "dev", code=3).said
    assert graph.contents() == before
    # Mended, the same environment goes on where it stopped, and all of it is promoted.
    write(graph.root, {f"seeknal/{middle}.yml": text})
    graph.change(middle)
    graph.seeknal("env", "plan", "dev")
    graph.seeknal("env", "apply", "dev")
    graph.seeknal("env", "promote", "dev")
    assert graph.contents()[middle] != before[middle]


def test_one_table_of_30_that_cannot_be_written_stops_no_other(
    tmp_path: Path, postgres_dsn: dict[str, object]
) -> None:
    graph = Graph(tmp_path / "bench", dict(postgres_dsn), 30)
    with psycopg.connect(**graph.dsn) as other:
        other.execute("CREATE SCHEMA bench")
        other.execute("CREATE TABLE bench.m00011 (id bigint, val bigint)")
    said = graph.seeknal("run", code=1).said
    assert said.count("bench.m00011 exists and was not made by this project") == 1
    assert "29 written" in said and "1 failed" in said
    assert len(graph.contents()) == 30
    with psycopg.connect(**graph.dsn) as other:
        other.execute("DROP TABLE bench.m00011")
    done = graph.seeknal("run", SEEKNAL_TRACE_HOOKS="1")
    assert "1 written" in done.said
    assert hooks(done.err)["materialize"] == 1
    assert "30 unchanged" in graph.seeknal("run").said


@pytest.mark.timeout(300)
def test_a_lock_on_one_of_60_tables_leaves_all_60_old(
    tmp_path: Path, postgres_dsn: dict[str, object]
) -> None:
    graph = Graph(tmp_path / "bench", dict(postgres_dsn), 60)
    graph.seeknal("run")
    for name in graph.parents:
        graph.change(name)
    graph.seeknal("env", "plan", "dev")
    graph.seeknal("env", "apply", "dev")
    before = graph.contents()
    with psycopg.connect(**graph.dsn) as other:
        other.execute("LOCK TABLE bench.m00031 IN ROW EXCLUSIVE MODE")
        said = graph.seeknal("env", "promote", "dev", code=1).said
    assert "bench.m00031" in said and "pid" in said
    assert graph.contents() == before
    # A reader is no obstacle, however long it reads.
    with psycopg.connect(**graph.dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old = reader.execute("SELECT sum(val) FROM bench.m00031").fetchone()
        graph.seeknal("env", "promote", "dev")
        assert reader.execute("SELECT sum(val) FROM bench.m00031").fetchone() == old
        [new] = reader.execute("SELECT count(*) FROM bench.m00059").fetchall()
        assert new[0] > 0
    after = graph.contents()
    assert all(after[name] != before[name] for name in graph.parents)


@pytest.mark.timeout(300)
def test_two_databases_and_two_catalogs_hold_just_what_they_should_at_every_step(
    tmp_path: Path, postgres_server: PostgresStore
) -> None:
    dsns = {name: postgres_server.create_database() for name in ("dev", "prod")}
    sides: dict[str, list[Place]] = {}
    root = tmp_path / "shop"
    write(root, PROJECT)
    for name, dsn in dsns.items():
        warehouse = tmp_path / f"{name}-lake"
        warehouse.mkdir()
        places = [Place(name="warehouse", dsn=dsn), Place(name="lake", warehouse=warehouse)]
        sides[name] = places
        connections = {place.name: place.connection for place in places}
        write(root, {f"profiles-{name}.yml": json.dumps({"connections": connections})})
    seeknal = Cli(cwd=root, environ={"HOME": str(tmp_path / "home")}, warm=True)
    shop = Shop(root=root, seeknal=seeknal, places=tuple(sides["prod"]))
    dev = Shop(root=root, seeknal=seeknal, places=tuple(sides["dev"]))

    def listed(side: Shop) -> dict[str, list[str]]:
        return {
            place.name: [name for name in place.tables() if not name.startswith("_seeknal_")]
            for place in side.places
        }

    def both(*tables: str) -> dict[str, list[str]]:
        found = [f"shop.{name}" for name in tables]
        return {"warehouse": found, "lake": found}

    shop.become(1)
    seeknal("run")
    assert listed(shop) == both("kept", "keyed")
    assert listed(dev) == {"warehouse": [], "lake": []}
    old = shop.seen()
    shop.become(2)
    seeknal("run", "--env", "dev")
    dev.expect(2)
    assert shop.seen() == old
    seeknal("env", "promote", "dev", "prod")
    shop.expect(2)
    assert shop.leftovers() == []
    seeknal("env", "rollback", "prod")
    assert shop.seen() == old
    assert shop.leftovers(undo=True) == []
    dev.expect(2)
    seeknal("env", "delete", "dev", "--yes")
    # Nothing is left in dev's stores: no table, no schema, no namespace, no file.
    assert dev.database.query(
        "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'"
        " AND nspname <> 'information_schema'"
    ) == [("public",)]
    with dev.lake.catalog() as catalog:
        assert catalog.list_namespaces() == []
    assert dev.lake.warehouse is not None
    left = [path for path in dev.lake.warehouse.rglob("*") if path.is_file()]
    assert [path.name for path in left if not path.name.startswith("catalog.db")] == []
    # And in production's just what was there.
    assert shop.seen() == old
    assert len(old["warehouse"]["shop.kept"]) == ROWS
    for dsn in dsns.values():
        postgres_server.drop_database(dsn)
