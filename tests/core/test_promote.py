"""``env promote`` and ``env rollback``: which nodes, whose rows, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.cli import Cli, write

BIG = "seeknal/big.yml"
_BIG = "kind: transform\nname: big\ntransform: SELECT * FROM ref('transform.totals') WHERE total > "
TARGET_BIG = "materialization: {type: folder, table: sales.big}\n"
STORED = {
    "seeknal/stored.yml": "kind: source\nname: stored\nsource: folder\ntable: raw.stored\n",
    "seeknal/from_store.sql": (
        "/* ---\nmaterialization: {type: folder, table: sales.from_store}\n--- */\n"
        "SELECT n, n * 2 AS double FROM source.stored\n"
    ),
}
DEV_PROFILE = {"profiles-dev.yml": "connections:\n  lake: {type: folder, path: ./dev-lake}\n"}


@pytest.fixture(autouse=True)
def applied(project: Path, seeknal: Cli) -> None:
    """Production is there."""
    put(project, "lake", range(5))
    write(project, STORED)
    seeknal("run")


def put(project: Path, lake: str, numbers: Sequence[int]) -> None:
    """Make the table that ``source.stored`` reads."""
    path = project / lake / "raw" / "stored.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"n": list(numbers)}), path)


def big(project: Path, least: int, more: str = TARGET_BIG) -> None:
    """Change ``transform.big``."""
    write(project, {BIG: f"{_BIG}{least}\n{more}"})


def apply(seeknal: Cli, environment: str = "dev", *args: str) -> None:
    """Plan and apply."""
    seeknal("env", "plan", environment, *args)
    seeknal("env", "apply", environment)


def promote(seeknal: Cli, *args: str, code: int = 0) -> dict[str, Any]:
    """Promote dev and return the JSON document."""
    found: dict[str, Any] = seeknal("env", "promote", "dev", "--json", *args, code=code).json()
    return found


def whose(document: dict[str, Any]) -> dict[str, str]:
    """Return whose rows each promoted node has."""
    return {node["id"]: node["rows"] for node in document["nodes"]}


def rows(project: Path, table: str, lake: str = "lake") -> list[dict[str, Any]]:
    """Return a table's rows."""
    found: list[dict[str, Any]] = pq.read_table(project / lake / f"{table}.parquet").to_pylist()
    return found


def files(project: Path) -> dict[str, int]:
    """Return every file of the stores, with the moment of its last change."""
    return {str(p): p.stat().st_mtime_ns for p in project.glob("*lake/**/*") if p.is_file()}


def test_what_dev_computed_of_the_same_sources_is_shipped(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    assert len(rows(project, "sales/big")) == 2
    before = (project / "lake" / "sales" / "totals.parquet").stat().st_mtime_ns
    done = promote(seeknal)
    assert whose(done) == {"transform.big": "shipped"}
    assert [(t["name"], t["rows"], t["staged"]) for t in done["targets"]] == [
        ("sales.big", 1, True)
    ]
    assert done["profile_reason"] == "default profiles.yml"
    assert len(rows(project, "sales/big")) == 1
    # Nothing else was touched.
    assert (project / "lake" / "sales" / "totals.parquet").stat().st_mtime_ns == before
    assert promote(seeknal)["outcome"] == "nothing to promote"
    targets = seeknal("run", "--json").json()["targets"]
    assert {target["status"] for target in targets} == {"unchanged"}


def test_a_dry_run_says_the_same_and_changes_nothing(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    before = files(project)
    planned = promote(seeknal, "--dry-run")
    assert (planned["outcome"], whose(planned)) == ("planned", {"transform.big": "shipped"})
    assert files(project) == before
    assert whose(promote(seeknal)) == whose(planned)


@pytest.fixture
def own_source(project: Path, seeknal: Cli) -> None:
    """Dev reads a database of its own, and a changed node hangs on what it reads."""
    put(project, "dev-lake", range(100, 103))
    write(project, DEV_PROFILE)
    write(
        project,
        {
            "seeknal/from_store.sql": STORED["seeknal/from_store.sql"].replace(
                "n * 2 AS double", "n * 3 AS triple"
            )
        },
    )
    apply(seeknal)


@pytest.mark.usefixtures("own_source")
def test_what_dev_read_elsewhere_is_rebuilt_over_production_s_sources(
    project: Path, seeknal: Cli
) -> None:
    done = promote(seeknal)
    assert whose(done) == {"transform.from_store": "rebuilt"}
    [node] = done["nodes"]
    assert (node["source_count"], node["before_count"], node["count"]) == (3, 5, 5)
    assert [row["triple"] for row in rows(project, "sales/from_store")] == [0, 3, 6, 9, 12]


@pytest.mark.usefixtures("own_source")
def test_dev_s_rows_reach_production_only_by_ship_and_a_yes(project: Path, seeknal: Cli) -> None:
    said = seeknal("env", "promote", "dev", "--ship", code=2).said
    assert "source.stored" in said
    assert len(rows(project, "sales/from_store")) == 5
    done = promote(seeknal, "--ship", "--yes")
    assert whose(done)["transform.from_store"] == "shipped"
    assert [row["n"] for row in rows(project, "sales/from_store")] == [100, 101, 102]


def test_rebuild_runs_what_could_be_shipped(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    assert whose(promote(seeknal, "--rebuild"))["transform.big"] == "rebuilt"
    assert len(rows(project, "sales/big")) == 1


def test_the_project_says_what_promote_does_by_default(project: Path, seeknal: Cli) -> None:
    write(project, {"seeknal_project.yml": "name: shop\nenvironments: {promote: rebuild}\n"})
    big(project, 25)
    apply(seeknal)
    assert whose(promote(seeknal, "--dry-run"))["transform.big"] == "rebuilt"


def test_a_node_that_adds_rows_is_shipped_only_when_asked(project: Path, seeknal: Cli) -> None:
    big(project, 25, "materialization: {type: folder, table: sales.big, mode: append}\n")
    apply(seeknal)
    assert whose(promote(seeknal, "--dry-run")) == {"transform.big": "rebuilt"}
    assert whose(promote(seeknal, "--ship", "--yes")) == {"transform.big": "shipped"}
    assert len(rows(project, "sales/big")) == 3


def test_full_refresh_replaces_the_rows_of_an_append(project: Path, seeknal: Cli) -> None:
    big(project, 25, "materialization: {type: folder, table: sales.big, mode: append}\n")
    apply(seeknal)
    before = files(project)
    said = seeknal("env", "promote", "dev", "--full-refresh", code=2).err
    assert "sales.big (append) has 2 rows" in said
    assert "Next: answer with --yes: seeknal env promote dev --full-refresh --yes" in said
    assert files(project) == before
    assert "has 2 rows" in str(promote(seeknal, "--full-refresh", "--dry-run")["notes"])
    promote(seeknal, "--full-refresh", "--yes")
    assert len(rows(project, "sales/big")) == 1


def test_a_new_audit_is_run_on_production_s_own_rows(project: Path, seeknal: Cli) -> None:
    put(project, "dev-lake", range(100, 103))
    write(project, DEV_PROFILE)
    audited = STORED["seeknal/from_store.sql"].replace(
        "/* ---\n",
        "/* ---\naudits: [{type: accepted_values, columns: [n], values: [100, 101, 102]}]\n",
    )
    write(project, {"seeknal/from_store.sql": audited})
    apply(seeknal)
    before = files(project)
    done = seeknal("env", "promote", "dev", code=4)
    assert "audits failed" in done.said and "transform.from_store" in done.said
    assert files(project) == before
    assert list((project / "target" / "state").glob("promotions/*")) == []
    write(project, {"seeknal/from_store.sql": audited.replace("102]", "102, 0, 1, 2, 3, 4]")})
    apply(seeknal)
    assert whose(promote(seeknal)) == {"transform.from_store": "same rows"}


def test_an_audit_that_fails_on_rebuilt_rows_publishes_nothing(
    project: Path, seeknal: Cli, own_source: None
) -> None:
    text = (project / "seeknal/from_store.sql").read_text("utf-8")
    audit = "audits: [{type: row_count, max: 4}]\n"
    write(project, {"seeknal/from_store.sql": text.replace("/* ---\n", f"/* ---\n{audit}")})
    apply(seeknal)
    before = files(project)
    said = seeknal("env", "promote", "dev", code=4).said
    assert "row_count" in said and "nothing was published" in said
    assert files(project) == before


def test_a_refusal_names_the_profile_for_scripts_too(seeknal: Cli) -> None:
    document = json.loads(seeknal("env", "promote", "dev", "--json", code=3).out)
    assert document["profile_reason"] == "default profiles.yml"
    assert document["profile"].endswith("profiles.yml")
    assert document["error"]["type"] == "NotApplied"


def test_a_change_of_rows_beyond_the_gate_is_refused(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    said = seeknal("env", "promote", "dev", "--max-row-change", "20%", code=4).said
    assert "transform.big: 1 rows, 2 before" in said
    promote(seeknal, "--max-row-change", "50%")


def test_a_dev_table_that_lost_rows_is_not_promoted(project: Path, seeknal: Cli) -> None:
    big(project, 15)
    write(project, {BIG: f"{_BIG}16\n{TARGET_BIG}"})
    apply(seeknal)
    path = project / "lake" / "dev_sales" / "big.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    before = files(project)
    said = seeknal("env", "promote", "dev", code=4).said
    assert "dev_sales.big holds 1 rows; 2 were written" in said
    assert files(project) == before


def test_an_environment_is_promoted_wholly_applied_or_not_at_all(
    project: Path, seeknal: Cli
) -> None:
    assert "it never ran" in seeknal("env", "promote", "dev", code=3).said
    assert "itself" in seeknal("env", "promote", "prod", code=2).said
    apply(seeknal)
    big(project, 25)
    said = seeknal("env", "promote", "dev", code=3).said
    assert "transform.big" in said
    assert "seeknal env plan dev" in said


def test_production_that_moved_is_refused_and_force_goes_on(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    write(project, {"seeknal/totals.sql": "SELECT 'x' AS customer, 30 AS total\n"})
    write(project, {BIG: f"{_BIG}15\n{TARGET_BIG}"})
    seeknal("run")
    (project / "target" / "state" / "plans").mkdir(exist_ok=True)
    big(project, 25)
    write(project, {"seeknal/totals.sql": _totals()})
    assert "has moved" in seeknal("env", "promote", "dev", code=3).said
    promote(seeknal, "--force")
    assert len(rows(project, "sales/big")) == 1


def _totals() -> str:
    return (
        "/* ---\ntags: [gold]\nmaterialization: {type: folder, table: sales.totals}\n--- */\n"
        "SELECT customer, sum(amount) AS total FROM source.orders GROUP BY ALL\n"
    )


def test_a_refresh_of_production_s_data_is_no_move(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    text = (project / BIG).read_text("utf-8")
    big(project, 15)
    put(project, "lake", range(9))
    seeknal("run")
    write(project, {BIG: text})
    promote(seeknal)


def test_a_removed_target_stays_until_prune(project: Path, seeknal: Cli) -> None:
    (project / BIG).unlink()
    apply(seeknal)
    done = promote(seeknal)
    assert (done["removed"], done["left"]) == (["transform.big"], ["sales.big"])
    assert rows(project, "sales/big")
    done = promote(seeknal, "--prune")
    assert done["left"] == []
    assert not (project / "lake" / "sales" / "big.parquet").exists()


def test_rollback_brings_rows_definitions_and_tables_back(project: Path, seeknal: Cli) -> None:
    old = rows(project, "sales/big")
    big(project, 25)
    write(project, {"seeknal/new.sql": _totals().replace("totals}", "new}")})
    apply(seeknal)
    promote(seeknal)
    assert rows(project, "sales/new")
    done = seeknal("env", "rollback", "prod", "--json").json()
    assert sorted(done["targets"]) == ["sales.big", "sales.new"]
    assert rows(project, "sales/big") == old
    assert not (project / "lake" / "sales" / "new.parquet").exists()
    assert not (project / "lake" / ".staged").exists()
    assert "rolled back" in seeknal("run", code=3).said
    assert "rolled back" in seeknal("run", "--dry-run", code=3).said
    assert "no promotion into 'prod' to undo" in seeknal("env", "rollback", "prod", code=2).said
    big(project, 15)
    (project / "seeknal/new.sql").unlink()
    seeknal("run")


@pytest.mark.parametrize("after", ["another promotion", "rollback", "delete"])
def test_undo_data_that_a_store_did_not_let_go_of_goes_later(
    project: Path, seeknal: Cli, after: str
) -> None:
    # The first promotion into staging can be undone until the second one is there.
    for least, keeps in ((25, ""), (30, "1")):
        big(project, least)
        apply(seeknal)
        done = seeknal("env", "promote", "dev", "staging", "--json", FOLDER_KEEPS_ALL=keeps).json()
    assert "told to let go of nothing" in str(done["notes"])
    promotions = project / "target" / "state" / "promotions"
    assert len(list(promotions.glob("staging.outdated-*"))) == 1
    kept = project / "lake" / ".staged"
    assert len(list(kept.iterdir())) > 1
    if after == "another promotion":
        big(project, 35)
        apply(seeknal)
        seeknal("env", "promote", "dev", "staging")
        assert [path.name for path in promotions.iterdir()] == ["staging.last.json"]
        assert len(list(kept.iterdir())) == 1
    else:
        command = ("rollback", "staging") if after == "rollback" else ("delete", "staging", "--yes")
        seeknal("env", *command)
        assert not list(promotions.iterdir())
        assert not kept.exists()


def test_rollback_refuses_by_name_what_was_written_since(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    promote(seeknal)
    seeknal("run", "--full-refresh")
    now = rows(project, "sales/big")
    said = seeknal("env", "rollback", "prod", code=3).said
    assert "sales.big" in said and "published as" in said
    assert rows(project, "sales/big") == now


def test_promotion_goes_between_any_two_environments(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    seeknal("env", "promote", "dev", "staging")
    assert len(rows(project, "staging_sales/big")) == 1
    assert seeknal("env", "show", "staging", "--json").json()["status"] == "applied"
    seeknal("env", "promote", "staging")
    assert len(rows(project, "sales/big")) == 1
    # An environment that is deleted leaves nothing that would have undone its promotion.
    seeknal("env", "delete", "staging", "--yes")
    promotions = project / "target" / "state" / "promotions"
    assert [p.name for p in promotions.iterdir()] == ["prod.last.json"]
    assert not list((project / "lake" / "staging_sales").rglob("*"))


def test_dev_is_promoted_by_the_profile_it_was_applied_with(project: Path, seeknal: Cli) -> None:
    put(project, "other-lake", range(2))
    write(project, {"other.yml": "connections:\n  lake: {type: folder, path: ./other-lake}\n"})
    big(project, 25)
    seeknal("env", "plan", "dev", "--profile", "other.yml")
    seeknal("env", "apply", "dev", "--profile", "other.yml")
    path = project / "other-lake" / "sales" / "big.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    again = ("--source-profile", "other.yml")
    said = seeknal("env", "promote", "dev", *again, code=4).said
    assert "sales.big holds 0 rows; 1 were written" in said


def test_a_recorded_profile_is_not_opened_unless_the_user_names_it(
    project: Path, seeknal: Cli
) -> None:
    big(project, 25)
    seeknal("run", "--env", "dev")
    record = project / "target" / "state" / "environments" / "dev.json"
    evil = "connections: {lake: {type: folder, path: ./evil, password: '${PW:s3cret-word}'}}\n"
    write(project, {"evil.yml": evil})
    document = json.loads(record.read_text("utf-8"))
    record.write_text(json.dumps(document | {"given_profile": str(project / "evil.yml")}), "utf-8")
    # What the rules choose leads where it was applied: the promotion goes on with that.
    seeknal("env", "promote", "dev")
    assert not (project / "evil").exists()
    put(project, "evil", range(5))
    big(project, 26)
    seeknal("env", "plan", "dev", "--profile", "evil.yml")
    seeknal("env", "apply", "dev", "--profile", "evil.yml")
    said = seeknal("env", "promote", "dev", code=3).err
    assert "evil.yml" in said and "--source-profile FILE" in said


def test_a_plan_with_prune_drops_what_the_environment_made(project: Path, seeknal: Cli) -> None:
    seeknal("run", "--env", "dev", "--all-targets")
    (project / BIG).unlink()
    found = seeknal("env", "plan", "dev", "--json").json()
    [gone] = [t for t in found["targets"] if t["name"] == "dev_sales.big"]
    assert (gone["writing"], gone["reason"]) == (
        "no longer in the project",
        "stays; plan --prune drops it",
    )
    seeknal("env", "apply", "dev")
    assert rows(project, "dev_sales/big")
    found = seeknal("env", "plan", "dev", "--prune", "--json").json()
    assert [t["name"] for t in found["targets"] if t["writing"] == "drop"] == ["dev_sales.big"]
    seeknal("env", "apply", "dev")
    assert not (project / "lake" / "dev_sales" / "big.parquet").exists()
    assert rows(project, "dev_sales/totals") and rows(project, "sales/big")


def test_diff_tells_definitions_columns_and_rows_by_key(project: Path, seeknal: Cli) -> None:
    keyed = "audits: [{type: unique, columns: [customer]}]\n"
    big(project, 5, keyed)
    seeknal("run")
    seeknal("env", "diff", "dev", code=2)
    sql = "SELECT customer, total + CASE customer WHEN 'bela' THEN 1 ELSE 0 END AS total, 1 AS one"
    write(
        project,
        {
            BIG: f"kind: transform\nname: big\ntransform: {sql} FROM ref('transform.totals')"
            f" UNION ALL SELECT 'carl', 7, 1\n{keyed}"
        },
    )
    apply(seeknal)
    found = seeknal("env", "diff", "dev", "--json", "--exit-code", code=3).json()
    [node] = found["nodes"]
    assert (node["id"], node["definition"]) == ("transform.big", "changed")
    assert [(c["name"], c["there"]) for c in node["columns"]] == [("one", "")]
    counts = node["rows"]
    assert (counts["added"], counts["removed"], counts["changed"]) == (1, 0, 1)
    assert {"change": "changed", "key": {"customer": "bela"}, "columns": ["total"]} in counts[
        "sample"
    ]
    assert "\n-SELECT * FROM" in node["text"] and "carl" in node["text"]
    said = seeknal("env", "diff", "dev").out
    assert "changed customer=bela: total" in said
    # As whole rows, where no key is known.
    found = seeknal("env", "diff", "dev", "--key", "nothing", "--json").json()
    counts = found["nodes"][0]["rows"]
    assert (counts["added"], counts["removed"], counts["changed"]) == (2, 1, None)
    assert "hold the same" in seeknal("env", "diff", "prod", "prod").out


def test_query_reads_stored_outputs_by_node_name(project: Path, seeknal: Cli) -> None:
    big(project, 25)
    apply(seeknal)
    sql = "SELECT total FROM big ORDER BY 1 DESC"
    assert seeknal("query", sql, "--env", "dev", "--json").json()["rows"] == [
        {"total": 9007199254741003}
    ]
    found = seeknal("query", sql, "--json", "--limit", "1").json()
    assert (len(found["rows"]), found["more"]) == (1, True)
    said = seeknal("query", "SELECT * FROM source.orders").out
    assert "bela" in said and "3 rows" in said
    assert "does not exist" in seeknal("query", "SELECT * FROM nothing", code=1).said
    assert "not allowed" in seeknal("query", "DROP TABLE big", code=1).said
    assert "'nope'" in seeknal("query", sql, "--env", "nope", code=2).said


def test_list_tells_profile_age_and_what_is_left_of_it(project: Path, seeknal: Cli) -> None:
    put(project, "dev-lake", range(3))
    write(project, DEV_PROFILE)
    apply(seeknal)
    prod, dev = seeknal("env", "list", "--json").json()
    assert prod["expires_in"] is None and prod["is_production"]
    assert 0 < dev["expires_in"] <= 7 * 86400
    said = seeknal("env", "list").out
    assert "profiles-dev.yml" in said and "expires in" in said
    write(project, {"profiles-dev.yml": DEV_PROFILE["profiles-dev.yml"] + "protected: true\n"})
    seeknal("run", "--env", "dev")
    assert seeknal("env", "list", "--json").json()[1]["expires_in"] is None


def test_delete_and_prune_give_documents_for_scripts(project: Path, seeknal: Cli) -> None:
    seeknal("run", "--env", "dev", "--all-targets")
    assert "--yes" in seeknal("env", "delete", "dev", "--json", code=2).said
    done = seeknal("env", "delete", "dev", "--yes", "--json").json()
    assert len(done["dropped"]) == 3 and done["refused"] == []
    write(project, {"seeknal_project.yml": "name: shop\nenvironments: {ttl: 1s}\n"})
    seeknal("run", "--env", "old", "--all-targets")
    import time

    time.sleep(2.1)
    assert seeknal("env", "prune", "--json").json() == {"expired": ["old"], "deleted": []}
    [deleted] = seeknal("env", "prune", "--yes", "--json").json()["deleted"]
    assert (deleted["environment"], len(deleted["dropped"])) == ("old", 3)
    assert json.loads(seeknal("gc", "--dry-run", "--json").out)["dry_run"] is True
