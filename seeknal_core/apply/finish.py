"""The end of a run or an apply: its journal folded into the environment's record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import attrs

from seeknal_core.apply.carry import Ended, bound_anew
from seeknal_core.apply.manifest import updated_manifest
from seeknal_core.apply.report import RunReport
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.records import EnvironmentRecord, NodeRecord, Status
from seeknal_core.workspace.session import Session


def save(
    session: Session,
    report: RunReport,
    ended: Ended,
    *,
    base: EnvironmentRecord | None,
    base_state: str,
    whole: bool,
    taken: Mapping[str, NodeRecord] | None = None,
) -> None:
    """Fold the journal into the record; after a whole run forget nodes that are gone.

    Their targets stay on record: the tables are still this environment's.

    Args:
        base_state: what the base was when the work began (`moved_digest`).
        taken: references that the environment takes over from its base.
    """
    name = session.environment.name
    record = session.state.load(name) or EnvironmentRecord(name=name)
    nodes = {**record.nodes, **(taken or {})}
    if whole:
        nodes = {id: held for id, held in nodes.items() if id in session.graph.nodes}
    before = load_manifest(session.state, name)
    status = _status(report)
    if status is Status.APPLIED and not whole and record.status is not Status.APPLIED:
        status = Status.PARTIAL if record.status is Status.NEW else record.status
    record = attrs.evolve(
        record,
        profile=session.profile.path or "",
        created_at=record.created_at or _now(),
        last_run_at=_now(),
        last_run_id=session.context.run_id,
        status=status,
        nodes=bound_anew(nodes, ended.documents),
        base=base.name if base is not None else "",
        base_state=base_state,
        rolled_back="",
        protected=session.profile.protected,
        given_profile=(session.profile.path or "") if session.profile.given else "",
    )
    others = [load_manifest(session.state, base.name)] if base is not None else []
    save_manifest(
        session.state, name, updated_manifest(session, before, record, ended.outputs, others)
    )
    session.state.save(record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _status(report: RunReport) -> Status:
    if report.interrupted:
        return Status.INTERRUPTED
    return Status.FAILED if report.failed or report.refused else Status.APPLIED
