"""Whether targets are still as they were written.

Marks cost nothing and are compared by every command. A mark that differs is only a
suspicion: the store is then asked what happened. The ledger's entry is more than a
suspicion: it says who wrote the table last.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Drift, Ownership, Since, TargetChange
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.session import Session


def look(
    session: Session,
    checks: Mapping[str, TargetCheck],
    record: EnvironmentRecord,
    *,
    exact: bool = False,
) -> dict[str, TargetCheck]:
    """Find out what became of the recorded targets; return the checks with the answers.

    Args:
        exact: look exactly at every target, also where its mark is the recorded one.

    Raises:
        BackendError: a store does not answer.
    """
    found = dict(checks)
    suspects: dict[str, list[str]] = {}
    for key, check in checks.items():
        held = record.targets.get(key)
        if held is None or not _comparable(check, held):
            continue
        state = check.state
        assert state is not None
        change = _by_ledger(session, state.owner, held)
        found[key] = attrs.evolve(check, unrecorded=_unrecorded(session, state.owner, held))
        if change is not None:
            found[key] = attrs.evolve(check, change=change)
        elif exact or _wrote_unrecorded(session, state.owner, held) or _suspicious(check, held):
            suspects.setdefault(check.resolved.connection.name, []).append(key)
    for keys in suspects.values():
        for key, change in _look_exactly(session, checks, record, keys).items():
            state = checks[key].state
            if state and _wrote_unrecorded(session, state.owner, record.targets[key]):
                # A command of ours died after the write: nobody else did this.
                change = attrs.evolve(change, drift=Drift.NONE)
            found[key] = attrs.evolve(found[key], change=change)
    return found


def _comparable(check: TargetCheck, held: TargetRecord) -> bool:
    state = check.state
    return state is not None and state.exists and check.identity == held.identity


def _suspicious(check: TargetCheck, held: TargetRecord) -> bool:
    assert check.state is not None
    return check.state.mark is None or check.state.mark != held.mark


def _by_ledger(
    session: Session, owner: Ownership | None, held: TargetRecord
) -> TargetChange | None:
    """Return what the ledger's entry alone proves."""
    here = (session.settings.name, session.environment.name)
    if owner is None or (owner.project, owner.environment) != here:
        return TargetChange(
            drift=Drift.REPLACED,
            detail="another table has its name now: somebody dropped and made it anew, "
            "or restored a backup",
        )
    if owner.state_id != session.context.state_id and owner.content_key != held.content_key:
        return TargetChange(
            drift=Drift.ELSEWHERE,
            detail=f"another checkout (state {owner.state_id[:8]}, run {owner.run_id}) wrote it "
            "since this one did",
        )
    return None


def _unrecorded(session: Session, owner: Ownership | None, held: TargetRecord) -> str:
    """Return the content key of what this checkout wrote and did not record; mostly nothing.

    A link's rows are production's, and its record follows them.
    """
    if owner is None or held.link or owner.state_id != session.context.state_id:
        return ""
    return owner.content_key if owner.content_key != held.content_key else ""


def _wrote_unrecorded(session: Session, owner: Ownership | None, held: TargetRecord) -> bool:
    """Return whether a command of this checkout wrote last, and died before it recorded that."""
    return (
        owner is not None
        and owner.state_id == session.context.state_id
        and (
            owner.content_key != held.content_key
            or bool(held.run_id and owner.run_id != held.run_id)
        )
    )


def _look_exactly(
    session: Session,
    checks: Mapping[str, TargetCheck],
    record: EnvironmentRecord,
    keys: list[str],
) -> dict[str, TargetChange]:
    """Ask one connection's store what happened to some of its targets."""
    session.context.cancellation.check()
    dispatcher = session.dispatcher
    resolved = [checks[key].resolved for key in keys]
    records = [record.targets[key] for key in keys]
    if dispatcher.supports(resolved[0].target.type, Hook.CHANGES_SINCE):
        since = [Since(version=h.version, rows=h.rows, mark=h.mark) for h in records]
        return dict(
            zip(keys, dispatcher.changes_since(session.context, resolved, since), strict=True)
        )
    states = dispatcher.inspect_targets(session.context, resolved, versions=True)
    changes = {}
    for key, held, state in zip(keys, records, states, strict=True):
        now = state.version if state is not None else None
        rows = state.rows if state is not None and state.rows is not None else held.rows
        changes[key] = TargetChange(
            drift=Drift.NONE if now in (None, held.version) else Drift.CHANGED,
            version=now or "",
            rows=rows,
            mark=(state.mark if state is not None else None) or "",
        )
    return changes
