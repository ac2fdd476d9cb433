"""The opening of an environment: plugins, bindings, lock, state, records, and every refusal.

`open_session` reads the project. `opening` then opens one environment of it for a command,
always in the same order:

1. the backends that the project needs are loaded, then the wrapper plugins;
2. targets and sources are bound to the profile's connections; no store is connected;
3. the environment is locked, and those that the command names besides;
4. the state folder gets its id, if it has none yet;
5. the environment's record and its base's are read;
6. what stands in the way is refused, in the order of `Refusal`.

A command that writes nothing leaves out 3 and 4. What only one command refuses, such as a
saved plan that is stale, comes after these.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

import attrs

from seeknal_core.contract.errors import (
    CollisionRefused,
    PluginError,
    PromotionInterrupted,
    ProtectedEnvironment,
    StalePlan,
)
from seeknal_core.contract.shown import first_few
from seeknal_core.project.environment_names import conventional_prefix
from seeknal_core.state.digests import definitions_digest
from seeknal_core.state.promotion_table import state_of
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.workspace.bindings import Bindings, bind, load_plugins
from seeknal_core.workspace.session import Session


class Refusal(enum.Enum):
    """What of an environment's state may stand in the way of a command, in the order of looking."""

    UNFINISHED = "a promotion into it, or its rollback, is unfinished"
    PROTECTED = "it is protected, and the folder's definitions are others than its own"
    ROLLED_BACK = "the folder's definitions are those that were rolled back"
    SHARED_PREFIX = "another environment has the same prefix"


@attrs.frozen(kw_only=True)
class Opened:
    """An environment that is open for a command.

    ``record`` is what the environment holds, and blank where it was never run. ``base`` is
    production's record, None in production itself and where nothing is recorded. ``failures``
    are wrapper plugins that could not be used.
    """

    session: Session
    record: EnvironmentRecord
    base: EnvironmentRecord | None
    failures: tuple[PluginError, ...] = ()

    @property
    def bindings(self) -> Bindings:
        """The project's targets and sources, bound to the profile's connections.

        Raises:
            ConfigError: all mistakes in connections, tables, options and names.
        """
        return bind(self.session)

    def sentences(self) -> tuple[str, ...]:
        """Return the failures, each with its hint."""
        return tuple(f"{one}; {one.hint}" if one.hint else str(one) for one in self.failures)


@contextlib.contextmanager
def opening(
    session: Session,
    *,
    writes: bool = True,
    loads: bool = True,
    binds: bool = True,
    promoting: bool = False,
    beside: Collection[str] = (),
    refused: Collection[Refusal] = tuple(Refusal),
) -> Iterator[Opened]:
    """Open the session's environment for a command, and close it again.

    Args:
        writes: lock the environment, and give the state folder its id.
        loads: load the backends of all nodes. A command that only takes tables away loads what
            it needs itself.
        binds: report mistakes in bindings before anything is locked. A command that goes on
            with what an earlier one began must work without.
        promoting: tell the backends that a promotion writes.
        beside: names of other environments to lock.
        refused: what stands in the command's way.

    Raises:
        ConfigError, PluginError: mistakes in the project, the profile or the plugins.
        StateError: another command works on the environment, or its record is unreadable.
        PromotionInterrupted, ProtectedEnvironment, StalePlan, CollisionRefused: refusals.
    """
    name = session.environment.name
    failures = load_plugins(session) if loads else ()
    if binds:
        bind(session)
    with contextlib.ExitStack() as locks:
        if writes:
            for locked in (name, *beside):
                locks.enter_context(session.state.lock(locked))
            id = session.state.state_id(create=True)
            context = attrs.evolve(session.context, state_id=id, promoting=promoting)
            session = attrs.evolve(session, context=context)
        record = session.state.load(name) or EnvironmentRecord(
            name=name,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            profile=session.profile.path or "",
        )
        opened = Opened(
            session=session, record=record, base=production_record(session), failures=failures
        )
        for refusal in Refusal:
            if refusal in refused:
                _REFUSE[refusal](opened)
        yield opened


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
        raise ProtectedEnvironment(
            f"environment {session.environment.name!r} is protected, and the folder's definitions "
            f"are not the ones it holds: {first_few(differing)}",
            "promote a verified environment instead of running this one",
        )


def refuse_unfinished(session: Session) -> None:
    """Refuse to touch an environment while a promotion into it, or its undoing, is unfinished.

    Raises:
        PromotionInterrupted: with the command that goes on with it.
    """
    name = session.environment.name
    found = session.state.unfinished(name)
    if found is None or not state_of(found).is_unfinished:
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


_REFUSE: Mapping[Refusal, Callable[[Opened], None]] = MappingProxyType(
    {
        Refusal.UNFINISHED: lambda opened: refuse_unfinished(opened.session),
        Refusal.PROTECTED: lambda opened: refuse_protected(opened.session, opened.record),
        Refusal.ROLLED_BACK: lambda opened: refuse_rolled_back(opened.session, opened.record),
        Refusal.SHARED_PREFIX: lambda opened: refuse_shared_prefix(opened.session),
    }
)
