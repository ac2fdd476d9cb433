"""Digests of what is recorded: one canonical text, one SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seeknal_core.state.records import EnvironmentRecord


#: Part of every key: raised when the engine's output for one input may change.
_KEY_VERSION = 1


def digest(*parts: object) -> str:
    """Return the SHA-256 of a canonical JSON text of `parts`, in hexadecimal."""
    text = json.dumps([_KEY_VERSION, *parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def moved_digest(record: EnvironmentRecord | None) -> str:
    """Digest what a plan upon an environment depends on: definitions, targets, generation.

    Its data is not in it: a scheduled refresh is not a move.
    """
    if record is None or not (record.nodes or record.targets or record.generation):
        return ""
    return digest(
        "state",
        record.generation,
        sorted((id, node.definition) for id, node in record.nodes.items()),
        sorted((key, target.fingerprint) for key, target in record.targets.items()),
    )


def definitions_digest(definitions: Mapping[str, str]) -> str:
    """Digest all definitions of a project or of a record."""
    return digest("definitions", dict(definitions))
