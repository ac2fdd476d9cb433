"""Python, git and a shell are all that the project's commands and tests find on the machine.

Slim images have no `ps`, and some no `rm`.
"""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Cli

ROOT = Path(__file__).parents[2]
ALLOWED = ("git", "sh")
#: Other programs: where they are started, and why they may be.
EXCEPTIONS = {
    (
        "plugins/postgres/seeknal_postgres/connection/embedded/server.py",
        "ps",
    ): "macOS alone, which has it",
    ("tests/core/test_engine_sql.py", "unshare"): "marked `mounts`: left out where it is missing",
    ("tests/core/test_limits.py", "unshare"): "marked `mounts`",
    ("tests/journeys/test_promotion_rights.py", "mount"): "marked `mounts`",
    ("tests/journeys/test_promotion_rights.py", "umount"): "marked `mounts`",
}
STARTS = ("run", "Popen", "call", "check_call", "check_output")
#: What a shell's script, or a list that is a command, may start besides.
USUAL = frozenset(
    re.findall(
        r"\w+",
        """
        awk bash cat chmod chown cp curl date dirname docker find grep head kill
        killall ln ls mkdir mktemp mount mv nc pkill ps psql readlink realpath rm rmdir sed seq
        sleep sort ss stat tail tar tee timeout touch tr umount uname unshare unzip wget which
        xargs zip
        """,
    )
)


def started(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the programs that a module starts by a name that is written out."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and node.elts and isinstance(node.elts[0], ast.Constant):
            first = node.elts[0].value
            if first in USUAL and len(node.elts) > 1:
                yield node.lineno, str(first)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if not isinstance(owner, ast.Name) or owner.id != "subprocess":
            continue
        if node.func.attr not in STARTS or not node.args:
            continue
        command = node.args[0]
        first_word = command.elts[0] if isinstance(command, ast.List) and command.elts else command
        if isinstance(first_word, ast.Constant) and isinstance(first_word.value, str):
            yield node.lineno, first_word.value


def test_no_code_and_no_test_starts_a_program_that_a_slim_image_lacks() -> None:
    paths = [
        path
        for folder in ("seeknal_core", "plugins", "examples", "tests", ".ci")
        for path in (ROOT / folder).rglob("*.py")
        if ".venv" not in path.parts
    ]
    assert len(paths) > 300
    found = {
        (path.relative_to(ROOT).as_posix(), program, line)
        for path in paths
        for line, program in started(path)
        if program not in ALLOWED and path != Path(__file__)
    }
    wrong = [each for each in found if each[:2] not in EXCEPTIONS]
    assert not wrong, wrong
    assert {each[:2] for each in found} == EXCEPTIONS.keys()


def test_a_program_that_is_started_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import subprocess\nsubprocess.run(['ps', '-a'])\ncommand = ['rm', '-r']\n"
        "subprocess.Popen('nohup')\nsubprocess.run([sys.executable, 'x'])\n"
    )
    assert sorted(started(path)) == [(2, "ps"), (2, "ps"), (3, "rm"), (4, "nohup")]


def test_tox_starts_what_it_installs() -> None:
    text = (ROOT / "tox.ini").read_text("utf-8")
    assert "allowlist_externals" not in text
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    first_words = {
        line.split()[0]
        for name in parser.sections()
        for key in ("commands", "commands_pre")
        for line in parser.get(name, key, fallback="").splitlines()
        if line.strip()
    }
    installed = {"python", "ruff", "mypy", "lint-imports", "seeknal", "pip-audit", "pre-commit"}
    own = re.compile(r"\{env_bin_dir\}/\w+|\{\[(wheels|testenv)\](install|pytest|compile)\}")
    assert {word for word in first_words if not own.fullmatch(word)} <= installed


def test_the_script_of_ci_needs_a_shell_and_python() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert script.startswith("#!/bin/sh\n")
    code = re.sub(r"#.*", "", script)
    assert not USUAL & set(re.findall(r"[a-z]+", re.sub(r'"[^"\n]*"', "", code)))


@pytest.fixture
def slim(tmp_path: Path) -> Path:
    """A folder with Python, git and a shell, to be all of PATH."""
    folder = tmp_path / "slim"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    for name in ALLOWED:
        program = shutil.which(name)
        assert program is not None
        (folder / name).symlink_to(program)
    return folder


def test_a_project_runs_where_nothing_else_is_on_the_path(tmp_path: Path, slim: Path) -> None:
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path), "PATH": str(slim)})
    seeknal("init", "shop", "--example")
    shop = Cli(cwd=tmp_path / "shop", environ=seeknal.environ)
    assert "done in" in shop("run", "--env", "dev").out
