"""File names in printed commands are words of a shell, whatever they are made of."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from support.cli import Cli

#: A folder whose name runs a command where it is not quoted.
EVIL = "my shop'; touch OWNED; '$(touch OWNED)"


def _next(said: str) -> list[str]:
    lines = [line.partition("Next: ")[2] for line in said.splitlines() if "Next: " in line]
    return [re.split(r"(?:then|again): ", line)[-1] for line in lines]


@pytest.mark.parametrize("options", [(), ("--example",)])
def test_the_command_after_init_enters_the_folder(tmp_path: Path, options: tuple[str, ...]) -> None:
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path)}, warm=True)
    (command,) = _next(seeknal("init", *options, EVIL).out)
    entered, *_ = command.split(" && ")
    where = subprocess.run(
        ["sh", "-c", f"{entered} && pwd"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert where.stdout.rstrip("\n") == str(tmp_path / EVIL)
    (again,) = _next(seeknal("init", *options, EVIL, code=2).said)
    assert shlex.split(again) == ["seeknal", "-C", EVIL, "check"]
    assert not list(tmp_path.rglob("OWNED"))


def test_the_command_after_a_damaged_state_moves_that_file(tmp_path: Path) -> None:
    seeknal = Cli(cwd=tmp_path, environ={"HOME": str(tmp_path)}, warm=True)
    seeknal("init", EVIL)
    project = Cli(cwd=tmp_path / EVIL, environ=seeknal.environ, warm=True)
    (tmp_path / EVIL / "seeknal" / "n.yml").write_text(
        "kind: transform\nname: n\ntransform: SELECT 1 AS id\n"
    )
    project("run")
    moved = 0
    for path in sorted((tmp_path / EVIL / "target" / "state").rglob("*.json")):
        kept = path.read_bytes()
        path.write_text("{")
        said = project("env", "status", "prod", code=None).said
        for command in _next(said):
            if command.startswith("mv "):
                words = shlex.split(command)
                assert words[1] == str(path), command
                moved += 1
        path.write_bytes(kept)
    assert moved
    assert not list(tmp_path.rglob("OWNED"))
