"""Make ``docs/commands.md`` of the commands themselves: ``python tests/meta/commands_page.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from seeknal_core.cli.main import cli
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.modes import Mode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"

_INTRODUCTION = """\
# Commands

This page is made from the commands' own help (`seeknal COMMAND --help`). `seeknal plan` and `seeknal
promote` are short for `seeknal env plan` and `seeknal env promote`.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield each command with its full name; groups come before their commands."""
    root = click.Context(cli, info_name="seeknal", **cli.context_settings)
    waiting: list[tuple[str, click.Command, click.Context]] = [("seeknal", cli, root)]
    while waiting:
        name, command, context = waiting.pop(0)
        yield name, command, context
        if isinstance(command, click.Group):
            found = []
            for each in command.list_commands(context):
                inner = command.get_command(context, each)
                assert inner is not None
                below = click.Context(inner, info_name=each, parent=context)
                found.append((f"{name} {each}", inner, below))
            waiting = [*found, *waiting]


def page() -> str:
    """Return the page's text."""
    sections = [_INTRODUCTION, _exit_codes(), _modes()]
    for name, command, context in commands():
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        text = inspect.cleandoc(command.help or "").replace("\b\n", "")
        parts = [f"## {name}", f"`{usage}`", text]
        rows = [
            record
            for parameter in command.get_params(context)
            if isinstance(parameter, click.Option)
            and (record := parameter.get_help_record(context)) is not None
        ]
        if rows:
            lines = [f"| `{_cell(option)}` | {_cell(said)} |" for option, said in rows]
            parts.append("\n".join(["| option | meaning |", "|---|---|", *lines]))
        sections.append("\n\n".join(parts) + "\n")
    return "\n".join(sections)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _exit_codes() -> str:
    rows = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return "\n".join(["## Exit codes", "", "| code | meaning |", "|---|---|", *rows, ""])


def _modes() -> str:
    rows = []
    for mode in Mode:
        needs = f"`{mode.rule.needs.value}`" if mode.rule.needs is not None else ""
        rows.append(f"| `{mode.value}` | {mode.rule.keeps.value} | {needs} |")
    return "\n".join(
        ["## Modes", "", "| mode | which rows stay | needs |", "|---|---|---|", *rows, ""]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
