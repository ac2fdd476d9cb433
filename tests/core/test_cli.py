"""The command line as a newcomer meets it."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seeknal_core import __version__
from seeknal_core.cli.tables import print_table
from support.cli import Cli, write
from support.distributions import install

HEAVY = (
    "duckdb",
    "pyarrow",
    "rich",
    "sqlglot",
    "stevedore",
    "cattrs",
    "yaml",
    "psycopg",
    "pyiceberg",
    "concurrent.futures",
    "hashlib",
    "logging",
    "urllib.parse",
)


def test_version_is_printed(seeknal: Cli) -> None:
    assert __version__ in seeknal("--version").out


@pytest.mark.parametrize("arguments", [["--version"], ["plugins", "list", "--json"]])
def test_output_that_cannot_be_written_is_a_failure_in_a_sentence(
    seeknal: Cli, arguments: list[str]
) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            seeknal.command(*arguments),
            cwd=seeknal.cwd,
            env=seeknal.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the output cannot be written: No space left on device\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "asked",
    [
        "import atexit; atexit.register(print, 'at the end')",
        "import threading, time; threading.Thread("
        "target=lambda: (time.sleep(2), print('at the end'))).start()",
    ],
)
def test_what_waits_for_the_end_of_a_command_has_it(asked: str) -> None:
    program = f"import sys\n{asked}\nsys.argv = ['seeknal', '--version']\n"
    program += "from seeknal_core.cli import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "at the end")


def test_a_table_that_fits_is_aligned_and_one_that_does_not_is_folded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("name", "rows"), [("sales.big", "7"), ("s.t", "1,000")], numeric=1)
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        " name         rows",
        "─" * 19,
        " sales.big       7",
        " s.t         1,000",
    ]
    print_table(("name", "text"), [("a", "z" * 200), ("b", "日本")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(line.count("z") for line in lines) == 200 and "日本" in lines[-2]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_start_up_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom seeknal_core.cli.main import _run\n"
        f"assert _run({arguments!r}) == 0\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("arguments", "rooms"),
    [
        (["query", "--help"], ("workspace", "plan", "apply", "promote", "environments")),
        (["plugins", "list"], ("workspace", "plan", "apply", "promote", "environments")),
        (["env", "list", "--help"], ("promote", "environments")),
    ],
)
def test_a_command_imports_no_room_that_it_does_not_need(
    arguments: list[str], rooms: tuple[str, ...]
) -> None:
    code = (
        "import sys\nfrom seeknal_core.cli.main import _run\n"
        f"assert _run({arguments!r}) == 0\n"
        f"print('loaded:', [m for m in {rooms!r} if f'seeknal_core.{{m}}' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_every_command_has_help(seeknal: Cli) -> None:
    for command in (["run"], ["check"], ["init"], ["plugins"], ["plugins", "show"]):
        assert "Usage: seeknal" in seeknal(*command, "--help").out


def test_a_mistyped_command_gets_the_nearest(seeknal: Cli) -> None:
    result = seeknal("rum", code=2)
    assert "Did you mean 'run'?" in result.err


def test_outside_a_project_the_next_command_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = Cli(cwd=empty)("run", code=2)
    assert "seeknal_project.yml" in result.err and "seeknal init" in result.err


def test_init_makes_a_project_that_checks(tmp_path: Path) -> None:
    cli = Cli(cwd=tmp_path)
    assert "Next:" in cli("init", "my-shop").out
    inside = Cli(cwd=tmp_path / "my-shop")
    assert "no mistakes" in inside("check").out
    assert "done" in inside("run").out
    ignored = (tmp_path / "my-shop" / ".gitignore").read_text()
    assert "profiles*.yml" in ignored and ".env" in ignored and "target/" in ignored
    # Passwords will stand there.
    assert stat.S_IMODE((tmp_path / "my-shop" / "profiles.yml").stat().st_mode) == 0o600


def test_init_changes_nothing_that_exists(tmp_path: Path) -> None:
    write(tmp_path, {"here/profiles.yml": "mine", "here/.gitignore": "keep-me\n"})
    result = Cli(cwd=tmp_path)("init", "here", code=2)
    assert "exists already" in result.err
    assert (tmp_path / "here" / "profiles.yml").read_text() == "mine"
    assert not (tmp_path / "here" / "seeknal_project.yml").exists()


def test_init_twice_is_refused(tmp_path: Path) -> None:
    cli = Cli(cwd=tmp_path)
    cli("init", "shop")
    assert "is a project already" in cli("init", "shop", code=2).err


def test_all_mistakes_come_at_once_with_their_places(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/bad.yml": (
                "kind: transform\nname: bad\nowmer: me\ntransform: SELECT * FROM ref('source.ordres')\n"
            ),
            "seeknal/worse.yml": "kind: source\nname: worse\nsource: csv\ntable: x.csv\ntags: gold\n",
        },
    )
    result = seeknal("check", code=2)
    assert "seeknal/bad.yml:3:1" in result.err and "'owner'" in result.err
    assert "seeknal/worse.yml:5" in result.err and "list" in result.err
    (project / "seeknal" / "worse.yml").unlink()
    path = project / "seeknal" / "bad.yml"
    path.write_text(path.read_text().replace("owmer: me\n", ""))
    result = seeknal("check", code=2)
    assert "seeknal/bad.yml:3" in result.err and "source.orders" in result.err


def test_a_cycle_is_shown_as_a_path(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/a.sql": "SELECT * FROM transform.b",
            "seeknal/b.sql": "SELECT * FROM transform.a",
        },
    )
    result = seeknal("run", code=2)
    assert (
        "transform.a -> transform.b -> transform.a" in result.err
        or "transform.b -> transform.a -> transform.b" in result.err
    )


def test_bad_sql_is_found_by_check_with_its_file(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/bad.sql": "SELECT FROM WHERE"})
    result = seeknal("check", code=2)
    assert "seeknal/bad.sql" in result.err and "syntax error" in result.err


def test_a_missing_backend_names_what_to_install(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {
            "seeknal/out.yml": (
                "kind: transform\nname: out\ntransform: SELECT 1 AS x\n"
                "materialization: {type: clickhouse, table: a.b}\n"
            )
        },
    )
    result = seeknal("run", code=2)
    assert "seeknal/out.yml" in result.err and "clickhouse" in result.err


def test_a_missing_connection_is_named_with_place_and_profile(seeknal: Cli, project: Path) -> None:
    path = project / "seeknal" / "big.yml"
    path.write_text(
        path.read_text().replace("table: sales.big", "table: sales.big, connection: lak")
    )
    result = seeknal("run", code=2)
    assert "seeknal/big.yml:4" in result.err
    assert "no connection 'lak'" in result.err and "did you mean 'lake'" in result.err


def test_a_missing_variable_is_named_and_no_value_shown(seeknal: Cli, project: Path) -> None:
    write(
        project, {"profiles.yml": "connections:\n  lake: {type: folder, path: '${NO_SUCH_PATH}'}\n"}
    )
    result = seeknal("run", code=2)
    assert "profiles.yml:2" in result.err and "NO_SUCH_PATH" in result.err


def test_a_mistake_in_a_connection_has_its_place(seeknal: Cli, project: Path) -> None:
    write(
        project,
        {"profiles.yml": "connections:\n  lake:\n    type: folder\n    path: x\n    pasword: y\n"},
    )
    result = seeknal("run", code=2)
    assert "profiles.yml:5" in result.err and "connections.lake.pasword" in result.err
    assert "'password'" in result.err


def test_bad_vars_are_a_usage_error(seeknal: Cli) -> None:
    assert "not JSON" in seeknal("run", "--vars", "{x", code=2).err


def test_a_bad_environment_name_is_refused_with_the_rule(seeknal: Cli, project: Path) -> None:
    for name in ("../x", "a;b", "", "1dev"):
        result = seeknal("run", "--env", name, code=2)
        assert "letter" in result.err
    assert not (project / "target").exists()


def test_plugins_are_listed_and_shown(seeknal: Cli) -> None:
    assert "backend folder: seeknal-folder 1.0" in seeknal("plugins", "list").out
    shown = seeknal("plugins", "show", "folder").out
    assert "path (text, required)" in shown and "the folder that holds the tables" in shown
    listed = seeknal("plugins", "list", "--json").json()
    assert {"name": "folder", "version": "1.0"}.items() <= next(
        plugin for plugin in listed["plugins"] if plugin["name"] == "folder"
    ).items()


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]])
def test_a_reader_that_went_away_is_no_defect(seeknal: Cli, arguments: list[str]) -> None:
    command = " ".join(f"'{part}'" for part in seeknal.command(*arguments))
    done = subprocess.run(
        # Standard output is a pipe that nobody reads any more; the code goes another way.
        ["sh", "-c", f"{{ {command}; echo code $? >&3; }} 3>&2 | true"],
        cwd=seeknal.cwd,
        env=seeknal.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "code 1\n"


def test_an_unwritable_target_folder_is_one_clear_message(seeknal: Cli, project: Path) -> None:
    (project / "target").write_text("a file where the folder should be")
    result = seeknal("run", code=1)
    assert "target" in result.err and "Next:" not in result.err.splitlines()[0]
    assert result.err.count("Error:") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["run", "--json", "--env", "a;b"], 2, "ConfigError"),
        (["run", "--json", "--no-such-option"], 2, "ConfigError"),
        (["check", "--json", "--profile", "nowhere.yml"], 2, "ConfigError"),
        (["plugins", "show", "--json", "folders"], 2, "BackendNotInstalled"),
    ],
)
def test_a_failure_is_a_json_document_as_well(
    seeknal: Cli, arguments: list[str], code: int, kind: str
) -> None:
    result = seeknal(*arguments, code=code)
    document = result.json()
    assert document["status"] == "failed"
    assert document["error"]["type"] == kind
    assert document["error"]["message"] in result.err


def test_the_json_document_of_mistakes_has_their_places(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/bad.yml": "kind: source\nname: bad\nsource: csv\nwat: 1\n"})
    problems = seeknal("run", "--json", code=2).json()["error"]["problems"]
    assert ("seeknal/bad.yml", 4) in [(problem["file"], problem["line"]) for problem in problems]


def test_the_options_of_seeknal_may_stand_behind_the_command(seeknal: Cli, tmp_path: Path) -> None:
    elsewhere = Cli(cwd=tmp_path, environ=seeknal.environ)
    result = elsewhere("run", "-v", "-C", str(seeknal.cwd))
    assert "project shop" in result.out
    assert "unchanged" in elsewhere("run", "--verbose", "-C", str(seeknal.cwd)).out
    elsewhere("plugins", "list", "--debug")


def test_check_says_a_node_once_and_how_to_mend_it(seeknal: Cli, project: Path) -> None:
    write(project, {"seeknal/reader.sql": "SELECT * FROM read_csv('data/orders.csv')"})
    line = next(
        line for line in seeknal("check", code=2).err.splitlines() if "seeknal/reader.sql" in line
    )
    assert line.count("transform.reader") == 1
    assert "ref('source.…')" in line


def test_an_unknown_type_names_no_package_that_nobody_vouches_for(seeknal: Cli) -> None:
    result = seeknal("plugins", "show", "foldre", code=2)
    assert "did you mean 'folder'" in result.err and "pip install" not in result.err


def test_a_mistake_in_params_is_not_called_one_of_the_connection(
    seeknal: Cli, project: Path
) -> None:
    write(
        project,
        {
            "seeknal/inline.yml": (
                "kind: source\nname: inline\nsource: folder\ntable: a\n"
                "params: {connection: lake, max_rows: 3}\n"
            )
        },
    )
    result = seeknal("check", code=2)
    assert "seeknal/inline.yml" in result.err
    assert "source.inline.params.max_rows: unknown" in result.err
    assert "connections.lake" not in result.err


def test_the_end_of_a_run_is_a_table_of_what_ran(seeknal: Cli) -> None:
    lines = [line.split() for line in seeknal("run").out.splitlines()]
    assert ["node", "status", "rows", "seconds"] in lines
    assert ["transform.totals", "computed", "2"] in [line[:3] for line in lines]
    assert ["sales.big", "transform.big", "full", "written"] in [line[:4] for line in lines]
    # The second time nothing ran, and there is nothing to tell but that.
    assert len(seeknal("run").out.splitlines()) == 2
    assert ["transform.totals", "reused", "2"] in [
        line.split()[:3] for line in seeknal("run", "-v").out.splitlines()
    ]


def test_progress_is_drawn_on_a_terminal_and_nowhere_else(seeknal: Cli) -> None:
    assert "\x1b" not in seeknal("run").said
    master, slave = pty.openpty()
    running = subprocess.Popen(
        seeknal.command("run", "--full-refresh"),
        cwd=seeknal.cwd,
        env=seeknal.environment(TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    said = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while found := os.read(master, 65536):
            said += found
    assert running.wait(60) == 0
    os.close(master)
    assert b"3/3" in said and b"\x1b[" in said
    assert said.index(b"project shop") < said.index(b"3/3") < said.rindex(b"done in")


def test_plugins_show_says_whether_targets_are_staged(seeknal: Cli, folder_site: Path) -> None:
    install(
        folder_site,
        distribution="seeknal-plain",
        module="seeknal_plain",
        source=(
            "import seeknal_folder\n"
            "staging = {'stage', 'publish', 'prepare_publish', 'revert', 'discard'}\n"
            "globals().update({k: v for k, v in vars(seeknal_folder).items() if k not in staging})\n"
        ),
        entry_points={"seeknal.backends": {"plain": "seeknal_plain"}},
    )
    assert "promotion: staged" in seeknal("plugins", "show", "folder").out
    assert "promotion: not staged" in seeknal("plugins", "show", "plain").out
