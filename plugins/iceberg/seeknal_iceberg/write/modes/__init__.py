"""The modes of writing: one module per mode, behind `interface.WriteMode`.

This is the only place of the backend that distinguishes modes. What a mode means in every
store is its rule (`seeknal_core.contract.modes`); how this store does it is its class here.
"""

from __future__ import annotations

from typing import assert_never

from seeknal_core.contract import ExecutionContext, Mode, Snapshot, Target
from seeknal_iceberg.write.modes.append import Append
from seeknal_iceberg.write.modes.full import Full
from seeknal_iceberg.write.modes.incremental_by_time import IncrementalByTime
from seeknal_iceberg.write.modes.insert_overwrite import InsertOverwrite
from seeknal_iceberg.write.modes.interface import WriteMode
from seeknal_iceberg.write.modes.upsert_by_key import UpsertByKey


def mode_of(mode: Mode, target: Target, snapshot: Snapshot) -> WriteMode:
    """Return a mode, for one write of a snapshot into a target."""
    match mode:
        case Mode.FULL:
            return Full(target=target, snapshot=snapshot)
        case Mode.APPEND:
            return Append(target=target, snapshot=snapshot)
        case Mode.UPSERT_BY_KEY:
            return UpsertByKey(target=target, snapshot=snapshot)
        case Mode.INCREMENTAL_BY_TIME:
            return IncrementalByTime(target=target, snapshot=snapshot)
        case Mode.INSERT_OVERWRITE:
            return InsertOverwrite(target=target, snapshot=snapshot)
        case _ as never:
            assert_never(never)


def in_force(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteMode:
    """Return the mode of a write: the target's, or ``full`` where all is written again."""
    mode = Mode.FULL if context.full_refresh else target.mode
    return mode_of(mode, target, snapshot)
