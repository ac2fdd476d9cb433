"""Targets: as the user wrote them, as a hook receives them, and what a write reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import attrs

from seeknal_core.contract.modes import Mode, SchemaChange
from seeknal_core.contract.types.values import Interval, Location


@attrs.frozen(kw_only=True)
class QualifiedName:
    """A name in a store: its parts, unquoted, and its text as the store quotes it."""

    parts: tuple[str, ...]
    quoted: str

    def __str__(self) -> str:
        return self.quoted


@attrs.frozen(kw_only=True)
class Binding:
    """Which connection a target or source means, and how its ``table`` splits."""

    connection: str
    parts: tuple[str, ...]


@attrs.frozen(kw_only=True)
class TargetSpec:
    """A target as the user wrote it, normalized.

    ``parts`` is ``table`` split by ``bind_target``, empty before. ``options``
    are the fields that the core does not know, for the backend's own class.
    ``mode`` is None where the user named none. ``covers`` holds ``from`` and ``to``
    of the node's ``covers``: as written, or expanded once the target is bound.
    ``lookback`` has no effect.
    """

    node: str
    type: str
    table: str
    connection: str | None = None
    mode: Mode | None = None
    unique_keys: tuple[str, ...] = ()
    time_column: str | None = None
    lookback: timedelta = timedelta(0)
    partition_by: tuple[str, ...] = ()
    on_schema_change: SchemaChange = SchemaChange.EVOLVE
    enabled: bool = True
    options: Mapping[str, object] = attrs.field(factory=dict)
    parts: tuple[str, ...] = ()
    location: Location | None = attrs.field(default=None, eq=False)
    covers: tuple[str, str] | None = None

    @property
    def key(self) -> str:
        """Identify this target within the project, in state and messages."""
        return f"{self.node} > {self.type}:{self.connection or ''}:{self.table}"


@attrs.frozen(kw_only=True)
class Staged:
    """A write that waits, unseen by readers, in its target's own store.

    ``promotion`` names the batch it belongs to. ``base`` is the version that the
    target had when this was staged (`TargetState.version`), None where it was
    absent. ``rows`` is how many rows were staged. ``data`` is the backend's own:
    values of JSON, no secret; it survives a round trip through a file. ``notes`` are
    sentences that the user should see once it is published.
    """

    promotion: str
    base: str | None
    rows: int
    data: Mapping[str, object] = attrs.field(factory=dict)
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Target:
    """A target as a hook receives it: named for its environment.

    ``name`` is what ``namespace_for`` gave; ``options`` is an instance of the
    class that ``describe_options`` named for targets, or None. With ``staged``
    the call is about what waits for this target, not about what readers see.
    ``covers`` is the time that the node's rows are complete for, None where the user
    did not say. ``lookback`` has no effect.
    """

    key: str
    node: str
    type: str
    name: QualifiedName
    mode: Mode
    unique_keys: tuple[str, ...] = ()
    time_column: str | None = None
    lookback: timedelta = timedelta(0)
    partition_by: tuple[str, ...] = ()
    on_schema_change: SchemaChange = SchemaChange.EVOLVE
    options: object = None
    staged: Staged | None = None
    covers: Interval | None = None


@attrs.frozen(kw_only=True)
class WriteResult:
    """What a write did.

    ``rows_written`` counts the snapshot's rows that reached the table (0 where an
    append found its rows there already); ``rows_after`` is what a reader counts
    afterwards; ``version`` is the token that ``inspect_target`` gives from now on,
    until somebody writes; ``created`` tells whether the table is new; ``notes``
    are sentences the user should see; ``mark`` is as in `TargetState`, taken in the
    transaction that wrote, empty where the backend gives none.
    """

    rows_written: int
    rows_after: int
    version: str
    created: bool = False
    notes: tuple[str, ...] = ()
    mark: str = ""


@attrs.frozen(kw_only=True)
class WritePreview:
    """What a write would do to a target's columns.

    ``notes`` are sentences about columns that are added, changed, dropped, or kept.
    ``refused`` says why the write would be refused, empty where it would not; ``hint`` is what
    to do then.
    """

    notes: tuple[str, ...] = ()
    refused: str = ""
    hint: str = ""
