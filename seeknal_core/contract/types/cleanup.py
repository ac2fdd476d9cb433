"""What an environment made in a store, and what a sweep removed."""

from __future__ import annotations

import enum

import attrs

from seeknal_core.contract.types.targets import QualifiedName


class OwnedKind(enum.Enum):
    """What an owned object of a store is."""

    TABLE = "table"
    NAMESPACE = "namespace"


@attrs.frozen(kw_only=True)
class Owned:
    """A table or namespace that this project made in this environment, by the store's ledger.

    ``identity`` is a table's physical identity, as in `TargetState`, and empty
    for a namespace.
    """

    kind: OwnedKind
    name: QualifiedName
    identity: str = ""


@attrs.frozen(kw_only=True)
class Swept:
    """What ``sweep`` found of commands that died.

    ``removed`` counts the writes whose leftovers were deleted, or would be. ``kept`` says
    in a sentence each what stays, and until when. ``done`` says what else was done, or
    would be, for targets that declare it.
    """

    removed: int = 0
    kept: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
