"""Stage: write every target into its store, where no reader sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.apply.write import SMALL, log
from seeknal_core.contract.errors import (
    BackendError,
    DamagedOutput,
    PromotionFailed,
    VerificationFailed,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Snapshot
from seeknal_core.promote.parts import grouped, in_parallel
from seeknal_core.promote.targets import resolve
from seeknal_core.promote.work import Promoting
from seeknal_core.state.promotions import Promotion, Write
from seeknal_core.workspace.session import Session


def stage(work: Promoting) -> Promoting:
    """Stage every target, unseen by readers.

    Raises:
        PromotionFailed: a stored output is gone.
        VerificationFailed: a stored output was damaged since it was verified.
        BackendError: a target could not be staged.
    """
    snapshots = _snapshots(work)
    try:
        staged = stage_all(work.session, work.promotion, snapshots)
    except DamagedOutput as error:
        raise _set_aside(work, error.node) from error
    return attrs.evolve(work, document=staged, snapshots=snapshots)


def _snapshots(work: Promoting) -> dict[str, Snapshot]:
    """Find the stored outputs of what is promoted, by content key."""
    found: dict[str, Snapshot] = {}
    promotion = work.promotion
    for write in (*promotion.writes, *promotion.direct):
        # Its bytes are checked while they are staged.
        snapshot = work.store.find(write.node, write.content_key)
        if snapshot is None and write.content_key in work.store.damaged:
            raise _damaged(work, write.node)
        if snapshot is None:
            raise PromotionFailed(
                f"the stored output of {write.node} is gone, nothing was published",
                f"seeknal env apply {promotion.source} --force",
            )
        found[write.content_key] = snapshot
    return found


def _set_aside(work: Promoting, node: str) -> VerificationFailed:
    """Remove the snapshot that was found damaged while it was staged; return the error."""
    for write in (*work.promotion.writes, *work.promotion.direct):
        if write.node == node:
            work.store.find(write.node, write.content_key, verify=True)
    return _damaged(work, node)


def _damaged(work: Promoting, node: str) -> VerificationFailed:
    """Return the error for a stored output whose bytes are not those that were verified."""
    source = work.source.session
    again = (
        source.rerun(node)
        if source.graph.nodes[node].kind == "source"
        else f"seeknal env apply {work.source.record.name} --force"
    )
    return VerificationFailed(
        f"the stored output of {node} was damaged on the disk since it was verified, "
        "nothing was published",
        f"compute it again: {again}",
    )


def stage_all(
    session: Session, promotion: Promotion, snapshots: Mapping[str, Snapshot]
) -> Promotion:
    """Stage every write of a promotion.

    Args:
        snapshots: by content key.

    Raises:
        BackendError: one could not be staged; nothing is visible anywhere.
        DamagedOutput: a snapshot's bytes are not those that were stored.
    """
    resolved = {
        write.key: resolve(session, attrs.evolve(write, staged=None)) for write in promotion.writes
    }

    def stage(batch: str, write: Write) -> Write:
        session.context.cancellation.check()
        with snapshots[write.content_key].confirmed() as snapshot:
            staged = session.dispatcher.stage(session.context, resolved[write.key], snapshot, batch)
        return attrs.evolve(write, staged=staged)

    def stage_group(item: tuple[str, Sequence[Write]]) -> list[Write]:
        batch, writes = item
        session.context.cancellation.check()
        if len(writes) > 1:
            try:
                with contextlib.ExitStack() as stack:
                    found = session.dispatcher.stage_targets(
                        session.context,
                        [resolved[write.key] for write in writes],
                        [
                            stack.enter_context(snapshots[write.content_key].confirmed())
                            for write in writes
                        ],
                        batch,
                    )
                return [
                    attrs.evolve(write, staged=staged)
                    for write, staged in zip(writes, found, strict=True)
                ]
            except BackendError as error:
                # Whatever is wrong with one of them, it is told of that one below.
                log.debug("staging %d targets one by one", len(writes), exc_info=error)
        return [stage(batch, write) for write in writes]

    def is_small(write: Write) -> bool:
        type = resolved[write.key].target.type
        together = session.dispatcher.together(type, Hook.STAGE_TARGETS)
        return together and snapshots[write.content_key].bytes <= SMALL

    groups = [
        (part.batch, group) for part in promotion.parts for group in grouped(part.writes, is_small)
    ]
    staged = {
        write.key: write for writes in in_parallel(session, stage_group, groups) for write in writes
    }
    return attrs.evolve(
        promotion,
        parts=tuple(
            attrs.evolve(part, writes=tuple(staged[write.key] for write in part.writes))
            for part in promotion.parts
        ),
    )
