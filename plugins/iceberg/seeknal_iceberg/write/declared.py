"""Properties and sort order of a table, as its target declares them.

The ledger lists which of them a target set, so that what it no longer declares goes
again, and what others set stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from pyiceberg.schema import Schema
from pyiceberg.table.sorting import (
    UNSORTED_SORT_ORDER,
    NullOrder,
    SortDirection,
    SortField,
    SortOrder,
)
from pyiceberg.table.update import (
    AddSortOrderUpdate,
    AssertDefaultSortOrderId,
    SetDefaultSortOrderUpdate,
    TableUpdate,
)
from pyiceberg.transforms import IdentityTransform

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Target
from seeknal_iceberg.ledger.ledger import PREFIX
from seeknal_iceberg.write import options

if TYPE_CHECKING:
    from pyiceberg.table import Transaction
    from pyiceberg.table.metadata import TableMetadata

#: The names of the properties that our target set, and ``*sort_order`` where it set that.
SET = PREFIX + "set"
_SORTED = "*sort_order"


def sort_order(target: Target, schema: Schema) -> SortOrder:
    """Return the sort order that a target declares.

    Raises:
        WriteRefused: it names no column, or one that cannot be sorted by.
    """
    fields = []
    known = [field.name for field in schema.fields]
    for entry in options.of(target.options).sort_order:
        # A column may be called "a desc".
        read = options.read_sorting(entry if entry not in known else f"{entry} asc")
        if read.column not in known:
            raise WriteRefused(
                f"{target.name}: sort_order {entry!r}: there is no column {read.column!r}",
                nearest(read.column, known) or "write a column, as in: ts desc nulls last",
                target=str(target.name),
            )
        field = schema.find_field(read.column)
        if not field.field_type.is_primitive:
            raise WriteRefused(
                f"{target.name}: sort_order {entry!r}: {read.column!r} is {field.field_type}, "
                "by which no rows can be sorted",
                "sort by another column",
                target=str(target.name),
            )
        fields.append(
            SortField(
                source_id=field.field_id,
                transform=IdentityTransform(),
                direction=SortDirection.DESC if read.descending else SortDirection.ASC,
                null_order=NullOrder.NULLS_FIRST if read.nulls_first else NullOrder.NULLS_LAST,
            )
        )
    return SortOrder(*fields) if fields else UNSORTED_SORT_ORDER


def new_properties(target: Target) -> dict[str, str]:
    """Return the properties of a table that is made for a target."""
    wanted = options.of(target.options).wanted()
    return {**wanted, **_listed(target)}


def _listed(target: Target) -> dict[str, str]:
    own = options.of(target.options)
    names = sorted(own.wanted()) + ([_SORTED] if own.sort_order else [])
    return {SET: json.dumps(names)} if names else {}


def _set_before(metadata: TableMetadata) -> frozenset[str]:
    try:
        found = json.loads(metadata.properties.get(SET, "[]"))
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def apply(transaction: Transaction, target: Target) -> None:
    """Change a table's properties and sort order to what a target declares.

    Raises:
        WriteRefused: see `sort_order`.
    """
    metadata = transaction.table_metadata
    before = _set_before(metadata)
    wanted = options.of(target.options).wanted()
    listed = _listed(target)
    changed = {
        name: value
        for name, value in {**wanted, **listed}.items()
        if metadata.properties.get(name) != value
    }
    if changed:
        transaction.set_properties(changed)
    gone = [name for name in before - wanted.keys() if name in metadata.properties]
    gone += [SET] if before and not listed else []
    if gone:
        transaction.remove_properties(*sorted(gone))
    order = sort_order(target, metadata.schema())
    declares = bool(order.fields)
    if (declares or _SORTED in before) and order.fields != metadata.sort_order().fields:
        _set_order(transaction, order)


def _set_order(transaction: Transaction, order: SortOrder) -> None:
    """Make a sort order the table's; pyiceberg 0.12 cannot bring one back to unsorted."""
    metadata = transaction.table_metadata
    same = [each for each in metadata.sort_orders if each.fields == order.fields]
    made: list[TableUpdate] = []
    number = order.order_id
    if same:
        number = same[0].order_id
    elif order.fields:
        number = max((each.order_id for each in metadata.sort_orders), default=0) + 1
    if not same:
        added = SortOrder(*order.fields, order_id=number)
        made.append(cast(Any, AddSortOrderUpdate)(sort_order=added))
    # -1 is the one that was added last, to which a catalog may give another number.
    last = -1 if not same and order.fields else number
    made.append(cast(Any, SetDefaultSortOrderUpdate)(sort_order_id=last))
    was = cast(Any, AssertDefaultSortOrderId)(default_sort_order_id=metadata.default_sort_order_id)
    transaction._apply(tuple(made), (was,))


def changes(metadata: TableMetadata, target: Target) -> Iterator[str]:
    """Return what a write changes of a table's properties and sort order."""
    before = _set_before(metadata)
    wanted = options.of(target.options).wanted()
    for name, value in sorted(wanted.items()):
        there = metadata.properties.get(name)
        if there is None:
            yield f"table property {name} is set to {value!r}"
        elif there != value:
            yield f"table property {name} changes from {there!r} to {value!r}"
    for name in sorted(before - wanted.keys() - {_SORTED}):
        if name in metadata.properties:
            yield f"table property {name} ({metadata.properties[name]!r}) is removed"
    declared = options.of(target.options).sort_order
    if declared:
        shown = ", ".join(declared)
        try:
            differs = sort_order(target, metadata.schema()).fields != metadata.sort_order().fields
        except WriteRefused:
            differs = True  # by a column that the write adds, or it says so itself
        if differs:
            yield f"sort order changes to {shown}, for files written from now on"
    elif _SORTED in before and metadata.sort_order().fields:
        yield "sort order is removed"
