"""Tables and counts, as wide as the terminal or plain."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seeknal_core.cli.output import (
    cell,
    say,
    say_table,
)

if TYPE_CHECKING:
    pass

#: Characters between two columns, and those before the first and after the last.
_GAP = 3

_WIDTH_WHEN_PIPED = 120


def counted(count: int, word: str) -> str:
    """Return a number and its noun: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _width() -> int:
    """Return how many characters a line may have: the terminal's, or a fixed number in a log."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_WHEN_PIPED


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
