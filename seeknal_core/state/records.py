"""What an environment's record holds, and how it survives a crash.

One JSON document per environment, replaced atomically at the end of a command,
and beside it a journal: a line for each node and target as it is finished. A
command that died leaves its journal, and whoever comes next folds it in, so
only what was not finished is done again. The stores' own ledgers decide what
was really written; the record only spares asking them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs

from seeknal_core.contract.types.digests import (
    BindingDigest,
    ContentKey,
    Definition,
    Fingerprint,
    Identity,
)
from seeknal_core.state.documents import (
    damaged,
)

_KEY = re.compile(r"[0-9A-Za-z_-]{4,}")


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class NodeRecord:
    """A node as an environment holds it: a reference to a stored snapshot.

    ``definition`` and ``content_key`` are fingerprints; ``binding`` tells where
    a source was read; ``read_at`` is when (ISO 8601, UTC); ``audits`` is the
    fingerprint of the audits that passed on this content key. ``inputs`` are the
    content keys of what it was computed of, by node; ``proof`` says why the stored
    rows are the node's although its inputs changed, empty where they were computed.
    ``covers`` is the time that these rows are complete for, templates expanded; empty
    where the node does not say, and in records of older versions. ``stored`` is the digest
    of the snapshot's document, which has those of its files.
    """

    definition: Definition
    content_key: ContentKey
    rows: int
    binding: BindingDigest = BindingDigest("")
    read_at: str = ""
    audits: str = ""
    inputs: Mapping[str, ContentKey] = attrs.field(factory=dict)
    proof: str = ""
    covers: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    stored: str = ""


@attrs.frozen(kw_only=True)
class TargetRecord:
    """A target as an environment wrote it last.

    ``bindings`` digests where its connection led; ``identity`` is physical. ``mark`` is
    what the store marks the table by since then; ``run_id`` is the command that wrote it.
    Both may be empty. ``parts`` are the name's. ``link`` is the table that the target is a
    link to, empty where it is a table of its own; ``copied`` is how many bytes of another
    environment's rows were copied into it.
    """

    node: str
    name: str
    type: str
    connection: str
    bindings: BindingDigest
    identity: Identity
    fingerprint: Fingerprint
    content_key: ContentKey
    version: str
    rows: int
    written_at: str
    mark: str = ""
    run_id: str = ""
    parts: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    link: str = ""
    copied: int = 0


class Status(enum.StrEnum):
    """How the last command on an environment ended; ``NEW`` where none did."""

    NEW = ""
    APPLIED = "applied"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    PARTIAL = "partial"


@attrs.frozen(kw_only=True)
class EnvironmentRecord:
    """Everything remembered of one environment. Times are ISO 8601, UTC.

    ``status`` is `Status.APPLIED` where it was wholly, without a failure, and
    `Status.PARTIAL` where a selection ran, never all. ``generation``
    counts the promotions into it. ``base`` names the environment it was planned
    upon, and ``base_state`` digests what that one was then (`moved_digest`).
    ``rolled_back`` digests the definitions that a rollback took away. ``protected``
    is what its profile said last, and ``given_profile`` is that file where the user
    named it.
    """

    name: str
    profile: str = ""
    created_at: str = ""
    last_run_at: str = ""
    last_run_id: str = ""
    status: Status = attrs.field(default=Status.NEW, converter=Status)
    generation: int = 0
    base: str = ""
    base_state: str = ""
    rolled_back: str = ""
    protected: bool = False
    given_profile: str = ""
    nodes: Mapping[str, NodeRecord] = attrs.field(factory=dict)
    targets: Mapping[str, TargetRecord] = attrs.field(factory=dict)


_TYPES: Mapping[str, type] = {
    "rows": int,
    "copied": int,
    "parts": list,
    "covers": list,
    "generation": int,
    "protected": bool,
    "nodes": dict,
    "targets": dict,
    "inputs": dict,
}

#: Fields that hold a time with its zone, or nothing.
_TIMES = frozenset({"read_at", "written_at", "created_at", "last_run_at"})

_R = TypeVar("_R", NodeRecord, TargetRecord, EnvironmentRecord)


def record_of(data: Mapping[str, Any], path: Path) -> EnvironmentRecord:
    """Make a record of a JSON document's values.

    Args:
        path: where they stood, for the message.

    Raises:
        StateError: they are no record's.
    """
    try:
        nodes = {id: checked(NodeRecord, value) for id, value in data["nodes"].items()}
        targets = {key: checked(TargetRecord, value) for key, value in data["targets"].items()}
        rest = {key: value for key, value in data.items() if key != "schema_version"}
        return checked(EnvironmentRecord, {**rest, "nodes": nodes, "targets": targets})
    except KeyError as error:
        raise damaged(path, f"it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise damaged(path, "a record in it is not one") from error


def checked(cls: type[_R], value: Mapping[str, Any]) -> _R:
    """Make a record of plain values.

    Raises:
        TypeError, ValueError: they are not this record's.
    """
    record = cls(**value)
    for name, found in value.items():
        if not isinstance(found, _TYPES.get(name, str)):
            raise TypeError(name)
        if name in _TIMES and found and datetime.fromisoformat(str(found)).tzinfo is None:
            raise ValueError(name)
    key = value.get("content_key")
    if key is not None and not _KEY.fullmatch(key):
        raise ValueError("content_key")
    return record
