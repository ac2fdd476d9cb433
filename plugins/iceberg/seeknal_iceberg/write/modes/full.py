"""Mode ``full``: the snapshot's rows take the place of all rows."""

from __future__ import annotations

from typing import ClassVar

import attrs

from seeknal_core.contract import Mode
from seeknal_iceberg.write.modes.interface import WriteMode


@attrs.frozen(kw_only=True, eq=False)
class Full(WriteMode):
    """Replace all rows: every data file of the table goes."""

    mode: ClassVar[Mode] = Mode.FULL

    def read(self) -> None:
        """Read nothing: all rows are replaced, independent of the snapshot."""

    def is_done(self, properties: dict[str, str]) -> bool:
        """Always write, because somebody may have changed the table."""
        return False
