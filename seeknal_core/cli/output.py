"""The one way out: everything that a command prints passes through here.

Secrets are masked, and what would steer a terminal is written out, in pipes and logs too.
No other module prints.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from typing import IO, Any, TextIO

import click

from seeknal_core.contract.shown import shown, shown_json, shown_line
from seeknal_core.contract.types import redact

#: How pydantic quotes the value that it refused, in the text of its error.
_INPUT = re.compile(r"(\binput_value=).*?(?=, input_type=|$)", re.DOTALL | re.MULTILINE)


@contextlib.contextmanager
def output_for(as_json: bool) -> Iterator[TextIO]:
    """Return the stream for the result.

    With ``--json`` that is nobody else's meanwhile: what Python nodes print goes
    to standard error.
    """
    stream = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield stream


def say(text: str = "", *, err: bool = False, red: bool = False, redacted: bool = True) -> None:
    """Print text, which may have several lines.

    Args:
        err: to standard error.
        redacted: mask secrets; not in rows that the user asked for.
    """
    line = shown(redact(text) if redacted else text)
    click.echo(click.style(line, fg="red") if red else line, err=err)


def printable(text: str) -> str:
    """Return text as `say` prints it, for logs."""
    return without_input(shown(redact(text)))


def without_input(text: str) -> str:
    """Return a traceback without what a validation quotes of its input.

    A catalog's server names the files that its client reads and validates.
    """
    return _INPUT.sub(r"\1…", text)


def catch_logs() -> None:
    """Have printable what other libraries log, warn of, and fail with in their threads."""
    import logging
    import threading
    import traceback
    import warnings

    class Printable(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        """Return whether a message is new: a profile may be resolved twice."""
        text = record.getMessage()
        new = text not in said
        said.add(text)
        return new

    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Printable("%(message)s"))
        logging.lastResort.filters[:] = [is_new]
    threading.excepthook = lambda args: say(
        without_input("".join(traceback.format_exception(args.exc_value))), err=True
    )

    def warn(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        say_below("warning", f"{category.__name__}: {message}", err=True)

    warnings.showwarning = warn


def say_below(word: str, text: str, *, err: bool = False) -> None:
    """Print a message after a word and a colon, further lines of it indented.

    So no line of a message that holds words of others looks like one of ours.
    """
    say(f"{word}: {indented(text)}", err=err)


def indented(text: str) -> str:
    """Return text with all lines but the first indented."""
    return "\n  ".join(text.splitlines()) if "\n" in text else text


def say_json(document: object, *, file: IO[str] | None = None, redacted: bool = True) -> None:
    """Print a JSON document, or its text.

    Args:
        file: the stream of `output_for`; standard output if left out.
        redacted: mask secrets; not in rows that the user asked for.
    """
    text = document if isinstance(document, str) else as_json(document)
    click.echo(shown_json(redact(text) if redacted else text), file=file)


def as_json(document: object) -> str:
    """Return a document as JSON for people and programs."""
    import json

    return json.dumps(document, ensure_ascii=False, indent=2, default=str)


def say_usage(error: click.ClickException) -> None:
    """Print what click says about wrong options."""
    text = io.StringIO()
    error.show(file=text)
    say(text.getvalue().rstrip("\n"), err=True)


def ask(question: str) -> bool:
    """Ask a question with the answers yes and no, on standard error."""
    return click.confirm(shown(redact(question)), err=True)


def say_above(progress: Any, text: str, style: str | None = None) -> None:
    """Print text above a live display of rich."""
    progress.console.print(shown(redact(text)), style=style, markup=False, highlight=False)


def say_running(progress: Any, task: Any, names: str) -> None:
    """Show names in a live display of rich."""
    from rich.markup import escape

    progress.update(task, description=escape(shown_line(redact(names))))


def say_table(table: Any, width: int) -> None:
    """Print a table of rich, whose cells are safe to print."""
    from rich.console import Console

    Console(width=width, highlight=False).print(table)


def cell(text: str, *, redacted: bool = True) -> str:
    """Return the text of a table's cell as it is safe to print: one line."""
    return shown_line(redact(text) if redacted else text)
