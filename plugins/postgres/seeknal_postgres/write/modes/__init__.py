"""The modes: what each does to a table's rows, one file for each.

This is the only place of the backend that asks which mode it is. A new mode is one more
file with a `TableMode`, and one more case here; mypy names this file when it is missing.
"""

from __future__ import annotations

from typing import assert_never

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Mode, Target
from seeknal_postgres.write.modes.append import Append
from seeknal_postgres.write.modes.base import TableMode
from seeknal_postgres.write.modes.full import Full
from seeknal_postgres.write.modes.incremental_by_time import IncrementalByTime
from seeknal_postgres.write.modes.upsert_by_key import UpsertByKey

__all__ = ["TableMode", "in_force", "mode_of"]


def mode_of(mode: Mode, target: Target) -> TableMode:
    """Return what a mode does.

    Args:
        target: whose name a refusal says.

    Raises:
        WriteRefused: PostgreSQL does not have the mode.
    """
    match mode:
        case Mode.FULL:
            return Full()
        case Mode.APPEND:
            return Append()
        case Mode.UPSERT_BY_KEY:
            return UpsertByKey()
        case Mode.INCREMENTAL_BY_TIME:
            return IncrementalByTime()
        case Mode.INSERT_OVERWRITE:
            raise refusals.no_partitions(target.name, mode)
        case _:
            assert_never(mode)


def in_force(context: ExecutionContext, target: Target) -> TableMode:
    """Return the mode that a write uses: a full refresh replaces all rows."""
    return mode_of(Mode.FULL if context.full_refresh else target.mode, target)
