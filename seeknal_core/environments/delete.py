"""``seeknal env delete`` and ``env prune``: remove what an environment made, and only that."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import attrs

from seeknal_core.apply.prune import OwnedThing, owned_things
from seeknal_core.contract.errors import BackendError, ConfigError, Unreachable, WriteRefused
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import OwnedKind, redact
from seeknal_core.promote.rollback import discard_all
from seeknal_core.state import promotions
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session

log = logging.getLogger("seeknal")

#: Tables that are dropped by one call.
_AT_ONCE = 100


@attrs.frozen(kw_only=True)
class Inventory:
    """What deleting an environment would drop, and what it would leave.

    ``left`` are sentences about targets that the environment wrote and that
    stay: adopted tables, and tables on connections that the profile lacks now.
    """

    things: tuple[OwnedThing, ...]
    left: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Deletion:
    """What was dropped, and what was refused and why."""

    dropped: tuple[str, ...]
    refused: tuple[str, ...]


def take_inventory(session: Session, record: EnvironmentRecord) -> Inventory:
    """List what the environment made, by the stores' ledgers. Changes nothing.

    Raises:
        ConfigError: the environment is production.
        BackendError: a store does not answer: what it holds is not known.
    """
    if session.environment.is_production:
        raise ConfigError(
            f"{session.environment.name!r} is production and is never deleted",
            "name another environment: seeknal env list",
        )
    things = owned_things(session)
    known = {thing.owned.identity for thing in things if thing.owned.identity}
    left = [
        f"{target.name} ({target.connection}): not made by this environment, or out of its profile"
        for target in record.targets.values()
        if target.identity not in known
    ]
    return Inventory(things=tuple(things), left=tuple(left))


def forget_undo(session: Session) -> None:
    """Throw away what the stores keep to undo promotions into the environment.

    Raises:
        BackendError: a store does not answer.
    """
    name = session.environment.name
    kept = [*promotions.outdated(session.state, name)]
    last = promotions.load(session.state, name, "last")
    for promotion in [*kept, *([last] if last is not None else [])]:
        try:
            discard_all(session, promotion)
        except Unreachable:
            raise
        # A store that refuses doesn't keep the environment from being deleted.
        except BackendError as error:
            log.warning("what undoes a promotion is left: %s", redact(str(error)))
        promotions.forget_undone(session.state, promotion)
        which = "last" if promotion is last else promotions.outdated_name(promotion)
        promotions.forget(session.state, name, which)


def delete(session: Session, things: Sequence[OwnedThing]) -> Deletion:
    """Drop them, some tables at a time, and forget the environment if all went.

    The record stays where something was refused, so that the command can be
    repeated. The caller holds the environment's lock.

    Raises:
        BackendError: a store stopped answering; what was dropped is dropped.
    """
    dropped: list[str] = []
    refused: list[str] = []
    for group in _portions(session, things):
        session.context.cancellation.check()
        together = _drop_together(session, group)
        if together is not None:
            dropped += [str(one) for one, there in zip(group, together, strict=True) if there]
            continue
        for thing in group:
            session.context.cancellation.check()
            try:
                if session.dispatcher.drop_target(session.context, thing.connection, thing.owned):
                    dropped.append(str(thing))
            except WriteRefused as error:
                refused.append(f"{thing}: {error}")
    if not refused:
        session.state.forget(session.environment.name)
    return Deletion(dropped=tuple(dropped), refused=tuple(refused))


def _portions(session: Session, things: Sequence[OwnedThing]) -> Iterator[Sequence[OwnedThing]]:
    """Split things, in their order, into those that are dropped by one call."""

    def form(thing: OwnedThing) -> tuple[str, bool]:
        connection = thing.connection
        is_table = thing.owned.kind is OwnedKind.TABLE
        return (
            connection.name,
            is_table and session.dispatcher.together(connection.type, Hook.DROP_TARGETS),
        )

    for (_, together), found in itertools.groupby(things, form):
        alike = list(found)
        size = _AT_ONCE if together else 1
        for start in range(0, len(alike), size):
            yield alike[start : start + size]


def _drop_together(session: Session, group: Sequence[OwnedThing]) -> tuple[bool, ...] | None:
    """Drop tables by one call; None where each has to be dropped by itself."""
    if len(group) == 1:
        return None
    try:
        return session.dispatcher.drop_targets(
            session.context, group[0].connection, [one.owned for one in group]
        )
    except BackendError as error:
        # Whatever is wrong with one of them is said of that one.
        log.debug("dropping %d tables one by one", len(group), exc_info=error)
        return None
