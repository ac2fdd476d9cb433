"""`seeknal_core.contract.options` under its older name, which stays until 1.0."""

from __future__ import annotations

from seeknal_core.contract.options import (
    Filled,
    Mistake,
    duration,
    join,
    keys_of,
    kind_of,
    nearest,
    quoted,
    structure,
)

__all__ = [
    "Filled",
    "Mistake",
    "duration",
    "join",
    "keys_of",
    "kind_of",
    "nearest",
    "quoted",
    "structure",
]
