"""The page about commands says what the commands, exit codes and modes say themselves."""

from __future__ import annotations

import pytest

from meta import commands_page
from seeknal_core.contract.errors import ExitCode
from seeknal_core.contract.modes import Mode


def test_the_page_is_made_from_the_commands() -> None:
    assert commands_page.PAGE.read_text("utf-8") == commands_page.page(), (
        "run: python tests/meta/commands_page.py"
    )


def test_every_command_is_on_the_page() -> None:
    text = commands_page.PAGE.read_text("utf-8")
    names = [name for name, _, _ in commands_page.commands()]
    assert "seeknal env promote" in names
    assert not [name for name in names if f"\n## {name}\n" not in text]


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_on_the_page(code: ExitCode) -> None:
    assert f"| {code.value} | {code.meaning} |" in commands_page.PAGE.read_text("utf-8")


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_is_on_the_page(mode: Mode) -> None:
    assert f"| `{mode.value}` |" in commands_page.PAGE.read_text("utf-8")
