"""Targets of a promotion's document, as the destination's profile has them now."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs

from seeknal_core.contract.errors import SeeknalError, StaleStage, StateError
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Batch, Connection, Mode, SchemaChange, TargetSpec
from seeknal_core.plan.bindings import bindings_digest
from seeknal_core.plan.targets import TargetCheck
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.project.covers import interval_of
from seeknal_core.state.promotions import KIND, Part, Write
from seeknal_core.state.records import NodeRecord
from seeknal_core.workspace.session import Session


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
    found = _bound(session, write)
    if found is None:
        found = _resolved(session, write, publishing=publishing)
    return attrs.evolve(found, target=attrs.evolve(found.target, staged=write.staged))


def _bound(session: Session, write: Write) -> ResolvedTarget | None:
    """Return the project's own target where the document names just that; else None.

    Only what is bound already is looked at: with a mistake elsewhere in the project, an
    unfinished promotion must still be ended.
    """
    bound = session.bound_already
    found = bound.targets.get(write.key) if bound is not None else None
    if found is None or (str(found.target.name), bindings_digest(found.connection)) != (
        write.name,
        write.bindings,
    ):
        return None
    if spec_document(attrs.evolve(found.spec, covers=None)) != {**write.spec, "covers": None}:
        return None
    covers = write.spec.get("covers")
    if not covers:
        return found
    start, end = covers
    return attrs.evolve(
        found,
        spec=attrs.evolve(found.spec, covers=(start, end)),
        target=attrs.evolve(found.target, covers=interval_of(start, end)),
    )


def _resolved(session: Session, write: Write, *, publishing: bool) -> ResolvedTarget:
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
            f"{session.state.document_path(KIND, session.environment.name).parent} names it",
            "bring the project back to what it was when the promotion was begun, or end it and "
            "leave the tables as they are: --abort=keep",
            target=write.name,
        )
    return resolved


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
        folder = session.state.document_path(KIND, session.environment.name).parent
        raise StateError(
            f"a promotion's document in {folder} is damaged: {error}",
            "keep a copy of it; what the stores hold is shown by: seeknal env status "
            f"{session.environment.name}",
        ) from error


def _is_ours(
    session: Session, write: Write, spec: TargetSpec, resolved: ResolvedTarget, *, publishing: bool
) -> bool:
    """Return whether a table that a document names is this environment's.

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


def write_of(check: TargetCheck, records: Mapping[str, NodeRecord]) -> Write:
    """Return a target as it is written down, with the rows of its node's record."""
    target = check.resolved.target
    node = records[target.node]
    return Write(
        key=target.key,
        node=target.node,
        name=str(target.name),
        spec=spec_document(check.resolved.spec),
        bindings=check.bindings,
        identity=check.identity,
        fingerprint=check.fingerprint,
        content_key=node.content_key,
        rows=node.rows,
    )


def together(session: Session, wanted: Sequence[TargetCheck]) -> dict[str, list[TargetCheck]]:
    """Return the targets that are staged, by connection."""
    found: dict[str, list[TargetCheck]] = {}
    for check in wanted:
        if session.dispatcher.supports(check.resolved.target.type, Hook.STAGE):
            found.setdefault(check.resolved.connection.name, []).append(check)
    return found
