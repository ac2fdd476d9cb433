"""Mode ``append``: the snapshot's rows are added, once."""

from __future__ import annotations

from typing import ClassVar

import attrs

from seeknal_core.contract import Mode
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.write.modes.interface import WriteMode


@attrs.frozen(kw_only=True, eq=False)
class Append(WriteMode):
    """Add rows, unless the ledger says that the table has them."""

    mode: ClassVar[Mode] = Mode.APPEND
    takes_every_column: ClassVar[bool] = True

    def read(self) -> None:
        """Read nothing: no row is replaced."""

    def is_done(self, properties: dict[str, str]) -> bool:
        """Look the snapshot's content keys up in the ledger."""
        return ledger.has_appended(properties, *self.snapshot.keys)
