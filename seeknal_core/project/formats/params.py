"""What the params of all file types have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from seeknal_core.contract.options import Mistake


@attrs.frozen(kw_only=True)
class FileParams:
    """The params of any source that is read from files.

    ``path`` stands for the source's ``table`` where that is not written. ``filename`` adds a
    column of that name, which says of each row which file it is from. ``hive`` says whether
    folders named ``key=value`` are columns. ``sha256`` is what the bytes of the one file
    must have.
    """

    path: str | None = None
    filename: bool = False
    hive: bool | None = None
    sha256: str | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """Yield what is wrong with values that are of the right type.

        A text may still hold a template (``{{ … }}``), which is not looked into.
        """
        sum = self.sha256
        if sum is not None and "{{" not in sum and not re.fullmatch("[0-9a-fA-F]{64}", sum):
            yield Mistake("is not 64 hexadecimal digits", path="sha256")
