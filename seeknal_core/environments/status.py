"""``seeknal env status``: whether the targets still hold what was written."""

from __future__ import annotations

import enum

import attrs

from seeknal_core.contract.types import Drift
from seeknal_core.plan.decide import has_rows_of
from seeknal_core.plan.look import look
from seeknal_core.plan.targets import TargetCheck, check_targets
from seeknal_core.promote import recover as stores
from seeknal_core.state import promotions
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.bindings import bind, load_plugins
from seeknal_core.workspace.opening import production_record
from seeknal_core.workspace.session import Session


class Condition(enum.Enum):
    """How a recorded target was found."""

    CLEAN = "as written"
    MISSING = "missing"
    REWRITTEN = "changed by somebody else"
    ELSEWHERE = "written from another checkout"
    UNRECORDED = "written, not recorded"
    LINKED = "linked"
    LINKED_MOVED = "linked; production moved on"
    MOVED = "now written to another place"
    UNKNOWN = "its backend cannot tell"
    REMOVED = "no longer in the project"

    @property
    def drifted(self) -> bool:
        """Whether the table is not as it was recorded."""
        return self in (
            Condition.MISSING,
            Condition.REWRITTEN,
            Condition.ELSEWHERE,
            Condition.UNRECORDED,
        )


@attrs.frozen(kw_only=True)
class TargetCondition:
    """A recorded target and how it was found; ``rows`` as recorded, ``detail`` what happened."""

    name: str
    node: str
    type: str
    rows: int
    condition: Condition
    detail: str = ""


def status(session: Session, record: EnvironmentRecord) -> tuple[TargetCondition, ...]:
    """Compare every recorded target with its store. Changes nothing.

    Raises:
        ConfigError, PluginError: the project cannot be read.
        BackendError: a store does not answer.
    """
    load_plugins(session)
    bound = bind(session).targets
    checks = check_targets(session, [bound[key] for key in record.targets if key in bound])
    checks = look(session, checks, record, exact=True)
    base = production_record(session)
    return tuple(
        TargetCondition(
            name=held.name,
            node=held.node,
            type=held.type,
            rows=held.rows,
            condition=_condition(held, checks.get(key), base),
            detail=_detail(checks.get(key)),
        )
        for key, held in sorted(record.targets.items())
    )


def unfinished_promotion(session: Session) -> tuple[str, str]:
    """Return which promotion or rollback is unfinished, by the state and by the stores.

    Returns:
        A sentence and the commands that end it; both empty where there is none.

    Raises:
        BackendError: a store does not answer.
    """
    held = promotions.load(session.state, session.environment.name)
    if held is not None:
        return promotions.sentence(held), promotions.ways_out(held)
    load_plugins(session)
    for found in stores.unknown(session):
        if not found.is_over:
            return found.sentence, stores.recover_command(session)
    return "", ""


def _condition(
    held: TargetRecord, check: TargetCheck | None, base: EnvironmentRecord | None
) -> Condition:
    if check is None:
        return Condition.REMOVED
    if check.identity != held.identity:
        return Condition.MOVED
    if check.state is None:
        return Condition.UNKNOWN
    if not check.state.exists:
        return Condition.MISSING
    if held.link and check.drift is Drift.NONE:
        theirs = base.targets.get(check.resolved.target.key) if base is not None else None
        same = theirs is not None and has_rows_of(theirs, held.content_key)
        return Condition.LINKED if same else Condition.LINKED_MOVED
    if check.drift is Drift.NONE and _is_unrecorded(check, held):
        return Condition.UNRECORDED
    return _CONDITIONS[check.drift]


def _is_unrecorded(check: TargetCheck, held: TargetRecord) -> bool:
    """Return whether a table holds what a command of ours wrote and did not record."""
    if not check.unrecorded:
        return False
    if not check.resolved.target.mode.rule.once:
        return True
    # The ledger names the last rows that were appended, the record what the node gives.
    return check.change is not None and check.change.version not in ("", held.version)


_CONDITIONS = {
    Drift.NONE: Condition.CLEAN,
    Drift.ADDED: Condition.REWRITTEN,
    Drift.CHANGED: Condition.REWRITTEN,
    Drift.REPLACED: Condition.REWRITTEN,
    Drift.ELSEWHERE: Condition.ELSEWHERE,
}


def _detail(check: TargetCheck | None) -> str:
    return check.change.detail if check is not None and check.change is not None else ""
