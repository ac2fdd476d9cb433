"""A plan: the frozen list of what an apply does, to be read, reviewed and carried out."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.errors import OptionError, StateError
from seeknal_core.contract.types import redact
from seeknal_core.plan.decide import Action, Writing
from seeknal_core.state.documents import fields_of, read_document, to_json, write_document
from seeknal_core.state.records import NodeRecord

_VERSION = 2


class Change(enum.Enum):
    """What became of a node since the environment it is compared with."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    AFFECTED = "affected from above"
    UNAFFECTED = "proved unaffected"
    METADATA = "metadata only"
    REBOUND = "rebuilt for another binding"
    CONTENT = "content changed"
    UNCHANGED = "unchanged"


@attrs.frozen(kw_only=True)
class NodeStep:
    """A node of a plan.

    ``breaking`` is None unless the node itself changed; ``columns`` are the columns
    that the change adds (additive) or touches (breaking). ``content_key`` is the
    stored snapshot that a reuse takes, or the key of a computation where it is
    known before. ``reused_from`` names the environment that holds it, and ``held``
    is what it holds: an apply takes that, whatever became of it since.
    """

    id: str
    change: Change
    action: Action
    reason: str = ""
    breaking: bool | None = None
    columns: tuple[str, ...] = ()
    diff: str = ""
    content_key: str = ""
    reused_from: str = ""
    held: NodeRecord | None = None


@attrs.frozen(kw_only=True)
class TargetStep:
    """A target of a plan, under its final name.

    ``staged`` tells whether its backend writes unseen first, as a promotion needs;
    ``atomic_with`` counts the plan's other staged targets of the same connection.
    ``exists`` is None where it was not asked. ``notes`` are what the store says of the table:
    which trigger may change the values that are written, what a write does to its columns.
    ``refused`` says why it would be refused, and ``hint`` what to do then.
    Of a target that is the same as production's,
    ``bytes``, ``rows`` and ``content_key`` are those of the rows that it shows.
    """

    key: str
    node: str
    type: str
    connection: str
    name: str
    mode: str
    writing: Writing
    reason: str = ""
    staged: bool = False
    atomic_with: int = 0
    exists: bool | None = None
    notes: tuple[str, ...] = ()
    refused: str = ""
    hint: str = ""
    bytes: int = 0
    content_key: str = ""
    rows: int = 0

    @property
    def guarantee(self) -> str:
        """Return in words what a promotion guarantees for it."""
        if not self.staged:
            return "not staged"
        if not self.atomic_with:
            return "staged"
        return f"staged, with {self.atomic_with} more of {self.connection}"


@attrs.frozen(kw_only=True)
class Plan:
    """Everything an apply does, and what it was made upon.

    ``bindings`` digests where each used connection leads, by name;
    ``definitions`` are the folder's; ``base_state`` is the base's `moved_digest`.
    ``rebound`` are the sources bound differently than in the base. ``variables``
    are ``--vars``; ``prune`` drops tables of targets that the project lacks now, as far
    as this environment made them; ``given_profile`` is the profile file that the user named, if any.
    """

    id: str
    project: str
    environment: str
    created_at: str
    profile: str
    profile_reason: str
    bindings: Mapping[str, str]
    definitions: Mapping[str, str]
    base: str
    base_state: str
    nodes: tuple[NodeStep, ...]
    targets: tuple[TargetStep, ...]
    rebound: tuple[str, ...] = ()
    variables: Mapping[str, object] = attrs.field(factory=dict)
    all_targets: bool = False
    only_changed: bool = False
    refresh_sources: bool = False
    prune: bool = False
    given_profile: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def has_changes(self) -> bool:
        """Whether an apply would do anything but read sources that may be unchanged.

        To link or copy what is the same as production's is no change.
        """
        return any(
            step.change not in (Change.UNCHANGED, Change.METADATA) or step.action is Action.COMPUTE
            for step in self.nodes
        ) or any(
            step.writing in (Writing.WRITE, Writing.DROP, Writing.REFUSED) for step in self.targets
        )


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan as one JSON document, atomically."""
    write_document(path, _VERSION, _document(plan))


def as_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON-able values."""
    document: dict[str, Any] = json.loads(to_json(_document(plan)))
    return document


def _document(plan: Plan) -> dict[str, object]:
    shown = attrs.evolve(
        plan,
        nodes=tuple(
            attrs.evolve(step, reason=redact(step.reason), diff=redact(step.diff))
            for step in plan.nodes
        ),
        warnings=tuple(map(redact, plan.warnings)),
    )
    targets = [
        {
            **fields_of(step),
            "reason": redact(step.reason),
            "notes": list(map(redact, step.notes)),
            "refused": redact(step.refused),
            "hint": redact(step.hint),
            "guarantee": step.guarantee,
        }
        for step in plan.targets
    ]
    return {**fields_of(shown), "targets": targets}


def _check_time(text: str) -> None:
    """Refuse a time that was not written by a plan."""
    try:
        aware = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        raise ValueError(f"created_at is no time: {text!r}") from None
    if not aware:
        raise ValueError(f"created_at has no time zone: {text!r}")


def load_plan(path: Path) -> Plan | None:
    """Read a plan; None where there is none.

    Raises:
        StateError: it is damaged, or a newer version's.
    """
    from seeknal_core.contract.options import structure

    document = read_document(path, _VERSION)
    if document is None:
        return None
    values = {key: value for key, value in document.items() if key != "schema_version"}
    targets = values.get("targets")
    if isinstance(targets, list):
        values["targets"] = [
            {key: value for key, value in target.items() if key != "guarantee"}
            for target in targets
            if isinstance(target, dict)
        ]
    try:
        made = structure(values, Plan)
        _check_time(made.created_at)
        return made
    except (OptionError, ValueError) as error:
        raise StateError(
            f"{path} is no plan of Seeknal's: {error}", "make a new one: seeknal env plan ENV"
        ) from error
