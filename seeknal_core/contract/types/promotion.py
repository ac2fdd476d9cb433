"""Promotions: batches, what was published, checksums, notes for other machines."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.types.targets import Target


@attrs.frozen(kw_only=True)
class Batch:
    """The targets of one connection that a promotion publishes together.

    Each target's ``staged`` is what ``stage`` returned. It is None only in a
    batch that is discarded after ``stage`` may have died: whatever was staged for
    this promotion and target is meant then. ``content_keys`` holds, by target
    key, the content key of what was staged. ``generation`` is the environment's
    generation in this store once the batch is published, one more than
    `TargetState.generation` said before; it counts promotions from 1.
    """

    promotion: str
    generation: int
    targets: tuple[Target, ...]
    content_keys: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class PublishedTarget:
    """A target as readers see it after a publish.

    ``key`` is the target's; ``version`` is what ``inspect_target`` gives from now
    on, until somebody writes; ``rows_after`` is what a reader counts; ``created``
    tells whether the publish made the table; ``mark`` is as in `TargetState`, empty
    where the backend gives none.
    """

    key: str
    version: str
    rows_after: int
    created: bool = False
    mark: str = ""


@attrs.frozen(kw_only=True)
class Published:
    """What a publish did: one entry per target of the batch, in the batch's order."""

    targets: tuple[PublishedTarget, ...]
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Checksum:
    """An order-independent checksum of a table's rows.

    ``columns`` holds, by column name, a text that two tables share exactly when
    their columns hold equal values equally often (but for a collision of 64-bit
    sums). Comparable within one process only; see `seeknal_core.contract.checksums`.
    """

    rows: int
    columns: Mapping[str, str]


@attrs.frozen(kw_only=True)
class PromotionNote:
    """What a store keeps of a promotion, so that another machine can go on with it.

    ``document`` is the core's own: JSON, no secret. ``state_id`` is the state folder's that
    wrote it; ``written_at`` is when the first was kept, by the store's clock (ISO 8601, UTC),
    empty where it isn't stored yet.
    """

    promotion: str
    state_id: str
    document: str
    written_at: str = ""
