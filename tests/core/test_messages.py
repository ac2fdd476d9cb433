"""What a failure tells: where in the user's own files, and what to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cli import Cli, write
from support.distributions import install
from support.shop import PROJECT

SPLIT = """\
kind: transform
name: split
description: >
  Two statements.
transform: |
  -- what is large
  CREATE TEMP TABLE large AS
    SELECT * FROM source.orders;

  /* and what it sums
     up to */
  SELECT customer, sum(amuont) AS total
  FROM large GROUP BY ALL
"""


def test_wrong_sql_is_placed_in_its_file_whatever_stands_above_it(
    seeknal: Cli, project: Path
) -> None:
    write(project, {"seeknal/split.yml": SPLIT})
    result = seeknal("run", code=1)
    assert "transform.split: failed: seeknal/split.yml:12, at 'amuont': Binder Error" in result.err
    node = next(
        each
        for each in seeknal("run", "--json", code=1).json()["nodes"]
        if each["id"] == "transform.split"
    )
    assert "seeknal/split.yml:12" in node["detail"]


def test_check_gives_the_line_of_what_the_engine_cannot_parse(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/split.yml": SPLIT.replace("FROM large GROUP", "FORM large GROUP")})
    (problem,) = seeknal("check", "--json", code=2).json()["error"]["problems"]
    assert (problem["file"], problem["line"]) == ("seeknal/split.yml", 13)
    write(project, {"seeknal/split.yml": "", "seeknal/split.sql": "/* ---\n--- */\n\nSELECT 1 +\n"})
    (project / "seeknal" / "split.yml").unlink()
    (problem,) = seeknal("check", "--json", code=2).json()["error"]["problems"]
    assert (problem["file"], problem["line"]) == ("seeknal/split.sql", 4)


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        ((), "seeknal run --select transform.totals"),
        (("--env", "dev"), "seeknal run --env dev --select transform.totals"),
        (
            ("--env", "dev", "--profile", "my profile.yml", "--vars", '{"k": 1}'),
            "seeknal run --env dev --profile 'my profile.yml' --vars '{\"k\": 1}' "
            "--select transform.totals",
        ),
    ],
)
def test_the_next_command_is_of_the_same_environment_and_profile(
    seeknal: Cli, project: Path, arguments: tuple[str, ...], again: str
) -> None:
    profile = (project / "profiles.yml").read_text()
    write(project, {"my profile.yml": profile + "namespace: {prefix: true}\n"})
    path = project / "seeknal" / "totals.sql"
    path.write_text(path.read_text().replace("sum(amount)", "sum(amuont)"))
    result = seeknal("run", *arguments, code=1)
    assert f"Next: fix the SQL, then: {again}\n" in result.err


def test_the_next_command_of_a_missing_file_and_of_a_python_node(
    seeknal: Cli, project: Path
) -> None:
    write(
        project,
        {
            "seeknal/broken.py": (
                "from seeknal_core.pipeline import transform\n\n"
                "@transform(name='broken', inputs=['source.orders'])\n"
                "def broken(ctx):\n    return 1 / 0\n"
            )
        },
    )
    result = seeknal("run", "--env", "dev", code=1)
    assert "fix the function, then: seeknal run --env dev --select transform.broken" in result.err
    write(
        project,
        {
            "seeknal/broken.py": (
                "from seeknal_core.pipeline import transform\n\n"
                "@transform(name='broken', inputs=['source.orders'])\n"
                "def broken(ctx):\n    return ctx.sql('SELECT * FORM orders')\n"
            )
        },
    )
    result = seeknal("run", "--env", "dev", code=1)
    assert "transform.broken: failed: seeknal/broken.py:5: line 1, at 'orders': Par" in result.err
    (project / "data" / "orders.csv").rename(project / "data" / "order.csv")
    result = seeknal("run", "--env", "dev", code=1)
    again = "seeknal run --env dev --select source.orders"
    assert f"did you mean 'data/order.csv'? Then: {again}" in result.err


def test_a_backends_command_is_of_the_environment_too(seeknal: Cli, project: Path) -> None:
    profile = (project / "profiles.yml").read_text().replace("./lake,", "./lake, fail_on: totals,")
    write(project, {"profiles.yml": profile})
    assert "Next: seeknal check --env dev --connections\n" in (
        seeknal("run", "--env", "dev", code=1).err
    )
    assert "Next: seeknal check --connections\n" in seeknal("run", code=1).err
    write(project, {"own.yml": profile})
    said = seeknal("run", "--profile", "own.yml", code=1).err
    assert f"Next: seeknal check --profile {project / 'own.yml'} --connections\n" in said


def test_a_wrong_reference_is_placed_at_its_column(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/inline.yml": "kind: transform\nname: i\ntransform: SELECT 1 FROM source.ordres\n",
            "seeknal/block.yml": (
                "kind: transform\nname: b\ntransform: |\n  SELECT 1\n    FROM ref('source.ordres')\n"
            ),
        },
    )
    problems = seeknal("check", "--json", code=2).json()["error"]["problems"]
    found = {(each["file"], each["line"], each["column"]) for each in problems}
    assert found == {("seeknal/inline.yml", 3, 26), ("seeknal/block.yml", 5, 10)}


def test_a_project_without_nodes_is_told_what_to_do(seeknal: Cli, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new = Cli(cwd=tmp_path / "new", environ=seeknal.environ)
    new("init")
    for command in ("run", "check"):
        assert "warning: the project has no nodes; put a source into" in new(command).err
    assert "no nodes" not in seeknal("run").err


NOTING = """\
import attrs
from seeknal_core.contract.hooks import hookimpl


@hookimpl(wrapper=True)
def materialize(context, target, snapshot):
    result = yield
    return attrs.evolve(result, notes=(f"{target.name}: column 'x' added", "slow"))
"""


def test_a_stores_note_names_its_target_once(seeknal: Cli, folder_site: Path) -> None:
    install(
        folder_site,
        distribution="seeknal-noting",
        module="seeknal_noting",
        source=NOTING,
        entry_points={"seeknal.plugins": {"noting": "seeknal_noting"}},
    )
    said = seeknal("run").err
    assert "warning: sales.totals: column 'x' added\n" in said
    assert "warning: sales.big: slow\n" in said


def test_the_first_line_tells_the_prefix_that_a_profile_asks_for(
    seeknal: Cli, project: Path
) -> None:
    profile = (project / "profiles.yml").read_text()
    write(project, {"profiles-al.yml": f"{profile}namespace: {{prefix: 'alice_'}}\n"})
    first = "project shop, environment {}, profile: {}, names prefixed with {}\n"
    assert seeknal("run", "--env", "al").out.startswith(
        first.format("al", "profiles-al.yml in the project", "alice_")
    )
    assert seeknal("run", "--env", "dev").out.startswith(
        first.format("dev", "default profiles.yml", "dev_")
    )
    assert "prefix" not in seeknal("run").out.partition("\n")[0]


BLURTING = """\
import os
from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.hooks import hookimpl


def blurt(hook, said):
    if os.environ["BLURT"] == hook:
        raise BackendError(f"cannot log in with {said}", f"try {said} again")


@hookimpl(wrapper=True)
def inspect_target(context, target):
    blurt("inspect_target", context.connection.options.password.reveal())
    return (yield)


@hookimpl(wrapper=True)
def materialize(context, target, snapshot):
    blurt("materialize", context.connection.options.password.reveal())
    return (yield)


@hookimpl(wrapper=True)
def read_source(context, source):
    blurt("read_source", context.connection.options.password.reveal())
    return (yield)
"""

FAULTY = """\
from seeknal_core.contract.hooks import hookimpl


@hookimpl(wrapper=True)
def materialize(context, target, snapshot):
    raise KeyError(context.connection.options.password.reveal())
    return (yield)
"""

INLINE = """\
kind: source
name: inline
source: folder
table: raw.inline
params: {connection: lake, password: '{{ env_var("INLINE") }}'}
"""


@pytest.mark.parametrize("hook", ["inspect_target", "materialize", "read_source"])
def test_what_a_backend_blurts_out_is_redacted_wherever_it_goes(
    seeknal: Cli, project: Path, folder_site: Path, hook: str
) -> None:
    install(
        folder_site,
        distribution="seeknal-blurting",
        module="seeknal_blurting",
        source=BLURTING,
        entry_points={"seeknal.plugins": {"blurting": "seeknal_blurting"}},
    )
    profile = PROJECT["profiles.yml"].replace("}\n", ", inline: true}\n")
    settings = PROJECT["seeknal_project.yml"] + "env_vars: [INLINE]\n"
    files = {"seeknal/inline.yml": INLINE, "profiles.yml": profile}
    write(project, {**files, "seeknal_project.yml": settings})
    for option in ((), ("-v",), ("--debug",), ("--json",)):
        running = seeknal.start("run", *option, BLURT=hook, INLINE="inline-s3cret")
        said = "".join(running.communicate(timeout=60))
        assert running.returncode == 1
        assert "cannot log in with ***" in said and "try *** again" in said
        assert "s3cret" not in said
    for path in (project / "target").rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path


def test_debug_shows_where_a_hook_failed_that_did_not_end_the_command(
    seeknal: Cli, project: Path, folder_site: Path
) -> None:
    install(
        folder_site,
        distribution="seeknal-faulty",
        module="seeknal_faulty",
        source=FAULTY,
        entry_points={"seeknal.plugins": {"faulty": "seeknal_faulty"}},
    )
    plain = seeknal("run", code=1)
    assert "failed in materialize: KeyError" in plain.err and "--debug" in plain.err
    assert "Traceback" not in plain.said
    running = seeknal.start("run", "--debug")
    shown = "".join(running.communicate(timeout=60))
    assert running.returncode == 1
    assert "Traceback" in shown and "seeknal_faulty.py" in shown
    assert "KeyError: '***'" in shown and "s3cret" not in shown


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("source: cvs\ntable: a.csv\n", "no source is of type 'cvs'; did you mean 'csv'?"),
        ("source: jsonn\ntable: a.json\n", "no source is of type 'jsonn'; did you mean 'json'?"),
        ("source: foldr\ntable: a\n", "no source is of type 'foldr'; did you mean 'folder'?"),
        ("source: zz\ntable: a\n", "no source is of type 'zz'; the types are csv, folder, "),
    ],
)
def test_a_source_of_an_unknown_type_suggests_files_and_stores(
    seeknal: Cli, project: Path, node: str, said: str
) -> None:
    write(project, {"seeknal/wrong.yml": f"kind: source\nname: wrong\n{node}"})
    for command in ("check", "run"):
        assert f"seeknal/wrong.yml:1:1: {said}" in seeknal(command, code=2).err


def test_files_are_no_targets(seeknal: Cli, project: Path) -> None:
    text = "kind: transform\nname: w\ntransform: SELECT 1\nmaterialization: {type: csv, table: a}\n"
    write(project, {"seeknal/wrong.yml": text})
    assert "wrong.yml:4:1: targets can't be of type 'csv'" in seeknal("check", code=2).err


def test_an_unknown_type_of_a_connection_is_placed_in_the_profile(
    seeknal: Cli, project: Path
) -> None:
    profile = (project / "profiles.yml").read_text()
    write(project, {"profiles.yml": f"{profile}  other: {{type: foldr}}\n"})
    wrong = "profiles.yml:3:11: connections.other.type: no installed backend provides type 'foldr'"
    # Nothing uses it: `check` says so, and a run has nothing to do with it.
    assert f"warning: {wrong}; did you mean 'folder'?" in seeknal("check").err
    assert "foldr" not in seeknal("run").said
    path = project / "seeknal" / "big.yml"
    path.write_text(path.read_text().replace("{type: folder,", "{type: folder, connection: other,"))
    for command in ("check", "run"):
        assert wrong in seeknal(command, code=2).err


@pytest.mark.parametrize("way", ["before", "after", "old"])
def test_a_wrapper_that_raises_stop_iteration_is_named(
    seeknal: Cli, folder_site: Path, way: str
) -> None:
    bodies = {
        "before": "    raise StopIteration\n    return (yield)\n",
        "after": "    yield\n    raise StopIteration\n",
        "old": "    yield\n    next(iter(()))\n",
    }
    install(
        folder_site,
        distribution="seeknal-stopping",
        module="seeknal_stopping",
        source=(
            "from seeknal_core.hookspecs import hookimpl\n\n\n"
            f"@hookimpl({'hookwrapper' if way == 'old' else 'wrapper'}=True)\n"
            f"def materialize(context, target, snapshot):\n{bodies[way]}"
        ),
        entry_points={"seeknal.plugins": {"stopping": "seeknal_stopping"}},
    )
    assert "seeknal-stopping 1.0 failed in materialize" in seeknal("run", code=1).err
