"""Targets that the project lacks now: what an environment made, and dropping it."""

from __future__ import annotations

import attrs

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Connection, Owned, redact
from seeknal_core.contract.types.digests import Identity
from seeknal_core.workspace.session import Session


@attrs.frozen(kw_only=True)
class OwnedThing:
    """Something an environment made, and the connection it was found on."""

    connection: Connection
    owned: Owned

    def __str__(self) -> str:
        return f"{self.owned.kind.value} {self.owned.name} ({self.connection.name})"


def owned_things(session: Session) -> list[OwnedThing]:
    """List what the session's environment made on every connection of its profile.

    Raises:
        BackendError: a store does not answer.
    """
    # All of them before the first call, or a call could reach a backend that comes later.
    host = session.dispatcher.host
    host.load_backends(sorted({spec.type for spec in session.profile.connections.values()}))
    host.load_wrappers()
    things: list[OwnedThing] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for spec in session.profile.connections.values():
        if not session.dispatcher.supports(spec.type, Hook.LIST_OWNED):
            continue
        connection = session.dispatcher.resolve_profile(session.context, spec)
        for owned in session.dispatcher.list_owned(session.context, connection):
            # Two connections may lead to one database.
            place = (owned.identity or str(sorted(connection.bindings().items())), owned.name.parts)
            if place not in seen:
                seen.add(place)
                things.append(OwnedThing(connection=connection, owned=owned))
    return things


def drop_removed(session: Session, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Drop the tables of targets that the project lacks now (``--prune``).

    Returns:
        What was dropped, and sentences about what stays and why.
    """
    from seeknal_core.workspace.bindings import bind

    record = session.state.load(name)
    bound = bind(session).targets
    gone = {
        held.identity: key
        for key, held in (record.targets.items() if record else ())
        if key not in bound
    }
    if record is None or not gone:
        return (), ()
    used = {held.identity for key, held in record.targets.items() if key in bound}
    dropped: list[str] = []
    left: list[str] = []
    for thing in owned_things(session):
        key = gone.get(Identity(thing.owned.identity))
        if key is None or thing.owned.identity in used:
            continue
        try:
            session.dispatcher.drop_target(session.context, thing.connection, thing.owned)
        except BackendError as error:
            left.append(f"{thing.owned.name} stays: {redact(str(error))}")
            continue
        dropped.append(str(thing.owned.name))
        targets = {k: held for k, held in record.targets.items() if k != key}
        record = attrs.evolve(record, targets=targets)
        session.state.save(record)
    return tuple(dropped), tuple(left)
