"""Questions that a command asks before it takes something away."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import click

from seeknal_core.cli.output import ask, say
from seeknal_core.cli.tables import counted
from seeknal_core.contract.errors import ConfigError
from seeknal_core.plan.replacing import Replaced


def confirm(question: str) -> bool:
    """Ask on the terminal, on standard error.

    Raises:
        ConfigError: there is no terminal to ask on; with the command that needs none.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{question} There is no terminal to ask on, so nothing was done",
            f"answer with --yes: {_again()}",
        )
    return ask(question)


def confirm_replacing(tables: Sequence[Replaced], *, yes: bool) -> None:
    """Report which tables lose rows to a full refresh, and ask.

    Raises:
        ConfigError: the answer is no, or there is nobody to ask. Nothing was written.
    """
    if not tables:
        return
    for table in tables:
        say(str(table), err=True)
    if yes:
        return
    known = sum(table.rows or 0 for table in tables)
    many = counted(known, "row") if all(table.rows is not None for table in tables) else "the rows"
    if not confirm(f"Delete {many} of {counted(len(tables), 'table')}?"):
        raise ConfigError(
            "nothing was written", "without --full-refresh the tables keep their rows"
        )


def _again() -> str:
    """Return the command as it was typed, with ``--yes``."""
    context = click.get_current_context(silent=True)
    typed: Sequence[str] = context.obj.get("typed", ()) if context and context.obj else ()
    return shlex.join(("seeknal", *typed, "--yes"))
