"""Additive or breaking, by column."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Change:
    """What a change of a node's statements does to its columns."""

    additive: bool
    columns: tuple[str, ...]
    reason: str


def classify(old: Sequence[str], new: Sequence[str]) -> Change:
    """Compare two versions of a node's statements."""
    return Change(additive=False, columns=(), reason="the statement changed")


def unaffected(statements: Sequence[str], parent: str, added: Sequence[str]) -> str | None:
    """Say why a reader cannot see added columns, or None."""
    return None
