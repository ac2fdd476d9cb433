"""The end of a promotion: the record follows the stores, and what undoes it is kept.

Every step may be repeated: a crash leaves the document ``published``, and the next command
takes them all again.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import attrs

from seeknal_core.apply.manifest import updated_manifest
from seeknal_core.contract.errors import BackendError, SeeknalError
from seeknal_core.contract.types import redact
from seeknal_core.promote import recover
from seeknal_core.promote.report import report_of
from seeknal_core.promote.rollback import discard_outdated
from seeknal_core.promote.targets import resolve
from seeknal_core.promote.work import Promoting
from seeknal_core.state import promotions
from seeknal_core.state.digests import moved_digest
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.promotions import Phase, Promotion, Write
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.session import Session


def move_references(work: Promoting) -> Promoting:
    """Let the destination's record and manifest follow, each in one atomic rename."""
    session, promotion = work.session, work.promotion
    name = promotion.destination
    record = _published_record(session, promotion)
    if work.sides is not None:
        # Both environments are locked: what was read is what stands there.
        here, source = work.destination.manifest, work.source.manifest
        follows: EnvironmentRecord | None = work.source.record
    else:
        here = load_manifest(session.state, name)
        source = load_manifest(session.state, promotion.source)
        follows = session.state.load(promotion.source)
    save_manifest(session.state, name, updated_manifest(session, here, record, {}, [source]))
    session.state.save(record)
    if follows is not None and record.name == session.settings.production:
        # The promoted environment knows its base as it is now.
        session.state.save(attrs.evolve(follows, base=record.name, base_state=moved_digest(record)))
    return attrs.evolve(work, document=attrs.evolve(promotion, after=record))


def keep_undo(work: Promoting) -> Promoting:
    """Write down that this promotion can be rolled back, and no earlier one any more."""
    session, promotion = work.session, work.promotion
    promotions.outdate_last(session.state, promotion)
    done = attrs.evolve(promotion, step=Phase.DONE)
    promotions.save(session.state, done, "last")
    kept = recover.quietly(session, done)
    return attrs.evolve(work, notes=(*work.notes, kept)) if kept else work


def let_go(work: Promoting) -> Promoting:
    """Throw away what undid earlier promotions; a store that refuses is asked again later."""
    try:
        discard_outdated(work.session)
    except BackendError as error:
        left = (
            "data that undid an earlier promotion is left, and goes with the next promotion, or by "
            f"seeknal gc: {redact(str(error))}"
        )
        return attrs.evolve(work, notes=(*work.notes, left))
    return work


def forget_document(work: Promoting) -> Promoting:
    """Remove the document: the promotion is done."""
    promotions.forget(work.session.state, work.promotion.destination)
    done = report_of(work.promotion, "promoted", work.errors, work.notes)
    if work.report is not None:
        done = attrs.evolve(
            work.report, id=done.id, targets=done.targets, notes=done.notes, outcome=done.outcome
        )
    return attrs.evolve(work, ended=done)


def _published_record(session: Session, promotion: Promotion) -> EnvironmentRecord:
    """Return the destination's record with the targets as they were published."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    targets = dict(promotion.after.targets)
    for write in (*promotion.writes, *promotion.direct):
        result = promotion.published.get(write.key)
        if result is None:
            continue
        targets[write.key] = TargetRecord(
            node=write.node,
            name=write.name,
            type=str(write.spec["type"]),
            connection=_connection(promotion, write),
            bindings=write.bindings,
            identity=write.identity,
            fingerprint=write.fingerprint,
            content_key=write.content_key,
            version=str(result["version"]),
            rows=int(result["rows"]),
            written_at=now,
            mark=str(result.get("mark", "")),
            parts=_parts(session, write),
        )
    return attrs.evolve(promotion.after, targets=targets)


def _parts(session: Session, write: Write) -> tuple[str, ...]:
    """Return a target's name in parts; none where its connection can't be resolved now."""
    with contextlib.suppress(SeeknalError):
        resolved = resolve(session, attrs.evolve(write, staged=None))
        return resolved.target.name.parts
    return ()


def _connection(promotion: Promotion, write: Write) -> str:
    for part in promotion.parts:
        if write in part.writes:
            return part.connection
    return str(write.spec["connection"] or "")
