"""A column is added to a node: its readers are computed again if they can see it, and only then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write
from support.promotions import Place

#: Readers that name their columns, and no new one.
BLIND = {
    "named": "SELECT id, amount * 2 AS twice FROM transform.base",
    "joined": "SELECT b.id, o.extra FROM transform.base AS b JOIN source.others AS o ON o.id = b.id",
    "summed": "SELECT id, sum(amount) AS total FROM transform.base GROUP BY id",
}
#: Readers that see a new column, or may: by a star, a row as a whole, its name, the rows' order.
SEEING = {
    "star": "SELECT * FROM transform.base",
    "from_first": "FROM transform.base",
    "whole_row": "SELECT b::VARCHAR AS all_of_it FROM transform.base AS b",
    "natural_join": "SELECT id, amount FROM transform.base NATURAL JOIN source.others",
    "using_id": "SELECT id, amount FROM transform.base JOIN source.others USING (id)",
    "group_all": "SELECT id, sum(amount) AS n FROM transform.base GROUP BY ALL",
    "captured": (
        "SELECT id FROM source.others WHERE EXISTS"
        " (SELECT 1 FROM transform.base AS b WHERE b.amount > extra)"
    ),
    "first_rows": "SELECT id, amount FROM transform.base ORDER BY amount LIMIT 2",
}
PYTHON = """\
from seeknal_core.pipeline import transform


@transform(inputs=["transform.base"])
def in_python(ctx):
    return ctx.sql('SELECT id FROM "transform.base"')
"""
OLD = "SELECT id, amount FROM source.orders"
NEW = "SELECT id, amount, amount % 3 AS extra FROM source.orders"


class Project:
    """A node with readers in a project over a database and a folder of Iceberg tables."""

    def __init__(self, folder: Path, postgres_dsn: dict[str, object]) -> None:
        self.database = Place(name="warehouse", dsn=postgres_dsn)
        self.lake = Place(name="lake", warehouse=folder / "lake")
        self.root = folder / "shop"
        (folder / "lake").mkdir()
        connections = {one.name: one.connection for one in (self.database, self.lake)}
        columns = (
            "schema:\n  - {{name: id, data_type: integer}}\n  - {{name: {}, data_type: integer}}\n"
        )
        files = {
            "seeknal_project.yml": "name: shop\n",
            "profiles.yml": json.dumps({"connections": connections}),
            "data/orders.csv": "id,amount\n" + "".join(f"{n},{n * 10}\n" for n in range(1, 7)),
            "data/others.csv": "id,extra\n1,7\n2,8\n9,900\n",
        }
        for name, column in (("orders", "amount"), ("others", "extra")):
            head = f"kind: source\nname: {name}\nsource: csv\ntable: data/{name}.csv\n"
            files[f"seeknal/{name}.yml"] = head + columns.format(column)
        write(self.root, files)
        self.seeknal = Cli(cwd=self.root, environ={"HOME": str(folder / "home")}, warm=True)

    def node(self, name: str, sql: str, *, stored: bool = True) -> None:
        """Write a transform, with a target in each store."""
        targets = self.database.target(name, "") + self.lake.target(name, "")
        head = f"/* ---\nmaterializations:\n{targets}--- */\n" if stored else ""
        write(self.root, {f"seeknal/{name}.sql": f"{head}{sql}\n"})

    def plan(self, environment: str) -> dict[str, dict[str, Any]]:
        """Plan, and return the changed nodes by name."""
        made = self.seeknal("env", "plan", environment, "--json").json()
        return {
            node["id"].partition(".")[2]: node
            for node in made["nodes"]
            if node["change"] != "unchanged"
        }

    def versions(self, *names: str) -> dict[str, object]:
        """Return what marks the contents of production's tables."""
        found: dict[str, object] = {}
        for name in names:
            found[f"warehouse {name}"] = self.database.query(
                f"SELECT c.oid, relfilenode, (SELECT min(xmin::text) FROM shop.{name})"
                f" FROM pg_class AS c WHERE c.oid = 'shop.{name}'::regclass"
            )
            with self.lake.catalog() as catalog:
                table = catalog.load_table(("shop", name))
                found[f"lake {name}"] = table.metadata.current_snapshot_id
        return found


@pytest.fixture
def project(tmp_path: Path, postgres_dsn: dict[str, object]) -> Project:
    return Project(tmp_path, postgres_dsn)


def computed(report: Mapping[str, Any]) -> set[str]:
    """Return the nodes that were computed."""
    return {
        node["id"].partition(".")[2] for node in report["nodes"] if node["status"] == "computed"
    }


def test_three_readers_that_do_not_read_the_new_column_are_never_computed_or_written(
    project: Project,
) -> None:
    project.node("base", OLD)
    for name, sql in BLIND.items():
        project.node(name, sql)
    seeknal = project.seeknal
    seeknal("run")
    before = project.versions(*BLIND)
    rows = [(place, place.seen()) for place in (project.database, project.lake)]
    project.node("base", NEW)

    # The plan says which columns are new, and why the readers stay.
    planned = project.plan("dev")
    assert {name: node["change"] for name, node in planned.items()} == {
        "base": "changed", **dict.fromkeys(BLIND, "proved unaffected"),
    }  # fmt: skip
    assert (planned["base"]["breaking"], planned["base"]["columns"]) == (False, ["extra"])
    for name in BLIND:
        assert planned[name]["reason"] == (
            "transform.base only adds extra, which this SQL does not read"
        )
    said = seeknal("env", "plan", "dev").out
    assert "changed, additive: extra" in said
    assert said.count("proved unaffected") == 3

    # Apply computes and writes the changed node alone; the proof is in the report.
    report = seeknal("env", "apply", "dev", "--json").json()
    assert computed(report) == {"base"}
    proof = "unaffected: transform.base only adds extra, which this SQL does not read"
    proved = {node["id"] for node in report["nodes"] if node["detail"] == proof}
    assert proved == {f"transform.{name}" for name in BLIND}
    written = {one["name"] for one in report["targets"] if one["status"] == "written"}
    assert written == {"dev_shop.base", "lake.dev_shop.base"}
    assert project.plan("dev") == {}

    # A second environment finds everything stored, and says the same of the readers.
    planned = project.plan("staging")
    assert {planned[name]["change"] for name in BLIND} == {"proved unaffected"}
    assert computed(seeknal("env", "apply", "staging", "--json").json()) == set()

    # The promotion ships the changed node; the readers' tables in production stay as they are.
    document = seeknal("env", "promote", "dev", "--json").json()
    assert {node["id"]: node["rows"] for node in document["nodes"]} == {
        "transform.base": "shipped",
        **{f"transform.{name}": "same rows" for name in BLIND},
    }
    assert project.versions(*BLIND) == before
    for place, seen in rows:
        now = place.seen()
        assert {name: now[f"shop.{name}"] for name in BLIND} == {
            name: seen[f"shop.{name}"] for name in BLIND
        }
        assert len(now["shop.base"][0]) == 3
    assert project.plan("dev") == {}
    assert project.plan("prod") == {}
    report = seeknal("run", "--json").json()
    assert computed(report) == set()
    assert {one["status"] for one in report["targets"]} == {"unchanged"}

    # Taking the promotion back leaves the readers' tables alone, too.
    seeknal("env", "rollback", "prod")
    assert project.versions(*BLIND) == before
    assert all(len(place.seen()["shop.base"][0]) == 2 for place, _ in rows)


def test_each_reader_that_can_see_the_new_column_is_computed_again(project: Project) -> None:
    project.node("base", OLD, stored=False)
    for name, sql in {**SEEING, **BLIND}.items():
        project.node(name, sql, stored=False)
    write(project.root, {"seeknal/in_python.py": PYTHON})
    seeknal = project.seeknal
    seeknal("run")
    project.node("base", NEW, stored=False)
    seeing = {*SEEING, "in_python"}
    planned = project.plan("dev")
    affected = {name for name, node in planned.items() if node["change"] == "affected from above"}
    assert affected == seeing
    assert {planned[name]["action"] for name in seeing} == {"compute"}
    report = seeknal("env", "apply", "dev", "--json").json()
    assert computed(report) == {"base", *seeing}
    rows = seeknal("query", "SELECT id FROM transform.captured", "--env", "dev", "--json").json()
    assert [row["id"] for row in rows["rows"]] == [1, 2, 9]
    document = seeknal("env", "promote", "dev", "--json").json()
    kept = {node["id"] for node in document["nodes"] if node["rows"] == "same rows"}
    assert kept == {f"transform.{name}" for name in BLIND}
    assert computed(seeknal("run", "--json").json()) == set()


def test_what_is_below_an_unaffected_reader_is_unchanged_and_a_breaking_change_reaches_all(
    project: Project,
) -> None:
    project.node("base", OLD, stored=False)
    project.node("named", BLIND["named"], stored=False)
    project.node("below", "SELECT * FROM transform.named", stored=False)
    seeknal = project.seeknal
    seeknal("run")
    project.node("base", NEW, stored=False)
    foreseen = seeknal("run", "--dry-run", "--json").json()["nodes"]
    assert [node["id"] for node in foreseen if node["action"] == "compute"] == ["transform.base"]
    report = seeknal("run", "--json").json()
    assert computed(report) == {"base"}
    # One more column: the proof is made over a key that is itself a second name.
    more = NEW.replace(" FROM", ", -amount AS owed FROM")
    project.node("base", more, stored=False)
    assert project.plan("prod")["base"]["columns"] == ["owed"]
    assert computed(seeknal("run", "--json").json()) == {"base"}
    project.node("base", more.replace("% 3", "% 4"), stored=False)
    planned = project.plan("dev")
    assert (planned["base"]["breaking"], planned["base"]["columns"]) == (True, ["extra"])
    assert "changed, breaking: extra" in seeknal("env", "plan", "dev").out
    assert computed(seeknal("run", "--json").json()) == {"base", "named", "below"}
