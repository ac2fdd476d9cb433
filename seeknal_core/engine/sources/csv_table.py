"""The CSV files of a source as one table of texts, in SQL.

Column ``vN`` is the N-th column's text, NULL where a file has no such column; ``_file`` is the
path that was read. Files are read as they are, or from a copy in UTF-8 where DuckDB would not
read them rightly.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import attrs

from seeknal_core.engine import quoting
from seeknal_core.engine.sources.csv_look import Look, not_encoded, unclosed_quote
from seeknal_core.engine.sources.csv_records import Dialect, Splitter, UnclosedQuote, rewrite
from seeknal_core.engine.sources.reading import Reading
from seeknal_core.formats import CsvParams

#: A text that no file holds, for no text at all being NULL.
_NO_NULL = "\x00\x01seeknal\x01\x00"


@attrs.frozen(kw_only=True)
class Part:
    """A file and what is read of it: the file itself or a copy of its rows.

    ``dropped`` are the lines that the copy lacks because their records have another number of
    columns.
    """

    look: Look
    path: Path
    skip: int
    dropped: tuple[int, ...] = ()


@attrs.frozen(kw_only=True)
class Table:
    """The files as one table. ``names`` are the columns' names, in order."""

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    sql: str

    def part(self, path: str) -> Part:
        """Return the part that was read from a path."""
        return next(part for part in self.parts if str(part.path) == path)


def make_table(parts: Sequence[Part], params: CsvParams, names: Sequence[str] = ()) -> Table:
    """Write the SQL of a table of files.

    Args:
        names: the columns' names where they are known already.
    """
    if not names:
        found: dict[str, str] = {}
        for part in parts:
            for name in part.look.names:
                found.setdefault(name.casefold(), name)
        names = tuple(found.values())
    selects = []
    for (columns, dialect, skip), group in itertools.groupby(parts, _form):
        at = {name: f"c{index}" for index, name in enumerate(columns)}
        values = ", ".join(
            f"{at.get(name.casefold(), 'NULL::VARCHAR')} AS v{index}"
            for index, name in enumerate(names)
        )
        scan = _scan([part.path for part in group], len(columns), dialect, skip, params)
        selects.append(f"SELECT {values}, _file FROM {scan}")
    return Table(names=tuple(names), parts=tuple(parts), sql="\nUNION ALL ".join(selects))


def _form(part: Part) -> tuple[tuple[str, ...], Dialect, int]:
    return tuple(name.casefold() for name in part.look.names), part.look.dialect, part.skip


def _scan(files: Sequence[Path], width: int, dialect: Dialect, skip: int, params: CsvParams) -> str:
    nulls = ("",) if params.null is None else params.null or (_NO_NULL,)
    columns = ", ".join(f"c{index}: 'VARCHAR'" for index in range(width))
    arguments = [
        quoting.paths(map(str, files)),
        "auto_detect = false",
        "strict_mode = true",
        "header = false",
        "filename = '_file'",
        "hive_partitioning = false",
        f"skip = {skip}",
        f"delim = {quoting.text(dialect.delimiter)}",
        f"quote = {quoting.text(dialect.quote)}",
        f"escape = {quoting.text(dialect.escape)}",
        f"nullstr = {quoting.paths(nulls)}",
        "allow_quoted_nulls = false",
        f"columns = {{{columns}}}",
    ]
    return f"read_csv({', '.join(arguments)})"


def as_it_is(look: Look) -> Part:
    """Return a part that DuckDB reads from the file itself."""
    return Part(look=look, path=look.path, skip=look.lines_above)


def copied(reading: Reading, look: Look, folder: Path, *, drop_ragged: bool = False) -> Part:
    """Copy a file's rows to a file of UTF-8 with one kind of line ends, and nothing else.

    Args:
        drop_ragged: leave out records with another number of columns than the header.

    Raises:
        EngineError: the file is not in its encoding, or a quote is not closed.
    """
    number = reading.paths.index(look.path)
    target = folder / f"{number:06}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    width = len(look.names) if drop_ragged else 0
    splitter = Splitter(look.dialect)
    try:
        dropped = rewrite(look.path, target, look.encoding, splitter, look.has_header, width)
    except UnicodeError:
        raise not_encoded(reading, look.path, look.encoding) from None
    except UnclosedQuote as unclosed:
        raise unclosed_quote(reading, look.path, unclosed.line) from None
    return Part(look=look, path=target, skip=0, dropped=dropped)
