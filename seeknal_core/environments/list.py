"""``seeknal env list`` and ``env show``: what is recorded, without asking any store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs

from seeknal_core.contract.errors import UnknownEnvironment
from seeknal_core.contract.options import nearest
from seeknal_core.project.specs import ProjectSettings
from seeknal_core.state.records import EnvironmentRecord
from seeknal_core.state.store import StateStore


@attrs.frozen(kw_only=True)
class Summary:
    """One environment in a list.

    ``age`` is the time since its last run or apply. ``expires_in`` is what is left of
    the project's time to live, None where it never expires: production, a protected
    environment, one that takes part in a promotion.
    ``changed`` counts nodes whose definition is not production's, ``only_here``
    and ``only_there`` those that one of the two lacks; None where nothing is
    recorded of production.
    """

    name: str
    is_production: bool
    profile: str
    created_at: str
    last_run_at: str
    status: str
    nodes: int
    targets: int
    created_ago: timedelta
    age: timedelta
    expires_in: timedelta | None
    expired: bool
    changed: int | None
    only_here: int | None
    only_there: int | None


def summaries(settings: ProjectSettings, state: StateStore, now: datetime) -> tuple[Summary, ...]:
    """Summarize every recorded environment, production first."""
    production = state.load(settings.production)
    planned = state.all("plans")
    promoting = _promoting(state)
    names = dict.fromkeys((*state.names(), *planned))
    found = [
        _summary(
            settings,
            state.load(name) or EnvironmentRecord(name=name),
            production,
            now,
            planned=name in planned,
            promoting=name in promoting,
        )
        for name in names
    ]
    return tuple(sorted(found, key=lambda one: (not one.is_production, one.name)))


def _promoting(state: StateStore) -> set[str]:
    """Return the environments that take part in an unfinished promotion."""
    found: set[str] = set()
    for name in state.names():
        document = state.unfinished(name)
        if document is not None:
            found |= {name, str(document.get("source"))}
    return found


def recorded(state: StateStore, name: str, production: str) -> EnvironmentRecord:
    """Return an environment's record.

    Args:
        production: the name of production, which is advised to be run. A name that
            nobody knows may be a slip, and is not.

    Raises:
        UnknownEnvironment: nothing is recorded under that name.
    """
    record = state.load(name)
    if record is None:
        raise UnknownEnvironment(
            f"nothing is recorded of environment {name!r}; {known_names(state, name)}",
            "seeknal run" if name == production else "seeknal env list",
        )
    return record


def known_names(state: StateStore, name: str) -> str:
    """Return the recorded name that is like `name`, or all of them, for a message."""
    known = state.names()
    listed = f"known: {', '.join(known)}" if known else "there is none yet"
    return nearest(name, known) or listed


def _summary(
    settings: ProjectSettings,
    record: EnvironmentRecord,
    production: EnvironmentRecord | None,
    now: datetime,
    *,
    planned: bool,
    promoting: bool,
) -> Summary:
    is_production = record.name == settings.production
    age = now - _time(record.last_run_at, now)
    status = "promoting" if promoting else record.status or ("planned" if planned else "")
    mine = {id: node.definition for id, node in record.nodes.items()}
    theirs = {id: node.definition for id, node in production.nodes.items()} if production else None
    compare = None if is_production else theirs
    lasting = is_production or promoting or record.protected
    expires_in = None if lasting else settings.environment_ttl - age
    return Summary(
        name=record.name,
        is_production=is_production,
        profile=record.profile,
        created_at=record.created_at,
        last_run_at=record.last_run_at,
        status=status,
        nodes=len(record.nodes),
        targets=len(record.targets),
        created_ago=now - _time(record.created_at, now),
        age=age,
        expires_in=expires_in,
        expired=expires_in is not None and expires_in < timedelta(0),
        changed=None
        if compare is None
        else sum(id in compare and compare[id] != definition for id, definition in mine.items()),
        only_here=None if compare is None else len(mine.keys() - compare.keys()),
        only_there=None if compare is None else len(compare.keys() - mine.keys()),
    )


def _time(text: str, fallback: datetime) -> datetime:
    if not text:
        # A run that died before its end left a journal and no time.
        return fallback
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
