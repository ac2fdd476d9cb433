"""What ``seeknal plugins new`` writes, as its author has it a minute later: built, installed, run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meta.public_surface import PUBLIC, TESTING, imported
from support.cli import write

ROOT = Path(__file__).parents[2]
TYPE = "toy_store"
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": f"connections:\n  local: {{type: {TYPE}, path: store}}\n",
    "data/orders.csv": "id,customer,amount\n1,ada,10\n2,bela,20\n3,ada,5\n",
    "seeknal/orders.yml": "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n",
    "seeknal/kept.yml": f"kind: source\nname: kept\nsource: {TYPE}\ntable: raw.kept\n",
    "seeknal/copied.sql": (
        f"/* ---\nmaterialization: {{type: {TYPE}, table: sales.copied, mode: upsert_by_key, "
        "unique_keys: [id]}\n--- */\nSELECT id FROM source.kept\n"
    ),
}

pytestmark = pytest.mark.xdist_group("plugins_new")


def nodes(factor: int) -> dict[str, str]:
    """Return the node whose rows are promoted."""
    text = f"SELECT customer, sum(amount) * {factor} AS total FROM source.orders GROUP BY ALL\n"
    head = f"/* ---\nmaterialization: {{type: {TYPE}, table: sales.totals}}\n--- */\n"
    return {"seeknal/totals.sql": head + text}


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """Run a command, which must end with a code; return all that it printed."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SEEKNAL_", "PYTHONPATH"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
        timeout=240,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@attrs.frozen(kw_only=True)
class Generated:
    """The folder that was written, and the clean environment that it is installed in."""

    folder: Path
    venv: Path

    def command(self, name: str) -> Path:
        return self.venv / "bin" / name


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """Write a distribution; install wheels of it and of the core, and nothing from this folder."""
    root = tmp_path_factory.mktemp("plugins_new")
    folder, venv, wheels = root / "seeknal-toy-store", root / "venv", root / "wheels"
    run(sys.executable, "-m", "seeknal_core", "plugins", "new", "toy-store", cwd=root)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels)
    run(*build, ROOT, cwd=root)
    run(*build, folder, cwd=root)
    [core], [toy] = wheels.glob("seeknal_core-*.whl"), wheels.glob("seeknal_toy_store-*.whl")
    uv = (sys.executable, "-m", "uv", "--quiet")
    run(*uv, "venv", "--python", sys.executable, venv, cwd=root)
    run(*uv, "pip", "install", "--python", venv, core, f"{toy}[test]", cwd=root)
    return Generated(folder=folder, venv=venv)


@pytest.mark.long
def test_its_own_tests_pass(generated: Generated, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # Not python -m pytest: that would import the folder's package, not the installed one.
    command = (generated.command("pytest"), "-q", "-p", "no:cacheprovider")
    said = run(*command, "--seeknal-report", report, cwd=generated.folder)
    assert "skipped" not in said and "warning" not in said
    [backend] = json.loads(report.read_text("utf-8"))["backends"]
    assert (backend["type"], backend["distribution"]) == (TYPE, "seeknal-toy-store")
    assert set(backend["contracts"].values()) == {"passed"} and len(backend["contracts"]) == 4
    lacking = {
        one["test"]
        for one in backend["tests"]
        # A folder has no round trips to save: no hooks for several targets at once.
        if one["outcome"] == "not applicable" and not one["detail"].endswith("_targets")
    }
    assert lacking == {
        # A folder has no credentials, no queries and no transactions.
        "test_wrong_credentials_are_told",
        "test_a_query_is_answered_by_the_store",
        "test_a_query_that_writes_is_refused",
        "test_what_is_prepared_can_be_given_up[revert]",
        "test_what_is_prepared_can_be_given_up[the command's end]",
        "test_what_is_prepared_is_invisible_until_the_publish",
        "test_preparing_over_a_foreign_write_is_refused",
    }


def test_its_style_is_right(generated: Generated) -> None:
    ruff = (sys.executable, "-m", "ruff")
    run(*ruff, "check", "--no-cache", ".", cwd=generated.folder)
    run(*ruff, "format", "--no-cache", "--check", ".", cwd=generated.folder)


def test_it_imports_the_public_surface_and_nothing_else_of_the_core(generated: Generated) -> None:
    modules = sorted(generated.folder.rglob("*.py"))
    assert len(modules) == 6 + 1
    for module in modules:
        assert imported(module.read_text("utf-8")) <= PUBLIC | {TESTING}, module.name


def test_every_hook_says_what_to_replace(generated: Generated) -> None:
    text = (generated.folder / "seeknal_toy_store" / "plugin.py").read_text("utf-8")
    lines = text.splitlines()
    hooks = [number for number, line in enumerate(lines) if line == "@hookimpl"]
    assert len(hooks) >= 15
    assert not [lines[number + 1] for number in hooks if not lines[number - 1].startswith("# ")]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    write(root, PROJECT | nodes(1))
    return root


def totals(project: Path, namespace: str) -> dict[str, int] | None:
    """Return a table's rows, seen without the backend; None where there is no table."""
    path = project / "store" / namespace / "totals.parquet"
    if not path.exists():
        return None
    rows = pq.ParquetFile(path).read().to_pylist()
    return {row["customer"]: int(row["total"]) for row in rows}


def test_a_project_is_run_planned_applied_promoted_and_cleaned_up(
    generated: Generated, project: Path
) -> None:
    def seeknal(*words: str) -> str:
        return run(generated.command("seeknal"), *words, cwd=project)

    stored = project / "store" / "raw" / "kept.parquet"
    stored.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2]}), stored)

    seeknal("run", "--env", "dev")
    once, twice = {"ada": 15, "bela": 20}, {"ada": 30, "bela": 40}
    assert (totals(project, "dev_sales"), totals(project, "sales")) == (once, None)
    seeknal("run")
    assert (totals(project, "dev_sales"), totals(project, "sales")) == (once, once)
    write(project, nodes(2))
    planned = seeknal("env", "plan", "dev")
    assert "totals" in planned and "not staged" not in planned
    seeknal("env", "apply", "dev")
    assert (totals(project, "dev_sales"), totals(project, "sales")) == (twice, once)
    seeknal("env", "promote", "dev")
    assert (totals(project, "dev_sales"), totals(project, "sales")) == (twice, twice)
    seeknal("env", "rollback", "prod")
    assert totals(project, "sales") == once
    seeknal("env", "delete", "dev", "--yes")
    assert (totals(project, "dev_sales"), totals(project, "sales")) == (None, once)
    assert pq.read_metadata(project / "store" / "sales" / "copied.parquet").num_rows == 2
    assert f"{TYPE}: seeknal-toy-store 0.1.0" in seeknal("plugins", "show", TYPE)


def test_where_it_is_installed_its_name_is_taken(generated: Generated, tmp_path: Path) -> None:
    new = (generated.command("seeknal"), "plugins", "new")
    assert "seeknal-toy-store 0.1.0" in run(*new, "toy-store", cwd=tmp_path, code=2)
    # The wheel of the core holds all templates.
    run(*new, "joy-store", cwd=tmp_path)
    written = {
        path.relative_to(tmp_path).as_posix().replace("joy", "toy"): path.read_text("utf-8")
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    for path, text in written.items():
        assert text.replace("joy", "toy") == (generated.folder.parent / path).read_text("utf-8")
    assert len(written) == 13
