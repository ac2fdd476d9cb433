"""Every command that a message advises is one that the command line understands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from seeknal_core.cli.main import cli

ROOT = Path(__file__).parents[2]
FOLDERS = ("seeknal_core", "plugins/postgres/seeknal_postgres", "plugins/iceberg/seeknal_iceberg")
#: Names of locks and keys that begin with the same word.
NO_COMMANDS = ("prepared", "schema")
#: What stands where a message fills something in.
FILLED = "filled"
#: Where a command ends: what follows is the sentence around it, or another command.
_END = re.compile(r"&&|[;:,()|'\"`\n]|\. |\.$| \(| then | or | and ")


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the literal texts of a module, what is filled in replaced by a word."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            shown = [
                str(value.value) if isinstance(value, ast.Constant) else FILLED
                for value in node.values
            ]
            yield node.lineno, "".join(shown)
    docstrings = {
        body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and (body := node.body)
        and isinstance(body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or node in parts or node in docstrings:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


def commands(text: str) -> Iterator[str]:
    """Yield the commands in a text, each with the words of the sentence that follow it."""
    for found in re.finditer(r"\bseeknal (?=[a-z])", text):
        rest = text[found.end() :]
        end = _END.search(rest)
        yield rest[: end.start()] if end else rest


def advised() -> list[tuple[str, str]]:
    """Collect all advised commands, with where they stand."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "testing" in path.parts or "new_backend" in path.name:
                continue
            for line, text in texts(ast.parse(path.read_text("utf-8"))):
                found += [
                    (f"{path.relative_to(ROOT)}:{line}", command.strip())
                    for command in commands(text)
                    if not command.startswith(NO_COMMANDS)
                ]
    return found


def mistake(words: list[str]) -> str:
    """Return what is wrong with a command, read as the command line reads it, or nothing."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        if words[0] not in command.commands:
            # `seeknal promote`, which stands for `seeknal env promote`, is looked up like that.
            known = command.get_command(click.Context(command), words[0])
            if known is None:
                return f"there is no command {words[0]!r}"
            command = known
        else:
            command = command.commands[words[0]]
        words = words[1:]
    options = {name: p for p in command.params if isinstance(p, click.Option) for name in p.opts}
    arguments = sum(abs(p.nargs) for p in command.params if isinstance(p, click.Argument))
    while words:
        word, words = words[0], words[1:]
        name, _, value = word.partition("=")
        if name.startswith("-") and name != "-":
            if name not in options:
                return f"{command.name} has no option {name}"
            if not options[name].is_flag and not value:
                words = words[1:]
        elif arguments:
            arguments -= 1
        else:
            # From here on it is the sentence again.
            later = [w for w in words if w.startswith("--") and w.strip("-,.") != ""]
            unknown = [w for w in later if w.partition("=")[0] not in options]
            return f"{command.name} has no option {unknown[0]}" if unknown else ""
    return ""


def test_every_command_that_a_message_advises_is_understood() -> None:
    found = advised()
    assert len(found) > 40
    wrong = []
    for where, command in found:
        try:
            words = shlex.split(command)
        except ValueError:
            words = command.split()
        said = mistake(words)
        if said:
            wrong.append(f"{where}: seeknal {command}: {said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --adopt", ""),
        ("run --adpot", "run has no option --adpot"),
        ("env mend dev", "there is no command 'mend'"),
        ("run --env dev writes it again", ""),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str, said: str) -> None:
    assert mistake(command.split()) == said
