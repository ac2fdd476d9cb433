"""How a target takes a snapshot, and what happens when columns differ."""

from __future__ import annotations

import enum


class Mode(enum.Enum):
    """How a target takes a snapshot (``project-format.md``, "Targets")."""

    FULL = "full"
    APPEND = "append"
    UPSERT_BY_KEY = "upsert_by_key"
    INCREMENTAL_BY_TIME = "incremental_by_time"
    INSERT_OVERWRITE = "insert_overwrite"


class SchemaChange(enum.Enum):
    """What a write does when the snapshot's columns differ from the table's."""

    EVOLVE = "evolve"
    FAIL = "fail"
    SYNC = "sync"
