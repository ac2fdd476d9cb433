"""Whole runs: what is computed, what is written, and what is left alone."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from support.cli import Cli, write
from support.shop import PROJECT


def rows(project: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(project / "lake" / f"{table}.parquet").to_pylist()
    return sorted(found, key=str)


def statuses(seeknal: Cli, *args: str, code: int = 0) -> tuple[dict[str, str], dict[str, str]]:
    """Run and return the status of each node and each target."""
    document = seeknal("run", "--json", *args, code=code).json()
    nodes = {node["id"]: node["status"] for node in document["nodes"]}
    targets = {target["name"]: target["status"] for target in document["targets"]}
    return nodes, targets


def test_a_run_computes_writes_and_keeps_large_sums_exact(seeknal: Cli, project: Path) -> None:
    nodes, targets = statuses(seeknal)
    assert set(nodes.values()) == {"computed"}
    assert targets == {"sales.totals": "written", "sales.big": "written"}
    totals = {row["customer"]: int(row["total"]) for row in rows(project, "sales/totals")}
    assert totals == {"ada": 9007199254741003, "bela": 20}


def test_a_second_run_computes_and_writes_nothing(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    before = {path: path.stat().st_mtime_ns for path in (project / "lake").rglob("*.parquet")}
    nodes, targets = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}
    assert set(targets.values()) == {"unchanged"}
    after = {path: path.stat().st_mtime_ns for path in (project / "lake").rglob("*.parquet")}
    assert after == before


def test_a_changed_node_runs_with_what_is_below_it(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    path = project / "seeknal" / "totals.sql"
    path.write_text(path.read_text().replace("sum(amount)", "sum(amount) + 1"))
    nodes, targets = statuses(seeknal)
    assert nodes == {
        "source.orders": "reused",
        "transform.totals": "computed",
        "transform.big": "computed",
    }
    assert targets == {"sales.totals": "written", "sales.big": "written"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("seeknal/totals.sql", "SELECT customer,", "-- by customer\nselect   customer ,"),
        ("seeknal/totals.sql", "tags: [gold]", "tags: [silver]\ndescription: Totals"),
        ("profiles.yml", "s3cret-word", "another-word"),
    ],
)
def test_what_a_node_is_not_changes_nothing(
    seeknal: Cli, project: Path, file: str, old: str, new: str
) -> None:
    statuses(seeknal)
    path = project / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    nodes, targets = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}
    assert set(targets.values()) == {"unchanged"}


def test_a_changed_source_file_is_noticed(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    path = project / "data" / "orders.csv"
    # The same size and time as before: only the content tells.
    stat = path.stat()
    path.write_text(path.read_text().replace("2,bela,20", "2,bela,21"))
    import os

    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    nodes, _ = statuses(seeknal)
    assert nodes["source.orders"] == "computed"
    assert {"customer": "bela", "total": 21} in [
        {**row, "total": int(row["total"])} for row in rows(project, "sales/totals")
    ]


def test_a_changed_target_is_written_and_nothing_computed(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("sales.big", "sales.large"))
    nodes, targets = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}
    assert targets == {"sales.totals": "unchanged", "sales.large": "written"}


def test_a_table_dropped_by_hand_is_written_again(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    (project / "lake" / "sales" / "big.parquet").unlink()
    _, targets = statuses(seeknal)
    assert targets == {"sales.totals": "unchanged", "sales.big": "written"}


def test_an_environment_gets_its_own_names(seeknal: Cli, project: Path) -> None:
    _, targets = statuses(seeknal, "--env", "dev")
    assert targets == {"dev_sales.totals": "written", "dev_sales.big": "written"}
    assert not (project / "lake" / "sales").exists()


def test_targets_equal_to_productions_are_not_written_unless_asked(
    seeknal: Cli, project: Path
) -> None:
    statuses(seeknal)
    nodes, targets = statuses(seeknal, "--env", "dev", "--only-changed")
    assert set(nodes.values()) == {"reused"}
    assert set(targets.values()) == {"left out"}
    _, targets = statuses(seeknal, "--env", "dev", "--all-targets")
    assert set(targets.values()) == {"written"}


def test_an_environment_with_another_store_gets_its_tables(seeknal: Cli, project: Path) -> None:
    statuses(seeknal)
    write(project, {"profiles-dev.yml": "connections:\n  lake: {type: folder, path: ./devlake}\n"})
    nodes, targets = statuses(seeknal, "--env", "dev")
    assert set(nodes.values()) == {"reused"}
    assert targets == {"sales.totals": "copied", "sales.big": "copied"}
    assert (project / "devlake" / "sales" / "big.parquet").exists()


def test_a_profile_that_points_at_production_is_refused_before_any_write(
    seeknal: Cli, project: Path
) -> None:
    write(
        project, {"profiles-dev.yml": "connections:\n  lake: {type: folder, path: lake/../lake}\n"}
    )
    result = seeknal("run", "--env", "dev", code=2)
    assert "sales.totals" in result.err and "prod" in result.err
    assert not (project / "lake").exists()
    seeknal("run", "--env", "dev", "--allow-production-targets")
    assert (project / "lake" / "sales" / "totals.parquet").exists()


def test_two_targets_of_one_table_are_refused(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("sales.big", "sales.totals"))
    result = seeknal("run", code=2)
    assert "transform.totals" in result.err and "transform.big" in result.err


def test_a_foreign_table_is_adopted_only_on_request(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    shutil.rmtree(project / "target")
    write(project, {"seeknal_project.yml": "name: other\n"})
    result = seeknal("run", code=1)
    assert "--adopt" in result.said
    seeknal("run", "--adopt")


def test_a_failed_node_fails_the_command_and_only_what_is_below_it(
    seeknal: Cli, project: Path
) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("total > 15", "no_such_column > 15"))
    nodes, targets = statuses(seeknal, code=1)
    assert nodes["transform.totals"] == "computed" and nodes["transform.big"] == "failed"
    assert targets == {"sales.totals": "written", "sales.big": "skipped"}
    path.write_text(path.read_text().replace("no_such_column", "total"))
    nodes, targets = statuses(seeknal)
    assert nodes["transform.totals"] == "reused" and nodes["transform.big"] == "computed"
    assert targets == {"sales.totals": "unchanged", "sales.big": "written"}


def test_a_failed_target_fails_the_command_and_is_done_again(seeknal: Cli, project: Path) -> None:
    profile = project / "profiles.yml"
    good = profile.read_text()
    profile.write_text(good.replace("path: ./lake", "path: ./lake, fail_on: totals"))
    nodes, targets = statuses(seeknal, code=1)
    assert set(nodes.values()) == {"computed"}
    assert targets == {"sales.totals": "failed", "sales.big": "written"}
    profile.write_text(good)
    nodes, targets = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}
    assert targets == {"sales.totals": "written", "sales.big": "unchanged"}


def test_selection_runs_a_part_and_takes_the_rest_as_recorded(seeknal: Cli, project: Path) -> None:
    nodes, targets = statuses(seeknal, "--select", "big")
    assert set(nodes) == {"source.orders", "transform.totals", "transform.big"}
    assert targets == {"sales.big": "written"}
    nodes, targets = statuses(seeknal, "--select", "tag:gold")
    assert targets == {"sales.totals": "written"}


def test_a_dry_run_names_everything_and_writes_nothing(seeknal: Cli, project: Path) -> None:
    before = sorted(path for path in project.rglob("*"))
    document = seeknal("run", "--env", "dev", "--dry-run", "--json").json()
    assert {t["name"]: t["writing"] for t in document["targets"]} == {
        "dev_sales.big": "write",
        "dev_sales.totals": "write",
    }
    assert {n["id"]: n["action"] for n in document["nodes"]} == {
        "source.orders": "read",
        "transform.totals": "compute",
        "transform.big": "compute",
    }
    assert sorted(path for path in project.rglob("*")) == before
    seeknal("run", "--env", "dev")
    document = seeknal("run", "--env", "dev", "--dry-run", "--json").json()
    assert {n["action"] for n in document["nodes"]} == {"reuse"}
    assert {t["writing"] for t in document["targets"]} == {"write if the table differs"}
    assert (document["has_changes"], document["looked"]) == (False, False)


def test_a_dry_run_prints_what_a_plan_prints_and_asks_the_stores_on_request(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run")
    said = seeknal("run", "--dry-run").out
    assert "3 more unchanged, reused" in said
    assert "write if the table differs: not looked" in said
    assert "no store was asked and nothing was written" in said
    (project / "lake" / "sales" / "big.parquet").unlink()
    assert "is missing" not in seeknal("run", "--dry-run").said
    document = seeknal("run", "--dry-run", "--refresh-sources", "--json").json()
    assert document["looked"]
    assert {(t["name"], t["writing"], t["reason"]) for t in document["targets"]} == {
        ("sales.big", "write", "the table is missing in the store"),
        ("sales.totals", "unchanged", ""),
    }
    assert "dry run: nothing was written" in seeknal("run", "--dry-run", "--refresh-sources").out
    assert not (project / "target" / "state" / "plans").exists()


def test_a_dry_run_of_a_selection_plans_no_other_target(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    write(project, {"data/orders.csv": "id,customer,amount\n1,ada,10\n"})
    document = seeknal("run", "--select", "big", "--dry-run", "--json").json()
    assert {n["id"]: (n["action"], n["reason"]) for n in document["nodes"]} == {
        "transform.totals": ("reuse", "not selected, taken as recorded"),
        "transform.big": ("reuse", ""),
    }
    assert [t["name"] for t in document["targets"]] == ["sales.big"]


def test_no_secret_is_said_or_stored(seeknal: Cli, project: Path) -> None:
    said = seeknal("--debug", "run", PW="hunter2-xyz", SEEKNAL_TRACE_HOOKS="1").said
    said += seeknal("check", "--connections", PW="hunter2-xyz").said
    assert "hunter2-xyz" not in said
    for path in (project / "target").rglob("*"):
        assert not path.is_file() or b"hunter2-xyz" not in path.read_bytes(), path


def test_a_volatile_node_runs_each_time_and_says_so(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {"seeknal/stamp.yml": "kind: transform\nname: stamp\ntransform: SELECT now() AS at\n"},
    )
    assert statuses(seeknal)[0]["transform.stamp"] == "computed"
    assert statuses(seeknal)[0]["transform.stamp"] == "computed"
    document = seeknal("run", "--dry-run", "--json").json()
    (reason,) = [n["reason"] for n in document["nodes"] if n["id"] == "transform.stamp"]
    assert "now" in reason


def test_a_failed_audit_stops_the_node_before_its_target(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text() + "audits:\n  - {type: row_count, min: 100}\n")
    nodes, targets = statuses(seeknal, code=1)
    assert nodes["transform.big"] == "failed"
    assert targets == {"sales.totals": "written", "sales.big": "skipped"}
    path.write_text(path.read_text().replace("min: 100", "min: 100, severity: warn"))
    result = seeknal("run")
    assert "warning" in result.err and "row" in result.err


def test_a_store_source_is_read_again_and_equal_rows_change_nothing(
    seeknal: Cli, project: Path
) -> None:
    write(
        project,
        {
            "seeknal/more.yml": (
                "kind: source\nname: more\nsource: folder\ntable: raw.more\n---\n"
                "kind: transform\nname: seen\ntransform: SELECT count(*) AS n FROM source.more\n"
                "materialization: {type: folder, table: sales.seen}\n"
            )
        },
    )
    import pyarrow as pa

    raw = project / "lake" / "raw" / "more.parquet"
    raw.parent.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1, 2]}), raw)
    statuses(seeknal)
    pq.write_table(pa.table({"x": [2, 1]}), raw)
    nodes, targets = statuses(seeknal)
    assert nodes["source.more"] == "reused" and nodes["transform.seen"] == "reused"
    assert targets["sales.seen"] == "unchanged"
    pq.write_table(pa.table({"x": [2, 1, 1]}), raw)
    nodes, targets = statuses(seeknal)
    assert nodes["source.more"] == "computed" and targets["sales.seen"] == "written"


def test_two_runs_of_one_environment_exclude_each_other(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/slow.py": (
                "import time\nfrom seeknal_core.pipeline import transform\n"
                "@transform(name='slow', inputs=['source.orders'])\ndef slow(ctx):\n"
                "    time.sleep(20)\n    return ctx.ref('source.orders')\n"
            )
        },
    )
    first = seeknal.start("run", "--env", "dev")
    try:
        lock = project / "target" / "state" / "environments" / "dev.lock"
        _until(lambda: lock.exists() and lock.read_text() != "")
        result = seeknal("run", "--env", "dev", code=1)
        assert f"pid {first.pid}" in result.err
        seeknal("run", "--env", "other", "--exclude", "slow")
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate(timeout=60)


def test_ctrl_c_stops_within_seconds_and_the_next_run_finishes(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/slow.yml": (
                "kind: transform\nname: slow\ntransform: SELECT count(*) AS n "
                "FROM range(10000000) a, range(1000000) b WHERE a.range <> b.range\n"
            )
        },
    )
    running = seeknal.start("run")
    _until(lambda: (project / "lake" / "sales" / "big.parquet").exists())
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, out + err
    assert time.monotonic() - began < 10
    assert "Traceback" not in out + err
    nodes, targets = statuses(seeknal, "--exclude", "slow")
    assert set(nodes.values()) == {"reused"}
    assert set(targets.values()) == {"unchanged"}


def test_a_killed_run_is_finished_by_the_next(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/slow.py": (
                "import os, signal\nfrom seeknal_core.pipeline import transform\n"
                "@transform(name='slow', inputs=['transform.totals'])\ndef slow(ctx):\n"
                "    if os.environ.get('DIE'):\n"
                "        os.kill(os.getpid(), signal.SIGKILL)\n"
                "    return ctx.ref('transform.totals')\n"
            )
        },
    )
    result = seeknal("run", "--threads", "1", code=-signal.SIGKILL, DIE="1")
    assert "slow" not in result.out
    nodes, targets = statuses(seeknal)
    assert nodes["transform.totals"] == "reused" and nodes["transform.slow"] == "computed"
    assert set(targets.values()) <= {"written", "unchanged"}
    leftovers = list((project / "target" / "snapshots" / "tmp").glob("*"))
    assert leftovers == []


def test_the_json_document_is_the_only_thing_on_standard_output(seeknal: Cli) -> None:
    result = seeknal("run", "--env", "dev", "--json")
    document = json.loads(result.out)
    assert document["environment"] == "dev"
    assert document["profile"].endswith("profiles.yml") and "dev_" in document["profile_reason"]


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.05)


def test_audits_may_compare_nodes_that_are_not_inputs(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "orders.yml"
    audit = "audits:\n  - {type: relationships, column: customer, to: source.people, field: name}\n"
    path.write_text(path.read_text() + audit)
    people = "kind: source\nname: people\nsource: csv\ntable: data/people.csv\n"
    write(project, {"seeknal/people.yml": people, "data/people.csv": "name\nada\n"})
    nodes, _ = statuses(seeknal, code=1)
    assert nodes["source.orders"] == "failed"
    write(project, {"data/people.csv": "name\nada\nbela\n"})
    nodes, _ = statuses(seeknal)
    assert nodes["source.orders"] == "reused"
    nodes, _ = statuses(seeknal, "--select", "orders", "--env", "dev")
    assert nodes == {"source.orders": "reused", "source.people": "reused"}


def test_audits_that_wait_for_each_other_are_refused(seeknal: Cli, project: Path) -> None:
    one = (
        "kind: source\nname: {}\nsource: csv\ntable: data/orders.csv\n"
        "audits:\n  - {{type: relationships, column: id, to: source.{}, field: id}}\n"
    )
    write(project, {"seeknal/a.yml": one.format("a", "b"), "seeknal/b.yml": one.format("b", "a")})
    result = seeknal("run", code=2)
    assert "seeknal/a.yml:6" in result.err and "seeknal/b.yml:6" in result.err


def test_two_environments_with_one_prefix_cannot_both_exist(seeknal: Cli) -> None:
    seeknal("run", "--env", "dev-1")
    result = seeknal("run", "--env", "dev_1", code=2)
    assert "'dev-1'" in result.err


def test_what_a_python_node_prints_stays_out_of_the_json_document(
    seeknal: Cli, project: Path
) -> None:
    write(
        project,
        {
            "seeknal/loud.py": (
                "from seeknal_core.pipeline import transform\nprint('read')\n"
                "@transform(name='loud', inputs=['source.orders'])\ndef loud(ctx):\n"
                "    print('called')\n    return ctx.ref('source.orders')\n"
            )
        },
    )
    result = seeknal("run", "--json")
    assert result.json()["status"] == "done"
    assert "read" in result.err and "called" in result.err
    assert seeknal("check", "--json").json()["nodes"] == 4


def test_a_password_in_a_node_is_never_shown(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "profiles.yml": PROJECT["profiles.yml"].replace("}\n", ", inline: true}\n"),
            "seeknal/inline.yml": (
                "kind: source\nname: inline\nsource: folder\ntable: a\n"
                "params: {connection: lake, path: ./lake, password: inline-word-42}\n"
            ),
        },
    )
    result = seeknal("--debug", "run", code=None, SEEKNAL_TRACE_HOOKS="1")
    assert "hook bind_source" in result.err or "hook resolve_profile" in result.err
    assert "inline-word-42" not in result.said


def test_a_killed_run_leaves_no_scratch_after_the_next(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/dies.py": (
                "import os, signal\nfrom seeknal_core.pipeline import transform\n"
                "@transform(name='dies', inputs=['transform.totals'])\ndef dies(ctx):\n"
                "    if os.environ.get('DIE'):\n"
                "        os.kill(os.getpid(), signal.SIGKILL)\n"
                "    return ctx.ref('transform.totals')\n"
            )
        },
    )
    scratch = project / "target" / "tmp"
    seeknal("run", code=-signal.SIGKILL, DIE="1")
    assert list(scratch.iterdir()) != []
    seeknal("run")
    assert list(scratch.iterdir()) == []


def test_a_dry_run_warns_as_the_run_would(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal_project.yml"
    path.write_text(path.read_text() + "state_backend: file\n")
    assert "'state_backend' is of Seeknal 2.x" in seeknal("run", "--dry-run").err


def test_who_stopped_a_run_is_not_told_to_mend_anything(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/slow.yml": (
                "kind: transform\nname: slow\ntransform: SELECT count(*) AS n "
                "FROM range(10000000) a, range(1000000) b WHERE a.range <> b.range\n"
            )
        },
    )
    running = seeknal.start("run")
    _until(lambda: (project / "lake" / "sales" / "big.parquet").exists())
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert "Next: run the same command again" in out
