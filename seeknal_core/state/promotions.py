"""The documents of promotions, from the first staged row to the rollback.

Each destination has up to three kinds:

- ``<name>.current`` while a promotion or a rollback is under way;
- ``<name>.last`` while the stores keep what undoes the last promotion;
- ``<name>.outdated-<id>`` while a store has yet to let go of what undid an earlier one.

A phase is written down before anything is done that belongs to it.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from seeknal_core.contract.errors import StateError
from seeknal_core.contract.types import Staged
from seeknal_core.contract.types.digests import BindingDigest, ContentKey, Fingerprint, Identity
from seeknal_core.state.documents import damaged, fields_of, to_json
from seeknal_core.state.records import EnvironmentRecord, record_of
from seeknal_core.state.store import StateStore

#: The documents' folder.
KIND = "promotions"
_ID = re.compile(r"[0-9A-Za-z_-]{1,100}")


class Phase(enum.Enum):
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
    bindings: BindingDigest
    identity: Identity
    fingerprint: Fingerprint
    content_key: ContentKey
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
    step: Phase
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
    data = state.read(KIND, name)
    if data is None:
        return None
    path = state.document_path(KIND, name)
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
            "step": Phase(data["step"]),
            "parts": tuple(_part(part) for part in data["parts"]),
            "direct": tuple(_write(write) for write in data["direct"]),
            "before": record_of(data["before"], path),
            "after": record_of(data["after"], path),
        }
    )


def save(state: StateStore, promotion: Promotion, which: str = "current") -> Promotion:
    """Write a promotion down, durably."""
    state.write_text(KIND, f"{promotion.destination}.{which}", document_text(promotion))
    return promotion


def document_text(promotion: Promotion) -> str:
    """Return a promotion's document, in JSON.

    It is written several times, and the two records in it are large and the same each time:
    each record's text is made once.
    """
    fields = fields_of(promotion)
    records = (f'"{name}":{_record_text(fields.pop(name))}' for name in ("before", "after"))
    return f"{to_json(fields)[:-1]},{','.join(records)}}}"


@functools.lru_cache(maxsize=4)
def _text(known: _Same) -> str:
    return to_json(known.record)


@attrs.frozen(eq=False)
class _Same:
    """A record that is the same object as another; records themselves have no hash."""

    record: EnvironmentRecord

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.record is self.record

    def __hash__(self) -> int:
        return id(self.record)


def _record_text(record: object) -> str:
    assert isinstance(record, EnvironmentRecord)
    return _text(_Same(record))


def forget(state: StateStore, destination: str, which: str = "current") -> None:
    """Remove a promotion's document."""
    state.remove(KIND, f"{destination}.{which}")


def outdate(state: StateStore, promotion: Promotion) -> None:
    """Write down that a promotion is not the last any more, until its undo data is gone."""
    save(state, promotion, outdated_name(promotion))


def outdate_last(state: StateStore, promotion: Promotion) -> None:
    """Let a promotion take the place of the last one into the same environment, if there is one.

    The older document gets its other name by one rename, unread: it may be large.
    """
    name = f"{promotion.destination}.last"
    data = state.read(KIND, name)
    if data is None:
        return
    id = _id_of(data, state.document_path(KIND, name))
    if id != promotion.id:
        state.rename(KIND, name, f"{promotion.destination}.outdated-{id}")


def ids(state: StateStore, destination: str) -> set[str]:
    """Return the ids of all promotions into an environment that are written down.

    Raises:
        StateError: a document is damaged.
    """
    found = set()
    for name in state.all(KIND):
        data = state.read(KIND, name) if name.rpartition(".")[0] == destination else None
        if data is not None:
            found.add(_id_of(data, state.document_path(KIND, name)))
    return found


def _id_of(data: Mapping[str, Any], path: Path) -> str:
    id = data.get("id")
    # It becomes a part of a document's name.
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise damaged(path, "it lacks the promotion's id")
    return id


def outdated_name(promotion: Promotion) -> str:
    """Return the name of the document of a promotion that is not the last any more."""
    return f"outdated-{promotion.id}"


def outdated(state: StateStore, destination: str) -> list[Promotion]:
    """Return the promotions into an environment whose undo data has yet to go."""
    start = f"{destination}.outdated-"
    names = [name for name in state.all(KIND) if name.startswith(start)]
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
