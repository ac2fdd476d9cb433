"""What a store shows of a target: its state, its owner, what changed."""

from __future__ import annotations

import enum

import attrs

from seeknal_core.contract.types.targets import QualifiedName


@attrs.frozen(kw_only=True)
class Ownership:
    """Who wrote a target last, by the store's ledger."""

    project: str
    environment: str
    state_id: str
    content_key: str
    run_id: str


@attrs.frozen(kw_only=True)
class TargetColumn:
    """A column of a target in the store's own words."""

    name: str
    type: str


@attrs.frozen(kw_only=True)
class TargetState:
    """What stands in the store where a target is, or would be.

    ``identity`` is the physical identity: the same for two connections that lead
    to one table, different for two tables, known also while the table is
    absent; it holds no secret. ``version`` changes with every write of anybody,
    None where absent. ``owner`` is None where no record of Seeknal's names the table.
    ``generation`` counts the promotions that this project's environment had in
    this store (or, where a store keeps no such count, in this table), 0 for none.
    ``rows`` is what `count_rows` would say, None where that takes a question of its own.
    ``notes`` are sentences that a plan says of the target, such as which trigger may
    change the values that are written.
    ``table_id`` is the store's own name for the table that is there, as a UUID, where
    ``identity`` can't see that two addresses lead to one catalog, or, where there is none
    yet, for its place, as the store compares names. None where the store has no such thing.
    ``mark`` costs no reading of the table: while it stays the same, nobody changed rows or
    columns. Another mark is a suspicion, no proof. None where the store has no such thing.
    ``linked`` tells that no table of its own is there, but a link to another one.
    ``foresees`` tells that `preview_write` has something to say of a table that is not there,
    such as that its name is refused; the columns may then be unknown, and are none.
    """

    exists: bool
    identity: str
    columns: tuple[TargetColumn, ...] = ()
    version: str | None = None
    owner: Ownership | None = None
    generation: int = 0
    rows: int | None = None
    notes: tuple[str, ...] = ()
    table_id: str | None = None
    # A mark that moved proves nothing, so two states with different ones may be the same.
    mark: str | None = attrs.field(default=None, eq=False)
    linked: bool = False
    foresees: bool = False


@attrs.frozen(kw_only=True)
class Origin:
    """Another environment's target that a link reads.

    ``identity`` is what that environment recorded of it; ``content_key`` is what it holds.
    """

    name: QualifiedName
    identity: str
    environment: str
    content_key: str


@attrs.frozen(kw_only=True)
class Linked:
    """A link that was made.

    ``version`` is what ``inspect_target`` gives from now on: a link's version changes with
    its definition, not with the rows that it shows. ``notes`` are sentences the user should
    see.
    """

    version: str
    notes: tuple[str, ...] = ()


class Drift(enum.Enum):
    """What somebody else did to a target since it was written."""

    NONE = "as written"
    ADDED = "rows were added"
    CHANGED = "changed by somebody else"
    REPLACED = "another table has its name"
    ELSEWHERE = "written from another checkout"


@attrs.frozen(kw_only=True)
class Since:
    """What is recorded of a target's last write: version, rows, and mark (maybe empty)."""

    version: str
    rows: int
    mark: str = ""


@attrs.frozen(kw_only=True)
class TargetChange:
    """What an exact look found to have happened to a target.

    A backend answers with `Drift.NONE`, ``ADDED`` (rows were added, none changed or
    deleted) or ``CHANGED``; the rest is the core's. ``detail`` says in words what happened.
    ``version``, ``rows`` and ``mark`` are those of now. ``others`` counts rows that somebody
    else inserted or changed, as far as the store knows.
    """

    drift: Drift
    version: str = ""
    rows: int = 0
    mark: str = ""
    detail: str = ""
    others: int = 0
