"""The end of a promotion, and the way back: state, undo data, rollback."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from seeknal_core.apply.manifest import updated_manifest
from seeknal_core.apply.write import log
from seeknal_core.contract.errors import BackendError, ConfigError, SeeknalError
from seeknal_core.contract.types import redact
from seeknal_core.contract.types.digests import BindingDigest, ContentKey, Fingerprint, Identity
from seeknal_core.promote import documents as promotions
from seeknal_core.promote import notes
from seeknal_core.promote import publish as publishing
from seeknal_core.promote.documents import Promotion, Step, Write
from seeknal_core.state.digests import definitions_digest, moved_digest
from seeknal_core.state.manifest import load_manifest, save_manifest
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.opening import refuse_unfinished
from seeknal_core.workspace.session import Session, load_plugins


def write_direct(session: Session, promotion: Promotion) -> tuple[Promotion, dict[str, str]]:
    """Write the targets whose backends cannot stage, after all others are published.

    Returns:
        The promotion with their versions, and what failed, by key.
    """
    if not promotion.direct:
        return promotion, {}
    store = session.snapshot_store()
    published: dict[str, Mapping[str, Any]] = dict(promotion.published)
    errors: dict[str, str] = {}
    with store.shared_lock():
        for write in promotion.direct:
            try:
                snapshot = store.find(write.node, write.content_key, verify=True)
                if snapshot is None:
                    errors[write.key] = "its snapshot is gone"
                    continue
                resolved = promotions.resolve(session, write, publishing=True)
                result = session.dispatcher.materialize(session.context, resolved, snapshot)
                count = session.dispatcher.count_rows(session.context, resolved)
            except SeeknalError as error:
                errors[write.key] = redact(str(error))
                continue
            if count != result.rows_after:
                errors[write.key] = f"holds {count:,} rows, {result.rows_after:,} were written"
            published[write.key] = {
                "version": result.version,
                "rows": result.rows_after,
                "created": result.created,
                "mark": result.mark,
            }
    return attrs.evolve(promotion, published=published), errors


def finish(session: Session, promotion: Promotion) -> tuple[str, ...]:
    """Move the destination's references, drop the older undo data, keep this one's.

    Every step may be repeated after a crash.

    Returns:
        Sentences about what could not be tidied.
    """
    name = promotion.destination
    record = _published_record(session, promotion)
    source = load_manifest(session.state, promotion.source)
    manifest = updated_manifest(session, load_manifest(session.state, name), record, {}, [source])
    save_manifest(session.state, name, manifest)
    session.state.save(record)
    _follow(session, promotion, record)
    last = promotions.load(session.state, name, "last")
    if last is not None and last.id != promotion.id:
        promotions.outdate(session.state, last)
    done = attrs.evolve(promotion, step=Step.DONE, after=record)
    promotions.save(session.state, done, "last")
    kept = notes.quietly(session, done)
    said: tuple[str, ...] = (kept,) if kept else ()
    try:
        publishing.discard_outdated(session)
    except BackendError as error:
        said = (
            *said,
            "data that undid an earlier promotion is left, and goes with the next promotion, or by "
            "seeknal gc: "
            f"{redact(str(error))}",
        )
    promotions.forget(session.state, name)
    return said


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
            bindings=BindingDigest(write.bindings),
            identity=Identity(write.identity),
            fingerprint=Fingerprint(write.fingerprint),
            content_key=ContentKey(write.content_key),
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
        resolved = promotions.resolve(session, attrs.evolve(write, staged=None))
        return resolved.target.name.parts
    return ()


def _connection(promotion: Promotion, write: Write) -> str:
    for part in promotion.parts:
        if write in part.writes:
            return part.connection
    return str(write.spec["connection"] or "")


def _follow(session: Session, promotion: Promotion, record: EnvironmentRecord) -> None:
    """Let the promoted environment know its base as it is now."""
    source = session.state.load(promotion.source)
    if source is None or record.name != session.settings.production:
        return
    session.state.save(attrs.evolve(source, base=record.name, base_state=moved_digest(record)))


def rollback(session: Session, *, abort: str = "") -> Promotion:
    """Undo the last promotion into the session's environment, in all its stores.

    Args:
        abort: ``overwrite`` undoes also where somebody wrote since; ``keep`` ends a rollback
            that is unfinished, and leaves the tables as they are.

    Raises:
        ConfigError: there is none to undo.
        StaleStage: targets were written since; they are named, nothing is undone.
        PromotionInterrupted: a store stopped answering; the same command goes on.
    """
    name = session.environment.name
    load_plugins(session, list(session.graph.nodes.values()))
    with session.state.lock(name):
        found = promotions.load(session.state, name)
        if found is not None and not found.rollback:
            refuse_unfinished(session)
        if abort == "keep":
            return _keep(session, found)
        if found is None:
            found = _begun(session, _to_undo(session, name), check=not abort)
        publishing.revert_all(session, found, overwrite=abort == "overwrite")
        definitions = {id: node.definition for id, node in found.after.nodes.items()}
        with publishing.interrupted_without_state(found, "every store has undone it"):
            _restore(session, found, definitions_digest(definitions))
            publishing.discard_or_outdate(session, found)
            _discard_outdated(session)
            promotions.forget(session.state, name, "last")
            promotions.forget(session.state, name)
    return found


def _begun(session: Session, last: Promotion, *, check: bool) -> Promotion:
    """Write down that a promotion is being undone.

    Args:
        check: refuse where somebody wrote its targets since.

    Raises:
        StaleStage, BackendError: nothing is undone, and nothing is unfinished.
    """
    if check and not _was_left(session, last):
        publishing.refuse_moved(session, last)
    found = attrs.evolve(last, step=Step.REVERTING, rollback=True)
    promotions.save(session.state, found)
    try:
        notes.put(session, found)
    except SeeknalError:
        promotions.forget(session.state, last.destination)
        notes.quietly(session, attrs.evolve(last, step=Step.DONE))
        raise
    return found


def _was_left(session: Session, last: Promotion) -> bool:
    """Tell whether an undoing of a promotion was ended half-way, and nothing was run since.

    What it undid has other versions than were published; the stores know of it.
    """
    if last.step is not Step.REVERTING:
        return False
    record = session.state.load(last.destination)
    held = record.targets if record is not None else {}
    return all(
        write.key in held and held[write.key].version == last.published[write.key]["version"]
        for write in last.writes
    )


def _discard_outdated(session: Session) -> None:
    """Throw away older undo data; where a store refuses, it stays until the next promotion."""
    try:
        publishing.discard_outdated(session)
    except BackendError as error:
        log.warning(
            "data that undid an earlier promotion is left, and goes with the next promotion, or by "
            "seeknal gc: %s",
            redact(str(error)),
        )


def _keep(session: Session, found: Promotion | None) -> Promotion:
    """End an unfinished rollback and leave the tables as they are; asks no store for anything.

    What undoes the promotion stays, so that it can be rolled back later.
    """
    name = session.environment.name
    if found is None:
        raise ConfigError(f"no rollback of {name!r} is unfinished", f"seeknal env status {name}")
    last = promotions.load(session.state, name, "last")
    if last is not None and last.id == found.id:
        # Some of it may be undone by now.
        promotions.save(session.state, attrs.evolve(last, step=Step.REVERTING), "last")
    promotions.forget(session.state, name)
    if last is not None and last.id == found.id:
        notes.quietly(session, attrs.evolve(last, step=Step.DONE))
    return found


def _to_undo(session: Session, name: str) -> Promotion:
    found = promotions.load(session.state, name, "last")
    if found is None:
        known = session.state.load(name) is not None
        raise ConfigError(
            f"there is no promotion into {name!r} to undo",
            f"what {name!r} holds is shown by: seeknal env show {name}"
            if known
            else "seeknal env list",
        )
    if found.direct:
        listed = ", ".join(write.name for write in found.direct)
        raise ConfigError(
            f"{listed} cannot be undone: the backend does not stage",
            f"promote an earlier state instead: seeknal env promote {found.source} {name}",
        )
    return found


def _restore(session: Session, found: Promotion, undone: str) -> None:
    """Put the destination's record back; versions are the stores' after the undoing."""
    before = attrs.evolve(
        publishing.restored(session, found),
        rolled_back=undone,
        generation=found.after.generation + 1,
    )
    save_manifest(session.state, before.name, load_manifest(session.state, found.id))
    session.state.save(before)
