"""Previews what a write would do to a table's columns."""

from __future__ import annotations

import pyarrow as pa

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Target, WritePreview
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import describe
from seeknal_postgres.write.items import item_of, planned
from seeknal_postgres.write.moving import refuse_move
from seeknal_postgres.write.retype import refuse_in_the_way, refuse_unfit


def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Implement the hook of the same name."""
    with pool_of(context).take(context) as conn, translated(context, str(target.name)):
        try:
            with conn.transaction(force_rollback=True):
                settle(conn)
                return WritePreview(notes=_notes(context, conn, target, schema))
        except WriteRefused as error:
            return WritePreview(refused=error.message, hint=error.hint)


def _notes(
    context: ExecutionContext, conn: Conn, target: Target, schema: pa.Schema
) -> tuple[str, ...]:
    item = item_of(context, target, schema)
    table = describe(conn, target.name)
    if table is None:
        return ()
    item = planned(Ledger.of(context, conn), item, table, later=False)
    change = item.change
    if change.types or change.drop:
        refuse_in_the_way(context, conn, target, table, change)
    if change.retype or change.rewrites:
        refuse_move(target, table, change)
    if change.retype and not item.mode.replaces:
        refuse_unfit(conn, target, table, change)
    return tuple(item.notes(later=context.promoting))
