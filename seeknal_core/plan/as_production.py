"""Targets whose rows are production's: linked to its tables, copied, or left out.

An environment that is based on production has all of its targets, so that whoever opens
it finds them. What differs from production is written; the rest is decided here.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Origin, QualifiedName
from seeknal_core.plan.targets import Production, TargetCheck
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.session import Session

#: How a reason begins that forbids a copy of the rows, too.
_PRIVATE = "private:"


class Way(enum.Enum):
    """What becomes of a target that is the same as production's."""

    LINK = "link to production's table"
    COPY = "copy of production's rows"
    LEFT_OUT = "left out"


@attrs.frozen(kw_only=True)
class Candidate:
    """A target that is the same as production's; ``bytes`` is its stored output's size."""

    check: TargetCheck
    bytes: int


@attrs.frozen(kw_only=True)
class Decision:
    """What becomes of a candidate, and why it is no link where it isn't one.

    ``asked`` tells that the user asked for it: no warning is needed.
    """

    check: TargetCheck
    way: Way
    bytes: int
    reason: str = ""
    origin: Origin | None = None
    asked: bool = False


def decide(
    session: Session,
    candidates: Sequence[Candidate],
    record: EnvironmentRecord,
    production: Production,
) -> list[Decision]:
    """Decide for all candidates, in their order. Changes nothing.

    Args:
        record: the environment's; it says what was copied before.

    Raises:
        BackendError: a store does not answer.
    """
    asked = (
        "--only-changed" if production.only_changed
        else "environments: {unchanged: skip}" if production.unchanged == "skip"
        else ""
    )  # fmt: skip
    if asked:
        return [
            Decision(check=c.check, way=Way.LEFT_OUT, bytes=c.bytes, reason=asked, asked=True)
            for c in candidates
        ]
    origins = {c.check.resolved.target.key: _origin(c.check, production) for c in candidates}
    whys = _why_not(session, candidates, origins, production)
    spent = {
        key: held.copied for key, held in record.targets.items() if held.copied and not held.link
    }
    left = production.copy_limit - sum(spent.values())
    decisions = []
    for candidate in candidates:
        key = candidate.check.resolved.target.key
        decision = _decide(candidate, whys[key], origins[key], left, production)
        if decision.way is Way.COPY:
            left -= candidate.bytes
        decisions.append(decision)
    return decisions


def _decide(
    candidate: Candidate, why: str, origin: Origin | None, left: int, production: Production
) -> Decision:
    check, size = candidate.check, candidate.bytes
    if origin is not None and origin.identity == check.identity:
        return Decision(
            check=check,
            way=Way.LEFT_OUT,
            bytes=size,
            reason="it is production's own table",
            asked=True,
        )
    if not why:
        return Decision(check=check, way=Way.LINK, bytes=size, origin=origin)
    said = why.removeprefix(_PRIVATE).strip()
    mode = check.resolved.target.mode
    if why.startswith(_PRIVATE):
        reason = f"{said}, and is not copied"
    elif not mode.rule.replaces:
        reason = f"{said}; mode {mode.value} is not copied, its table has rows that no output has"
    elif size > left:
        reason = (
            f"{said}; its {size:,} bytes are more than what is left of copy_limit "
            f"({max(left, 0):,} of {production.copy_limit:,})"
        )
    else:
        return Decision(check=check, way=Way.COPY, bytes=size, reason=said)
    return Decision(check=check, way=Way.LEFT_OUT, bytes=size, reason=reason)


def _origin(check: TargetCheck, production: Production) -> Origin | None:
    theirs = _theirs(check, production)
    if theirs is None or production.record is None or not theirs.parts:
        return None
    return Origin(
        name=QualifiedName(parts=theirs.parts, quoted=theirs.name),
        identity=theirs.identity,
        environment=production.record.name,
        content_key=theirs.content_key,
    )


def _theirs(check: TargetCheck, production: Production) -> TargetRecord | None:
    record = production.record
    return record.targets.get(check.resolved.target.key) if record is not None else None


def rows_of(check: TargetCheck, production: Production) -> int:
    """Return how many rows production recorded of a target."""
    theirs = _theirs(check, production)
    return theirs.rows if theirs is not None else 0


def _why_not(
    session: Session,
    candidates: Sequence[Candidate],
    origins: Mapping[str, Origin | None],
    production: Production,
) -> dict[str, str]:
    """Ask the stores which of the candidates can be links, many in one question."""
    whys: dict[str, str] = {}
    asked: dict[str, list[tuple[TargetCheck, Origin]]] = {}
    for candidate in candidates:
        check = candidate.check
        target = check.resolved.target
        origin = origins[target.key]
        if production.unchanged == "copy":
            whys[target.key] = "environments: {unchanged: copy}"
        elif not session.dispatcher.supports(target.type, Hook.CAN_LINK):
            whys[target.key] = f"{target.type} has no links"
        elif origin is None:
            whys[target.key] = "production's record is of an older version; a run of it renews that"
        elif origin.identity != check.identity:
            asked.setdefault(check.resolved.connection.name, []).append((check, origin))
    for pairs in asked.values():
        session.context.cancellation.check()
        answers = session.dispatcher.can_link(
            session.context, [check.resolved for check, _ in pairs], [o for _, o in pairs]
        )
        for (check, _), why in zip(pairs, answers, strict=True):
            whys[check.resolved.target.key] = why
    return {
        c.check.resolved.target.key: whys.get(c.check.resolved.target.key, "") for c in candidates
    }


def left_out(decisions: Sequence[Decision]) -> list[str]:
    """Return a warning for each reason why targets are left out that nobody asked for."""
    by_reason: dict[str, list[str]] = {}
    for decision in decisions:
        if decision.way is Way.LEFT_OUT and not decision.asked:
            name = str(decision.check.resolved.target.name)
            by_reason.setdefault(decision.reason, []).append(name)
    return [
        f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''} "
        f"left out, the same as production's: {reason}. --all-targets writes them"
        for reason, names in by_reason.items()
    ]
