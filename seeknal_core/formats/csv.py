"""The params of CSV files."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from seeknal_core.formats.params import FileParams
from seeknal_core.structure import Mistake


@attrs.frozen(kw_only=True)
class CsvParams(FileParams):
    """The params of ``csv``. What is None is looked up in the file.

    ``skip`` is the number of lines above the header.
    """

    delimiter: str | None = attrs.field(default=None, metadata={"aliases": ("delim",)})
    header: bool | None = None
    skip: int | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """See `FileParams`."""
        yield from super().mistakes()
        if self.delimiter == "":
            yield Mistake("is empty", path="delimiter")
        if self.skip is not None and self.skip < 0:
            yield Mistake("is negative", path="skip")
