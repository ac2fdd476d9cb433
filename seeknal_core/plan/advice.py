"""What is said, and advised, about a target that somebody else changed."""

from __future__ import annotations

from seeknal_core.contract.types import Drift
from seeknal_core.plan.decide import Need, keeps_rows
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.state.records import TargetRecord
from seeknal_core.workspace.session import Session


def refusal(session: Session, check: TargetCheck, held: TargetRecord | None) -> tuple[str, str]:
    """Return why a target is left alone, and the commands that go on."""
    again = session.rerun(check.resolved.target.node)
    if check.drift is Drift.ELSEWHERE:
        recover = session.command("state", "recover")
        return (
            f"{_detail(check)}; it is left alone",
            f"{recover} takes over what the store's ledger says; "
            f"{again} --adopt does that for this target, and writes it",
        )
    if check.drift is Drift.REPLACED:
        if keeps_rows(check):
            return (
                f"{_detail(check)}; it is left alone",
                f"{again} --adopt takes it as it is; {again} --adopt --full-refresh leaves only "
                "the rows that the node gives now",
            )
        return (
            f"{_detail(check)}; it is left alone",
            f"{again} --adopt takes it over and writes it",
        )
    if check.drift is Drift.NONE:
        rows = f", and with it {held.rows:,} rows that no stored output has" if held else ""
        return (
            f"the table is missing in the store{rows}",
            f"restore it, or write what the node gives now: {again} --full-refresh",
        )
    return (
        f"{_detail(check)}, and mode {check.resolved.target.mode.value} can't restore its rows; "
        "it is left alone",
        f"{again} --adopt takes it as it is; {again} --full-refresh leaves only the rows that "
        "the node gives now",
    )


def consequence(check: TargetCheck, why: Need) -> str:
    """Return what happened to a target, and what becomes of it now."""
    others = check.change.others if check.change is not None else 0
    if why is Need.ADOPTED:
        return f"{_detail(check)}; it is taken as it is"
    if check.drift is Drift.ADDED and keeps_rows(check):
        return f"{_detail(check)}; they stay"
    if not why.writes:
        return _detail(check)
    if keeps_rows(check) and why is not Need.REFRESH:
        return f"{_detail(check)}; it is taken as it is, and written"
    if not check.resolved.target.mode.rule.replaces and why is not Need.REFRESH:
        return f"{_detail(check)}; it is applied again"
    rows = f"; {others:,} row{'' if others == 1 else 's'} of others went" if others else ""
    return f"{_detail(check)}; it is written again{rows}"


def _detail(check: TargetCheck) -> str:
    """Return what happened."""
    change = check.change
    if change is None:
        return check.drift.value
    if check.drift in (Drift.REPLACED, Drift.ELSEWHERE):
        return change.detail or check.drift.value
    said = f": {change.detail}" if change.detail else ""
    return f"somebody else changed it since it was written{said}"
