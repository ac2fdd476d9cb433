"""What a person sees: plain lines, a live display on a terminal, closing tables.

rich is imported only where something is drawn, which is when standard output
is a terminal or a table is printed.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seeknal_core.apply.report import (
    NodeOutcome,
    NodeStatus,
    Reporter,
    RunReport,
    TargetOutcome,
    TargetStatus,
)
from seeknal_core.cli.output import (
    cell,
    indented,
    say,
    say_above,
    say_below,
    say_running,
    say_table,
)
from seeknal_core.workspace.session import Session

if TYPE_CHECKING:
    from seeknal_core.apply.preview import Preview

#: What needs no line of its own: nothing was done, or many views were made at once.
_QUIET = (TargetStatus.CURRENT, TargetStatus.LINKED, TargetStatus.LEFT_OUT)

_WIDTH_WHEN_PIPED = 120
_WIDTH_FOR_ALL = 110


def profile_line(session: Session) -> str:
    """Return the first line of every command that touches a store."""
    profile = session.profile
    environment = session.environment
    said = f"names prefixed with {environment.prefix}"
    line = f"project {session.settings.name}, environment {environment.name}"
    line += f", profile: {profile.reason}"
    return f"{line}, {said}" if environment.prefix and said not in line else line


class LineReporter:
    """Says one line per finished thing; what was reused only if asked for more."""

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose

    def started(self, nodes: int) -> None:
        """Say nothing yet."""

    def node_started(self, id: str) -> None:
        """Say nothing: the end is what counts in a log."""

    def target_started(self, name: str) -> None:
        """Say nothing: the end is what counts in a log."""

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
    """Give the reporter that fits where output goes."""
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
        """Say nothing; the document has it."""

    def target_ended(self, outcome: TargetOutcome) -> None:
        """Say nothing; the document has it."""


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


def counted(count: int, word: str) -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def render_report(report: RunReport, *, verbose: bool) -> None:
    """Print the closing tables and one sentence; what was left as it was, only if asked."""
    nodes = [node for node in report.nodes if verbose or node.status is not NodeStatus.REUSED]
    if nodes:
        print_table(
            ("node", "status", "rows", "seconds"),
            [
                (
                    node.id,
                    node.status.value,
                    "" if node.rows is None else f"{node.rows:,}",
                    f"{node.seconds:.2f}",
                )
                for node in nodes
            ],
            numeric=2,
        )
    quiet = () if verbose else _QUIET
    shown = [target for target in report.targets if target.status not in quiet]
    if shown:
        # What the lines above have said already gives way to whole names.
        wide = _width() >= _WIDTH_FOR_ALL
        print_table(
            (
                "target",
                *(("node", "mode") if wide else ()),
                *("status", "written", "rows", "seconds"),
            ),
            [
                (
                    target.name,
                    *((target.node, target.mode) if wide else ()),
                    target.status.value,
                    "" if target.rows_written is None else f"{target.rows_written:,}",
                    "" if target.rows_after is None else f"{target.rows_after:,}",
                    f"{target.seconds:.2f}",
                )
                for target in shown
            ],
            numeric=3,
        )
    say(closing_line(report))


def _width() -> int:
    """Return how many characters a line may have: the terminal's, or a fixed number in a log."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_WHEN_PIPED


def status_of(report: RunReport) -> str:
    """Return in a word how a run ended."""
    if report.interrupted:
        return "interrupted"
    return "failed" if report.failed else "refused" if report.refused else "done"


def closing_line(report: RunReport) -> str:
    """Return the last line: what happened, in numbers."""
    parts = []
    for node_status in NodeStatus:
        count = sum(node.status is node_status for node in report.nodes)
        if count:
            parts.append(f"{count} {node_status.value}")
    line = counted(len(report.nodes), "node")
    line += f" ({', '.join(parts)})" if parts else ""
    parts = []
    for status in TargetStatus:
        count = sum(target.status is status for target in report.targets)
        if count:
            parts.append(f"{count} {status.value}")
    line += "; " + counted(len(report.targets), "target")
    line += f" ({'; '.join(parts)})" if parts else ""
    if any(target.status is TargetStatus.LEFT_OUT for target in report.targets):
        line += "; --all-targets writes what is left out"
    end = {"interrupted": "stopped"}.get(status_of(report), status_of(report))
    line = f"{end} in {report.seconds:.1f} s: {line}"
    if report.failed or report.interrupted:
        first = "fix what failed and " if report.failed else ""
        line += f"\nNext: {first}run the same command again; what is done is not repeated"
    return line


def render_preview(result: Preview) -> None:
    """Print what a run would do."""
    print_table(
        ("node", "would", "because"),
        [(step.id, step.action.value, step.reason) for step in result.nodes],
    )
    if result.targets:
        print_table(
            ("target", "node", "connection", "mode", "would", "because"),
            [
                (step.name, step.node, step.connection, step.mode, step.action.value, step.reason)
                for step in result.targets
            ],
        )
    say("dry run: nothing was connected, read or written")


def print_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: int = 0,
    redacted: bool = True,
) -> None:
    """Print a table; the last `numeric` columns are right-aligned.

    Args:
        redacted: mask secrets; not in rows that the user asked for.
    """
    header = [cell(each, redacted=redacted) for each in header]
    rows = [[cell(each, redacted=redacted) for each in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if sum(widths) + _GAP * len(widths) <= _width() and all(
        each.isascii() and each.isprintable() for row in rows for each in row
    ):
        _print_plain(header, rows, widths, numeric)
    else:
        _print_folded(header, rows, numeric)


#: Characters between two columns, and those before the first and after the last.
_GAP = 3


def _print_plain(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], numeric: int
) -> None:
    """Print a table that fits: rich takes a millisecond a row, and there may be many."""
    left = len(header) - numeric

    def line(cells: Sequence[str]) -> str:
        aligned = [
            each.ljust(width) if place < left else each.rjust(width)
            for place, (each, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f" {(' ' * _GAP).join(aligned)}".rstrip()

    rule = "\u2500" * (sum(widths) + _GAP * (len(widths) - 1) + 2)
    # Secrets are masked in the cells already, and may stand in rows that were asked for.
    say("\n".join(["", line(header), rule, *map(line, rows), ""]), redacted=False)


def _print_folded(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: int) -> None:
    """Print a table whose cells may need several lines, or be of any script."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(header):
        right = index >= len(header) - numeric
        table.add_column(Text(title), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    say_table(table, _width())
