"""The collision guard: no target shares its table with another one or another environment."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seeknal_core.contract.errors import BackendError, CollisionRefused, ConfigError, PluginError
from seeknal_core.contract.types import ExecutionContext
from seeknal_core.plan.bindings import bindings_digest, fallback_identity
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.bindings import enabled_targets
from seeknal_core.workspace.session import Session


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
