"""The params that all files of text share: how values are written, and what to do with bad ones."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

import attrs

from seeknal_core.contract.options import Mistake
from seeknal_core.project.formats.params import FileParams

#: The letters that ``strptime`` has after a percent sign.
_DIRECTIVES = frozenset("aAbBdmyYHIpMSfgnzZjUWcxXwuGV%-")


class OnBadRows(enum.Enum):
    """What is done with a row that holds a value that does not fit a declared type."""

    FAIL = "fail"
    SKIP = "skip"
    NULL = "null"


@attrs.frozen(kw_only=True)
class TextParams(FileParams):
    """The params of files whose values are text.

    ``date_format`` and ``timestamp_format`` are texts of ``strptime``, or one for each column
    named. ``on_bad_rows`` says what becomes of a row that holds a value that does not fit its
    column's declared type: it fails the node, it is left out, or the value becomes NULL.
    """

    date_format: str | Mapping[str, str] | None = None
    timestamp_format: str | Mapping[str, str] | None = None
    on_bad_rows: OnBadRows = OnBadRows.FAIL

    def mistakes(self) -> Iterator[Mistake]:
        """See `FileParams`."""
        yield from super().mistakes()
        for name in ("date_format", "timestamp_format"):
            value = getattr(self, name)
            formats = value if isinstance(value, Mapping) else {"": value or "%d"}
            for column, format in formats.items():
                if "{{" not in format and not _is_format(format):
                    path = f"{name}.{column}" if column else name
                    hint = "write e.g. '%d/%m/%Y' or '%d.%m.%Y %H:%M:%S'"
                    yield Mistake("is not a format of strptime", hint, path)

    def unknown_column(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Return a param and a column that it names and the files do not have, if there is one.

        Args:
            names: the columns of the files.
        """
        known = {name.casefold() for name in names}
        for field in ("date_format", "timestamp_format"):
            value = getattr(self, field)
            for column in value if isinstance(value, Mapping) else ():
                if column.casefold() not in known:
                    return field, column
        return None

    def format_of(self, name: str, column: str) -> tuple[str | None, bool]:
        """Return a column's format, and whether it was written for this column.

        Args:
            name: ``date_format`` or ``timestamp_format``.
        """
        value = getattr(self, name)
        if not isinstance(value, Mapping):
            return value, False
        for key, format in value.items():
            if key.casefold() == column.casefold():
                return format, True
        return None, False


def _is_format(format: str) -> bool:
    parts = format.split("%")
    if len(parts) < 2:
        return False
    rest = iter(parts[1:])
    for part in rest:
        if part == "":
            # Two percent signs are one; the next part is plain text.
            if next(rest, None) is None:
                return False
        elif part[0] not in _DIRECTIVES:
            return False
    return True
