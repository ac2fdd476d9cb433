"""Asking the stores about targets that are the same as production's, and deciding on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.shown import first_few
from seeknal_core.contract.types import Origin, QualifiedName
from seeknal_core.plan.decide import Candidate, Production, SharedDecision, Writing, shared
from seeknal_core.plan.decide.shared import left_out_on_request
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.session import Session


def share(
    session: Session,
    candidates: Sequence[Candidate],
    record: EnvironmentRecord,
    production: Production,
) -> list[SharedDecision]:
    """Ask which candidates can be links, and decide for all. Changes nothing.

    Args:
        record: the environment's; it says what was copied before.

    Raises:
        BackendError: a store does not answer.
    """
    found = list(candidates)
    if not left_out_on_request(production):
        origins = {c.check.resolved.target.key: _origin(c.check, production) for c in found}
        whys = _why_not(session, found, origins, production)
        keys = [c.check.resolved.target.key for c in found]
        found = [
            attrs.evolve(c, origin=origins[key], no_link=whys[key])
            for c, key in zip(found, keys, strict=True)
        ]
    copied = sum(held.copied for held in record.targets.values() if not held.link)
    return shared(found, production, copied=copied)


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


def left_out(decisions: Sequence[SharedDecision]) -> list[str]:
    """Return a warning for each reason why targets are left out that nobody asked for."""
    by_reason: dict[str, list[str]] = {}
    for decision in decisions:
        if decision.writing is Writing.LEFT_OUT and not decision.asked:
            name = str(decision.check.resolved.target.name)
            by_reason.setdefault(decision.reason, []).append(name)
    return [
        f"{first_few(names)} "
        f"left out, the same as production's: {reason}. --all-targets writes them"
        for reason, names in by_reason.items()
    ]
