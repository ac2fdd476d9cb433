"""Sweep the stores: what commands that died left in them, by the backends' own notes."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Swept, redact
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.promote import documents as promotions
from seeknal_core.promote import notes
from seeknal_core.promote import publish as publishing
from seeknal_core.state.store import StateStore
from seeknal_core.workspace.session import (
    Request,
    Session,
    enabled_targets,
    load_plugins,
    open_session,
    sibling,
)


@attrs.frozen(kw_only=True)
class Leftovers:
    """What was, or would be, removed in the stores, what stays, and what was not looked at."""

    removed: int = 0
    kept: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


def sweep(request: Request, *, dry_run: bool) -> Leftovers:
    """Sweep every store that a profile of an environment names.

    A store that does not answer, and a project or profile with mistakes, is no failure:
    the sentence about it is in the result.
    """
    swept: list[Swept] = []
    skipped: list[str] = []
    try:
        with open_session(request) as session:
            live = _live(session.state)
            seen: set[str] = set()
            for each in _sessions(session, skipped):
                _sweep_lost(each, swept, skipped, dry_run=dry_run)
                _sweep(each, live, seen, swept, skipped, dry_run=dry_run)
    except SeeknalError as error:
        skipped.append(f"the stores: {redact(str(error))}")
    return Leftovers(
        removed=sum(one.removed for one in swept),
        kept=tuple(redact(line) for one in swept for line in one.kept),
        skipped=tuple(skipped),
        done=tuple(redact(line) for one in swept for line in one.done),
    )


def _sessions(session: Session, skipped: list[str]) -> Iterator[Session]:
    yield session
    for name in session.state.names():
        if name == session.environment.name:
            continue
        try:
            yield sibling(session, name)
        except SeeknalError as error:
            skipped.append(f"environment {name}: {redact(str(error))}")


def _sweep(
    session: Session,
    live: tuple[str, ...],
    seen: set[str],
    swept: list[Swept],
    skipped: list[str],
    *,
    dry_run: bool,
) -> None:
    host = session.dispatcher.host
    host.load_backends(sorted({spec.type for spec in session.profile.connections.values()}))
    host.load_wrappers()
    targets = _targets(session, skipped)
    for spec in session.profile.connections.values():
        try:
            if not session.dispatcher.supports(spec.type, Hook.SWEEP):
                continue
            connection = session.dispatcher.resolve_profile(session.context, spec)
            place = f"{spec.type} {sorted(connection.bindings().items())}"
            own = tuple(each.target for each in targets if each.connection == connection)
            if place in seen and not own:
                continue
            seen.add(place)
            swept.append(
                session.dispatcher.sweep(
                    session.context, connection, live, dry_run=dry_run, targets=own
                )
            )
        except SeeknalError as error:
            skipped.append(f"connection {spec.name}: {redact(str(error))}")


def _targets(session: Session, skipped: list[str]) -> list[ResolvedTarget]:
    """Return the environment's targets that declare something only their backend knows.

    One that can't be made is said, and left out.
    """
    found = []
    for spec in enabled_targets(session, list(session.graph.nodes.values())):
        if not spec.options:
            continue
        try:
            session.dispatcher.host.load_backends([spec.type])
            found.append(resolve_target(session.dispatcher, session.context, spec))
        except SeeknalError as error:
            skipped.append(f"{spec.key}: {redact(str(error))}")
    return found


def _sweep_lost(session: Session, swept: list[Swept], skipped: list[str], *, dry_run: bool) -> None:
    """Discard what the stores keep for promotions that are over, or that this folder has lost."""
    try:
        load_plugins(session, list(session.graph.nodes.values()))
        name = session.environment.name
        over = promotions.outdated(session.state, name)
        if over and not dry_run:
            with session.state.lock(name):
                publishing.discard_outdated(session)
        swept.append(Swept(removed=len(over)))
    except SeeknalError as error:
        skipped.append(f"promotions into {session.environment.name}: {redact(str(error))}")
    try:
        removed, kept = notes.sweep(session, dry_run=dry_run)
        swept.append(Swept(removed=removed, kept=tuple(kept)))
    except SeeknalError as error:
        skipped.append(f"promotions into {session.environment.name}: {redact(str(error))}")


def _live(state: StateStore) -> tuple[str, ...]:
    """Return the batches of promotions that the state knows."""
    found = []
    for document in state.all("promotions"):
        environment, _, which = document.rpartition(".")
        promotion = promotions.load(state, environment, which)
        if promotion is not None:
            found += [part.batch for part in promotion.parts]
    return tuple(found)
