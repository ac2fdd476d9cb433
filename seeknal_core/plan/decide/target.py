"""What happens to a target: written, kept, linked, copied, left out, refused or dropped.

Computing and writing are decided apart: nothing here looks at how a node was computed, only
at what its target holds and what it should hold.
"""

from __future__ import annotations

import enum

import attrs

from seeknal_core.contract.types import Drift
from seeknal_core.plan.decide.node import has_rows_of
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.project.specs import ProjectSettings
from seeknal_core.state.records import EnvironmentRecord, TargetRecord


class Writing(enum.Enum):
    """What is done for a target. The value is shown to the user."""

    WRITE = "write"
    DEPENDS = "write if the rows differ"
    UNLOOKED = "write if the table differs"
    KEEP = "unchanged"
    ADOPT = "take over as it is"
    SHARED = "the same as production's: link, copy or leave out"
    LINK = "link to production's table"
    COPY = "copy of production's rows"
    LEFT_OUT = "left out"
    REFUSED = "refused"
    GONE = "no longer in the project"
    DROP = "drop"


@attrs.frozen(kw_only=True)
class Production:
    """What decides whether a target is the same as production's, and what it becomes then.

    ``unchanged`` is ``link``, ``copy`` or ``skip``; ``copy_limit`` is in bytes.
    """

    record: EnvironmentRecord | None
    all_targets: bool = False
    only_changed: bool = False
    unchanged: str = "link"
    copy_limit: int = 10**9

    @classmethod
    def of(
        cls,
        settings: ProjectSettings,
        record: EnvironmentRecord | None,
        *,
        all_targets: bool = False,
        only_changed: bool = False,
    ) -> Production:
        """Make it of the project's settings and a command's options."""
        return cls(
            record=record,
            all_targets=all_targets,
            only_changed=only_changed,
            unchanged=settings.unchanged,
            copy_limit=settings.copy_limit,
        )


class Need(enum.Enum):
    """Why a target is written, or is not. The value is said to the user."""

    NEW = "new"
    MISSING = "the table is missing in the store"
    MOVED = "it moved to another place"
    CHANGED = "the target changed"
    CONTENT = "the content changed"
    UNRECORDED = "a command that did not finish wrote it"
    REFRESH = "full refresh"
    DRIFTED = "somebody else changed it"
    COPY = "copied from production's rows"
    ADOPTED = "taken over as it is"
    REFUSED = "refused"
    CURRENT = "unchanged"
    SAME_AS_PRODUCTION = "same as production"

    @property
    def writes(self) -> bool:
        """Whether the target is written."""
        return self not in _WRITINGS


@attrs.frozen(kw_only=True)
class TargetDecision:
    """What happens to a target, and why."""

    writing: Writing
    need: Need


def target(
    check: TargetCheck,
    content_key: str | None,
    held: TargetRecord | None,
    production: Production,
    *,
    full_refresh: bool = False,
    adopt: bool = False,
    looked: bool = True,
) -> TargetDecision:
    """Decide what happens to a target.

    A target whose answer is `Writing.SHARED` is the same as production's; `shared` decides
    those of a command together.

    Args:
        content_key: what it should hold; None where its node's rows are not known yet.
        held: what the environment's record says of it.
        adopt: whether the table may be taken as it is found.
        looked: whether the store was asked what stands there.
    """
    why = need(
        check,
        content_key or "",
        held,
        production,
        full_refresh=full_refresh,
        adopt=adopt,
    )
    perhaps_same = why is Need.NEW and production.record is not None and not production.all_targets
    if content_key is None and (why is Need.CONTENT or perhaps_same):
        return TargetDecision(writing=Writing.DEPENDS, need=why)
    if why is Need.CURRENT and not looked:
        return TargetDecision(writing=Writing.UNLOOKED, need=why)
    return TargetDecision(writing=_WRITINGS.get(why, Writing.WRITE), need=why)


def in_words(why: Need, check: TargetCheck) -> str:
    """Return why a target is written, in words that fit what stands in its place."""
    state = check.state
    if why is not Need.NEW or state is None or not state.exists or state.linked:
        return why.value
    return "taken over" if state.owner is None else "new to this checkout"


#: What is done about needs that are no reason to write.
_WRITINGS = {
    Need.CURRENT: Writing.KEEP,
    Need.ADOPTED: Writing.ADOPT,
    Need.REFUSED: Writing.REFUSED,
    Need.SAME_AS_PRODUCTION: Writing.SHARED,
}


def need(
    check: TargetCheck,
    content_key: str,
    held: TargetRecord | None,
    production: Production,
    *,
    full_refresh: bool = False,
    adopt: bool = False,
) -> Need:
    """Decide whether a target is written.

    Args:
        content_key: what the target should hold.
        held: what the environment's record says of the target.
        adopt: whether the table may be taken as it is found.
    """
    if held is None:
        if full_refresh:
            return Need.REFRESH
        same = not production.all_targets and _same(check, content_key, production)
        return Need.SAME_AS_PRODUCTION if same else Need.NEW
    if not adopt and is_refused(check, held, full_refresh=full_refresh):
        return Need.REFUSED
    if full_refresh:
        return Need.REFRESH
    if held.link:
        return _need_of_link(check, content_key, held, production)
    if check.state is not None and not check.state.exists:
        return Need.MISSING
    if held.identity != check.identity:
        return Need.MOVED
    if held.fingerprint != check.fingerprint:
        return Need.CHANGED
    return _need_of_rows(check, content_key, held)


def _need_of_link(
    check: TargetCheck,
    content_key: str,
    held: TargetRecord,
    production: Production,
) -> Need:
    """Decide for a target that is a link: it stays one while production's rows are wanted."""
    if production.all_targets:
        return Need.NEW
    if not _same(check, content_key, production):
        return Need.CONTENT
    theirs = production.record.targets[check.resolved.spec.key] if production.record else None
    stands = check.state is None or (check.state.exists and check.state.linked)
    if not stands or check.drift is not Drift.NONE or theirs is None or held.link != theirs.name:
        return Need.SAME_AS_PRODUCTION
    # Production moved on, perhaps with other columns: the link is made anew.
    same = held.identity == check.identity and has_rows_of(held, content_key)
    return Need.CURRENT if same else Need.SAME_AS_PRODUCTION


def _need_of_rows(check: TargetCheck, content_key: str, held: TargetRecord) -> Need:
    """Decide for a target that is where it was, and wants to be what it was."""
    held_key: str = held.content_key
    if check.drift is Drift.ELSEWHERE:
        owner = check.state.owner if check.state is not None else None
        held_key = owner.content_key if owner is not None else ""
    if keeps_rows(check) and check.drift is Drift.REPLACED:
        return Need.ADOPTED
    if held_key != content_key:
        return Need.CONTENT
    # Rows that were appended stay; once they are there they are not appended again.
    once = check.resolved.target.mode.rule.once
    if check.unrecorded and check.unrecorded != content_key and not once:
        return Need.UNRECORDED
    if check.drift is Drift.NONE:
        return Need.CURRENT
    if keeps_rows(check):
        return Need.CURRENT if check.drift is Drift.ADDED else Need.ADOPTED
    return Need.ADOPTED if check.drift is Drift.ELSEWHERE else Need.DRIFTED


def keeps_rows(check: TargetCheck) -> bool:
    """Return whether the target holds rows that no snapshot has: writing again can't restore them."""
    return not check.resolved.target.mode.rule.repairs


def is_refused(check: TargetCheck, held: TargetRecord, *, full_refresh: bool = True) -> bool:
    """Return whether only the user may say what becomes of the table."""
    if check.drift in (Drift.REPLACED, Drift.ELSEWHERE):
        return True
    if full_refresh or held.link or not keeps_rows(check):
        return False
    gone = check.state is not None and not check.state.exists
    return check.drift is Drift.CHANGED or (gone and check.identity == held.identity)


def _same(check: TargetCheck, content_key: str, production: Production) -> bool:
    """Return whether production holds just the rows that this target should have.

    A content key covers the definition, but for rows that were proved to stay although
    something above changed: those are production's, too.
    """
    record = production.record
    if record is None:
        return False
    spec = check.resolved.spec
    theirs = record.targets.get(spec.key)
    return (
        theirs is not None
        and spec.node in record.nodes
        and theirs.fingerprint == check.fingerprint
        and has_rows_of(theirs, content_key)
    )


def is_as_promoted(check: TargetCheck, content_key: str, held: TargetRecord) -> bool:
    """Return whether a table holds just what a promotion would publish into it."""
    return (
        has_rows_of(held, content_key)
        and held.fingerprint == check.fingerprint
        and held.identity == check.identity
        and (check.state is None or check.state.version == held.version)
    )


def gone(*, prune: bool) -> tuple[Writing, str]:
    """Decide what happens to a recorded target that the project lacks now."""
    if prune:
        return Writing.DROP, "no longer in the project"
    return Writing.GONE, "stays; plan --prune drops it"
