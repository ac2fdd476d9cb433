"""Sweep the stores: what commands that died left in them, by the backends' own notes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import attrs

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Swept, redact
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.promote import recover
from seeknal_core.promote.rollback import discard_all, discard_outdated, revert_all
from seeknal_core.state import promotions
from seeknal_core.state.promotions import Phase, Promotion
from seeknal_core.state.store import StateStore
from seeknal_core.workspace.bindings import enabled_targets, load_plugins
from seeknal_core.workspace.session import Request, Session, open_session, sibling

#: How long another folder's staging is left alone.
_ANOTHERS = timedelta(hours=24)


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
        load_plugins(session)
        name = session.environment.name
        over = promotions.outdated(session.state, name)
        if over and not dry_run:
            with session.state.lock(name):
                discard_outdated(session)
        swept.append(Swept(removed=len(over)))
    except SeeknalError as error:
        skipped.append(f"promotions into {session.environment.name}: {redact(str(error))}")
    try:
        removed, kept = _sweep_unknown(session, dry_run=dry_run)
        swept.append(Swept(removed=removed, kept=tuple(kept)))
    except SeeknalError as error:
        skipped.append(f"promotions into {session.environment.name}: {redact(str(error))}")


def _sweep_unknown(session: Session, *, dry_run: bool) -> tuple[int, list[str]]:
    """Discard what the stores keep for promotions that nobody can go on with.

    One that had come no farther than staging has published nothing: this folder's own is
    discarded at once, another's a day after it began. What undoes a promotion goes when a
    later one is this environment's last. Of all others the user decides.

    Returns:
        How many were discarded, or would be, and a sentence about each that stays.
    """
    swept: list[Promotion] = []
    kept: list[str] = []
    last = promotions.load(session.state, session.environment.name, "last")
    for found in recover.unknown(session):
        mine = found.state_id == session.context.state_id
        if found.promotion.step is Phase.STAGING and (mine or found.age > _ANOTHERS):
            swept.append(found.promotion)
        elif not found.is_over:
            kept.append(f"{found.sentence}: {recover.recover_command(session)}")
        elif last is not None and last.started_at > found.promotion.started_at:
            swept.append(found.promotion)
    for promotion in swept if not dry_run else ():
        if promotion.step is Phase.STAGING:
            # Whoever staged it, and is alive after all, can publish it no more.
            revert_all(session, promotion, overwrite=False)
        discard_all(session, promotion)
    return len(swept), kept


def _live(state: StateStore) -> tuple[str, ...]:
    """Return the batches of promotions that the state knows."""
    found = []
    for document in state.all("promotions"):
        environment, _, which = document.rpartition(".")
        promotion = promotions.load(state, environment, which)
        if promotion is not None:
            found += [part.batch for part in promotion.parts]
    return tuple(found)
