"""What a person sees while nodes and targets are worked on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seeknal_core.apply.report import (
    NodeOutcome,
    NodeStatus,
    Reporter,
    TargetOutcome,
    TargetStatus,
)
from seeknal_core.cli.output import (
    indented,
    say,
    say_above,
    say_below,
    say_running,
)
from seeknal_core.cli.tables import counted

if TYPE_CHECKING:
    pass

#: What needs no line of its own: nothing was done, or many views were made at once.
_QUIET = (TargetStatus.CURRENT, TargetStatus.LINKED, TargetStatus.LEFT_OUT)


class LineReporter:
    """Says one line per finished thing; what was reused only if asked for more."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose

    def started(self, nodes: int) -> None:
        """Print nothing yet."""

    def node_started(self, id: str) -> None:
        """Print nothing: the end is what counts in a log."""

    def target_started(self, name: str) -> None:
        """Print nothing: the end is what counts in a log."""

    def node_ended(self, outcome: NodeOutcome) -> None:
        """Print a node's end."""
        if outcome.status is NodeStatus.REUSED and not self._verbose:
            return
        self._print(node_line(outcome), failed=outcome.status is NodeStatus.FAILED)

    def target_ended(self, outcome: TargetOutcome) -> None:
        """Print a target's end."""
        if outcome.status in _QUIET and not self._verbose:
            return
        bad = outcome.status in (TargetStatus.FAILED, TargetStatus.REFUSED)
        self._print(target_line(outcome), failed=bad)

    def warn(self, message: str) -> None:
        """Print a warning, to standard error."""
        say_below("warning", message, err=True)

    def _print(self, line: str, *, failed: bool) -> None:
        say(line, red=failed, err=failed)


class LiveReporter(LineReporter):
    """Lines as in a log, and below them what is running now."""

    def __init__(self, verbose: bool, progress: Any) -> None:
        super().__init__(verbose)
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._running: list[str] = []

    @property
    def display(self) -> Any:
        """What is drawn below the lines."""
        return self._progress

    def started(self, nodes: int) -> None:
        """Set the bar's length."""
        self._progress.update(self._task, total=nodes)

    def node_started(self, id: str) -> None:
        """Show a node as running."""
        self._running.append(id)
        self._show()

    def target_started(self, name: str) -> None:
        """Show a target as being written."""
        self._running.append(name)
        self._show()

    def node_ended(self, outcome: NodeOutcome) -> None:
        """Move the bar."""
        self._ended(outcome.id)
        self._progress.advance(self._task)
        super().node_ended(outcome)

    def target_ended(self, outcome: TargetOutcome) -> None:
        """Take the target from the display."""
        self._ended(outcome.name)
        super().target_ended(outcome)

    def warn(self, message: str) -> None:
        """Print a warning above the display."""
        say_above(self._progress, f"warning: {indented(message)}", "yellow")

    def _ended(self, name: str) -> None:
        if name in self._running:
            self._running.remove(name)
        self._show()

    def _show(self) -> None:
        say_running(self._progress, self._task, ", ".join(self._running[:3]))

    def _print(self, line: str, *, failed: bool) -> None:
        say_above(self._progress, line, "red" if failed else None)


@contextlib.contextmanager
def make_reporter(*, quiet: bool, verbose: bool) -> Iterator[Reporter]:
    """Return the reporter that fits where output goes."""
    if quiet:
        yield _Quiet()
    elif sys.stdout.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, transient=True) as progress:
            yield LiveReporter(verbose, progress)
    else:
        yield LineReporter(verbose)


@contextlib.contextmanager
def paused(reporter: Reporter) -> Iterator[None]:
    """Take the display of what is running away while a question is asked."""
    display = reporter.display if isinstance(reporter, LiveReporter) else None
    if display is not None:
        display.stop()
    try:
        yield
    finally:
        if display is not None:
            display.start()


class _Quiet(LineReporter):
    """For ``--json``: warnings to standard error, nothing else."""

    def __init__(self) -> None:
        super().__init__(verbose=False)

    def node_ended(self, outcome: NodeOutcome) -> None:
        """Print nothing; the document has it."""

    def target_ended(self, outcome: TargetOutcome) -> None:
        """Print nothing; the document has it."""


def node_line(outcome: NodeOutcome) -> str:
    """Return one line about a node's end."""
    line = f"{outcome.id}: {outcome.status.value}"
    if outcome.rows is not None:
        line += f", {counted(outcome.rows, 'row')} in {outcome.seconds:.2f} s"
    # The engine's messages begin with the node they are about, and so does the line.
    return _with_detail(line, outcome.detail.removeprefix(f"{outcome.id}: "), outcome.hint)


def target_line(outcome: TargetOutcome) -> str:
    """Return one line about a target's end."""
    line = f"{outcome.name} <- {outcome.node}: {outcome.status.value}"
    if outcome.rows_written is not None:
        line += f", {counted(outcome.rows_written, 'row')} in {outcome.seconds:.2f} s"
    if outcome.status in (TargetStatus.WRITTEN, TargetStatus.LINKED, TargetStatus.LEFT_OUT):
        line += f" ({outcome.reason})"
    return _with_detail(line, outcome.detail.removeprefix(f"{outcome.name}: "), outcome.hint)


def _with_detail(line: str, detail: str, hint: str) -> str:
    if detail:
        line += f": {detail}" if "\n" not in detail else ":\n  " + detail.replace("\n", "\n  ")
    return f"{line}\n  Next: {hint}" if hint else line
