"""What a write would do to a table's columns, said beforehand."""

from __future__ import annotations

import pyarrow as pa

from seeknal_core.contract import rules
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Mode, Target, WritePreview
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import describe
from seeknal_postgres.types.columns import columns_of
from seeknal_postgres.write.evolve import plan_change
from seeknal_postgres.write.modes.rows import Rows
from seeknal_postgres.write.retype import refuse_in_the_way, refuse_unfit
from seeknal_postgres.write.transit import refuse_move


def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Carry out the hook of the same name."""
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
    columns = columns_of(schema, str(target.name))
    rules.check_named_columns(target, [column.name for column in columns])
    table = describe(conn, target.name)
    if table is None:
        return ()
    mode = Mode.FULL if context.full_refresh else target.mode
    ledger = Ledger.of(context, conn)
    change = plan_change(target, table, columns, None, mode, lambda: ledger.ours(table.oid))
    names = [column.name for column in columns]
    rows = Rows.of(target, table, names, mode, left=change.left)
    if change.types or change.drop:
        refuse_in_the_way(context, conn, target, table, change)
    if change.retype or change.rewrites:
        refuse_move(target, table, change)
    if change.retype and mode is not Mode.FULL:
        refuse_unfit(conn, target, table, change)
    keyed = rows.key is not None
    return tuple(change.notes(table, mode, keyed=keyed, later=context.promoting))
