"""Slips on the command line: each is answered with what was meant, and nothing is recorded."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from support.cli import Cli, write


def test_an_environment_that_nobody_knows_is_not_advised_to_be_made(
    seeknal: Cli, project: Path
) -> None:
    seeknal("run")
    for command in (
        ("env", "show", "nope"),
        ("env", "delete", "nope", "--yes"),
        ("env", "status", "nope"),
        ("env", "diff", "nope"),
        ("env", "diff", "prod", "nope"),
        ("env", "rollback", "nope"),
        ("query", "SELECT 1", "--env", "nope"),
    ):
        said = seeknal(*command, code=2).err
        assert "'nope'" in said and said.endswith("Next: seeknal env list\n"), command
    assert not list((project / "target" / "state").rglob("nope*.json"))


def test_production_that_never_ran_is_advised_to_be_run(seeknal: Cli) -> None:
    for command in (("env", "show", "prod"), ("query", "SELECT 1")):
        assert seeknal(*command, code=2).err.endswith("Next: seeknal run\n")


def test_recovering_an_unknown_environment_records_none(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    seeknal("run", "--env", "dev")
    said = seeknal("state", "recover", "--env", "dve").out
    assert "no store knows environment 'dve'; did you mean 'dev'?" in said
    assert said.endswith("Next: seeknal env list\n")
    assert "dve" not in seeknal("env", "list").out
    shutil.rmtree(project / "target" / "state")
    assert (
        "recovered\nNext: seeknal run --env dev\n"
        in seeknal("state", "recover", "--env", "dev").out
    )
    assert "dev" in seeknal("env", "list").out


def test_a_table_that_another_clone_made_is_not_called_new(
    seeknal: Cli, project: Path, tmp_path: Path
) -> None:
    assert "(new)" in seeknal("run").out
    clone = tmp_path / "clone"
    shutil.copytree(project, clone, ignore=shutil.ignore_patterns("target"))
    said = Cli(cwd=clone, environ=seeknal.environ, warm=True)("run").out
    assert "(new)" not in said and "(new to this checkout)" in said


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("rnu", "run"), ("diff", "env diff"), ("list", "env list"), ("envs", "env")],
)
def test_a_command_that_is_not_there_leads_to_the_one_that_is(
    seeknal: Cli, typed: str, meant: str
) -> None:
    assert f"Did you mean {meant!r}?" in seeknal(typed, code=2).err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("x=1", '{"x": 1}'),
        ("x=1,y=b", '{"x": 1, "y": "b"}'),
        ("{x: 1}", '{"x": 1}'),
        ("day: 2024-01-01", '{"day": "2024-01-01"}'),
        ("{'x': true}", '{"x": true}'),
        ("x", '{"key": 1}'),
        ('{"x": 1', '{"key": 1}'),
    ],
)
def test_variables_that_are_not_json_are_shown_as_json(
    seeknal: Cli, given: str, meant: str
) -> None:
    said = seeknal("check", "--vars", given, code=2).err
    assert f"write --vars '{meant}'" in said


QUERIES = [
    ("SELECT 1; SELECT 2", "there are 2 SELECTs", "write one SELECT"),
    ("SELECT 1; PIVOT totals ON customer USING sum(total)", "2 SELECTs", "write one SELECT"),
    ("", "there is no SQL", "write one SELECT"),
    ("DROP TABLE totals", "DROP is not allowed", "a query only reads"),
    ("CREATE TABLE t AS SELECT 1", "would be seen", "a query only reads"),
    ("FROM 'data/orders.csv'", "is not an input", "seeknal env show prod"),
    ("FROM totasl", "totasl does not exist", "did you mean 'totals'?"),
]


def test_a_query_that_cannot_be_answered_says_what_to_ask(seeknal: Cli) -> None:
    seeknal("run")
    for sql, message, hint in QUERIES:
        said = seeknal("query", sql, code=1).err
        assert message in said and hint in said.partition("Next: ")[2], said
    makes = "CREATE TEMP TABLE t AS SELECT count(*) AS n FROM big; SELECT n + 1 AS m FROM t"
    assert seeknal("query", makes, "--json").json()["rows"] == [{"m": 3}]


def test_a_checkout_without_a_profile_hears_that_there_is_none(
    seeknal: Cli, project: Path, tmp_path: Path
) -> None:
    (project / "profiles.yml").unlink()
    for command, name in ((("check",), "prod"), (("run", "--env", "dev"), "dev")):
        said = seeknal(*command, code=2).err
        assert f"no profile was found: neither profiles-{name}.yml nor profiles.yml" in said
        assert f"in the project or in {tmp_path / 'home' / '.seeknal'}" in said
    write(project, {"profiles.yml": "connections: {}\n"})
    assert "no profile was found" not in seeknal("check", code=2).err


@pytest.mark.parametrize("time", ["", "yesterday", "2024-01-01T00:00:00"])
def test_a_plan_without_its_time_is_refused_in_words(
    seeknal: Cli, project: Path, time: str
) -> None:
    seeknal("plan", "dev")
    path = project / "target" / "state" / "plans" / "dev.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "created_at": time}))
    said = seeknal("env", "apply", "dev", code=1).err
    assert f"created_at {'has no time zone' if 'T' in time else 'is no time'}: {time!r}" in said
    assert "Next: make a new one: seeknal env plan ENV\n" in said


def test_two_selects_of_a_python_node_give_the_last(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/two.py": (
                "from seeknal_core.pipeline import transform\n\n"
                "@transform(name='two')\n"
                "def two(ctx):\n    return ctx.sql('SELECT 1 AS a; SELECT 2 AS a')\n"
            )
        },
    )
    seeknal("run", "--select", "two")
    assert seeknal("query", "FROM two", "--json").json()["rows"] == [{"a": 2}]


NO_PANDAS = """\
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('pandas', 'polars', 'sklearn'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("return ctx.sql('SELECT 1').df()", "pip install pandas, or use .arrow(), then: "),
        ("return ctx.sql('SELECT 1').pl()", "pip install polars, or use .arrow(), then: "),
        ("import sklearn", "install what provides 'sklearn', or fix the import, then: "),
    ],
)
def test_a_missing_package_is_named_to_be_installed(
    seeknal: Cli, project: Path, tmp_path: Path, body: str, hint: str
) -> None:
    write(
        project,
        {
            "seeknal/frame.py": (
                "from seeknal_core.pipeline import transform\n\n"
                f"@transform(name='frame')\ndef frame(ctx):\n    {body}\n"
            )
        },
    )
    write(tmp_path, {"missing/sitecustomize.py": NO_PANDAS})
    path = f"{tmp_path / 'missing'}:{seeknal.environ['PYTHONPATH']}"
    cold = Cli(cwd=project, environ={**seeknal.environ, "PYTHONPATH": path})
    assert f"Next: {hint}seeknal run --select transform.frame" in (
        cold("run", "--select", "frame", code=1).err
    )


@pytest.mark.parametrize("name", ["data_0.parquet", "snapshot.json"])
def test_a_pipe_in_place_of_a_stored_output_is_not_waited_for(
    seeknal: Cli, project: Path, name: str
) -> None:
    seeknal("run")
    for path in (project / "target" / "snapshots").rglob(name):
        path.unlink()
        os.mkfifo(path)
    assert "is gone" in seeknal("query", "FROM totals", code=1).err
    seeknal("run")
    assert seeknal("query", "FROM totals", "--json").json()["rows"]


def test_a_pipe_in_place_of_the_lock_is_named(seeknal: Cli, project: Path) -> None:
    seeknal("run")
    lock = project / "target" / "snapshots" / "lock"
    lock.unlink()
    os.mkfifo(lock)
    said = seeknal("run", code=1).err
    assert f"cannot use {lock}: it is a pipe, not a file" in said
    assert f"Next: move it away and run again: mv {lock} {lock}.bad" in said
