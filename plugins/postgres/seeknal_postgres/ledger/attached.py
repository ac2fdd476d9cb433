"""Objects that depend on a table and act when its rows change: refused, or named."""

from __future__ import annotations

from collections.abc import Collection

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Target
from seeknal_postgres.ledger.tables import Table

#: The statements that change rows.
_ALL = frozenset({"INSERT", "UPDATE", "DELETE"})


def refuse_attached(target: Target, table: Table, events: Collection[str] = _ALL) -> None:
    """Refuse a table that others' rows are written through, or whose rules do something else.

    Args:
        events: the statements that will be run on the table; all where the rows may have to be
            brought back, too.

    Raises:
        WriteRefused: naming what depends on the table.
    """
    name = str(target.name)
    if table.children:
        child = table.children[0]
        raise WriteRefused(
            f"{name}: {refusals.listed(table.children, 3)} inherits from it, so that its rows are read, "
            f"changed and deleted as rows of {name}",
            f"ALTER TABLE {child} NO INHERIT {name}, or write to another table",
            target=name,
        )
    if table.foreign:
        far = table.foreign[0]
        raise WriteRefused(
            f"{name}: its partition {refusals.listed(table.foreign, 3)} is a foreign table, and another "
            "server does not commit together with this one",
            f"ALTER TABLE … DETACH PARTITION {far}, or write to another table",
            target=name,
        )
    for rule in table.reactions:
        if rule.instead and set(events) & set(rule.events):
            raise WriteRefused(
                f"{name}: {rule} replaces the statements that write the rows",
                f"ALTER TABLE {name} DISABLE RULE {rule.name}, or write to another table",
                target=name,
            )


def notes_of(table: Table) -> tuple[str, ...]:
    """Return a plan's notes on a table other than its columns: what may change its rows."""
    found = [f"{each} may change what is written" for each in table.reactions]
    if table.unlogged:
        found.append("the table is unlogged: a crash of the server empties it")
    return tuple(found)


def unlike(target: Target, table: Table, event: str, wanted: int, done: int) -> WriteRefused:
    """Return the error for a table that holds other rows than it was given.

    Args:
        event: the kind of statement whose count is not what it should be, empty if
            it is the count of the table's rows.
    """
    rows = {"INSERT": "were inserted", "UPDATE": "were updated", "DELETE": "were deleted"}
    what = f"{done} of {wanted} rows {rows[event]}" if event else (
        f"{done} rows would be in the table, and {wanted} should be"
    )  # fmt: skip
    guilty = [r for r in table.reactions if not event or event in r.events] or table.reactions
    if not guilty:
        return WriteRefused(
            f"{target.name}: {what}; nothing was written",
            "look at the table's triggers, rules and foreign keys, then run again",
            target=str(target.name),
        )
    first = guilty[0]
    return WriteRefused(
        f"{target.name}: {what}, by {refusals.listed([str(each) for each in guilty], 3)}; nothing was written",
        f"ALTER TABLE {first.table} DISABLE {first.kind.upper()} {first.name}, "
        "or write to another table",
        target=str(target.name),
    )
