"""The records of a CSV file as text: where each begins, and how its fields are split.

Used for what DuckDB does not do: finding a header, naming the line of a bad row, and
rewriting files of other encodings, with comments or with mixed line ends. It is slower than
DuckDB by far, so whole files are read with it only where one of these is needed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TextIO

import attrs

#: A field with more lines than this is a quote that nobody closed.
_MOST_LINES = 20_000
_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


@attrs.frozen(kw_only=True)
class Dialect:
    """How a file's records are written. Empty texts mean that there is none."""

    delimiter: str
    quote: str
    escape: str
    comment: str = ""
    skip: int = 0


@attrs.frozen
class Record:
    """One record: the line that it begins on, from 1, and its text without the line end.

    ``is_open`` says that a quote in it is not closed.
    """

    line: int
    text: str
    is_open: bool = False


class UnclosedQuote(Exception):
    """A quote that is not closed. ``line`` is where its record begins."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading; decompressed if it is compressed by gzip, whatever its name is."""
    file = path.open("rb")
    if file.peek(2)[:2] == _GZIP:
        file.close()
        return gzip.open(path)  # type: ignore[return-value]  # its read() gives bytes
    return file


def encoding_of(start: bytes, given: str | None) -> str:
    """Return the encoding of a file: what is given, or what its first bytes say.

    The byte order mark is no part of the text.
    """
    marked = "utf-32" if start[:4] in _UTF32 else "utf-16" if start[:2] in _UTF16 else "utf-8-sig"
    if given is None:
        return marked
    name = codecs.lookup(given).name
    if name == "utf-8":
        return "utf-8-sig"
    # `utf-16-le` takes the mark for a character; `utf-16` reads the byte order from it.
    family = next((each for each in ("utf-16", "utf-32") if name.startswith(each)), None)
    is_marked = start[:2] in _UTF16 if family == "utf-16" else start[:4] in _UTF32
    return family if family is not None and is_marked else given


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a file as text with the line ends as they are."""
    return io.TextIOWrapper(open_bytes(path), encoding, newline="")


class Splitter:
    """Parts text into records, and records into fields."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
        escape = re.escape(dialect.escape)
        self._open: re.Pattern[str] | None = None
        if dialect.quote:
            pair = f"{quote}{quote}"
            inner = f"[^{quote}]|{pair}"
            if dialect.escape and dialect.escape != dialect.quote:
                inner = f"[^{quote}{escape}]|{escape}[\\s\\S]"
            self._quoted = re.compile(f"(^|{delimiter}) *{quote}((?:{inner})*){quote}")
            self._open = re.compile(f"(?:^|{delimiter}) *{quote}")
            self._field = re.compile(
                f" *{quote}((?:{inner})*){quote} *(?:{delimiter}|$)|(.*?)(?:{delimiter}|$)", re.S
            )
        else:
            self._field = re.compile(f"()(.*?)(?:{delimiter}|$)", re.S)

    def records(self, lines: TextIO) -> Iterator[Record]:
        """Yield the records below the skipped lines, without comments.

        An empty line is a record too.
        """
        pending: list[str] = []
        first = 0
        for number, line in enumerate(lines, 1):
            if number <= self.dialect.skip:
                continue
            if not pending:
                if self.dialect.comment and line.lstrip(" ").startswith(self.dialect.comment):
                    continue
                first = number
            pending.append(line)
            text = line if len(pending) == 1 else "".join(pending)
            is_open = self._is_open(text)
            if is_open and len(pending) < _MOST_LINES:
                continue
            yield Record(first, _trimmed(text), is_open)
            pending = []
        if pending:
            yield Record(first, _trimmed("".join(pending)), True)

    def _is_open(self, text: str) -> bool:
        if self._open is None or self.dialect.quote not in text:
            return False
        return self._open.search(self._quoted.sub(r"\1", text)) is not None

    def fields(self, record: str) -> list[str]:
        """Return the values of a record, unquoted."""
        return [value for value, _ in self.parts(record)]

    def parts(self, record: str) -> list[tuple[str, bool]]:
        """Return the values of a record, and of each whether it is quoted."""
        found: list[tuple[str, bool]] = []
        at = 0
        while True:
            match = self._field.match(record, at)
            assert match is not None
            quoted = match[1] is not None and self._open is not None
            found.append((self._unescaped(match[1]), True) if quoted else (match[2] or "", False))
            ended = match.end() == len(record)
            if ended and not record.endswith(self.dialect.delimiter, at):
                return found
            if ended:
                # The record ends with a delimiter, unless that is inside the quotes.
                if match[0].endswith(self.dialect.delimiter):
                    found.append(("", False))
                return found
            at = match.end()

    def _unescaped(self, value: str) -> str:
        quote, escape = self.dialect.quote, self.dialect.escape or self.dialect.quote
        if escape == quote:
            return value.replace(quote * 2, quote)
        return re.sub(re.escape(escape) + r"([\s\S])", r"\1", value)


def _trimmed(text: str) -> str:
    """Remove the line end that closes the record, not those inside its quotes."""
    if text.endswith("\r\n"):
        return text[:-2]
    return text[:-1] if text.endswith(("\n", "\r")) else text


def rows(records: Iterator[Record], *, has_header: bool, width: int) -> Iterator[Record]:
    """Yield the records that are rows: not the header, not the empty lines between.

    Args:
        width: the number of columns. An empty line of one column is a row.
    """
    above = True
    for record in records:
        if above and not record.text.strip():
            continue
        if above and has_header:
            above = False
            continue
        above = False
        if record.text or width == 1:
            yield record


def rewrite(
    source: Path, target: Path, encoding: str, splitter: Splitter, has_header: bool, width: int
) -> tuple[int, ...]:
    """Write a file's rows anew: UTF-8, one kind of line end, without comments and header.

    Args:
        width: leave out rows of another number of columns; 0 for none.

    Returns:
        The lines that the rows left out begin on.

    Raises:
        UnicodeError: the bytes are not in the encoding.
        UnclosedQuote: a quote is not closed.
    """
    dropped = []
    with (
        open_text(source, encoding) as lines,
        target.open("w", encoding="utf-8", newline="") as out,
    ):
        records = splitter.records(lines)
        for record in rows(records, has_header=has_header, width=width or 1):
            if record.is_open:
                raise UnclosedQuote(record.line)
            if width and len(splitter.fields(record.text)) != width:
                if record.text:
                    dropped.append(record.line)
                continue
            out.write(record.text + "\n")
    return tuple(dropped)
