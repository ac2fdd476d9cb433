"""Compare what is staged with what was computed, as the stores themselves tell it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from seeknal_core.apply.write import SMALL
from seeknal_core.contract.errors import VerificationFailed
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Checksum, Snapshot
from seeknal_core.plan.targets import check_targets
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.promote.parts import grouped, in_parallel
from seeknal_core.promote.targets import resolve
from seeknal_core.promote.work import Promoting, Verification
from seeknal_core.state.promotions import Promotion, Write
from seeknal_core.workspace.session import Session

#: Snapshots up to this size are compared by checksum unless told otherwise, in bytes.
_CHECKSUM_LIMIT = 2 << 30


def verify(work: Promoting) -> Promoting:
    """Compare what is staged with the snapshots.

    Raises:
        VerificationFailed: with both numbers and names.
    """

    def compares_contents(snapshot: Snapshot) -> bool:
        if work.request.verify is not None:
            return work.request.verify is Verification.CHECKSUM
        return snapshot.bytes <= _CHECKSUM_LIMIT

    verify_all(work.session, work.promotion, work.snapshots, checksums=compares_contents)
    work.session.context.cancellation.check()
    return work


def verify_all(
    session: Session,
    promotion: Promotion,
    snapshots: Mapping[str, Snapshot],
    *,
    checksums: Callable[[Snapshot], bool],
) -> None:
    """Compare what is staged, as the stores tell it, with the snapshots.

    Args:
        checksums: whether a snapshot's contents are compared, too.

    Raises:
        VerificationFailed: with both numbers and names.
    """
    resolved = {write.key: resolve(session, write) for write in promotion.writes}
    checks = check_targets(session, resolved.values())
    summed = _sum_up(session, promotion, resolved, snapshots, checksums)

    def look(write: Write) -> list[str]:
        session.context.cancellation.check()
        snapshot = snapshots[write.content_key]
        assert write.staged is not None
        # Summing up the staged rows counts them as well.
        sums = summed.get(write.key)
        rows = (
            sums.rows
            if sums is not None
            else session.dispatcher.count_rows(session.context, resolved[write.key])
        )
        rule = resolved[write.key].target.mode.rule
        if rule.once and write.staged.rows == 0 == rows:
            return []  # the ledger has these rows appended already
        if rows != snapshot.row_count:
            return [f"{write.name}: {rows:,} rows staged, {snapshot.row_count:,} in {write.node}"]
        state = checks[write.key].state
        found = {column.name for column in state.columns} if state else set()
        wanted = set(snapshot.schema.names)
        if found != wanted:
            lacks, more = sorted(wanted - found), sorted(found - wanted)
            return [
                f"{write.name}: staged with other columns than {write.node}: "
                f"lacks {', '.join(lacks) or 'none'}, has besides {', '.join(more) or 'none'}"
            ]
        return _checksum_problems(write, snapshot, sums) if sums is not None else []

    problems = [line for lines in in_parallel(session, look, promotion.writes) for line in lines]
    if problems:
        raise VerificationFailed(
            "what was staged is not what it should be; nothing was published:\n"
            + "\n".join(problems),
            f"try again: seeknal env promote {promotion.source} {promotion.destination}; if it says "
            "the same again, the store does not keep these values as they are: CAST the columns "
            "named in the nodes' SQL to a type that it keeps (text always is), then: "
            f"seeknal run --env {promotion.source}, and promote",
        )


def _sum_up(
    session: Session,
    promotion: Promotion,
    resolved: Mapping[str, ResolvedTarget],
    snapshots: Mapping[str, Snapshot],
    checksums: Callable[[Snapshot], bool],
) -> dict[str, Checksum]:
    """Return the checksums of what is staged, by key; small targets are asked about together."""

    def is_small(write: Write) -> bool:
        type = resolved[write.key].target.type
        together = session.dispatcher.together(type, Hook.CHECKSUM_TARGETS)
        return together and snapshots[write.content_key].bytes <= SMALL

    def sum_group(writes: Sequence[Write]) -> list[tuple[str, Checksum | None]]:
        session.context.cancellation.check()
        asked = [resolved[write.key] for write in writes]
        found = (
            session.dispatcher.checksum_targets(session.context, asked)
            if len(writes) > 1
            else [session.dispatcher.checksum(session.context, one) for one in asked]
        )
        return [(write.key, sums) for write, sums in zip(writes, found, strict=True)]

    groups = [
        group
        for part in promotion.parts
        for group in grouped(
            [write for write in part.writes if checksums(snapshots[write.content_key])], is_small
        )
    ]
    found = [one for some in in_parallel(session, sum_group, groups) for one in some]
    return {key: sums for key, sums in found if sums is not None}


def _checksum_problems(write: Write, snapshot: Snapshot, staged: Checksum) -> list[str]:
    from seeknal_core.contract.checksums import checksum_of

    wanted = checksum_of(snapshot.reader())
    return [
        f"{write.name}: column {name} was staged with other values than {write.node} has"
        for name, sum in wanted.columns.items()
        if staged.columns.get(name) != sum
    ]
