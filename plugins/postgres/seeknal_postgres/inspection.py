"""Looking at a server and a target, changing nothing."""

from __future__ import annotations

from typing import Any

from psycopg import errors as pg

from seeknal_core.types import ExecutionContext, Ownership, Target, TargetColumn, TargetState
from seeknal_postgres import tables
from seeknal_postgres.errors import translated
from seeknal_postgres.ledger import Ledger
from seeknal_postgres.pool import Conn, connection_of, pool_of


def count_rows(context: ExecutionContext, target: Target) -> int:
    """Carry out the hook of the same name."""
    with pool_of(context).take(context) as conn, translated(context, str(target.name)):
        tables.settle(conn)
        if tables.find_oid(conn, target.name) is None:
            raise tables.missing(target.name)
        return tables.count(conn, target.name)


def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Carry out the hook of the same name."""
    with pool_of(context).take(context) as conn, translated(context, str(target.name)):
        tables.settle(conn)
        identity = tables.store_identity(conn, connection_of(context).place)
        identity += f"/{target.name}"
        table = tables.describe(conn, target.name)
        if table is None:
            return TargetState(exists=False, identity=identity)
        return TargetState(
            exists=True,
            identity=identity,
            columns=tuple(
                TargetColumn(name=column.name, type=column.declared) for column in table.columns
            ),
            version=tables.version_of(conn, target.name, table.oid)[1],
            owner=_owner(context, conn, target, table.oid),
        )


def _owner(context: ExecutionContext, conn: Conn, target: Target, oid: int) -> Ownership | None:
    """Return whose the table is, by this environment's ledger or by one beside it.

    A table of production that the state folder knows nothing of is still
    production's: its own ledger says so, where this role may read it.
    """
    own = Ledger.of(context, conn)
    try:
        if own.exists() and (found := _recorded(own, target, oid)) is not None:
            return found
        for ledger in own.siblings(connection_of(context).state_schema):
            if (found := _recorded(ledger, target, oid)) is not None:
                return found
    except pg.InsufficientPrivilege:
        # A role that may not read the records owns nothing by them.
        return None
    return None


def _recorded(ledger: Ledger, target: Target, oid: int) -> Ownership | None:
    record = ledger.find(*target.name.parts)
    return record.owner if record is not None and record.oid == oid else None


def check_connection(context: ExecutionContext) -> str:
    """Carry out the hook of the same name."""
    connection = connection_of(context)
    with pool_of(context).take(context) as conn, translated(context, connection.place):
        row: Any = conn.execute(
            "SELECT current_setting('server_version'), current_database(), current_user,"
            " has_database_privilege(current_database(), 'CREATE')"
        ).fetchone()
    version, database, user, creates = row
    text = f"PostgreSQL {version.split()[0]} at {connection.place}, database {database} as {user}"
    return text if creates else f"{text} (may not create schemas)"
