"""What a promotion did, or would do: for the terminal and for ``--json``."""

from __future__ import annotations

import attrs

from seeknal_core.promote.choose import Rows

#: The outcome of a promotion that was ended, and its tables left as they are.
LEFT = "left as it is"


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
        """Whether a target outside the promise failed."""
        return any(target.error for target in self.targets)
