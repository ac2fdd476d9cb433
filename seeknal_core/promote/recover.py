"""Promotions' documents in the stores: what another machine needs when this one is lost.

A store that can keep documents (`note_promotion`) holds one for each promotion that is
under way and for the last one, which can be rolled back. It is written before anything is
staged, again when all is verified, and when the promotion is done; it goes when the stores
let go of what they keep for the promotion. The stores' own ledgers decide what was
published; the document says which tables belong together and what was staged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs

from seeknal_core.contract.errors import (
    BackendError,
    EnvironmentStateError,
    SeeknalError,
    StateError,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Connection, PromotionNote
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.promote.targets import resolve
from seeknal_core.state import promotions
from seeknal_core.state.promotions import Phase, Promotion
from seeknal_core.workspace.bindings import bind
from seeknal_core.workspace.session import Session

_VERSION = 2


@attrs.frozen(kw_only=True)
class Found:
    """A promotion that a store remembers and this folder does not.

    ``manifest`` is what the destination's manifest was before it, in values of JSON.
    """

    promotion: Promotion
    state_id: str
    written_at: str
    manifest: object

    @property
    def is_over(self) -> bool:
        """Whether every store had published it and the state had moved."""
        return self.promotion.step is Phase.DONE and not self.promotion.rollback

    @property
    def age(self) -> timedelta:
        """How long ago the store was first told of it."""
        return datetime.now(UTC) - datetime.fromisoformat(self.written_at)

    @property
    def sentence(self) -> str:
        """Return what it is, who began it and when."""
        what = "a rollback" if self.promotion.rollback else "a promotion"
        return (
            f"{what} of {self.promotion.source!r} into {self.promotion.destination!r}, begun at "
            f"{self.promotion.started_at} from another state folder ({self.state_id[:8]}), is "
            "not finished"
        )


def put(session: Session, promotion: Promotion) -> None:
    """Keep a promotion's document in every store of it that can.

    Raises:
        BackendError: a store does not answer or refuses.
    """
    keepers = list(_keepers_of(session, promotion))
    if not keepers:
        return
    manifest = session.state.read_text("manifests", promotion.id)
    document = (
        f'{{"version":{_VERSION},"promotion":{promotions.document_text(promotion)},'
        f'"manifest":{manifest or "null"}}}'
    )
    note = PromotionNote(
        promotion=promotion.id, state_id=session.context.state_id, document=document
    )
    for connection in keepers:
        session.dispatcher.note_promotion(session.context, connection, note)


def forget(session: Session, promotion: Promotion) -> None:
    """Remove a promotion's document from its stores.

    Raises:
        BackendError: a store does not answer.
    """
    for connection in _keepers_of(session, promotion):
        session.dispatcher.forget_promotion(session.context, connection, promotion.id)


def _keepers_of(session: Session, promotion: Promotion) -> Iterator[Connection]:
    for part in promotion.parts:
        # All of a part's targets are on one connection.
        connection = resolve(session, part.writes[0]).connection
        if session.dispatcher.supports(connection.type, Hook.NOTE_PROMOTION):
            yield connection


def unknown(session: Session, keepers: Iterable[Connection] | None = None) -> list[Found]:
    """List what the stores remember of promotions into this environment and the state doesn't.

    The farthest document of each promotion, oldest first. Backends must be loaded.

    Args:
        keepers: the connections to ask; None for those of all of the environment's targets.

    Raises:
        BackendError: a store does not answer.
        StateError: a document can't be read.
    """
    name = session.environment.name
    known = promotions.ids(session.state, name)
    steps = list(Phase)
    found_by_id: dict[str, Found] = {}
    for connection in _keepers(session) if keepers is None else keepers:
        for note in session.dispatcher.list_promotions(session.context, connection):
            if note.promotion in known:
                continue
            found = _read(session, note)
            other = found_by_id.get(note.promotion)
            if other is None or steps.index(other.promotion.step) < steps.index(
                found.promotion.step
            ):
                found_by_id[note.promotion] = found
    return sorted(found_by_id.values(), key=lambda found: found.promotion.started_at)


def are_kept(session: Session) -> bool:
    """Return whether a store of the environment's targets keeps promotions' documents."""
    return next(_keepers(session), None) is not None


def _keepers(session: Session) -> Iterator[Connection]:
    """Yield the connections of the environment's targets whose stores can keep documents."""
    bound = bind(session).targets
    for connection in {each.connection.name: each.connection for each in bound.values()}.values():
        if session.dispatcher.supports(connection.type, Hook.NOTE_PROMOTION):
            yield connection


def _read(session: Session, note: PromotionNote) -> Found:
    where = f"what a store remembers of promotion {note.promotion}"
    try:
        document = json.loads(note.document)
        if document["version"] > _VERSION:
            raise StateError(
                f"{where} was written by a newer version of Seeknal",
                "pip install --upgrade seeknal-core",
            )
        promotion = promotions.from_document(document["promotion"], Path(where))
        manifest = document["manifest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(
            f"{where} can't be read: {error}",
            f"look at the tables: seeknal env status {session.environment.name}",
        ) from error
    return Found(
        promotion=promotion,
        state_id=note.state_id,
        written_at=note.written_at,
        manifest=manifest,
    )


def refuse_unknown(session: Session) -> None:
    """Refuse to promote while the stores remember a promotion that isn't finished.

    Raises:
        EnvironmentStateError: with what to do if its machine is gone.
    """
    for found in unknown(session):
        if not found.is_over:
            raise _unfinished(session, found)


def refuse_publishing(session: Session, targets: Sequence[ResolvedTarget]) -> None:
    """Refuse to write while another folder publishes into this environment, or died at it.

    What is only staged was published nowhere: writing makes it stale, and harms nothing.

    Args:
        targets: what is to be written. Their stores are asked, and those of all targets
            where this folder records none: it may stand for one that is lost.

    Raises:
        EnvironmentStateError: with what to do if the other folder is gone.
        StateError: a document can't be read.
    """
    keepers = {each.connection.name: each.connection for each in targets}
    record = session.state.load(session.environment.name)
    if targets and (record is None or not record.targets):
        keepers |= {each.name: each for each in _keepers(session)}
    for connection in keepers.values():
        if not session.dispatcher.supports(connection.type, Hook.NOTE_PROMOTION):
            continue
        try:
            found = unknown(session, [connection])
        except BackendError:
            continue  # Whatever is to be written there says so itself.
        for each in found:
            if not each.is_over and each.promotion.step is not Phase.STAGING:
                raise _unfinished(session, each)


def _unfinished(session: Session, found: Found) -> EnvironmentStateError:
    return EnvironmentStateError(
        found.sentence,
        f"wait for it; where its machine or folder is gone: {recover_command(session)}",
    )


def recover_command(session: Session) -> str:
    """Return the command that takes over what the stores remember of this environment."""
    if session.environment.is_production:
        return "seeknal state recover"
    return f"seeknal state recover --env {session.environment.name}"


def take_over(session: Session) -> Promotion | None:
    """Write down in the state what the stores remember, as if it had been begun here.

    Returns:
        The promotion, or rollback, that has to be gone on with; None where there is none.

    Raises:
        StateError, BackendError: as `unknown`.
    """
    unfinished: Promotion | None = None
    name = session.environment.name
    for found in unknown(session):
        promotion = found.promotion
        if isinstance(found.manifest, dict):
            values = {k: v for k, v in found.manifest.items() if k != "schema_version"}
            session.state.write("manifests", promotion.id, values)
        if not found.is_over:
            if unfinished is not None or session.state.unfinished(name) is not None:
                promotions.outdate(session.state, promotion)
                continue
            unfinished = promotions.save(session.state, promotion)
        elif (last := promotions.load(session.state, name, "last")) is None:
            promotions.save(session.state, promotion, "last")
        elif last.started_at < promotion.started_at:
            promotions.outdate(session.state, last)
            promotions.save(session.state, promotion, "last")
        else:
            promotions.outdate(session.state, promotion)
    return unfinished


def quietly(session: Session, promotion: Promotion) -> str:
    """Keep the document of a promotion that is done; return why that failed, or nothing.

    The promotion stands whatever becomes of the document.
    """
    try:
        put(session, promotion)
    except SeeknalError as error:
        return f"the store keeps an older document of this promotion: {error}"
    return ""
