"""Takes over a table as it is."""

from __future__ import annotations

from seeknal_core.contract.types import (
    ExecutionContext,
    Target,
    WriteResult,
)
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import making
from seeknal_postgres.ledger.marks import marks_of
from seeknal_postgres.ledger.records import Written
from seeknal_postgres.ledger.tables import describe, missing
from seeknal_postgres.ledger.versions import versions_of


def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Implement the hook of the same name: the ledger's entry changes, the table doesn't."""
    pool = pool_of(context)
    with pool.take(context) as conn, translated(context, str(target.name), writing=True):
        ledger = making.ensure(context, pool, conn, target)
        with conn.transaction():
            settle(conn)
            table = describe(conn, target.name)
            if table is None:
                raise missing(target.name)
            locks.lock(context, conn, target.name, locks.WRITERS)
            oids = {target.name: table.oid}
            mark = marks_of(conn, oids).get(target.name, "")
            rows, version = versions_of(conn, oids)[target.name]
            written = Written(
                target=target,
                content_key=content_key,
                oid=table.oid,
                rows=rows,
                created=False,
                version=version,
            )
            ledger.record_writes(context, [written])
            ledger.keep_appends(target, table.oid)
    return WriteResult(rows_written=0, rows_after=rows, version=version, mark=mark)
