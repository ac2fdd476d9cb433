"""Takes over a table as it is: one commit of properties alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pyiceberg.table.update import SetPropertiesUpdate

from seeknal_core.contract.errors import BackendError, StaleStage
from seeknal_core.contract.types import (
    ExecutionContext,
    Target,
    WriteResult,
)
from seeknal_iceberg.commit import many_tables
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.ledger import ledger
from seeknal_iceberg.ledger.staged_write import same_table
from seeknal_iceberg.ledger.versions import mark_of, version_of
from seeknal_iceberg.source.rows import rows_after

if TYPE_CHECKING:
    from pyiceberg.table import Table


#: How often a table is taken over again where somebody else's commit came between.
_TRIES = 8


def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Take over a table as it is: one commit that sets properties alone.

    Raises:
        BackendError: the table is not there, or the catalog refuses.
    """
    connection = catalogs.of(context)
    with translating(connection, str(target.name)):
        catalog = catalogs.open_catalog(context)
        entry = ledger.Entry.of(context, target, content_key, 0, f"adopted-{context.run_id}")

        def load() -> Table:
            table = catalogs.load(catalog, target.name.parts)
            if table is None:
                raise BackendError(
                    f"table {target.name} does not exist", "seeknal run", target=str(target.name)
                )
            return table

        def is_done() -> bool:
            return entry.values.items() <= load().properties.items()

        for attempt in range(_TRIES):
            table = load()
            change = many_tables.Change(
                table=table,
                requirements=(same_table(str(table.metadata.table_uuid)),),
                updates=(SetPropertiesUpdate(updates=dict(entry.values)),),
            )
            if many_tables.carry_out(context, catalog, [change], is_done):
                break
            time.sleep(0.05 * 2**attempt)
        else:
            raise StaleStage(
                f"{target.name}: other writers changed it {_TRIES} times while it was taken over",
                "run again when they are done",
                target=str(target.name),
            )
        table = load()
        rows = rows_after(table)
    return WriteResult(
        rows_written=0,
        rows_after=rows,
        version=version_of(table.metadata),
        mark=mark_of(table.metadata),
    )
