"""What is remembered of a promotion, from its first staged row to its rollback.

Documents per destination: ``<name>.current`` while one is under way, ``<name>.last``
while the stores keep what undoes the last one, and ``<name>.outdated-<id>`` where a store
has yet to let go of what undid an earlier one. Every step is written down before it is
taken.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.errors import SeeknalError, StaleStage, StateError
from seeknal_core.contract.types import Batch, Connection, Mode, SchemaChange, Staged, TargetSpec
from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.state.documents import fields_of
from seeknal_core.state.records import EnvironmentRecord, record_of
from seeknal_core.state.store import StateStore
from seeknal_core.workspace.session import Session

_KIND = "promotions"


class Step(enum.Enum):
    """How far a promotion is. The value is what is written down."""

    STAGING = "staging"
    VERIFIED = "verified"
    PUBLISHED = "published"
    REVERTING = "reverting"
    DONE = "done"


@attrs.frozen(kw_only=True)
class Write:
    """A target of a promotion, as it survives a restart.

    ``spec`` is the target as the user wrote it; ``name`` and ``bindings`` prove that
    it still leads to the same place. ``rows`` are the snapshot's.
    """

    key: str
    node: str
    name: str
    spec: Mapping[str, Any]
    bindings: str
    identity: str
    fingerprint: str
    content_key: str
    rows: int
    staged: Staged | None = None


@attrs.frozen(kw_only=True)
class Part:
    """The writes of one connection, which its store publishes together as ``batch``."""

    batch: str
    connection: str
    generation: int
    writes: tuple[Write, ...]


@attrs.frozen(kw_only=True)
class Promotion:
    """A promotion of one environment into another.

    ``direct`` are writes to backends that cannot stage; they come last and outside
    the promise. ``published`` holds version and rows of each published target.
    ``before`` and ``after`` are the destination's records. ``rollback`` marks an
    undoing of a promotion that was done. ``published_maybe`` tells, of one that is
    being undone, that it had come as far as publishing.
    """

    id: str
    source: str
    destination: str
    started_at: str
    step: Step
    parts: tuple[Part, ...]
    before: EnvironmentRecord
    after: EnvironmentRecord
    direct: tuple[Write, ...] = ()
    published: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    full_refresh: bool = False
    adopt: bool = False
    rollback: bool = False
    published_maybe: bool = False

    @property
    def writes(self) -> tuple[Write, ...]:
        """All staged writes, in the order of their connections."""
        return tuple(write for part in self.parts for write in part.writes)


def load(state: StateStore, destination: str, which: str = "current") -> Promotion | None:
    """Load the promotion under way into an environment, or the ``last`` one.

    Raises:
        StateError: the document is damaged.
    """
    name = f"{destination}.{which}"
    data = state.read(_KIND, name)
    if data is None:
        return None
    path = state.document_path(_KIND, name)
    try:
        return from_document(data, path)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"{path} is damaged: {error}",
            "keep a copy of it; what the stores hold is shown by: seeknal env status "
            f"{destination}",
        ) from error


def from_document(data: Mapping[str, Any], path: Path) -> Promotion:
    """Make a promotion of a document's values.

    Args:
        path: where they stood, for messages.

    Raises:
        KeyError, TypeError, ValueError, StateError: they are no promotion's.
    """
    values = {key: value for key, value in data.items() if key != "schema_version"}
    return Promotion(
        **{
            **values,
            "step": Step(data["step"]),
            "parts": tuple(_part(part) for part in data["parts"]),
            "direct": tuple(_write(write) for write in data["direct"]),
            "before": record_of(data["before"], path),
            "after": record_of(data["after"], path),
        }
    )


def save(state: StateStore, promotion: Promotion, which: str = "current") -> Promotion:
    """Write a promotion down, durably."""
    state.write(_KIND, f"{promotion.destination}.{which}", fields_of(promotion))
    return promotion


def forget(state: StateStore, destination: str, which: str = "current") -> None:
    """Remove a promotion's document."""
    state.remove(_KIND, f"{destination}.{which}")


def outdate(state: StateStore, promotion: Promotion) -> None:
    """Write down that a promotion is not the last any more, until its undo data is gone."""
    save(state, promotion, outdated_name(promotion))


def outdated_name(promotion: Promotion) -> str:
    """Return the name of the document of a promotion that is not the last any more."""
    return f"outdated-{promotion.id}"


def outdated(state: StateStore, destination: str) -> list[Promotion]:
    """Return the promotions into an environment whose undo data has yet to go."""
    start = f"{destination}.outdated-"
    names = [name for name in state.all(_KIND) if name.startswith(start)]
    found = (load(state, destination, name.removeprefix(f"{destination}.")) for name in names)
    return [one for one in found if one is not None]


def forget_undone(state: StateStore, promotion: Promotion) -> None:
    """Remove the manifest that was kept to undo a promotion."""
    state.remove("manifests", promotion.id)


def sentence(found: Promotion) -> str:
    """Say that a promotion, or a rollback, is unfinished."""
    if found.rollback:
        return f"a rollback of {found.destination!r} is unfinished"
    return f"a promotion of {found.source!r} into {found.destination!r} is unfinished"


def resume_command(found: Promotion) -> str:
    """Return the command that goes on with an unfinished promotion."""
    if found.rollback:
        return f"seeknal env rollback {found.destination}"
    return f"seeknal env promote {found.source} {found.destination} --resume (or --abort)"


def keep_command(found: Promotion) -> str:
    """Return the command that ends an unfinished promotion, and leaves the tables as they are.

    It works whatever the stores refuse.
    """
    if found.rollback:
        return f"seeknal env rollback {found.destination} --abort=keep"
    return f"seeknal env promote {found.source} {found.destination} --abort=keep"


def ways_out(found: Promotion) -> str:
    """Return the commands that end an unfinished promotion, for a hint."""
    return f"{resume_command(found)}; to leave the tables as they are: {keep_command(found)}"


def spec_document(spec: TargetSpec) -> dict[str, Any]:
    """Return a target as written, in values of JSON."""
    document = attrs.asdict(spec, filter=attrs.filters.exclude("location", "parts"))
    document["mode"] = spec.mode.value if spec.mode else None
    document["on_schema_change"] = spec.on_schema_change.value
    document["lookback"] = spec.lookback.total_seconds()
    return document


def resolve(session: Session, write: Write, *, publishing: bool = False) -> ResolvedTarget:
    """Make a target of what was written down, as the destination's profile has it now.

    Args:
        publishing: whether rows are about to be written there.

    Raises:
        StaleStage: the profile leads elsewhere than when it was written down, or the table is
            no target of this project's.
    """
    spec = _spec_of(session, write)
    session.dispatcher.host.load_backends([spec.type])
    resolved = resolve_target(session.dispatcher, session.context, spec)
    place = (str(resolved.target.name), bindings_digest(resolved.connection))
    if place != (write.name, write.bindings):
        raise StaleStage(
            f"{session.profile.path or 'the profile'} leads {write.name} elsewhere than when the "
            "promotion was begun",
            "bring the profile back to what it was, then run the same command again",
            target=write.name,
        )
    if not _is_ours(session, write, spec, resolved, publishing=publishing):
        raise StaleStage(
            f"{write.name} is no target of this project's, though the promotion's document in "
            f"{session.state.document_path(_KIND, session.environment.name).parent} names it",
            "bring the project back to what it was when the promotion was begun, or end it and "
            "leave the tables as they are: --abort=keep",
            target=write.name,
        )
    return attrs.evolve(resolved, target=attrs.evolve(resolved.target, staged=write.staged))


def _spec_of(session: Session, write: Write) -> TargetSpec:
    """Return a target as written, of the values that were written down."""
    values = dict(write.spec)
    try:
        return TargetSpec(
            **{
                **values,
                "mode": Mode(values["mode"]) if values["mode"] else None,
                "on_schema_change": SchemaChange(values["on_schema_change"]),
                "lookback": timedelta(seconds=values["lookback"]),
                "unique_keys": tuple(values["unique_keys"]),
                "partition_by": tuple(values["partition_by"]),
                "covers": tuple(values["covers"]) if values.get("covers") else None,
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        folder = session.state.document_path(_KIND, session.environment.name).parent
        raise StateError(
            f"a promotion's document in {folder} is damaged: {error}",
            "keep a copy of it; what the stores hold is shown by: seeknal env status "
            f"{session.environment.name}",
        ) from error


def _is_ours(
    session: Session, write: Write, spec: TargetSpec, resolved: ResolvedTarget, *, publishing: bool
) -> bool:
    """Tell whether a table that a document names is this environment's.

    The document may have been changed by somebody who may write nothing but the folder: the
    project says which tables are its targets, and the store's ledger which it wrote before.
    """
    node = session.graph.nodes.get(write.node)
    for each in node.targets if node is not None else ():
        if each.key != write.key:
            continue
        if attrs.evolve(each, location=None, parts=(), covers=spec.covers) == spec:
            return True
        with contextlib.suppress(SeeknalError):
            found = resolve_target(session.dispatcher, session.context, each)
            if (found.target.name, bindings_digest(found.connection)) == (
                resolved.target.name,
                write.bindings,
            ):
                return True
    # Where nothing is written, nothing that is absent can be harmed.
    state = session.dispatcher.inspect_target(session.context, resolved)
    if state is None or not state.exists:
        return not publishing
    here = (session.settings.name, session.environment.name)
    return state.owner is not None and (state.owner.project, state.owner.environment) == here


def batch_of(session: Session, part: Part, *, publishing: bool = False) -> tuple[Connection, Batch]:
    """Return a part as its backend receives it; `publishing` as for `resolve`."""
    resolved = [resolve(session, write, publishing=publishing) for write in part.writes]
    return resolved[0].connection, Batch(
        promotion=part.batch,
        generation=part.generation,
        targets=tuple(found.target for found in resolved),
        content_keys={write.key: write.content_key for write in part.writes},
    )


def _part(data: Mapping[str, Any]) -> Part:
    return Part(
        batch=data["batch"],
        connection=data["connection"],
        generation=data["generation"],
        writes=tuple(_write(write) for write in data["writes"]),
    )


def _write(data: Mapping[str, Any]) -> Write:
    staged = data["staged"]
    if not staged:
        return Write(**{**data, "staged": None})
    notes = tuple(staged.get("notes", ()))
    return Write(**{**data, "staged": Staged(**{**staged, "notes": notes})})
