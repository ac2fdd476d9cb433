"""What a run takes from whom, what it refuses, and what it says of what it left undone."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.types import ConnectionSpec, SourceSpec
from seeknal_core.workspace.session import Request, open_session
from support.cli import Cli, write

SOURCE = (
    "kind: source\nname: more\nsource: folder\ntable: raw.more\n{params}---\n"
    "kind: transform\nname: seen\ntransform: SELECT * FROM source.more\n"
    "materialization: {{type: folder, table: sales.seen}}\n"
)


def statuses(seeknal: Cli, *args: str, code: int = 0) -> tuple[dict[str, str], dict[str, str]]:
    """Run and return the status of each node and each target."""
    document = seeknal("run", "--json", *args, code=code).json()
    nodes = {node["id"]: node["status"] for node in document["nodes"]}
    targets = {target["name"]: target["status"] for target in document["targets"]}
    return nodes, targets


def stored(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def store(path: Path, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_what_is_asked_of_a_store_is_part_of_the_content_key(seeknal: Cli, project: Path) -> None:
    params = 'params: {exact: true, only: "{{ env_name }}"}\n'
    write(project, {"seeknal/more.yml": SOURCE.format(params=params)})
    store(project / "lake" / "raw" / "more.parquet", env=["prod", "dev"], x=[1, 2])
    seeknal("run")
    assert stored(project / "lake" / "sales" / "seen.parquet") == [{"env": "prod", "x": 1}]
    seeknal("run", "--env", "dev")
    assert stored(project / "lake" / "dev_sales" / "seen.parquet") == [{"env": "dev", "x": 2}]


def test_source_defaults_count_as_what_is_asked(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/more.yml": SOURCE.format(params="params: {exact: true}\n")})
    store(project / "lake" / "raw" / "more.parquet", env=["a", "b"], x=[1, 2])
    seeknal("run")
    profile = project / "profiles.yml"
    profile.write_text(profile.read_text() + "source_defaults:\n  folder: {only: b}\n")
    seeknal("run")
    assert stored(project / "lake" / "sales" / "seen.parquet") == [{"env": "b", "x": 2}]


def test_a_selection_reads_its_own_environments_sources(seeknal: Cli, project: Path) -> None:
    profile = "connections:\n  lake: {type: folder, path: ./devlake}\n"
    write(project, {"seeknal/more.yml": SOURCE.format(params=""), "profiles-dev.yml": profile})
    store(project / "lake" / "raw" / "more.parquet", x=[1])
    store(project / "devlake" / "raw" / "more.parquet", x=[2])
    seeknal("run")
    nodes, _ = statuses(seeknal, "--env", "dev", "--select", "seen")
    assert nodes["source.more"] == "computed"
    assert stored(project / "devlake" / "sales" / "seen.parquet") == [{"x": 2}]
    # Another place for the same source: what the environment holds of it is of the old one.
    write(project, {"profiles-dev.yml": profile.replace("devlake", "newlake")})
    store(project / "newlake" / "raw" / "more.parquet", x=[3])
    seeknal("run", "--env", "dev", "--select", "seen")
    assert stored(project / "newlake" / "sales" / "seen.parquet") == [{"x": 3}]


def test_an_input_that_fails_its_audits_stops_what_is_selected(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "orders.yml"
    path.write_text(path.read_text() + "audits:\n  - {type: row_count, min: 100}\n")
    for _ in range(2):
        nodes, targets = statuses(seeknal, "--select", "totals", code=1)
        assert nodes == {"source.orders": "failed", "transform.totals": "skipped"}
        assert targets == {"sales.totals": "skipped"}


def test_fail_fast_starts_nothing_more_and_names_what_it_left(seeknal: Cli, project: Path) -> None:
    nodes = "kind: transform\nname: a_bad\ntransform: SELECT nothing FROM source.orders\n"
    for number in range(6):
        nodes += f"---\nkind: transform\nname: n{number}\ntransform: SELECT {number} AS n\n"
    write(project, {"seeknal/many.yml": nodes})
    seeknal("run", "--select", "orders")
    document = seeknal("run", "--fail-fast", "--threads", "1", "--json", code=1).json()
    found = {node["id"]: (node["status"], node["detail"]) for node in document["nodes"]}
    assert len(found) == 10
    assert found["transform.a_bad"][0] == "failed"
    left = [id for id, end in found.items() if end == ("skipped", "not run, the run was stopped")]
    assert left
    assert {
        target["detail"] for target in document["targets"] if target["status"] == "skipped"
    } <= {"not run, the run was stopped"}


def test_what_waits_for_a_failed_node_names_it(seeknal: Cli, project: Path) -> None:
    people = "kind: transform\nname: people\ntransform: SELECT nothing AS name FROM source.orders\n"
    write(project, {"seeknal/people.yml": people})
    path = project / "seeknal" / "big.yml"
    audit = (
        "audits:\n  - {type: relationships, column: customer, to: transform.people, field: name}\n"
    )
    path.write_text(path.read_text() + audit)
    document = seeknal("run", "--json", code=1).json()
    (big,) = [node for node in document["nodes"] if node["id"] == "transform.big"]
    assert (big["status"], big["detail"]) == ("skipped", "transform.people failed")


def test_a_table_of_another_of_productions_nodes_is_refused(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("sales.big", "dev_sales.totals"))
    result = seeknal("run", "--env", "dev", "--select", "totals", code=2)
    assert "dev_sales.totals" in result.err and "'prod'" in result.err
    assert not (project / "lake").exists()


def test_adopt_takes_no_table_of_another_environment(seeknal: Cli, project: Path) -> None:
    write(project, {"profiles-dev.yml": "connections:\n  lake: {type: folder, path: ./shared}\n"})
    write(project, {"profiles-qa.yml": "connections:\n  lake: {type: folder, path: shared/.}\n"})
    seeknal("run", "--env", "dev")
    for path in (project / "target" / "state" / "environments").iterdir():
        path.unlink()
    result = seeknal("run", "--env", "qa", "--adopt", code=2)
    assert "'dev'" in result.err
    seeknal("run", "--env", "qa", "--adopt", "--allow-production-targets")


def test_a_dry_run_refuses_what_the_run_would(seeknal: Cli, project: Path) -> None:
    write(project, {"profiles-dev.yml": (project / "profiles.yml").read_text()})
    result = seeknal("run", "--env", "dev", "--dry-run", code=2)
    assert "sales.totals" in result.err and "'prod'" in result.err
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("sales.big", "sales.totals"))
    result = seeknal("run", "--dry-run", code=2)
    assert "transform.totals" in result.err and "transform.big" in result.err
    assert not (project / "target").exists()


def test_a_dry_run_knows_that_a_new_target_is_written(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/more.yml": SOURCE.format(params="")})
    document = seeknal("run", "--dry-run", "--json").json()
    actions = {target["name"]: target["writing"] for target in document["targets"]}
    assert actions["sales.seen"] == "write"


def test_a_dry_run_asks_for_versions_of_sources_on_request(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/more.yml": SOURCE.format(params="params: {exact: true}\n")})
    table = project / "lake" / "raw" / "more.parquet"
    store(table, x=[1])
    seeknal("run")

    def planned(*args: str) -> tuple[str, str]:
        document = seeknal("run", "--dry-run", "--json", *args).json()
        actions = {node["id"]: node["action"] for node in document["nodes"]}
        return actions["source.more"], actions["transform.seen"]

    assert planned() == ("read", "compute if an input brings other rows")
    assert planned("--refresh-sources") == ("reuse", "reuse")
    store(table, x=[1, 2])
    assert planned("--refresh-sources") == ("read", "compute")
    table.unlink()
    assert planned("--refresh-sources") == ("read", "compute if an input brings other rows")


def test_the_next_command_keeps_to_the_environment(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text() + "audits:\n  - {type: row_count, min: 100}\n")
    document = seeknal("run", "--env", "dev", "--json", code=1).json()
    (big,) = [node for node in document["nodes"] if node["id"] == "transform.big"]
    assert "seeknal run --env dev --select transform.big" in big["hint"]


def test_a_plugin_that_breaks_in_mid_stream_fails_its_source_alone(
    seeknal: Cli, project: Path
) -> None:
    write(project, {"seeknal/more.yml": SOURCE.format(params="params: {breaks: true}\n")})
    store(project / "lake" / "raw" / "more.parquet", x=[1])
    document = seeknal("run", "--json", code=1).json()
    found = {node["id"]: node for node in document["nodes"]}
    assert found["source.more"]["status"] == "failed"
    assert "seeknal-folder" in found["source.more"]["detail"]
    assert "the driver is confused" in found["source.more"]["detail"]
    assert found["transform.big"]["status"] == "computed"


def test_a_stop_that_nobody_asked_for_is_a_failure(seeknal: Cli, project: Path) -> None:
    code = (
        "from seeknal_core.contract.errors import Interrupted\nfrom seeknal_core.pipeline import transform\n"
        "@transform(name='odd', inputs=['source.orders'])\ndef odd(ctx):\n"
        "    raise Interrupted('the server was told to stop')\n"
    )
    write(project, {"seeknal/odd.py": code})
    nodes, _ = statuses(seeknal, code=1)
    assert nodes["transform.odd"] == "failed"


def test_a_connection_is_resolved_once(seeknal: Cli) -> None:
    said = seeknal("run", SEEKNAL_TRACE_HOOKS="1").err
    assert said.count("hook resolve_profile(") == 1


def test_a_failing_close_does_not_hide_what_went_wrong(project: Path) -> None:
    def fail(_resource: object) -> None:
        raise OSError("cannot close")

    def work() -> None:
        with open_session(Request(project_dir=str(project))) as session:
            session.context.resources.get("x", object, fail)
            raise EngineError("went wrong")

    with pytest.raises(EngineError, match="went wrong"):
        work()


def test_a_connections_options_are_not_printed() -> None:
    options = {"kennwort": "hunter2-abc"}
    assert "hunter2" not in repr(ConnectionSpec(name="c", type="t", options=options))
    assert "hunter2" not in repr(SourceSpec(node="n", type="t", params=options))


def test_a_warning_is_repeated_until_it_is_mended(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text() + "audits:\n  - {type: row_count, min: 100, severity: warn}\n")
    assert "transform.big" in seeknal("run").err
    assert "transform.big" in seeknal("run").err


def test_the_age_of_a_sources_files_is_its_freshness(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "orders.yml"
    path.write_text(path.read_text() + "freshness: {warn_after: 1h, error_after: 2d}\n")
    seeknal("run")
    data = project / "data" / "orders.csv"
    for age, code, words in ((7200, 0, "older than warn_after"), (400_000, 1, "error_after")):
        then = time.time() - age
        os.utime(data, (then, then))
        assert words in seeknal("run", code=code).said


def test_rows_of_an_edited_input_outside_the_selection_are_named(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run")
    path = project / "seeknal" / "totals.sql"
    path.write_text(path.read_text().replace("sum(amount)", "sum(amount) + 1"))
    result = seeknal("run", "--select", "big")
    assert "transform.totals changed and is not selected" in result.err


def test_a_selected_node_runs_although_the_stored_outputs_are_gone(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run")
    shutil.rmtree(project / "target" / "snapshots")
    seeknal("run", "--select", "big")


def test_an_empty_selection_is_named(seeknal: Cli) -> None:
    assert "nothing is selected" in seeknal("run", "--select", "big", "--exclude", "big").err


def test_a_node_that_does_not_stop_is_abandoned_after_ctrl_c(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/stuck.py": (
                "import pathlib, time\nfrom seeknal_core.pipeline import transform\n"
                "@transform(name='stuck', inputs=['source.orders'])\ndef stuck(ctx):\n"
                "    (pathlib.Path(__file__).parents[1] / 'begun').touch()\n    time.sleep(60)\n"
                "    return ctx.ref('source.orders')\n"
            )
        },
    )
    running = seeknal.start("run")
    deadline = time.monotonic() + 30
    while not (project / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130, out + err
    assert "transform.stuck: skipped: it did not stop in time" in out
    assert "Traceback" not in err
    (project / "seeknal" / "stuck.py").unlink()
    seeknal("run")


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("max_rows: 2", "source.orders: failed: more than 2 rows (max_rows)"),
        ("max_bytes: 20", "source.orders: failed: 61 bytes, more than 20 (max_bytes)"),
    ],
)
def test_a_limit_bounds_a_file_source_read_before_or_not(
    seeknal: Cli, project: Path, limit: str, told: str
) -> None:
    path = project / "seeknal" / "orders.yml"
    unlimited = path.read_text()
    path.write_text(f"{unlimited}{limit}\n")
    assert told in seeknal("run", code=1).err
    path.write_text(unlimited)
    seeknal("run")
    path.write_text(f"{unlimited}{limit}\n")
    assert told in seeknal("run", code=1).err
    path.write_text(f"{unlimited}{limit}00\n")
    seeknal("run")


def test_a_profiles_defaults_reach_sources_that_are_files(seeknal: Cli, project: Path) -> None:
    path = project / "data" / "orders.csv"
    path.write_text("a comment; with semicolons; in it\n" + path.read_text())
    assert "source.orders" in seeknal("run", code=1).err
    profile = (project / "profiles.yml").read_text()
    write(project, {"profiles.yml": profile + "source_defaults:\n  csv: {skip: 1}\n"})
    seeknal("run")
    nodes, _ = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}


@pytest.mark.parametrize("changes", ["never", "assume-unchanged 1h"])
def test_a_dry_run_reads_no_source_that_the_run_would_not(
    seeknal: Cli, project: Path, changes: str
) -> None:
    write(project, {"seeknal/more.yml": f"changes: {changes}\n" + SOURCE.format(params="")})
    store(project / "lake" / "raw" / "more.parquet", x=[1])
    seeknal("run")
    for environment in ((), ("--env", "dev", "--profile", "profiles.yml")):
        document = seeknal(
            "run", "--dry-run", "--allow-production-targets", *environment, "--json"
        ).json()
        assert {node["action"] for node in document["nodes"]} == {"reuse"}
    store(project / "lake" / "raw" / "more.parquet", x=[1, 2])
    nodes, _ = statuses(seeknal)
    assert set(nodes.values()) == {"reused"}


def test_a_lowered_limit_holds_for_rows_that_are_stored(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/more.yml": SOURCE.format(params="params: {exact: true}\n")})
    store(project / "lake" / "raw" / "more.parquet", x=[1, 2])
    seeknal("run")
    write(
        project,
        {"seeknal/more.yml": "max_rows: 1\n" + SOURCE.format(params="params: {exact: true}\n")},
    )
    assert "source.more: failed: more than 1 rows" in seeknal("run", code=1).err


def test_two_environments_of_one_prefix_cannot_both_exist(seeknal: Cli, project: Path) -> None:
    seeknal("run", "--env", "my-dev")
    before = sorted((project / "lake").rglob("*"))
    for arguments in (("--dry-run",), ()):
        result = seeknal("run", "--env", "my_dev", *arguments, code=2)
        assert "same prefix as 'my-dev'" in result.err
    assert sorted((project / "lake").rglob("*")) == before


def test_a_record_alone_keeps_another_environments_target(seeknal: Cli, project: Path) -> None:
    """The table is gone, and with it what it said of its owner."""
    write(project, {"profiles-dev.yml": "connections:\n  lake: {type: folder, path: ./shared}\n"})
    write(project, {"profiles-qa.yml": "connections:\n  lake: {type: folder, path: shared/.}\n"})
    seeknal("run", "--env", "dev")
    shutil.rmtree(project / "shared")
    result = seeknal("run", "--env", "qa", code=2)
    assert "'dev'" in result.err
    assert not (project / "shared").exists()


def test_a_changed_mode_writes_the_same_table_and_computes_nothing(
    seeknal: Cli, project: Path
) -> None:
    statuses(seeknal)
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("table: sales.big", "table: sales.big, mode: append"))
    document = seeknal("run", "--json").json()
    assert {node["status"] for node in document["nodes"]} == {"reused"}
    found = {target["name"]: (target["status"], target["reason"]) for target in document["targets"]}
    assert found["sales.big"] == ("written", "the target changed")
    assert found["sales.totals"][0] == "unchanged"


def test_a_python_node_that_asks_the_clock_is_computed_in_every_run(
    seeknal: Cli, project: Path
) -> None:
    node = (
        "import time\nfrom seeknal_core.pipeline import transform\n\n"
        "@transform(name='clock', inputs=['source.orders'])\n"
        "def clock(ctx):\n    return ctx.sql(f'SELECT {BODY} AS t')\n"
    )
    write(project, {"seeknal/clock.py": node.replace("BODY", "time.time_ns()")})
    statuses(seeknal)
    nodes, _ = statuses(seeknal)
    assert nodes["transform.clock"] == "computed"
    write(project, {"seeknal/clock.py": node.replace("BODY", "1")})
    statuses(seeknal)
    nodes, _ = statuses(seeknal)
    assert nodes["transform.clock"] == "reused"
