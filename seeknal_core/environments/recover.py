"""``seeknal state recover``: what the stores' ledgers know of a lost state folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import attrs

from seeknal_core.contract.types import Ownership
from seeknal_core.contract.types.digests import ContentKey
from seeknal_core.environments.list import known_names
from seeknal_core.plan.targets import TargetCheck, check_targets
from seeknal_core.promote import recover as stores
from seeknal_core.state import promotions
from seeknal_core.state.records import EnvironmentRecord, Status, TargetRecord
from seeknal_core.workspace.opening import opening
from seeknal_core.workspace.session import Session

_NOT_KEPT = (
    "no store of these targets keeps documents of promotions: if one was being published when the"
    " state was lost, some tables have its rows and others do not. Compare them; a run writes them"
    " all by the folder's definitions"
)


@attrs.frozen(kw_only=True)
class Recovered:
    """What was found: targets by name, and those that are not this environment's.

    ``unfinished`` says which promotion or rollback has to be gone on with, and ``command``
    how; both are empty where there is none. ``warning`` says what could not be found out.
    ``unknown`` is set where nobody knows the environment: nothing is recorded then.
    """

    targets: tuple[str, ...]
    foreign: tuple[str, ...]
    unfinished: str = ""
    command: str = ""
    warning: str = ""
    unknown: str = ""


def recover(session: Session) -> Recovered:
    """Rebuild an environment's record of its targets, as far as the record lacks them.

    What another checkout wrote since replaces what the record says of such a target.

    The ledgers name content keys, not rows: nodes are computed again by the next
    run, and a target whose content key is found again is not written.

    Raises:
        BackendError: a store does not answer.
    """
    name = session.environment.name
    with opening(session, refused=()) as opened:
        session, record = opened.session, opened.record
        if not record.nodes and not record.targets:
            record = attrs.evolve(record, status=record.status or Status.PARTIAL)
        checks = check_targets(session, opened.bindings.targets.values(), versions=True)
        found, foreign = _told_by_ledgers(session, record, checks)
        generation = max(
            [record.generation, *(c.state.generation for c in checks.values() if c.state)]
        )
        unfinished = stores.take_over(session) or promotions.load(session.state, name)
        unknown = ""
        if unfinished is None and not found and session.state.load(name) is None:
            # A record of nothing would be listed, and deleted, like an environment.
            unknown = f"no store knows environment {name!r}; {known_names(session.state, name)}"
        elif unfinished is None:
            session.state.save(
                attrs.evolve(record, targets={**record.targets, **found}, generation=generation)
            )
        elif not record.targets:
            # What the tables hold now is half of it; going on with it says what is right.
            session.state.save(unfinished.before)
    return Recovered(
        targets=tuple(held.name for held in found.values()),
        foreign=tuple(foreign),
        unfinished=promotions.sentence(unfinished) if unfinished else "",
        command=promotions.resume_command(unfinished) if unfinished else "",
        warning=_NOT_KEPT if len(found) > 1 and not stores.are_kept(session) else "",
        unknown=unknown,
    )


def _told_by_ledgers(
    session: Session, record: EnvironmentRecord, checks: Mapping[str, TargetCheck]
) -> tuple[dict[str, TargetRecord], list[str]]:
    """Return what the ledgers tell of targets that the record lacks, and names of others' tables."""
    here = (session.settings.name, session.environment.name)
    found: dict[str, TargetRecord] = {}
    foreign: list[str] = []
    for key, check in checks.items():
        state, target = check.state, check.resolved.target
        if state is None or not state.exists or state.linked:
            continue
        owner = state.owner
        held = record.targets.get(key)
        if held is not None and not _is_newer(owner, held, session.context.state_id):
            continue
        if owner is None or (owner.project, owner.environment) != here:
            foreign.append(str(target.name))
            continue
        found[key] = TargetRecord(
            node=target.node,
            name=str(target.name),
            type=target.type,
            connection=check.resolved.connection.name,
            bindings=check.bindings,
            identity=check.identity,
            fingerprint=check.fingerprint,
            content_key=ContentKey(owner.content_key),
            version=state.version or "",
            rows=session.dispatcher.count_rows(session.context, check.resolved),
            written_at=_now(),
            mark=state.mark or "",
            run_id=owner.run_id,
            parts=target.name.parts,
        )
    return found, foreign


def _is_newer(owner: Ownership | None, held: TargetRecord, state_id: str) -> bool:
    """Return whether the ledger names a write of another checkout that the record lacks."""
    return (
        owner is not None and owner.state_id != state_id and owner.content_key != held.content_key
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
