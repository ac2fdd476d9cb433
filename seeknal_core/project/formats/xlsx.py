"""The params of Excel workbooks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from seeknal_core.contract.options import Mistake
from seeknal_core.project.formats.params import FileParams

_RANGE = re.compile(r"\$?[A-Za-z]{1,3}\$?[0-9]{1,7}:\$?[A-Za-z]{1,3}\$?[0-9]{1,7}")


@attrs.frozen(kw_only=True)
class XlsxParams(FileParams):
    """The params of ``xlsx``.

    ``sheet`` is the name of the sheet, needed where a workbook has several. ``range`` is
    the part that is read, ``A3:F100``; its first row names the columns, unless
    ``columns`` does. ``union_by_name`` allows files that have more or fewer columns than
    the others.
    """

    sheet: str | None = None
    range: str | None = None
    columns: tuple[str, ...] | None = None
    union_by_name: bool = False

    def mistakes(self) -> Iterator[Mistake]:
        """See `FileParams`."""
        yield from super().mistakes()
        if self.range is not None and "{{" not in self.range and not _RANGE.fullmatch(self.range):
            yield Mistake("is not a range of cells", "write e.g. A3:F100", "range")
        if self.columns is not None and not self.columns:
            yield Mistake("is empty", "name each column", "columns")
