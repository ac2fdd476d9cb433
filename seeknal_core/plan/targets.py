"""Whether a target is written, and what is checked before the first write.

Computing and writing are decided apart: nothing here looks at how a node was
computed, only at what its target holds and what it should hold.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence

import attrs

from seeknal_core.contract.errors import BackendError, CollisionRefused, ConfigError, PluginError
from seeknal_core.contract.types import (
    Connection,
    Drift,
    ExecutionContext,
    TargetChange,
    TargetState,
)
from seeknal_core.graph import target_fingerprint
from seeknal_core.plan.keys import asked_of
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget
from seeknal_core.project.specs import ProjectSettings
from seeknal_core.state.digests import digest
from seeknal_core.state.records import EnvironmentRecord, TargetRecord
from seeknal_core.workspace.parallel import in_parallel
from seeknal_core.workspace.session import Session, enabled_targets

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
    identity: str
    bindings: str
    fingerprint: str
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


def bindings_digest(connection: Connection) -> str:
    """Digest where a connection leads."""
    return digest("bindings", connection.type, dict(connection.bindings()))


def source_binding(source: ResolvedSource) -> str:
    """Digest where a store's source is read and what is asked of it there."""
    asked = (bindings_digest(source.connection), source.source.parts, asked_of(source.source))
    # Connections with nothing unusual keep the digests that older records hold.
    unusual = dict(source.connection.reads())
    return digest("source", *asked, unusual) if unusual else digest("source", *asked)


def seen_binding(binding: str, sees: str) -> str:
    """Return what is recorded of a source that was read: its binding, and what its login sees."""
    return f"{binding}+{sees}" if sees else binding


def is_bound_alike(held: str, binding: str, own: str = "") -> bool:
    """Tell whether a source, bound as `binding` now, reads what a record holds.

    Args:
        held: the recorded binding.
        own: what this environment recorded of the source itself, if anything. It tells what
            its login sees; where that is not known, only a login without settings of its
            own is taken to be alike.
    """
    if held.partition("+")[0] != binding:
        return False
    if own.partition("+")[0] == binding:
        return own == held
    return "+" not in held


def fallback_identity(resolved: ResolvedTarget) -> str:
    """Name a target's place where its backend cannot: by bindings and final name."""
    return digest("place", bindings_digest(resolved.connection), resolved.target.name.parts)


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
                identity=state.identity if state else fallback_identity(resolved),
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
    """Part targets by connection, and large parts for as many threads as there are."""
    by_connection: dict[str, list[ResolvedTarget]] = {}
    for resolved in targets:
        by_connection.setdefault(resolved.connection.name, []).append(resolved)
    groups = []
    for found in by_connection.values():
        size = max(1, -(-len(found) // _INSPECTORS))
        groups += [found[start : start + size] for start in range(0, len(found), size)]
    return groups


def guard(
    session: Session,
    checks: Mapping[str, TargetCheck],
    others: Mapping[str, EnvironmentRecord],
    *,
    allow_production: bool,
    connect: bool = True,
) -> None:
    """Refuse targets that share a table with one another or with another environment.

    Args:
        others: the records of all other environments, by name.
        allow_production: ``--allow-production-targets``.
        connect: whether a store may be asked where production's targets are. If
            not, only what is plain from names and bindings is refused.

    Raises:
        CollisionRefused: before anything was written.
    """
    _refuse_twins(checks)
    if session.environment.is_production or allow_production:
        return
    for name, record in others.items():
        held: set[object] = {target.identity for target in record.targets.values()}
        held |= {(target.bindings, target.name) for target in record.targets.values()}
        for check in checks.values():
            place = (check.bindings, str(check.resolved.target.name))
            if check.identity in held or place in held:
                _refuse(session, check, name)
    for check in checks.values():
        owner = check.state.owner if check.state is not None else None
        ours = owner is not None and owner.project == session.settings.name
        if owner is not None and ours and owner.environment != session.environment.name:
            _refuse(session, check, owner.environment)
    productions = _production_identities(session, checks, connect)
    for check in checks.values():
        if check.identity in productions:
            _refuse(session, check, session.settings.production)


def _refuse_twins(checks: Mapping[str, TargetCheck]) -> None:
    seen: dict[object, str] = {}
    for check in checks.values():
        target = check.resolved.target
        places: list[object] = [check.identity, (check.bindings, str(target.name))]
        if check.state is not None and check.state.table_id is not None:
            places.append((target.type, check.state.table_id))
        for place in places:
            if place in seen and seen[place] != target.key:
                first = checks[seen[place]].resolved.target.node
                raise CollisionRefused(
                    f"two targets write the same table {target.name}: {first} and {target.node}",
                    "give each target its own table",
                )
            seen[place] = target.key


def _refuse(session: Session, check: TargetCheck, owner: str) -> None:
    where = session.profile.path or "the profile"
    raise CollisionRefused(
        f"{check.resolved.target.name} ({check.resolved.target.node}) is a target of environment "
        f"{owner!r} too; {where} leads {session.environment.name!r} there",
        f"fix the connection in {where}, or let the convention keep them apart with "
        "'namespace: {prefix: true}' in it; --allow-production-targets writes there all the same",
    )


def _production_identities(
    session: Session, checks: Mapping[str, TargetCheck], connect: bool
) -> set[str]:
    """Return where production's targets are, as its profile resolves now.

    Only for targets whose final names match one of `checks`, of whatever node:
    others cannot be the same table.
    A production that cannot be resolved or reached from here refuses nothing.
    """
    profile = session.production_profile()
    if profile is None:
        return set()
    from seeknal_core import project as config

    context = attrs.evolve(
        session.context,
        profile=profile,
        environment=config.environment_for(session.settings, session.settings.production, profile),
    )
    named: dict[object, list[TargetCheck]] = {}
    for check in checks.values():
        target = check.resolved.target
        named.setdefault((target.type, target.name.parts), []).append(check)
    found: set[str] = set()
    nodes = list(session.graph.nodes.values())
    for spec in enabled_targets(attrs.evolve(session, profile=profile), nodes):
        try:
            resolved = resolve_target(session.dispatcher, context, spec)
            for check in named.get((spec.type, resolved.target.name.parts), ()):
                found |= _identity(session, context, check, resolved, connect)
        except (ConfigError, BackendError, PluginError):
            continue
    return found


def _identity(
    session: Session,
    context: ExecutionContext,
    check: TargetCheck,
    resolved: ResolvedTarget,
    connect: bool,
) -> set[str]:
    if bindings_digest(resolved.connection) == check.bindings:
        return {check.identity}
    if not connect:
        return set()
    state = session.dispatcher.inspect_target(context, resolved)
    return {state.identity if state else fallback_identity(resolved)}


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
        return self not in (
            Need.CURRENT,
            Need.SAME_AS_PRODUCTION,
            Need.REFUSED,
            Need.ADOPTED,
        )


def in_words(why: Need, check: TargetCheck) -> str:
    """Return why a target is written, in words that fit what stands in its place."""
    state = check.state
    if why is not Need.NEW or state is None or not state.exists or state.linked:
        return why.value
    return "taken over" if state.owner is None else "new to this checkout"


def need(
    check: TargetCheck,
    content_key: str,
    definition: str,
    held: TargetRecord | None,
    production: Production,
    *,
    full_refresh: bool = False,
    adopt: bool = False,
) -> Need:
    """Decide whether a target is written.

    Args:
        content_key: what the target should hold.
        definition: its node's definition.
        held: what the environment's record says of the target.
        adopt: whether the table may be taken as it is found.
    """
    if held is None:
        if full_refresh:
            return Need.REFRESH
        same = not production.all_targets and _same(check, content_key, definition, production)
        return Need.SAME_AS_PRODUCTION if same else Need.NEW
    if not adopt and is_refused(check, held, full_refresh=full_refresh):
        return Need.REFUSED
    if full_refresh:
        return Need.REFRESH
    if held.link:
        return _need_of_link(check, content_key, definition, held, production)
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
    definition: str,
    held: TargetRecord,
    production: Production,
) -> Need:
    """Decide for a target that is a link: it stays one while production's rows are wanted."""
    if production.all_targets:
        return Need.NEW
    if not _same(check, content_key, definition, production):
        return Need.CONTENT
    theirs = production.record.targets[check.resolved.spec.key] if production.record else None
    stands = check.state is None or (check.state.exists and check.state.linked)
    if not stands or check.drift is not Drift.NONE or theirs is None or held.link != theirs.name:
        return Need.SAME_AS_PRODUCTION
    # Production moved on, perhaps with other columns: the link is made anew.
    same = held.identity == check.identity and held.content_key == content_key
    return Need.CURRENT if same else Need.SAME_AS_PRODUCTION


def _need_of_rows(check: TargetCheck, content_key: str, held: TargetRecord) -> Need:
    """Decide for a target that is where it was, and wants to be what it was."""
    held_key = held.content_key
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
    """Tell whether the target holds rows that no snapshot has: writing again can't restore them."""
    return not check.resolved.target.mode.rule.repairs


def is_refused(check: TargetCheck, held: TargetRecord, *, full_refresh: bool = True) -> bool:
    """Tell whether only the user may say what becomes of the table."""
    if check.drift in (Drift.REPLACED, Drift.ELSEWHERE):
        return True
    if full_refresh or held.link or not keeps_rows(check):
        return False
    gone = check.state is not None and not check.state.exists
    return check.drift is Drift.CHANGED or (gone and check.identity == held.identity)


def _same(check: TargetCheck, content_key: str, definition: str, production: Production) -> bool:
    """Tell whether production holds just the rows that this target should have."""
    record = production.record
    if record is None:
        return False
    spec = check.resolved.spec
    theirs = record.targets.get(spec.key)
    node = record.nodes.get(spec.node)
    return (
        theirs is not None
        and node is not None
        and theirs.fingerprint == check.fingerprint
        and theirs.content_key == content_key
        and node.definition == definition
    )
