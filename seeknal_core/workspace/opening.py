"""What stands in the way of a command, in one order: each refusal of an environment's state."""

from __future__ import annotations

from collections.abc import Callable

from seeknal_core.contract.errors import (
    CollisionRefused,
    PromotionInterrupted,
    ProtectedEnvironment,
    StalePlan,
)
from seeknal_core.project.environment_names import conventional_prefix
from seeknal_core.state.digests import definitions_digest
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.session import Session


def is_stored(session: Session) -> Callable[[str], bool]:
    """Return what tells whether a content key is in the snapshot store."""
    from seeknal_core.engine.snapshots import SnapshotStore

    return SnapshotStore(session.layout.snapshots).contains


def production_record(session: Session) -> EnvironmentRecord | None:
    """Return what production holds; None in production itself."""
    if session.environment.is_production:
        return None
    return session.state.load(session.settings.production)


def other_records(session: Session) -> dict[str, EnvironmentRecord]:
    """Return the records of all other environments, by name."""
    return {
        name: found
        for name in session.state.names()
        if name != session.environment.name and (found := session.state.load(name)) is not None
    }


def refuse_shared_prefix(session: Session) -> None:
    """Refuse an environment whose prefix another one has already.

    Raises:
        CollisionRefused: ``dev-1`` beside ``dev_1``.
    """
    name = session.environment.name
    for other in session.state.names():
        if other != name and conventional_prefix(other) == conventional_prefix(name):
            raise CollisionRefused(
                f"environment {name!r} would have the same prefix as {other!r}",
                "choose another name",
            )


def refuse_protected(session: Session, record: EnvironmentRecord) -> None:
    """Refuse to run definitions that a protected production does not hold.

    Raises:
        ProtectedEnvironment: with the nodes that differ.
    """
    if not (session.environment.is_production and session.profile.protected):
        return
    definitions = session.graph.definitions
    held = {id: node.definition for id, node in record.nodes.items()}
    differing = sorted(
        id for id in definitions.keys() | held.keys() if definitions.get(id) != held.get(id)
    )
    if differing:
        shown = ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")
        raise ProtectedEnvironment(
            f"environment {session.environment.name!r} is protected, and the folder's definitions "
            f"are not the ones it holds: {shown}",
            "promote a verified environment instead of running this one",
        )


def refuse_unfinished(session: Session) -> None:
    """Refuse to touch an environment while a promotion into it, or its undoing, is unfinished.

    Raises:
        PromotionInterrupted: with the command that goes on with it.
    """
    name = session.environment.name
    found = session.state.unfinished(name)
    if found is None:
        return
    if found.get("rollback"):
        raise PromotionInterrupted(
            f"a rollback of {name!r} is unfinished",
            f"seeknal env rollback {name}; to leave the tables as they are: "
            f"seeknal env rollback {name} --abort=keep",
        )
    command = f"seeknal env promote {found.get('source')} {name}"
    raise PromotionInterrupted(
        f"a promotion of {found.get('source')!r} into {name!r} is unfinished",
        f"{command} --resume (or --abort); to leave the tables as they are: {command} --abort=keep",
    )


def refuse_rolled_back(session: Session, record: EnvironmentRecord) -> None:
    """Refuse to run what a rollback has just taken away.

    Raises:
        StalePlan: the folder's definitions are those that were rolled back.
    """
    if record.rolled_back and record.rolled_back == definitions_digest(session.graph.definitions):
        raise StalePlan(
            f"the folder's definitions are those that were rolled back in {record.name!r}",
            "go back to the earlier definitions, or fix them and promote again",
        )
