"""What happened, before it becomes an event: plain values, made while a hook is called."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Literal

import attrs


@attrs.frozen
class DatasetName:
    """A data set by OpenLineage's naming: the store, and the name in it."""

    namespace: str
    name: str


@attrs.frozen(kw_only=True)
class Write:
    """One write of one table, as it is when it starts.

    ``columns`` are names and Arrow types, empty where they are not known;
    ``operation`` is the hook: ``materialize`` or ``publish``.
    """

    started_at: datetime
    project: str
    environment: str
    production: bool
    command_run: str
    node: str
    key: str
    target: str
    mode: str
    connection: str
    connection_type: str
    operation: str
    output: DatasetName
    columns: tuple[tuple[str, str], ...] = ()
    inputs: tuple[DatasetName, ...] = ()
    run_id: str = attrs.field(factory=lambda: str(uuid.uuid4()))


@attrs.frozen(kw_only=True)
class Outcome:
    """How a write ended; ``error`` holds no secret."""

    state: Literal["COMPLETE", "FAIL", "ABORT"]
    rows: int | None = None
    rows_after: int | None = None
    version: str = ""
    error: str = ""
