"""The targets of one call, each with its rows and with what is there for it already.

A direct write, a staged one and a preview all begin here: `items_of` makes the items, `look`
finds the tables, whose they are and what has to happen to their columns, for all targets by
one statement of each kind. What can be refused without the rows is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import pyarrow as pa
from psycopg import sql

from seeknal_core.contract import rules
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Snapshot, Target
from seeknal_postgres.connection.pool import Conn, connection_of
from seeknal_postgres.ledger.records import Ledger, Record
from seeknal_postgres.ledger.tables import Table, describe_all
from seeknal_postgres.types.columns import Column, columns_of
from seeknal_postgres.write.checks import check_keys
from seeknal_postgres.write.evolve import Change, direct, plan_change, refuse_fixed
from seeknal_postgres.write.modes import TableMode, in_force
from seeknal_postgres.write.rows import Rows


@attrs.frozen(kw_only=True)
class Item:
    """One target and the rows that go there.

    ``snapshot`` is None if only its columns are known. ``mode`` is the mode in force.
    ``table`` is what is there, None if the target has to be made; ``change`` is what happens
    to its columns, and ``rows`` how its rows are replaced. `look` fills in these.
    """

    target: Target
    snapshot: Snapshot | None
    columns: tuple[Column, ...]
    mode: TableMode
    table: Table | None = None
    change: Change = Change()
    rows: Rows | None = None

    @property
    def names(self) -> list[str]:
        """The snapshot's columns."""
        return [column.name for column in self.columns]

    @property
    def count(self) -> int:
        """How many rows the snapshot has."""
        return self.arriving.row_count

    @property
    def arriving(self) -> Snapshot:
        """The snapshot."""
        assert self.snapshot is not None
        return self.snapshot

    @property
    def fits(self) -> bool:
        """Whether the encoded rows may be copied into columns of the table's types as they are."""
        return all(
            direct(column, self.table.column(column.name) if self.table is not None else None)
            for column in self.columns
        )

    @property
    def is_straight(self) -> bool:
        """Whether the rows may be copied straight into the target, without a stage table."""
        if self.rows is None:
            return self.fits
        return (
            self.rows.key is None
            and not self.change
            # COPY sets off no rules.
            and not any(each.kind == "rule" for each in self.rows.table.reactions)
            and (self.mode.replaces or self.mode.adds)
            and self.fits
        )

    def notes(self, *, later: bool) -> list[str]:
        """Return what becomes of the table's columns.

        Args:
            later: dropped columns go when the promotion cannot be undone any more.
        """
        if self.table is None or self.rows is None:
            return []
        keyed = self.rows.key is not None
        return self.change.notes(self.table, replaces=self.mode.replaces, keyed=keyed, later=later)


def item_of(
    context: ExecutionContext, target: Target, schema: pa.Schema, snapshot: Snapshot | None = None
) -> Item:
    """Return a target with its columns; no table is read.

    Raises:
        WriteRefused: a type has no counterpart, the mode lacks a column, or there is no such
            mode here.
    """
    columns = columns_of(schema, str(target.name))
    rules.check_named_columns(target, [column.name for column in columns])
    return Item(target=target, snapshot=snapshot, columns=columns, mode=in_force(context, target))


def items_of(
    context: ExecutionContext, targets: Sequence[Target], snapshots: Sequence[Snapshot]
) -> list[Item]:
    """Return targets with their snapshots; no table is read.

    Raises:
        WriteRefused: as `item_of`.
    """
    return [
        item_of(context, target, snapshot.schema, snapshot)
        for target, snapshot in zip(targets, snapshots, strict=True)
    ]


def look(
    context: ExecutionContext, ledger: Ledger, items: Sequence[Item], *, later: bool = False
) -> list[Item]:
    """Find the items' tables, and plan what happens to their columns and rows.

    Args:
        later: columns that the node no longer has go when a promotion cannot be undone any more.

    Raises:
        WriteRefused: a table is not ours, or cannot take its snapshot.
    """
    names = [item.target.name for item in items]
    tables, records = describe_all(ledger.conn, names), ledger.find_all(names)
    found = []
    for item in items:
        table = tables.get(item.target.name)
        if table is not None:
            check_owner(context, ledger, records.get(item.target.name), item.target, table)
            item = planned(ledger, item, table, later=later)
        found.append(item)
    return found


def planned(ledger: Ledger, item: Item, table: Table, *, later: bool) -> Item:
    """Return an item with its table, and with what happens to columns and rows.

    Args:
        later: as `look` has it.

    Raises:
        WriteRefused: the table cannot take the snapshot.
    """
    change = plan_change(
        item.target,
        table,
        item.columns,
        item.snapshot,
        item.mode,
        partial(ledger.ours, table.oid),
    )
    refuse_fixed(item.target, table, change)
    left = (*change.left, *change.drop) if later else change.left
    rows = Rows.of(item.target, table, item.names, item.mode, left=left)
    return attrs.evolve(item, table=table, change=change, rows=rows)


def check_owner(
    context: ExecutionContext, ledger: Ledger, record: Record | None, target: Target, table: Table
) -> None:
    """Refuse a table that is not this project's and environment's, unless it is adopted.

    Args:
        record: what the ledger says of the target's name.

    Raises:
        WriteRefused: saying whose it is, as far as the role may read other ledgers.
    """
    owner = record.owner if record is not None and record.oid == table.oid else None
    if context.adopt or rules.is_ours(context, owner):
        return
    oids = {target.name: table.oid}
    for other in ledger.siblings(connection_of(context).state_schema) if owner is None else ():
        owner = other.owners(oids).get(target.name, owner)
    raise refusals.not_ours(target.name, owner)


def check_new(conn: Conn, item: Item, rows: sql.Identifier) -> None:
    """Check keys and times of rows for a table that is not there yet.

    Raises:
        WriteRefused: a key is NULL or duplicated, or a row has no place.
    """
    if item.target.unique_keys:
        check_keys(conn, item.target, rows, item.target.unique_keys)
    item.mode.check_new(conn, item.target, rows, item.columns)
