"""What ``--help`` says: whole lines at 80 columns, in plain words."""

from __future__ import annotations

import re

import click
import pytest

from support.advice import all_commands, mistake, printed

#: Phrases that the project doesn't use: see "Language" in CONTRIBUTING.md.
FORBIDDEN = re.compile(
    r"\b(mend(s|ed)?|anew|stands? twice|asks? (a|the|no|of) (store|server)|asking no|"
    r"(tells?|says?|gives?) of|outside the promise|goes about|what is had|begins? a|"
    r"part writes|whatever moved|unseen|makes? anew)\b"
)


def shown(name: str) -> str:
    """Return a command's help as a terminal of 80 columns shows it."""
    command = all_commands()[name]
    root = click.Context(all_commands()[""], info_name="seeknal", terminal_width=80)
    context = click.Context(command, info_name=name, parent=root, terminal_width=80)
    return command.get_help(context)


@pytest.mark.parametrize("name", all_commands())
def test_help_fits_a_narrow_terminal_uncut(name: str) -> None:
    text = shown(name)
    assert "..." not in re.sub(r"\[ARGS\]\.\.\.|var\(\.\.\.\)", "", text)
    assert max(map(len, text.splitlines())) <= 80
    if isinstance(all_commands()[name], click.Group):
        listed = text.partition("Commands:\n")[2].splitlines()
        assert len(listed) == len([each for each in all_commands() if _is_below(each, name)])
        assert all(re.fullmatch(r"  [a-z]+ +[A-Z].*\.", line) for line in listed), listed


def _is_below(name: str, group: str) -> bool:
    return name != "" and name.rpartition(" ")[0] == group


@pytest.mark.parametrize("name", all_commands())
def test_every_command_and_option_says_what_it_does_in_plain_words(name: str) -> None:
    command = all_commands()[name]
    assert command.help and re.match(r"[A-Z][a-z]+,? .*\.(\n|$)", command.help)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help and re.fullmatch(r"[A-Za-z].*\.", parameter.help), parameter.name
    text = " ".join(shown(name).split())
    assert not FORBIDDEN.search(text.lower()), FORBIDDEN.search(text.lower())


@pytest.mark.parametrize("name", all_commands())
def test_commands_and_options_that_help_names_exist(name: str) -> None:
    for line in shown(name).splitlines():
        for words in printed(line.strip()) if line.strip().startswith("seeknal ") else ():
            assert mistake(words) == ""
