"""``examples/seeknal-duckdb``, installed as a distribution: the suite, and whole journeys."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.testing import Backend, Bench
from seeknal_core.testing.bench import Command
from support.cli import Cli, write
from support.distributions import install
from support.examples import EXAMPLES, install_example

EXAMPLE = EXAMPLES / "seeknal-duckdb"
MODULES = sorted((EXAMPLE / "seeknal_duckdb").glob("*.py"))
CHANGING = "stage,prepare_publish,publish,revert,discard"
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": (
        "connections:\n"
        "  one: {type: duckdb, path: one.duckdb, wait: 60}\n"
        "  two: {type: duckdb, path: two.duckdb, wait: 60}\n"
    ),
    "seeknal/orders.yml": "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n",
    "data/orders.csv": "id,amount\n1,10\n2,20\n3,30\n",
}
#: Where the nodes' tables are: two schemas of one file, and another file.
TABLES = {"doubled": ("one", "sales"), "total": ("one", "finance"), "copy": ("two", "sales")}

pytestmark = pytest.mark.xdist_group("duckdb_example")


def nodes(factor: int) -> dict[str, str]:
    """Return the project's nodes: all of them change with the factor."""
    texts = {
        "doubled": f"SELECT id, amount * {factor} AS amount FROM source.orders",
        "total": "SELECT sum(amount)::BIGINT AS amount FROM ref('transform.doubled')",
        "copy": "SELECT * FROM ref('transform.doubled')",
    }
    return {
        f"seeknal/{name}.sql": (
            f"/* ---\nmaterialization: {{type: duckdb, connection: {TABLES[name][0]}, "
            f"table: {TABLES[name][1]}.{name}}}\n--- */\n{text}\n"
        )
        for name, text in texts.items()
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path on which the example is installed, and the plugin that kills."""
    site = install_example("seeknal-duckdb", tmp_path_factory.mktemp("duckdb") / "site")
    return install(
        site,
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=(EXAMPLES.parent / "tests/support/seeknal_killer.py").read_text("utf-8"),
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )


@pytest.fixture
def seeknal(tmp_path: Path, site: Path) -> Cli:
    root = tmp_path / "shop"
    write(root, PROJECT | nodes(2))
    environ = {"PYTHONPATH": str(site), "HOME": str(tmp_path / "home")}
    return Cli(cwd=root, environ=environ, warm=True)


def amounts(root: Path, prefix: str = "") -> dict[str, int | None]:
    """Return the sum of each table's amounts, None for an absent table."""
    found: dict[str, int | None] = {}
    for table, (file, schema) in TABLES.items():
        with duckdb.connect(str(root / f"{file}.duckdb"), read_only=True) as database:
            try:
                sql = f"SELECT sum(amount)::BIGINT FROM {prefix}{schema}.{table}"
                [(found[table],)] = database.execute(sql).fetchall()
            except duckdb.CatalogException:
                found[table] = None
    return found


def all_of(amount: int) -> dict[str, int | None]:
    return dict.fromkeys(TABLES, amount)


def leftovers(root: Path) -> list[str]:
    """Return what promotions have left in the files."""
    found: list[str] = []
    for file in ("one", "two"):
        with duckdb.connect(str(root / f"{file}.duckdb"), read_only=True) as database:
            tables = database.execute(
                "SELECT table_name FROM duckdb_tables() WHERE schema_name = '_seeknal'"
            ).fetchall()
            found += [name for (name,) in tables if name != "ledger"]
    return found


@pytest.mark.long
def test_the_whole_suite_passes(site: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
    done = subprocess.run(
        [*command, "--seeknal-report", str(report), str(EXAMPLE / "tests")],
        cwd=EXAMPLE,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    [backend] = json.loads(report.read_text("utf-8"))["backends"]
    assert (backend["type"], backend["distribution"]) == ("duckdb", "seeknal-duckdb")
    assert set(backend["contracts"].values()) == {"passed"} and len(backend["contracts"]) == 4
    outcomes = {one["test"]: one["outcome"] for one in backend["tests"]}
    # DuckDB has no type for a column without one, and no partitions.
    assert {test for test, outcome in outcomes.items() if outcome == "refused"} == {
        "test_values_come_back_exactly_or_are_refused[nothing but NULL]",
        "test_an_overwrite_replaces_its_partitions",
        "test_a_promotion_goes_by_the_mode[insert_overwrite]",
        "test_a_full_refresh_promotes_a_replacement[insert_overwrite]",
    }
    lacking = {one["detail"] for one in backend["tests"] if one["outcome"] == "not applicable"}
    # Its files have no credentials, and no round trips to save.
    lacking = {why for why in lacking if not why.endswith("_targets")}
    assert lacking == {"needs the fixture rejected"}
    assert Counter(one["outcome"] for one in backend["tests"])["passed"] > 250


def test_it_is_small() -> None:
    lines = sum(len(module.read_text("utf-8").splitlines()) for module in MODULES)
    assert 100 < lines < 600


def test_a_project_is_run_planned_applied_promoted_and_rolled_back(seeknal: Cli) -> None:
    root = seeknal.cwd
    seeknal("run", "--env", "dev")
    assert amounts(root, "dev_") == all_of(120) and amounts(root) == all_of_none()
    seeknal("run")
    assert amounts(root) == all_of(120)
    write(root, nodes(3))
    assert "doubled" in seeknal("env", "plan", "dev").out
    seeknal("env", "apply", "dev")
    assert amounts(root, "dev_") == all_of(180) and amounts(root) == all_of(120)
    seeknal("env", "promote", "dev")
    assert amounts(root) == all_of(180)
    seeknal("env", "rollback", "prod")
    assert amounts(root) == all_of(120)
    seeknal("env", "delete", "dev", "--yes")
    assert amounts(root, "dev_") == all_of_none() and amounts(root) == all_of(120)


def all_of_none() -> dict[str, int | None]:
    return dict.fromkeys(TABLES)


def promoting(seeknal: Cli) -> Path:
    """Bring production to one state and dev to the next; return the project's folder."""
    seeknal("run")
    write(seeknal.cwd, nodes(3))
    seeknal("run", "--env", "dev")
    return seeknal.cwd


@pytest.mark.parametrize(("moment", "end"), [("after:1", "--resume"), ("after:2", "--abort")])
@pytest.mark.parametrize("hook", ["stage", "prepare_publish", "publish"])
def test_a_killed_promotion_ends_in_one_of_two_states(
    seeknal: Cli, hook: str, moment: str, end: str
) -> None:
    root = promoting(seeknal)
    killed = {"SEEKNAL_KILL_AT": moment, "SEEKNAL_KILL_HOOKS": hook}
    assert seeknal("env", "promote", "dev", code=None, **killed).code == -9
    ended = seeknal("env", "promote", "dev", end, code=None)
    assert ended.code == 0, ended.said
    done = end == "--resume"
    assert amounts(root) == all_of(180 if done else 120)
    if not done:
        assert not leftovers(root)
        seeknal("env", "promote", "dev")
        assert amounts(root) == all_of(180)


def test_a_file_that_another_process_has_open_is_waited_for_and_named(seeknal: Cli) -> None:
    root = seeknal.cwd
    seeknal("run")
    profile = PROJECT["profiles.yml"].replace("wait: 60", "wait: 2")
    write(root, {"profiles.yml": profile})
    program = "import duckdb, sys; d = duckdb.connect('one.duckdb'); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdout.readline()
        failed = seeknal("check", "--connections", code=1)
        assert "no mistakes in the project, but 1 of" in failed.out.splitlines()[-1]
        assert "waited 2 s for" in failed.said and "one.duckdb" in failed.said
        assert str(holder.pid) in failed.said and "end the process" in failed.said
        holder.stdin.close()
    seeknal("check", "--connections")


def test_a_pipe_in_place_of_the_file_is_named_and_not_waited_for(seeknal: Cli) -> None:
    os.mkfifo(seeknal.cwd / "one.duckdb")
    assert "one.duckdb is no file" in seeknal("check", "--connections", code=1).err
    assert "one.duckdb is no file" in seeknal("run", code=1).err


@pytest.fixture
def bench(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The backend's hooks in this process."""
    monkeypatch.syspath_prepend(str(site))
    backend = Backend(type="duckdb", plugin="seeknal_duckdb.plugin")
    made = Bench(backend, {"path": "warehouse.duckdb"}, tmp_path, Command())
    yield made
    made.close()


@contextlib.contextmanager
def _whom_permissions_stop() -> Iterator[None]:
    """Be nobody for a while, where this process is root's, whom no permission stops."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_a_file_that_may_not_be_written_is_read_and_a_write_is_refused(
    bench: Bench,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "warehouse.duckdb")
        command = bench.command(options={"path": str(file), "wait": 1.0})
        target, snapshot = command.target(), command.snapshot({"id": [1, 2]})
        command.write(target, snapshot)
        assert command.read(command.source(target)).num_rows == 2
        file.chmod(0o444)
        Path(folder).chmod(0o555)
        with _whom_permissions_stop():
            assert command.read(command.source(target)).num_rows == 2
            assert command.inspect(target).version == command.inspect(target).version
            with pytest.raises(WriteRefused, match="ermission") as raised:
                command.write(target, snapshot)
        assert raised.value.hint
        assert command.count(target) == 2
        Path(folder).chmod(0o755)


def test_undoing_and_dropping_do_not_make_a_file(bench: Bench, tmp_path: Path) -> None:
    target, promotion = bench.target(), bench.promotion()
    promotion.plan(target, bench.snapshot({"id": [1]}))
    assert promotion.revert() is False
    promotion.discard()
    assert bench.dispatcher.list_owned(bench.context, bench.connection) == ()
    assert not (tmp_path / "warehouse.duckdb").exists()
    bench.write(target, {"id": [1]})
    owned = bench.dispatcher.list_owned(bench.context, bench.connection)
    (tmp_path / "warehouse.duckdb").unlink()
    for one in owned:
        assert bench.dispatcher.drop_target(bench.context, bench.connection, one) is False
    assert owned
    assert not (tmp_path / "warehouse.duckdb").exists()
