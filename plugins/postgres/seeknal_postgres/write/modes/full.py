"""Mode ``full``: the table has the snapshot's rows and no others."""

from __future__ import annotations

from typing import ClassVar

from seeknal_core.contract.types import Mode
from seeknal_postgres.write.modes.base import TableMode


class Full(TableMode):
    """All rows are replaced; where a key is known, only those that differ are touched."""

    mode: ClassVar[Mode] = Mode.FULL
