"""What a promotion did, or would do: for the terminal and for ``--json``."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.state.promotions import Promotion

#: The outcome of a promotion that was ended, and its tables left as they are.
LEFT = "left as it is"


class Rows(enum.Enum):
    """Whose rows a promoted node has. The value is said to the user."""

    SHIPPED = "shipped"
    REBUILT = "rebuilt"
    KEPT = "same rows"


@attrs.frozen(kw_only=True)
class PromotedNode:
    """A promoted node, and how many rows it has on either side."""

    id: str
    rows: Rows
    count: int | None
    source_count: int
    before_count: int | None


@attrs.frozen(kw_only=True)
class PromotedTarget:
    """A target that was, or would be, published; ``staged`` tells whether unseen first."""

    key: str
    node: str
    name: str
    mode: str
    rows: int | None
    staged: bool
    error: str = ""


@attrs.frozen(kw_only=True)
class PromotionReport:
    """What a promotion did. ``id`` is empty where there was nothing to promote.

    ``profile`` is the destination's, None where it needs none.
    """

    id: str
    source: str
    destination: str
    profile: str | None = None
    profile_reason: str = ""
    nodes: tuple[PromotedNode, ...] = ()
    targets: tuple[PromotedTarget, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    outcome: str = "promoted"

    @property
    def failed(self) -> bool:
        """Whether a target that is not atomic failed."""
        return any(target.error for target in self.targets)


def report_of(
    promotion: Promotion, outcome: str, errors: Mapping[str, str], notes: Sequence[str]
) -> PromotionReport:
    """Report a promotion by its document: what the stores published, and what failed.

    Args:
        errors: of targets that could not be staged, by key.
    """
    staged = [note for write in promotion.writes if write.staged for note in write.staged.notes]
    keys = {write.key for write in promotion.writes}
    return PromotionReport(
        id=promotion.id,
        source=promotion.source,
        destination=promotion.destination,
        targets=tuple(
            PromotedTarget(
                key=write.key,
                node=write.node,
                name=write.name,
                mode=str(write.spec["mode"] or "full"),
                rows=promotion.published.get(write.key, {}).get("rows"),
                staged=write.key in keys,
                error=errors.get(write.key, ""),
            )
            for write in (*promotion.writes, *promotion.direct)
        ),
        notes=(*staged, *notes),
        outcome=outcome,
    )
