"""``env plan`` and ``env apply``: what changed, what is done about it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write

TOTALS = "seeknal/totals.sql"
HEAD = "/* ---\ntags: [gold]\nmaterialization: {type: folder, table: sales.totals}\n--- */\n"
SQL = "SELECT customer, sum(amount) AS total FROM source.orders GROUP BY ALL\n"


@pytest.fixture(autouse=True)
def applied(seeknal: Cli) -> None:
    """Production is there: dev is planned upon it."""
    seeknal("run")


def plan(seeknal: Cli, *args: str, code: int = 0) -> dict[str, Any]:
    """Plan dev and return the JSON document."""
    found: dict[str, Any] = seeknal("env", "plan", "dev", "--json", *args, code=code).json()
    return found


def changes(document: dict[str, Any]) -> dict[str, str]:
    """Return what became of each node that is not unchanged."""
    return {
        node["id"]: node["change"] for node in document["nodes"] if node["change"] != "unchanged"
    }


def working(document: dict[str, Any]) -> set[str]:
    """Return the nodes that an apply would look at."""
    return {node["id"] for node in document["nodes"] if node["action"] not in ("reuse", "nothing")}


def stored(project: Path) -> set[Path]:
    """Return the data files of the snapshot store."""
    return set((project / "target" / "snapshots").glob("*/*/data_*.parquet"))


def test_a_plan_of_an_unchanged_project_has_no_changes_and_no_work(seeknal: Cli) -> None:
    found = plan(seeknal, "--exit-code")
    assert (changes(found), working(found), found["has_changes"]) == ({}, set(), False)
    # Its store has no links.
    assert [t["writing"] for t in found["targets"]] == ["copy of production's rows"] * 2
    assert all(t["bytes"] > 0 for t in found["targets"])


def test_a_plan_writes_nothing_but_itself(project: Path, seeknal: Cli) -> None:
    def files() -> set[str]:
        return {str(path) for path in project.rglob("*") if path.is_file()}

    before = files()
    seeknal("plan", "dev")
    assert files() - before == {str(project / "target" / "state" / "plans" / "dev.json")}


def test_one_changed_leaf_executes_one_node_and_stores_one_output(
    project: Path, seeknal: Cli
) -> None:
    before = stored(project)
    sql = "transform: SELECT * FROM ref('transform.totals') WHERE total > 11\n"
    write(project, {"seeknal/big.yml": "kind: transform\nname: big\n" + sql + TARGET_BIG})
    found = plan(seeknal)
    assert changes(found) == {"transform.big": "changed"}
    assert working(found) == {"transform.big"}
    report = seeknal("env", "apply", "dev", "--json").json()
    assert [n["id"] for n in report["nodes"] if n["status"] == "computed"] == ["transform.big"]
    assert len(stored(project) - before) == 1
    # Its store has no links, so that the other target is a copy.
    ended = {t["name"]: t["status"] for t in report["targets"]}
    assert ended == {"dev_sales.big": "written", "dev_sales.totals": "copied"}
    # It refers to production's snapshots for all else.
    prod = seeknal("env", "show", "prod", "--json").json()["nodes"]
    dev = seeknal("env", "show", "dev", "--json").json()["nodes"]
    for id in ("source.orders", "transform.totals"):
        assert dev[id]["content_key"] == prod[id]["content_key"]


TARGET_BIG = "materialization: {type: folder, table: sales.big}\n"


def test_comments_and_white_space_are_no_change(project: Path, seeknal: Cli) -> None:
    text = SQL.replace("SELECT", "-- the totals\n   select").replace("FROM", "\n\n  from")
    write(project, {TOTALS: HEAD + text})
    found = plan(seeknal, "--exit-code")
    assert (changes(found), working(found)) == ({}, set())


def test_tags_and_descriptions_change_metadata_only(project: Path, seeknal: Cli) -> None:
    write(project, {TOTALS: HEAD.replace("gold", "silver") + SQL})
    found = plan(seeknal, "--exit-code")
    assert changes(found) == {"transform.totals": "metadata only"}
    assert working(found) == set()


def test_hosts_passwords_and_prefixes_are_no_change(project: Path, seeknal: Cli) -> None:
    profile = (project / "profiles.yml").read_text("utf-8")
    other = profile.replace("s3cret-word", "another-word").replace("./lake", "./other")
    write(project, {"profiles-dev.yml": other + "namespace: {prefix: alice_}\n"})
    found = plan(seeknal)
    assert (changes(found), working(found)) == ({}, set())


def test_a_changed_var_is_a_change_of_content(project: Path, seeknal: Cli) -> None:
    sql = "transform: SELECT * FROM ref('transform.totals') WHERE total > {{ var('least', 15) }}\n"
    write(project, {"seeknal/big.yml": "kind: transform\nname: big\n" + sql + TARGET_BIG})
    seeknal("run")
    assert changes(plan(seeknal)) == {}
    found = plan(seeknal, "--vars", '{"least": 11}')
    assert working(found) == {"transform.big"}
    assert "--vars changed" in seeknal("env", "apply", "dev", code=3).err
    report = seeknal("env", "apply", "dev", "--vars", '{"least": 11}', "--json").json()
    assert [n["id"] for n in report["nodes"] if n["status"] == "computed"] == ["transform.big"]


def test_a_changed_mode_writes_the_target_again_and_computes_nothing(
    project: Path, seeknal: Cli
) -> None:
    seeknal("run", "--env", "dev", "--all-targets")
    head = HEAD.replace("table: sales.totals", "table: sales.totals, mode: append")
    write(project, {TOTALS: head + SQL})
    found = plan(seeknal)
    assert (changes(found), working(found)) == ({}, set())
    [written] = [t for t in found["targets"] if t["writing"] == "write"]
    assert (written["name"], written["reason"]) == ("dev_sales.totals", "the target changed")
    report = seeknal("env", "apply", "dev", "--json").json()
    assert {n["status"] for n in report["nodes"]} == {"reused"}
    assert [t["name"] for t in report["targets"] if t["status"] == "written"] == [
        "dev_sales.totals"
    ]


def test_changed_files_are_read_by_a_run_or_on_request_only(project: Path, seeknal: Cli) -> None:
    write(project, {"data/orders.csv": "id,customer,amount\n1,ada,100\n"})
    found = plan(seeknal)
    assert working(found) == set()
    assert "source.orders: its files changed" in " ".join(found["warnings"])
    found = plan(seeknal, "--refresh-sources")
    assert "source.orders" in working(found)
    seeknal("env", "apply", "dev")
    rows = seeknal("env", "show", "dev", "--json").json()["nodes"]
    assert rows["source.orders"]["rows"] == 1


def test_a_changed_node_shows_a_diff_and_what_is_below_it_is_affected(
    project: Path, seeknal: Cli
) -> None:
    write(project, {TOTALS: HEAD + SQL.replace("sum(amount)", "max(amount)")})
    found = plan(seeknal)
    assert changes(found) == {
        "transform.totals": "changed",
        "transform.big": "affected from above",
    }
    [totals] = [n for n in found["nodes"] if n["id"] == "transform.totals"]
    assert totals["breaking"] is True
    assert "-SELECT customer, sum(amount) AS total" in totals["diff"]
    assert "+SELECT customer, max(amount) AS total" in totals["diff"]
    said = seeknal("plan", "dev").out
    assert "+SELECT customer, max(amount)" in said
    assert "Next: seeknal env apply dev" in said


def test_added_and_removed_nodes_are_named(project: Path, seeknal: Cli) -> None:
    (project / "seeknal" / "big.yml").unlink()
    write(project, {"seeknal/new.sql": "SELECT 1 AS one\n"})
    found = changes(plan(seeknal))
    assert found == {"transform.new": "added", "transform.big": "removed"}


def test_exit_code_tells_of_changes(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal/new.sql": "SELECT 1 AS one\n"})
    plan(seeknal, code=0)
    plan(seeknal, "--exit-code", code=3)


def test_statements_are_shown_on_request(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal/new.sql": "SELECT 41 + 1 AS answer FROM source.orders\n"})
    assert "SELECT 41 + 1" not in seeknal("plan", "dev").out.replace("+SELECT", "")
    assert (
        'SELECT 41 + 1 AS answer FROM "source.orders"' in seeknal("plan", "dev", "--show-sql").out
    )


def test_an_apply_without_a_plan_names_the_command(seeknal: Cli) -> None:
    said = seeknal("env", "apply", "dev", code=2).said
    assert "there is no plan" in said
    assert "seeknal env plan dev" in said


def test_definitions_that_moved_since_the_plan_are_refused_before_any_write(
    project: Path, seeknal: Cli
) -> None:
    write(project, {"seeknal/new.sql": HEAD.replace("totals", "new") + "SELECT 1 AS one\n"})
    plan(seeknal)
    write(project, {TOTALS: HEAD + SQL.replace("sum", "max")})
    before = {p for p in project.rglob("*") if p.is_file() and "state" not in p.parts}
    said = seeknal("env", "apply", "dev", code=3).said
    assert "definitions changed: transform.big, transform.totals" in said
    assert "seeknal env plan dev" in said
    assert {p for p in project.rglob("*") if p.is_file() and "state" not in p.parts} == before
    seeknal("env", "apply", "dev", "--force")
    assert "transform.new" in seeknal("env", "show", "dev", "--json").json()["nodes"]


def test_bindings_that_moved_since_the_plan_are_refused(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal/new.sql": HEAD.replace("totals", "new") + "SELECT 1 AS one\n"})
    plan(seeknal)
    profile = (project / "profiles.yml").read_text("utf-8")
    write(project, {"profiles.yml": profile.replace("./lake", "./elsewhere")})
    said = seeknal("env", "apply", "dev", code=3).said
    assert "connections lead elsewhere: lake" in said
    assert "s3cret-word" not in said


def test_a_new_password_does_not_make_a_plan_stale(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal/new.sql": HEAD.replace("totals", "new") + "SELECT 1 AS one\n"})
    plan(seeknal)
    profile = (project / "profiles.yml").read_text("utf-8")
    write(project, {"profiles.yml": profile.replace("s3cret-word", "changed-word")})
    seeknal("env", "apply", "dev")


def test_a_base_that_moved_since_the_plan_is_refused_but_fresh_data_is_not_a_move(
    project: Path, seeknal: Cli
) -> None:
    write(project, {"seeknal/new.sql": HEAD.replace("totals", "new") + "SELECT 1 AS one\n"})
    plan(seeknal)
    new = (project / "seeknal" / "new.sql").read_text("utf-8")
    (project / "seeknal" / "new.sql").unlink()
    write(project, {"data/orders.csv": "id,customer,amount\n1,ada,100\n"})
    seeknal("run")  # a scheduled refresh: other data, the same definitions
    write(project, {"seeknal/new.sql": new})
    seeknal("env", "apply", "dev")
    plan(seeknal)
    write(project, {"seeknal/other.sql": "SELECT 2 AS two\n"})
    seeknal("run", "--select", "other")
    (project / "seeknal" / "other.sql").unlink()
    assert "prod was run or promoted into anew" in seeknal("env", "apply", "dev", code=3).said


def test_a_plan_can_be_reviewed_and_applied_elsewhere(
    project: Path, seeknal: Cli, tmp_path: Path
) -> None:
    write(project, {"seeknal/new.sql": HEAD.replace("totals", "new") + "SELECT 1 AS one\n"})
    file = tmp_path / "reviewed.json"
    plan(seeknal, "--out", str(file))
    document = json.loads(file.read_text("utf-8"))
    assert document["environment"] == "dev"
    assert document["id"].startswith("plan-")
    (project / "target" / "state" / "plans" / "dev.json").unlink()
    seeknal("env", "apply", "dev", "--plan", str(file))
    assert "transform.new" in seeknal("env", "show", "dev", "--json").json()["nodes"]


def test_a_plan_of_another_environment_is_refused(
    project: Path, seeknal: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    plan(seeknal, "--out", str(file))
    said = seeknal("env", "apply", "staging", "--plan", str(file), code=3).said
    assert "for environment 'dev'" in said


def test_a_damaged_plan_is_said_to_be_one(project: Path, seeknal: Cli, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text('{"schema_version": 1, "id": 5}', "utf-8")
    assert "is no plan" in seeknal("env", "apply", "dev", "--plan", str(file), code=1).said


def test_an_apply_after_a_failure_redoes_only_what_failed(project: Path, seeknal: Cli) -> None:
    write(
        project,
        {
            "seeknal/good.sql": "SELECT 1 AS one\n",
            "seeknal/bad.sql": "SELECT 1 // (count(*) - 3) AS x FROM source.orders HAVING "
            "error('no luck') IS NULL\n",
        },
    )
    plan(seeknal)
    seeknal("env", "apply", "dev", code=1)
    assert seeknal("env", "list", "--json").json()[1]["status"] == "failed"
    write(project, {"seeknal/bad.sql": "SELECT 2 AS two\n"})
    assert working(plan(seeknal)) == {"transform.bad"}
    seeknal("env", "apply", "dev")
    assert seeknal("env", "list", "--json").json()[1]["status"] == "applied"


def test_a_node_that_is_not_reusable_says_why(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal/clock.sql": "SELECT now() AS at\n"})
    seeknal("run")
    [clock] = [n for n in plan(seeknal)["nodes"] if n["id"] == "transform.clock"]
    assert clock["action"] == "compute"
    assert "now" in clock["reason"]


def test_a_table_that_somebody_dropped_is_written_again(project: Path, seeknal: Cli) -> None:
    seeknal("run", "--env", "dev", "--all-targets")
    (project / "lake" / "dev_sales" / "big.parquet").unlink()
    found = plan(seeknal, "--exit-code", code=3)
    [target] = [t for t in found["targets"] if t["name"] == "dev_sales.big"]
    assert (target["writing"], target["exists"]) == ("write", False)
    assert "missing" in target["reason"]
