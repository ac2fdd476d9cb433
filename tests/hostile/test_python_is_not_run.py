"""No line of the project's Python runs where it may not, whatever the command."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.project.python.code import Modules
from support.cli import Cli, write
from support.shop import PROJECT

#: Each of these leaves a mark when it is imported.
MARKING = "import pathlib\npathlib.Path('../marks', __name__).resolve().touch()\n"
PYTHON = {
    "seeknal/common/lib.py": MARKING + "RATE = 2\n",
    "seeknal/nodes.py": MARKING
    + (
        "from common.lib import RATE\n"
        "from seeknal_core.pipeline import materialize, source, transform\n\n"
        "@transform(name='doubled', inputs=['source.orders'])\n"
        "@materialize(type='folder', table='sales.doubled')\n"
        "def doubled(ctx):\n"
        "    return ctx.sql(f'SELECT id, amount * {RATE} AS amount FROM orders')\n\n"
        "@source()\n"
        "def rates(ctx):\n"
        "    return ctx.sql('SELECT 1 AS rate')\n"
    ),
    "seeknal/below.sql": (
        "/* ---\nmaterialization: {type: folder, table: sales.below}\n--- */\n"
        "SELECT id, amount, rate FROM transform.doubled CROSS JOIN source.rates\n"
    ),
    # A profile for the untrusted mode is not the checkout's.
    "../home/.seeknal/profiles.yml": PROJECT["profiles.yml"].replace("./lake", "{lake}"),
}
SETTINGS = {
    "trusted": {},
    "no python": {"SEEKNAL_NO_PYTHON": "1"},
    "untrusted": {"SEEKNAL_UNTRUSTED": "1"},
}
#: Commands that compute nothing, in an order in which each has something to say.
LOOKING = (
    "check",
    "run --dry-run",
    "run --dry-run --env dev",
    "env plan dev",
    "plan dev --show-sql",
    "env list",
    "env show dev",
    "env status dev",
    "env diff dev",
    "env promote dev --dry-run",
    "query FROM_transform.doubled",
    "state recover",
    "gc --dry-run",
    "plugins list",
)
#: Commands that reuse what is stored, where nothing has to be computed.
REUSING = (
    "env plan new",
    "env apply new",
    "env promote new --yes",
    "run --env dev",
    "env rollback prod --yes",
)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
def prepared(seeknal: Cli, project: Path, marks: Path, tmp_path: Path) -> Cli:
    """A project with Python nodes, run, promoted, and with an environment that differs."""
    files = {name: text.replace("{lake}", str(tmp_path / "lake")) for name, text in PYTHON.items()}
    write(project, files)
    (project / "profiles.yml").unlink()
    seeknal("run")
    assert len(list(marks.iterdir())) == 2, "the marks work"
    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")
    _empty(marks)
    return seeknal


def _empty(marks: Path) -> None:
    for mark in marks.iterdir():
        mark.unlink()


@pytest.mark.parametrize("setting", SETTINGS)
def test_commands_that_compute_nothing_import_nothing(
    prepared: Cli, marks: Path, setting: str
) -> None:
    for command in LOOKING:
        words = [word.replace("FROM_", "FROM ") for word in command.split()]
        ended = prepared(*words, code=None, **SETTINGS[setting])
        assert ended.code in (0, 2) and "No such" not in ended.err, (command, ended.err)
        assert list(marks.iterdir()) == [], command


@pytest.mark.parametrize("setting", ["no python", "untrusted"])
def test_what_is_stored_is_reused_without_python(
    prepared: Cli, project: Path, marks: Path, setting: str
) -> None:
    write(project, {"seeknal/totals.sql": PROJECT["seeknal/totals.sql"].replace("sum", "max")})
    for command in REUSING:
        said = prepared(*command.split(), code=0, **SETTINGS[setting])
        assert list(marks.iterdir()) == [], command
        assert "mistake" not in said.err


CHANGES = {
    "its code": {
        "seeknal/nodes.py": PYTHON["seeknal/nodes.py"].replace("amount * {", "1 + amount * {")
    },
    "a module it imports": {"seeknal/common/lib.py": MARKING + "RATE = 3\n"},
    "the file it reads": {"data/orders.csv": "id,customer,amount\n1,ada,11\n"},
    "a new node": {
        "seeknal/more.py": MARKING
        + "from seeknal_core.pipeline import transform\n"
        + "@transform(inputs=['source.orders'])\ndef more(ctx): ...\n"
    },
    "a volatile node above": {
        "seeknal/orders.yml": "kind: transform\nname: now\ntransform: SELECT now() AS n\n---\n"
        + PROJECT["seeknal/orders.yml"],
        "seeknal/more.py": "from seeknal_core.pipeline import transform\n"
        "@transform(inputs=['transform.now'])\ndef more(ctx): ...\n",
    },
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_would_have_to_be_computed_ends_the_command_before_any_write(
    prepared: Cli, project: Path, marks: Path, tmp_path: Path, what: str
) -> None:
    write(project, CHANGES[what])
    before = _written(project, tmp_path)
    name = "transform.more" if "node" in what else "transform.doubled"
    commands = ["run --no-python", "--no-python run --env dev", "run --env brandnew"]
    for command in commands:
        environ = {} if "--no-python" in command else {"SEEKNAL_UNTRUSTED": "1"}
        asking = Cli(cwd=project, environ={**prepared.environ, **environ}, warm=True)
        said = asking(*command.split(), code=2).err
        assert f"{name} would have to be computed" in said, (command, said)
        assert _written(project, tmp_path) == before, command
    planned = prepared("plan", "--no-python", "--refresh-sources", "next").said
    assert f"{name} needs the project's Python" in planned
    said = prepared("env", "apply", "next", "--no-python", code=2).err
    assert f"{name} would have to be computed" in said
    assert _written(project, tmp_path) == before
    assert list(marks.iterdir()) == []


def _written(project: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return the tables, the stored outputs and the records."""
    found = {}
    for folder in (tmp_path / "lake", project / "target"):
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder).as_posix()
            kept = inside.startswith(("snapshots/", "state/environments", "state/manifests"))
            if path.is_file() and (folder.name == "lake" or kept) and path.stat().st_size:
                found[f"{folder.name}/{inside}"] = path.read_bytes()
    return found


def test_rows_that_a_store_decides_are_read_before_it_is_known(
    prepared: Cli, project: Path, marks: Path, tmp_path: Path
) -> None:
    """A Python node below a store's source: its rows tell whether it has to be computed."""
    write(
        project,
        {
            "seeknal/stored.yml": "kind: source\nname: stored\nsource: folder\n"
            "table: sales.totals\nparams: {connection: lake}\n",
            "seeknal/over.py": MARKING + "from seeknal_core.pipeline import transform\n"
            "@transform(inputs=['source.stored'])\ndef over(ctx):\n"
            "    return ctx.ref('source.stored')\n",
        },
    )
    prepared("run")
    _empty(marks)
    prepared("run", "--no-python")
    # Somebody changes the table that the source reads.
    tables = tmp_path / "lake" / "sales"
    shutil.copyfile(tables / "doubled.parquet", tables / "totals.parquet")
    write(project, {"seeknal/big.yml": PROJECT["seeknal/big.yml"].replace("15", "16")})
    state = project / "target" / "state" / "environments"
    before = {path: path.read_bytes() for path in state.glob("*.json")}
    rows = {path: path.read_bytes() for path in tables.glob("*.parquet")}
    said = prepared("run", "--no-python", code=2).err
    assert "transform.over would have to be computed" in said
    assert {path: path.read_bytes() for path in state.glob("*.json")} == before
    assert {path: path.read_bytes() for path in tables.glob("*.parquet")} == rows
    assert list(marks.iterdir()) == []


def test_a_promotion_that_would_have_to_run_python_publishes_nothing(
    prepared: Cli, project: Path, marks: Path, tmp_path: Path
) -> None:
    """Dev reads another store than production: what is promoted is rebuilt over production's."""
    write(
        project,
        {
            "seeknal/stored.yml": "kind: source\nname: stored\nsource: folder\n"
            "table: sales.totals\nparams: {connection: lake}\n",
            "seeknal/over.py": MARKING
            + "from seeknal_core.pipeline import materialize, transform\n"
            "@transform(inputs=['source.stored'])\n@materialize(type='folder', table='sales.over')\n"
            "def over(ctx):\n    return ctx.ref('source.stored')\n",
        },
    )
    home = tmp_path / "home" / ".seeknal"
    profile = (home / "profiles.yml").read_text()
    shutil.copytree(tmp_path / "lake", tmp_path / "lake-dev")
    shutil.copyfile(
        tmp_path / "lake-dev" / "sales" / "doubled.parquet",
        tmp_path / "lake-dev" / "sales" / "totals.parquet",
    )
    other = profile.replace("/lake", "/lake-dev") + "namespace: {prefix: true}\n"
    write(home, {"profiles-other.yml": other})
    prepared("run", "--env", "other")
    _empty(marks)
    before = _written(project, tmp_path)
    said = prepared("env", "promote", "other", "--yes", "--no-python", code=2).err
    assert "transform.over would have to be computed" in said
    after = {name: data for name, data in _written(project, tmp_path).items() if name in before}
    assert after == before
    assert list(marks.iterdir()) == []


def test_stored_rows_that_were_damaged_are_not_taken_for_stored(
    prepared: Cli, project: Path
) -> None:
    record = json.loads((project / "target/state/environments/prod.json").read_text())
    key = record["nodes"]["transform.doubled"]["content_key"]
    for path in (project / "target" / "snapshots").rglob("*.parquet"):
        if key in path.as_posix():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes().replace(b"PAR1", b"PAR2"))
    said = prepared("run", "--no-python", code=2).err
    assert "transform.doubled would have to be computed" in said


def test_a_file_whose_nodes_only_running_it_tells_is_refused(prepared: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/made.py": MARKING + "from seeknal_core.pipeline import transform\n"
            "for n in 'ab':\n    @transform(name=n, inputs=['source.orders'])\n"
            "    def f(ctx): ...\n",
        },
    )
    for command in ("check", "run", "env plan dev", "env list"):
        ended = prepared(*command.split(), code=None, SEEKNAL_NO_PYTHON="yes")
        if command != "env list":
            assert ended.code == 2
            assert "seeknal/made.py:5: transform is used in another way" in ended.err
    prepared("check")


def test_check_names_modules_that_are_not_installed_without_importing(
    prepared: Cli, project: Path, marks: Path
) -> None:
    write(
        project,
        {
            "seeknal/more.py": MARKING
            + "import seeknal_nothing_here.inside, common.lib\n"
            + "try:\n    import seeknal_nothing_either\nexcept ImportError:\n    pass\n"
            + "from seeknal_core.pipeline import transform\n"
            + "@transform(inputs=['source.orders'])\ndef more(ctx): ...\n"
        },
    )
    said = prepared("check", code=2).err
    assert "seeknal/more.py:3: ModuleNotFoundError: No module named 'seeknal_nothing_here'" in said
    assert "either" not in said and "common" not in said
    assert list(marks.iterdir()) == []
    prepared("check", "--no-python")
    said = prepared("run", code=1).err
    assert "transform.more: failed: seeknal/more.py:3: ModuleNotFoundError" in said


@pytest.mark.parametrize("name", ["nodes.py", "lib.py"])
def test_a_pipe_in_place_of_a_module_is_not_waited_for(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"nodes.py": "import lib\n", "lib.py": ""})
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=rf"{name}: cannot be read: it is a pipe"):
        Modules(tmp_path).source(tmp_path / name)
