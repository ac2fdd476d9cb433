"""What happens to targets that are the same as production's: linked, copied or left out.

An environment that is based on production has all of its targets, so that whoever opens
it finds them. What differs from production is written; the rest is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from seeknal_core.contract.types import Origin
from seeknal_core.plan.decide.target import Production, Writing
from seeknal_core.plan.targets import TargetCheck

#: How a reason begins that forbids a copy of the rows, too.
_PRIVATE = "private:"


@attrs.frozen(kw_only=True)
class Candidate:
    """A target that is the same as production's.

    Attributes:
        bytes: its stored output's size.
        origin: production's table, where a link could lead; None where that is not known.
        no_link: why it can't be a link; empty where it can.
    """

    check: TargetCheck
    bytes: int
    origin: Origin | None = None
    no_link: str = ""


@attrs.frozen(kw_only=True)
class SharedDecision:
    """What happens to a candidate (LINK, COPY or LEFT_OUT), and why it is no link if it is none.

    ``asked`` tells that the user asked for it: no warning is needed.
    """

    check: TargetCheck
    writing: Writing
    bytes: int
    reason: str = ""
    origin: Origin | None = None
    asked: bool = False


def shared(
    candidates: Sequence[Candidate], production: Production, *, copied: int
) -> list[SharedDecision]:
    """Decide for all candidates, in their order.

    Args:
        copied: the bytes that the environment's copies of production's rows take already.
    """
    left = production.copy_limit - copied
    decisions = []
    for candidate in candidates:
        decision = _decide(candidate, left, production)
        if decision.writing is Writing.COPY:
            left -= candidate.bytes
        decisions.append(decision)
    return decisions


def left_out_on_request(production: Production) -> str:
    """Return by which option the user leaves out all that is the same; empty: by none."""
    if production.only_changed:
        return "--only-changed"
    return "environments: {unchanged: skip}" if production.unchanged == "skip" else ""


def _decide(candidate: Candidate, left: int, production: Production) -> SharedDecision:
    check, size, origin = candidate.check, candidate.bytes, candidate.origin
    asked = left_out_on_request(production)
    if not asked and origin is not None and origin.identity == check.identity:
        asked = "it is production's own table"
    if asked:
        return SharedDecision(
            check=check, writing=Writing.LEFT_OUT, bytes=size, reason=asked, asked=True
        )
    if not candidate.no_link:
        return SharedDecision(check=check, writing=Writing.LINK, bytes=size, origin=origin)
    said = candidate.no_link.removeprefix(_PRIVATE).strip()
    mode = check.resolved.target.mode
    if candidate.no_link.startswith(_PRIVATE):
        reason = f"{said}, and is not copied"
    elif not mode.rule.replaces:
        reason = f"{said}; mode {mode.value} is not copied, its table has rows that no output has"
    elif size > left:
        reason = (
            f"{said}; its {size:,} bytes are more than what is left of copy_limit "
            f"({max(left, 0):,} of {production.copy_limit:,})"
        )
    else:
        return SharedDecision(check=check, writing=Writing.COPY, bytes=size, reason=said)
    return SharedDecision(check=check, writing=Writing.LEFT_OUT, bytes=size, reason=reason)
