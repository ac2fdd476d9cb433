"""Follow a page that teaches by files and commands, as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

_FENCE = re.compile(r"^```(\w+)(?: (file|in)=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@attrs.frozen(kw_only=True)
class File:
    """A file that the page shows: a fence with ``file=PATH``."""

    path: str
    text: str


@attrs.frozen(kw_only=True)
class Command:
    """A command that the page shows: a line with ``$`` in a fence ``console in=FOLDER``.

    ``answer`` holds the lines below it. They are among those that the command prints, in
    this order; ``…`` stands for anything, and blanks count as one.
    """

    folder: str
    line: str
    answer: tuple[str, ...]


def steps(page: str) -> Iterator[File | Command]:
    """Give a page's files and commands, in its order; other fences are for the eye."""
    for language, kind, value, text in _FENCE.findall(page):
        if kind == "file":
            yield File(path=value, text=text)
        elif kind == "in":
            assert language == "console", f"a fence in={value} is {language}, not console"
            yield from _commands(value, text)


def _commands(folder: str, text: str) -> Iterator[Command]:
    for part in text.removeprefix("$ ").split("\n$ "):
        line, *answer = part.strip().splitlines()
        yield Command(folder=folder, line=line, answer=tuple(answer))


def missing(answer: tuple[str, ...], printed: str) -> str:
    """Return the first line of an answer that was not printed where it should be, or nothing."""
    lines = iter(printed.splitlines())
    for wanted in answer:
        words = ".*".join(re.escape(_plain(part)) for part in wanted.strip().split("…"))
        if not any(re.fullmatch(words, _plain(line.strip())) for line in lines):
            return wanted
    return ""


def _plain(line: str) -> str:
    return re.sub(r"\s+", " ", line)


def follow(page: str, root: Path, environ: Mapping[str, str]) -> Iterator[tuple[Command, str]]:
    """Write the files and run the commands of a page; give each command with what it printed.

    Raises:
        AssertionError: a command failed, or did not print what the page shows.
    """
    for step in steps(page):
        if isinstance(step, File):
            path = root / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8")
            continue
        done = subprocess.run(
            ["sh", "-c", step.line],
            cwd=root / step.folder,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {step.line}\n{printed}"
        lost = missing(step.answer, printed)
        assert not lost, f"$ {step.line}\ndid not print {lost!r}:\n{printed}"
        yield step, printed
