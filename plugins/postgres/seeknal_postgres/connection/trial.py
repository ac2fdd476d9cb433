"""Write to a database for ``seeknal check --connections --write``, and leave nothing behind."""

from __future__ import annotations

import uuid
from typing import Any

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.errors import said, translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.names import ledger_schema, quote


class _Undo(Exception):
    """Ends the transaction of a trial."""


def write(context: ExecutionContext) -> str:
    """Make a schema and a table, write to it, read it and drop both; say what worked.

    All in one transaction that is rolled back, so that nothing stays of a trial that is
    killed, and two at once do not meet.

    Raises:
        WriteRefused: a right is missing, by name.
        BackendError: the server takes no writes, or fails.
    """
    connection = connection_of(context)
    ledgers = ledger_schema(connection.state_schema, context.environment.name)
    found = ""
    with pool_of(context).take(context) as conn, translated(context, connection.place):
        try:
            with conn.transaction():
                schema, is_new = _schema(conn, ledgers)
                _try(conn, schema)
                place = "a schema and a table were" if is_new else f"a table in {quote(schema)} was"
                found = f"write: {place} made, written to, read and dropped"
                raise _Undo
        except _Undo:
            pass
        except pg.ReadOnlySqlTransaction as error:
            raise BackendError(
                f"{connection.place}: the server takes no writes: {said(error)}",
                f"let connections.{connection.name} lead to the primary server",
                target=connection.name,
            ) from error
    return found


def _schema(conn: Conn, ledgers: str) -> tuple[str, bool]:
    """Return a schema to make a table in, and whether it was made for that."""
    name = f"seeknal_check_{uuid.uuid4().hex[:8]}"
    try:
        with conn.transaction():
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return name, True
    except pg.InsufficientPrivilege as error:
        row: Any = conn.execute(
            "SELECT coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM"
            " pg_catalog.pg_namespace WHERE nspname = %s), false), current_database(), current_user",
            [ledgers],
        ).fetchone()
        writable, database, user = row
        if writable:
            return ledgers, False  # a role may have its schemas from their owner
        raise WriteRefused(
            f"the right to create a schema is missing: {said(error)}",
            f"GRANT CREATE ON DATABASE {quote(database)} TO {quote(user)}, or let the owner create "
            f"the schemas, that of Seeknal too: CREATE SCHEMA {quote(ledgers)} AUTHORIZATION "
            f"{quote(user)}",
            target=quote(ledgers),
        ) from error


def _try(conn: Conn, schema: str) -> None:
    """Make a table in a schema, write to it, read it and drop it."""
    table = sql.Identifier(schema, f"probe_{uuid.uuid4().hex[:8]}")
    step = "create a table"
    try:
        conn.execute(sql.SQL("CREATE TABLE {} (id bigint)").format(table))
        step = "write to a table"
        conn.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))
        step = "read a table"
        row: Any = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
        step = "drop a table"
        conn.execute(sql.SQL("DROP TABLE {}").format(table))
    except pg.InsufficientPrivilege as error:
        raise WriteRefused(
            f"the right to {step} in {quote(schema)} is missing: {said(error)}",
            f"ask for the right to {step} there",
            target=quote(schema),
        ) from error
    if row[0] != 1:
        raise BackendError(
            f"{quote(schema)}: 1 row was written and {row[0]} read",
            "look for triggers and rules of the database that act on every new table",
            target=quote(schema),
        )
