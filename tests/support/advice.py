"""The commands that messages advise, and what is wrong with them."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

import click

#: What stands where a message fills something in.
FILLED = "filled"
#: Names of locks and keys that begin with the same word.
NO_COMMANDS = ("prepared", "schema")
#: Where a command ends: what follows is the sentence around it, or another command.
_END = re.compile(r"&&|[;:,()|'\"`\n]|\. |\.$| \(| then | or | and ")
#: Options of other programs that messages name.
_OTHERS = {
    "--cached": "git rm",
    "--no-split-index": "git update-index",
    "--upgrade": "pip install",
    "--locale": "initdb",
    "--no-sync": "initdb",
    "--pwfile": "initdb",
    "--single": "postgres",
    "--version": "any program",
    "--seeknal-report": "pytest",
}


@functools.cache
def root_command() -> click.Group:
    """Return the command ``seeknal``."""
    from seeknal_core.cli.main import cli

    return cli


@functools.cache
def all_commands() -> Mapping[str, click.Command]:
    """Return every command by its words: ``env plan``."""
    found: dict[str, click.Command] = {"": root_command()}
    context = click.Context(root_command())
    for name in root_command().list_commands(context):
        command = root_command().get_command(context, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": each for inner, each in command.commands.items()}
    return found


@functools.cache
def all_options() -> frozenset[str]:
    """Return the long options of all commands."""
    return frozenset(
        [
            "--help",
            *(
                name
                for command in all_commands().values()
                for parameter in command.params
                if isinstance(parameter, click.Option)
                for name in parameter.opts
            ),
        ]
    )


def commands(text: str) -> Iterator[str]:
    """Yield the commands in a text, each with the words of the sentence that follow it."""
    for found in re.finditer(r"\bseeknal (?=[a-z-])", text):
        rest = text[found.end() :]
        end = _END.search(rest)
        words = (rest[: end.start()] if end else rest).strip()
        if words and not words.startswith(NO_COMMANDS):
            yield words


def printed(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line that was printed, whose words are quoted for a shell."""
    for found in re.finditer(r"\bseeknal (?=[a-z-])", line):
        lexer = shlex.shlex(line[found.end() :], posix=True, punctuation_chars=";()&|")
        lexer.whitespace_split = True
        lexer.commenters = ""
        words: list[str] = []
        try:
            for word in lexer:
                if set(word) <= set(";()&|"):
                    break
                words.append(word.rstrip(",:"))
                if word.endswith((",", ":")):
                    break
        except ValueError:
            pass  # An apostrophe of the sentence that follows.
        yield words


def mistake(words: Sequence[str]) -> str:
    """Return what is wrong with a command, read as the command line reads it, or nothing."""
    command: click.Command = root_command()
    words = list(words)
    while isinstance(command, click.Group) and words:
        options = {name: p for p in command.params for name in p.opts}
        if words[0] in options:
            flag = getattr(options[words[0]], "is_flag", False)
            words = words[1 if flag else 2 :]
            continue
        # `seeknal promote`, which stands for `seeknal env promote`, is looked up like that.
        known = command.get_command(click.Context(command), words[0])
        if known is None:
            return f"there is no command {words[0]!r}"
        command, words = known, words[1:]
    return _wrong_options(command, words)


def _wrong_options(command: click.Command, words: list[str]) -> str:
    options = {name: p for p in command.params if isinstance(p, click.Option) for name in p.opts}
    arguments = sum(abs(p.nargs) for p in command.params if isinstance(p, click.Argument))
    while words:
        word, words = words[0], words[1:]
        name, _, value = word.partition("=")
        if name.startswith("-") and name != "-":
            if name not in options:
                return f"{command.name} has no option {name}"
            option = options[name]
            if isinstance(option.type, click.Choice) and value and value not in option.type.choices:
                return f"{name} takes no {value!r}"
            if not option.is_flag and option.flag_value is None and not value:
                words = words[1:]
        elif arguments:
            arguments -= 1
        else:
            # From here on it is the sentence again.
            later = [w for w in words if w.startswith("--") and w.strip("-,.") != ""]
            unknown = [w for w in later if w.partition("=")[0].rstrip(",.") not in options]
            return f"{command.name} has no option {unknown[0]}" if unknown else ""
    return ""


def unknown_options(text: str) -> list[str]:
    """Return the long options in a text that no command has."""
    found = re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text)
    return [name for name in found if name not in all_options() and name not in _OTHERS]


def check_printed(said: str, typed: Sequence[str]) -> None:
    """Check the commands of everything that a command printed under ``Next``.

    Each is understood, and names the profile again that was named.

    Args:
        typed: the words of the command itself.
    """
    lines = [line for line in said.splitlines() if "Next: " in line]
    for line in lines:
        advice = line.partition("Next: ")[2]
        for words in printed(advice):
            wrong = mistake(words)
            assert not wrong, f"{line}\n{wrong}"
        if "--profile" in typed:
            _check_profiles(advice, typed)


def _check_profiles(advice: str, typed: Sequence[str]) -> None:
    from seeknal_core.workspace.again import with_profiles

    profile = typed[list(typed).index("--profile") + 1]
    names = [word for word in typed if not word.startswith("-")]
    if "--env" in typed:
        environment = typed[list(typed).index("--env") + 1]
    elif names[:2] == ["env", "promote"]:
        environment = names[3] if len(names) > 3 and names[3] != profile else "prod"
    else:
        environment = names[2] if names[:1] == ["env"] and names[2] != profile else "prod"
    completed = with_profiles(advice, {environment: profile}, "prod")
    assert completed == advice, f"{advice}\nlacks the profile that was given: {completed}"
