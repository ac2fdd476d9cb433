"""Looking at each CSV file of a source before any is read: its form, and that all agree.

DuckDB takes one form for all files of a list, from the first; here each file has its own, and
one that differs is an error that names both.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import attrs

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.sources.common import Reading, check_gzip
from seeknal_core.engine.sources.csv_records import (
    Dialect,
    Splitter,
    encoding_of,
    open_bytes,
)
from seeknal_core.project.formats import CsvParams

#: What a CSV file may be delimited by if nobody says; the first wins a draw.
_DELIMITERS = (",", ";", "\t", "|")
_START_BYTES = 65_536
_SHOWN_NAMES = 8
#: DuckDB's time to plan a query grows with the square of its columns.
_MOST_COLUMNS = 4_000


@attrs.frozen(kw_only=True)
class Look:
    """What a file is like.

    ``lines_above`` counts the lines down to the header's last; ``plain`` says that DuckDB can
    read the file as it is: UTF-8, no comments, no quotes above the first row. ``packed`` says
    that it is compressed.
    """

    path: Path
    label: str
    encoding: str
    dialect: Dialect
    names: tuple[str, ...]
    has_header: bool
    lines_above: int
    plain: bool
    packed: bool


def look(reading: Reading, path: Path) -> Look | None:
    """Look at a file's first lines; None where it is empty.

    Raises:
        EngineError: it is not in its encoding, or its header names no columns or one twice.
    """
    params = reading.params
    assert isinstance(params, CsvParams)
    start, packed = _start(reading, path)
    if packed:
        check_gzip(reading, path)
    encoding = encoding_of(start, params.encoding)
    text = _decoded(reading, path, start, encoding)
    if not text.strip():
        return None
    quote = '"' if params.quote is None else params.quote
    dialect = Dialect(
        # Unquoted in YAML, \\t is two characters; DuckDB takes them for a tab, too.
        delimiter=(params.delimiter or ",").replace("\\t", "\t"),
        quote=quote,
        escape=quote if params.escape is None else params.escape,
        comment=params.comment or "",
        skip=params.skip or 0,
    )
    records = Splitter(dialect).records(io.StringIO(text, newline=""))
    first = next((record for record in records if record.text.strip()), None)
    if first is None:
        return None
    if params.delimiter is None:
        dialect = attrs.evolve(dialect, delimiter=_delimiter(first.text, quote))
    width = first.text.count(dialect.delimiter) + 1
    if width > _MOST_COLUMNS and not (quote and quote in first.text):
        raise _too_wide(reading, path, width, first.line)
    fields = Splitter(dialect).fields(first.text)
    if len(fields) > _MOST_COLUMNS:
        raise _too_wide(reading, path, len(fields), first.line)
    header_lines = len(first.text.splitlines()) or 1
    above = first.line - 1 + (header_lines if params.has_header else 0)
    lines = text.splitlines()[:above]
    plain = (
        encoding == "utf-8-sig"
        and not params.comment
        and packed == (path.suffix == ".gz")
        and header_lines == 1
        # DuckDB minds quotes in the lines that it skips.
        and not (quote and any(line.count(quote) % 2 for line in lines))
    )
    return Look(
        path=path,
        label=reading.label(path),
        encoding=encoding,
        dialect=dialect,
        names=_names(reading, path, fields, first.line, params),
        has_header=params.has_header,
        lines_above=above,
        plain=plain,
        packed=packed,
    )


def _too_wide(reading: Reading, path: Path, width: int, line: int) -> EngineError:
    return reading.error(
        path,
        f"has {width:,} columns, more than {_MOST_COLUMNS:,}",
        "split the file, or write its values as rows of key, name and value",
        line=line,
    )


def _start(reading: Reading, path: Path) -> tuple[bytes, bool]:
    """Return a file's first bytes, and whether it is compressed."""
    try:
        with open_bytes(path) as stream:
            start = stream.read(_START_BYTES)
            packed = isinstance(stream, gzip.GzipFile)
            # A header may be longer than that; a line of data is no matter.
            while start and b"\n" not in start and b"\r" not in start:
                more = stream.read(_START_BYTES)
                if not more:
                    break
                start += more
            return start, packed
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise reading.error(path, "is no whole gzip file", "fix the file") from None


def _decoded(reading: Reading, path: Path, start: bytes, encoding: str) -> str:
    try:
        # The last character may be cut.
        return codecs.getincrementaldecoder(encoding)("strict").decode(start)
    except UnicodeError as error:
        # That UTF-16 has no mark of its order is said without a place.
        place = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = start[:place].count(b"\n") + 1
        raise not_encoded(reading, path, encoding, line) from None


def not_encoded(reading: Reading, path: Path, encoding: str, line: int = 0) -> EngineError:
    """Return the error for a file that is not in its encoding."""
    name = "UTF-8" if encoding == "utf-8-sig" else encoding
    hint = "write params.encoding, e.g. latin-1, cp1252 or utf-16"
    return reading.error(path, f"is not {name}", hint, line=line)


def unclosed_quote(reading: Reading, path: Path, line: int) -> EngineError:
    """Return the error for a quote that is opened and never closed."""
    hint = "fix the file, or write params.quote and params.escape ('' for none)"
    return reading.error(path, "a quote is not closed", hint, line=line)


def _delimiter(record: str, quote: str) -> str:
    mark = re.escape(quote)
    bare = re.sub(f"{mark}[^{mark}]*{mark}", "", record) if quote else record
    return max(_DELIMITERS, key=bare.count)


def _names(
    reading: Reading, path: Path, fields: Sequence[str], line: int, params: CsvParams
) -> tuple[str, ...]:
    if params.columns is not None:
        if len(params.columns) != len(fields):
            raise reading.error(
                path,
                f"has {len(fields)} columns, and params.columns names {len(params.columns)}",
                "name each column of the file",
                line=line,
            )
        return params.columns
    if not params.has_header:
        return tuple(f"column{index}" for index in range(len(fields)))
    names = tuple(field.strip() or f"column{index}" for index, field in enumerate(fields))
    if any("\0" in name for name in names):
        hint = "fix the file, or write params.encoding, e.g. utf-16-le"
        raise reading.error(path, "the header holds a NUL character", hint, line=line)
    counted = Counter(name.casefold() for name in names)
    twice = list(dict.fromkeys(name for name in names if counted[name.casefold()] > 1))
    if twice:
        raise reading.error(
            path,
            f"names more than one column {', '.join(map(repr, twice))}",
            "name each column once, or write params: {header: true, columns: [name, …]}",
            line=line,
        )
    return names


def check_agreement(reading: Reading, looks: Sequence[Look]) -> None:
    """Refuse files that are not of the first one's form.

    Raises:
        EngineError: with both names.
    """
    params = reading.params
    assert isinstance(params, CsvParams)
    first = looks[0]
    wanted = {name.casefold(): name for name in first.names}
    for other in looks[1:]:
        own = "fix it, or read it by a source of its own"
        delimiters = (first.dialect.delimiter, other.dialect.delimiter)
        if min(len(first.names), len(other.names)) > 1 and delimiters[0] != delimiters[1]:
            raise reading.error(
                other.path,
                f"is delimited by {delimiters[1]!r}, and {first.label} by {delimiters[0]!r}",
                own,
            )
        found = {name.casefold(): name for name in other.names}
        if found.keys() == wanted.keys():
            continue
        if not found.keys() & wanted.keys():
            raise reading.error(
                other.path,
                f"begins with {_shown(other.names)}, and {first.label} has the columns"
                f" {_shown(first.names)}: it has no header, another delimiter or other columns",
                own,
                line=other.lines_above,
            )
        if not other.has_header:
            raise reading.error(
                other.path,
                f"has {len(found)} columns, and {first.label} has {len(wanted)}",
                own,
            )
        if not params.union_by_name:
            missing = [name for key, name in wanted.items() if key not in found]
            extra = [name for key, name in found.items() if key not in wanted]
            said = [
                f"has no column {_shown(missing)}, which {first.label} has" if missing else "",
                f"has the column {_shown(extra)}, which {first.label} has not" if extra else "",
            ]
            raise reading.error(
                other.path,
                " and ".join(filter(None, said)),
                "write params.union_by_name: true to allow more or fewer columns",
            )


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:_SHOWN_NAMES])
    return shown + (", …" if len(names) > _SHOWN_NAMES else "")
