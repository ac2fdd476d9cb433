"""The params of CSV files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from seeknal_core.contract.options import Mistake
from seeknal_core.project.formats.text import TextParams

#: Characters that cannot part or quote values: they end lines.
_LINE_ENDS = ("\n", "\r")
#: How many bytes DuckDB takes for a delimiter.
_DELIMITER_BYTES = 4


@attrs.frozen(kw_only=True)
class CsvParams(TextParams):
    """The params of ``csv``. What is None is looked up in the file.

    ``skip`` is the number of lines above the header; ``quote`` and ``escape`` are one
    character each, or none (``''``); ``comment`` begins lines that are passed over; ``null``
    lists the texts that are NULL where they are not quoted; ``columns`` names the columns of
    files without a header, or replaces the header's names where ``header`` is true.
    ``union_by_name`` allows files that have more or fewer columns than the others.
    """

    delimiter: str | None = attrs.field(default=None, metadata={"aliases": ("delim",)})
    header: bool | None = None
    skip: int | None = None
    quote: str | None = None
    escape: str | None = None
    comment: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    null: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    union_by_name: bool = False

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns."""
        return self.columns is None if self.header is None else self.header

    def mistakes(self) -> Iterator[Mistake]:
        """See `FileParams`."""
        yield from super().mistakes()
        if self.delimiter == "":
            yield Mistake("is empty", path="delimiter")
        if self.skip is not None and self.skip < 0:
            yield Mistake("is negative", path="skip")
        yield from self._character_mistakes()
        if self.encoding is not None and "{{" not in self.encoding:
            try:
                "".encode(self.encoding)
            except (LookupError, UnicodeError):
                hint = "write e.g. utf-8, latin-1, cp1252 or utf-16"
                yield Mistake("is not the name of an encoding", hint, "encoding", self.encoding)
        if self.columns is not None:
            yield from self._column_mistakes(self.columns)

    def _character_mistakes(self) -> Iterator[Mistake]:
        given: Mapping[str, str | None] = {
            name: getattr(self, name)
            for name in ("quote", "escape", "comment", "decimal", "thousands")
        }
        optional = ("quote", "escape")
        for name, value in given.items():
            if value is None or "{{" in value or (value == "" and name in optional):
                continue
            if len(value) != 1 or value in _LINE_ENDS:
                yield Mistake("is not one character", path=name, value=value)
        delimiter = self.delimiter or ""
        if "{{" not in delimiter and (
            len(delimiter.encode()) > _DELIMITER_BYTES or any(c in delimiter for c in _LINE_ENDS)
        ):
            yield Mistake(f"is not one to {_DELIMITER_BYTES} bytes of text", path="delimiter")
        named = {"delimiter": self.delimiter, "quote": self.quote, "comment": self.comment}
        pairs = [(name, value) for name, value in named.items() if value]
        for at, (name, value) in enumerate(pairs):
            for other, same in pairs[:at]:
                if value == same:
                    yield Mistake(f"is the same as {other!r}", path=name)
        if (self.decimal or ".") == self.thousands:
            yield Mistake("is the same as 'decimal'", "write both", "thousands")
        if self.thousands is not None and (self.thousands.isalnum() or self.thousands in "+-"):
            yield Mistake("is a part of numbers", path="thousands")
        if self.decimal is not None and (self.decimal.isalnum() or self.decimal in "+-"):
            yield Mistake("is a part of numbers", path="decimal")

    @staticmethod
    def _column_mistakes(columns: tuple[str, ...]) -> Iterator[Mistake]:
        if not columns:
            yield Mistake("is empty", "name each column", "columns")
        seen: set[str] = set()
        for index, name in enumerate(columns):
            if "\0" in name:
                yield Mistake("holds a NUL character", path=f"columns[{index}]")
            if not name:
                yield Mistake("is empty", path=f"columns[{index}]")
            if name.casefold() in seen:
                yield Mistake(f"column {name!r} is named twice", path=f"columns[{index}]")
            seen.add(name.casefold())
