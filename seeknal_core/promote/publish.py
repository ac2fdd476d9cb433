"""Publish: the stores that can prepare do all fallible work and wait, the others go first.

Those others publish by compare-and-set; then the prepared ones commit (``docs/adr/0006``).
Whatever fails before the last commit is undone by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from seeknal_core.contract.errors import PromotionInterrupted, SeeknalError, Unreachable
from seeknal_core.contract.types import Published, redact
from seeknal_core.promote.parts import patiently, reopened
from seeknal_core.promote.targets import resolve
from seeknal_core.promote.work import Promoting
from seeknal_core.state import promotions
from seeknal_core.state.promotions import Promotion
from seeknal_core.workspace.session import Session


def publish(work: Promoting) -> Promoting:
    """Publish every part, or none."""
    return attrs.evolve(work, document=publish_all(work.session, work.promotion))


def publish_unstaged(work: Promoting) -> Promoting:
    """Write the targets whose backends cannot stage; one that fails is reported at the end."""
    document, errors = write_direct(work.session, work.promotion)
    return attrs.evolve(work, document=document, errors=errors)


def publish_all(session: Session, promotion: Promotion) -> Promotion:
    """Publish every part, one store after the other, in the order of ADR 6.

    Raises:
        StaleStage, BackendError: not all are published: those that are have to be undone.
        PromotionInterrupted: a store stopped answering; the same command goes on.
    """
    parts = reopened(session, promotion, publishing=True)
    done: dict[str, Published] = {}
    try:
        for one in parts:
            if one.prepares:
                patiently(
                    lambda one=one: session.dispatcher.prepare_publish(  # type: ignore[misc]
                        session.context, one.connection, one.batch
                    )
                )
        for one in sorted(parts, key=lambda one: one.prepares):
            done[one.part.batch] = patiently(
                lambda one=one: session.dispatcher.publish(  # type: ignore[misc]
                    session.context, one.connection, one.batch
                )
            )
    except Unreachable as error:
        raise PromotionInterrupted(
            f"{error}; the promotion stopped in the middle of publishing",
            f"when the store is back: {promotions.ways_out(promotion)}",
        ) from error
    published = {
        one.key: {
            "version": one.version,
            "rows": one.rows_after,
            "created": one.created,
            "mark": one.mark,
        }
        for result in done.values()
        for one in result.targets
    }
    return attrs.evolve(promotion, published=published)


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
                resolved = resolve(session, write, publishing=True)
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
