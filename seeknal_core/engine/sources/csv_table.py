"""The CSV files of a source as one table of texts, in SQL.

Column ``vN`` is the N-th column's text, NULL where a file has no such column; ``_file`` is the
path that was read. Files are read as they are, or from a copy in UTF-8 where DuckDB would not
read them rightly.
"""

from __future__ import annotations

import codecs
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from seeknal_core.engine import quoting
from seeknal_core.engine.sources.common import Reading
from seeknal_core.engine.sources.csv_look import Look, not_encoded, unclosed_quote
from seeknal_core.engine.sources.csv_records import Dialect, Splitter, UnclosedQuote, rewrite
from seeknal_core.project.formats import CsvParams

#: So many files of at most so many bytes are read as one.
_MANY, _SMALL_BYTES = 64, 65_536
#: Room for the line's end.
_MARGIN = 16
#: A text that no file holds, for no text at all being NULL.
_NO_NULL = "\x00\x01seeknal\x01\x00"


@attrs.frozen(kw_only=True)
class Part:
    """A file and what is read of it: the file itself or a copy of its rows.

    ``dropped`` are the lines that the copy lacks because their records have another number of
    columns. ``longest`` is the bytes of its longest row, where that is more than DuckDB takes
    unless it is told; else 0.
    """

    look: Look
    path: Path
    skip: int
    dropped: tuple[int, ...] = ()
    longest: int = 0


@attrs.frozen(kw_only=True)
class Table:
    """The files as one table. ``names`` are the columns' names, in order."""

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    sql: str

    def part(self, path: str) -> Part:
        """Return the part that was read from a path."""
        return next(part for part in self.parts if str(part.path) == path)


def make_table(
    parts: Sequence[Part],
    params: CsvParams,
    names: Sequence[str] = (),
    *,
    folder: Path | None = None,
    threads: int = 1,
) -> Table:
    """Write the SQL of a table of files.

    Args:
        names: the columns' names where they are known already.
        folder: where many small files may be copied into one; None for nowhere.
        threads: DuckDB's.

    Raises:
        UnclosedQuote: a small file cannot be copied.
    """
    if not names:
        found: dict[str, str] = {}
        for part in parts:
            for name in part.look.names:
                found.setdefault(name.casefold(), name)
        names = tuple(found.values())
    selects: list[str] = []
    for (columns, dialect, skip), group in itertools.groupby(parts, _form):
        at = {name: f"c{index}" for index, name in enumerate(columns)}
        values = ", ".join(
            f"{at.get(name.casefold(), 'NULL::VARCHAR')} AS v{index}"
            for index, name in enumerate(names)
        )
        alike = list(group)
        if folder is not None and _is_mergeable(alike, dialect):
            scans = [_merged(alike, folder / f"merged{len(selects)}.csv", len(columns), params)]
        else:
            # Beyond twice as many files as threads DuckDB reads each by one thread, and then
            # says nothing of a quote that is not closed: the rest of the file is gone.
            scans = [
                _scan(some, len(columns), dialect, skip, params)
                for some in _batches(alike, 2 * threads)
            ]
        selects += [f"SELECT {values}, _file FROM {scan}" for scan in scans]
    return Table(names=tuple(names), parts=tuple(parts), sql="\nUNION ALL ".join(selects))


def _form(part: Part) -> tuple[tuple[str, ...], Dialect, int]:
    return tuple(name.casefold() for name in part.look.names), part.look.dialect, part.skip


def _scan(parts: Sequence[Part], width: int, dialect: Dialect, skip: int, params: CsvParams) -> str:
    longest = max(part.longest for part in parts)
    paths = [part.path for part in parts]
    return _scan_files(paths, width, dialect, skip, params, longest=longest)


def _scan_files(
    files: Sequence[Path],
    width: int,
    dialect: Dialect,
    skip: int,
    params: CsvParams,
    *,
    longest: int = 0,
) -> str:
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
        f"nullstr = {quoting.texts(nulls)}",
        "allow_quoted_nulls = false",
        f"columns = {{{columns}}}",
    ]
    if longest:
        # The size of its buffers follows from it.
        arguments.append(f"max_line_size = {longest + _MARGIN}")
    return f"read_csv({', '.join(arguments)})"


def _batches(parts: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    for start in range(0, len(parts), size):
        yield parts[start : start + size]


def _is_mergeable(parts: Sequence[Part], dialect: Dialect) -> bool:
    """Return whether one copy of some files is read faster than they are: many and small."""
    if len(parts) < _MANY or dialect.quote == "" or len(dialect.delimiter) != 1:
        return False
    return all(
        part.path == part.look.path
        and not part.look.packed
        and part.path.stat().st_size <= _SMALL_BYTES
        for part in parts
    )


def _merged(parts: Sequence[Part], target: Path, width: int, params: CsvParams) -> str:
    """Copy the rows of small files into one, each behind its file's number; return its scan.

    DuckDB takes half a millisecond to open a file, each time a query reads it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    dialect = parts[0].look.dialect
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    with target.open("wb") as out:
        for number, part in enumerate(parts, 1):
            content = part.path.read_bytes().removeprefix(codecs.BOM_UTF8)
            lines = content.splitlines()[part.skip :]
            if quote in content:
                splitter = Splitter(attrs.evolve(dialect, skip=part.skip))
                text = io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")
                lines = []
                for record in splitter.records(text):
                    if record.is_open:
                        # It would take in the next file's rows.
                        raise UnclosedQuote(record.line)
                    lines.append(record.text.encode("utf-8", "surrogateescape"))
            # In quotes it is never NULL, whatever params.null lists.
            start = quote + str(number).encode() + quote + delimiter
            out.writelines(start + line + b"\n" for line in lines if line or width == 1)
    files = quoting.texts(str(part.path) for part in parts)
    scan = _scan_files([target], width + 1, dialect, 0, params)
    columns = ", ".join(f"c{index + 1} AS c{index}" for index in range(width))
    return f"(SELECT {columns}, list_extract({files}, c0::INTEGER) AS _file FROM {scan})"


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
