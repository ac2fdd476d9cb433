"""Looking at environments, and cleaning them up."""

from __future__ import annotations

import fcntl
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from seeknal_core.engine.snapshots import SnapshotStore
from support.cli import Cli, write


def age(project: Path, name: str, days: int) -> None:
    """Make an environment's last run lie in the past."""
    path = project / "target" / "state" / "environments" / f"{name}.json"
    data = json.loads(path.read_text())
    data["last_run_at"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    path.write_text(json.dumps(data))


def test_environments_are_listed_with_what_differs_from_production(
    seeknal: Cli, project: Path
) -> None:
    assert "no environment yet" in seeknal("env", "list").out
    seeknal("run")
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("total > 15", "total > 16"))
    write(project, {"seeknal/extra.sql": "SELECT 1 AS x"})
    seeknal("run", "--env", "dev")
    found = seeknal("env", "list", "--json").json()
    assert [one["name"] for one in found] == ["prod", "dev"]
    dev = found[1]
    assert (dev["changed"], dev["only_here"], dev["only_there"]) == (1, 1, 0)
    assert dev["status"] == "applied" and dev["expired"] is False
    assert "1 changed, 1 only here" in seeknal("env", "list").out


def test_listing_environments_needs_no_backend_and_writes_nothing(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run", "--env", "dev")
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert "dev" in seeknal("env", "list", PYTHONPATH="").out
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


def test_an_environment_is_shown(seeknal: Cli) -> None:
    seeknal("run", "--env", "dev")
    out = seeknal("env", "show", "dev").out
    assert "dev_sales.totals" in out and "transform.big" in out
    assert seeknal("env", "show", "dev", "--json").json()["name"] == "dev"


def test_an_unknown_environment_gets_the_nearest_name(seeknal: Cli) -> None:
    seeknal("run", "--env", "dev")
    result = seeknal("env", "show", "dve", code=2)
    assert "did you mean 'dev'" in result.err and "Next:" in result.err


def test_status_finds_what_somebody_dropped_or_changed(seeknal: Cli, project: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    seeknal("run", "--env", "dev")
    assert "0 drifted" in seeknal("env", "status", "dev", "--exit-code").out
    (project / "lake" / "dev_sales" / "big.parquet").unlink()
    pq.write_table(pa.table({"x": [1]}), project / "lake" / "dev_sales" / "totals.parquet")
    seeknal("env", "status", "dev")
    document = seeknal("env", "status", "dev", "--exit-code", "--json", code=3).json()
    conditions = {one["name"]: one["condition"] for one in document["targets"]}
    assert conditions == {
        "dev_sales.big": "missing",
        "dev_sales.totals": "changed by somebody else",
    }


def test_delete_drops_the_environments_own_tables_and_nothing_else(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run", "--env", "dev")
    seeknal("run")
    foreign = project / "lake" / "dev_sales" / "foreign.parquet"
    foreign.write_bytes((project / "lake" / "sales" / "big.parquet").read_bytes())
    refused = seeknal("env", "delete", "dev", code=None)
    assert refused.code != 0 or "nothing was deleted" in refused.out
    assert (project / "lake" / "dev_sales" / "big.parquet").exists()
    out = seeknal("env", "delete", "dev", "--yes").out
    assert "dev_sales.big" in out and "dev_sales.totals" in out and "foreign" not in out
    left = sorted(p.relative_to(project).as_posix() for p in project.glob("lake/*/*.parquet"))
    assert left == [
        "lake/dev_sales/foreign.parquet",
        "lake/sales/big.parquet",
        "lake/sales/totals.parquet",
    ]
    assert [one["name"] for one in seeknal("env", "list", "--json").json()] == ["prod"]


def test_what_cannot_be_dropped_stays_and_the_command_can_be_repeated(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run", "--env", "dev")
    held = project / "lake" / "dev_sales" / "big.keep"
    held.write_text("")
    result = seeknal("env", "delete", "dev", "--yes", code=1)
    assert "something hangs on dev_sales.big" in result.err and "Next:" in result.err
    assert [one["name"] for one in seeknal("env", "list", "--json").json()] == ["dev"]
    held.unlink()
    seeknal("env", "delete", "dev", "--yes")
    assert list(project.glob("lake/*/*.parquet")) == []


def test_delete_can_keep_the_targets(seeknal: Cli, project: Path) -> None:
    seeknal("run", "--env", "dev")
    seeknal("env", "delete", "dev", "--yes", "--keep-targets")
    assert (project / "lake" / "dev_sales" / "big.parquet").exists()
    seeknal("env", "show", "dev", code=2)


def test_production_is_never_deleted(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    assert "never deleted" in seeknal("env", "delete", "prod", "--yes", code=2).err
    assert (project / "lake" / "sales" / "big.parquet").exists()


def test_prune_deletes_expired_environments_only_and_only_on_request(
    seeknal: Cli, project: Path
) -> None:
    for name in ("old", "fresh"):
        seeknal("run", "--env", name)
    seeknal("run")
    age(project, "old", 8)
    age(project, "prod", 800)
    out = seeknal("env", "prune").out
    assert "old: last run 8 days ago" in out and "fresh" not in out and "prod" not in out
    assert (project / "lake" / "old_sales").exists()
    seeknal("env", "prune", "--yes")
    names = [one["name"] for one in seeknal("env", "list", "--json").json()]
    assert names == ["prod", "fresh"]
    assert list(project.glob("lake/old_sales/*.parquet")) == []


def test_gc_removes_what_no_environment_names(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("total > 15", "total > 16"))
    seeknal("run")
    assert "removed 0" in seeknal("gc").out  # young outputs stay
    assert "would remove 1" in seeknal("gc", "--keep-hours", "0", "--dry-run").out
    assert "removed 1" in seeknal("gc", "--keep-hours", "0").out
    assert "removed 0" in seeknal("gc", "--keep-hours", "0").out
    document = seeknal("run", "--json").json()
    assert {node["status"] for node in document["nodes"]} == {"reused"}


def test_gc_removes_the_temporary_files_of_killed_commands(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    folder = project / "target" / "state"
    dead, living = folder / ".id.0123abcd.tmp", folder / "environments" / ".prod.json.89ef0123.tmp"
    for path in (dead, living):
        path.write_text("{")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        seeknal("gc", "--dry-run")
        assert dead.exists()
        seeknal("gc")
        assert not dead.exists()
        assert living.exists()
    seeknal("gc")
    assert list(folder.rglob("*.tmp")) == []


def test_gc_is_refused_while_a_command_uses_the_outputs(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    with SnapshotStore(project / "target" / "snapshots").shared_lock():
        result = seeknal("gc", "--keep-hours", "0", code=1)
    assert "another command uses the snapshots" in result.err
