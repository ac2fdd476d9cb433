"""The targets of a command, and what stands in their place in the stores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from seeknal_core.contract.types import Drift, TargetChange, TargetState
from seeknal_core.contract.types.digests import BindingDigest, Fingerprint, Identity
from seeknal_core.graph import target_fingerprint
from seeknal_core.plan.bindings import bindings_digest, fallback_identity
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.records import TargetRecord
from seeknal_core.workspace.parallel import in_parallel
from seeknal_core.workspace.session import Session

#: Metadata questions are short; more threads than this only open more connections.
_INSPECTORS = 4


@attrs.frozen(kw_only=True)
class TargetCheck:
    """A target of this run and what stands in its place.

    ``change`` is what somebody else did to it since it was written, None where nothing
    gave a reason to look. ``unrecorded`` is the content key of what a command of this
    checkout wrote and did not record, for it was killed or its promotion was left half
    done; empty where there is no such thing.
    """

    resolved: ResolvedTarget
    identity: Identity
    bindings: BindingDigest
    fingerprint: Fingerprint
    state: TargetState | None
    change: TargetChange | None = None
    unrecorded: str = ""

    @property
    def drift(self) -> Drift:
        """What somebody else did to the target, as far as anybody looked."""
        return self.change.drift if self.change is not None else Drift.NONE


def covering(check: TargetCheck, covers: Sequence[str]) -> TargetCheck:
    """Return a target for rows that were complete for a time when they were computed.

    Args:
        covers: as the rows' record has it; where it is empty the target's own holds.
    """
    from seeknal_core.project.covers import interval_of

    if not covers or check.resolved.spec.covers is None:
        return check
    start, end = covers
    resolved = attrs.evolve(
        check.resolved,
        spec=attrs.evolve(check.resolved.spec, covers=(start, end)),
        target=attrs.evolve(check.resolved.target, covers=interval_of(start, end)),
    )
    return attrs.evolve(check, resolved=resolved)


def check_unasked(resolved: ResolvedTarget, held: TargetRecord | None) -> TargetCheck:
    """Return what is known of a target without asking its store.

    Where its record has the same bindings and name, it is the same table.
    """
    bindings = bindings_digest(resolved.connection)
    there = held is not None and (held.bindings, held.name) == (bindings, str(resolved.target.name))
    return TargetCheck(
        resolved=resolved,
        identity=held.identity if held is not None and there else fallback_identity(resolved),
        bindings=bindings,
        fingerprint=target_fingerprint(resolved.spec, resolved.target.mode),
        state=None,
    )


def check_targets(
    session: Session, targets: Iterable[ResolvedTarget], *, versions: bool = False
) -> dict[str, TargetCheck]:
    """Ask the stores what stands where each target is, many in one question.

    Args:
        versions: whether the states' versions and rows are of interest, too.

    Raises:
        BackendError: a store does not answer. Nothing was written.
    """
    listed = list(targets)

    def inspect(group: Sequence[ResolvedTarget]) -> list[TargetCheck]:
        session.context.cancellation.check()
        states = session.dispatcher.inspect_targets(session.context, group, versions=versions)
        return [
            TargetCheck(
                resolved=resolved,
                identity=Identity(state.identity) if state else fallback_identity(resolved),
                bindings=bindings_digest(resolved.connection),
                fingerprint=target_fingerprint(resolved.spec, resolved.target.mode),
                state=state,
            )
            for resolved, state in zip(group, states, strict=True)
        ]

    found = {
        check.resolved.target.key: check
        for checks in in_parallel(
            session.context.cancellation,
            inspect,
            _groups(listed),
            at_once=_INSPECTORS,
            abandon=True,
        )
        for check in checks
    }
    return {resolved.target.key: found[resolved.target.key] for resolved in listed}


def _groups(targets: Sequence[ResolvedTarget]) -> list[list[ResolvedTarget]]:
    """Split targets by connection, and large parts for as many threads as there are."""
    by_connection: dict[str, list[ResolvedTarget]] = {}
    for resolved in targets:
        by_connection.setdefault(resolved.connection.name, []).append(resolved)
    groups = []
    for found in by_connection.values():
        size = max(1, -(-len(found) // _INSPECTORS))
        groups += [found[start : start + size] for start in range(0, len(found), size)]
    return groups
