"""Make the ledger's schema and tables, and the schemas of targets, where they are missing."""

from __future__ import annotations

from typing import Any

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import NamespaceRefused
from seeknal_core.contract.types import ExecutionContext, Target
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn, Pool
from seeknal_postgres.ledger import publications
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.names import quote

#: The statements that make the ledger's tables.
_TABLES = {
    "targets": """CREATE TABLE IF NOT EXISTS {schema}.targets (
        schema_name text NOT NULL, table_name text NOT NULL, table_oid bigint NOT NULL,
        project text NOT NULL, environment text NOT NULL, state_id text NOT NULL,
        target_key text NOT NULL, node text NOT NULL, content_key text NOT NULL,
        run_id text NOT NULL, mode text NOT NULL, rows bigint NOT NULL,
        generation bigint NOT NULL, created_by_us boolean NOT NULL, version text NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, table_name))""",
    "appended": """CREATE TABLE IF NOT EXISTS {schema}.appended (
        schema_name text NOT NULL, table_name text NOT NULL, table_oid bigint NOT NULL,
        content_key text NOT NULL, run_id text NOT NULL, rows bigint NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, table_name, content_key))""",
    "schemas": """CREATE TABLE IF NOT EXISTS {schema}.schemas (
        name text PRIMARY KEY, schema_oid bigint NOT NULL, project text NOT NULL,
        at timestamptz NOT NULL DEFAULT now())""",
    "promotions": """CREATE TABLE IF NOT EXISTS {schema}.promotions (
        project text NOT NULL, environment text NOT NULL, promotion text NOT NULL,
        connection text NOT NULL, generation bigint NOT NULL, state text NOT NULL,
        state_id text NOT NULL,
        run_id text NOT NULL, results jsonb NOT NULL DEFAULT '[]',
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (project, environment, promotion));
        CREATE UNIQUE INDEX IF NOT EXISTS promotions_generation
        ON {schema}.promotions (project, environment, connection, generation)
        WHERE state = 'published'""",
    "promotion_targets": """CREATE TABLE IF NOT EXISTS {schema}.promotion_targets (
        project text NOT NULL, environment text NOT NULL, promotion text NOT NULL,
        target_key text NOT NULL, schema_name text NOT NULL, table_name text NOT NULL,
        plan jsonb NOT NULL, target jsonb, appended jsonb,
        PRIMARY KEY (project, environment, promotion, target_key))""",
    "columns": """CREATE TABLE IF NOT EXISTS {schema}.columns (
        schema_name text NOT NULL, table_name text NOT NULL, table_oid bigint NOT NULL,
        names text[] NOT NULL, numbers int2[] NOT NULL,
        PRIMARY KEY (schema_name, table_name))""",
}


def ensure(context: ExecutionContext, pool: Pool, conn: Conn, target: Target) -> Ledger:
    """Make the ledger and the target's schema where they are missing, each once a command.

    Each in short transactions of their own, under an advisory lock, so that many
    threads and processes may come at once and none waits for another's rows.

    Raises:
        NamespaceRefused: the role may not create what is missing.
    """
    ledger = ensure_ledger(context, pool, conn)
    schema = target.name.parts[0]
    if f"schema {schema}" not in pool.done:
        with conn.transaction():
            made = make_schema(context, ledger, schema)
        pool.done.add(f"schema {schema}")
        if made:
            pool.made.add(f"schema {schema}")
    return ledger


def ensure_ledger(context: ExecutionContext, pool: Pool, conn: Conn) -> Ledger:
    """Make the ledger where it or a table of it is missing, once a command.

    Raises:
        NamespaceRefused: the role may not create it.
    """
    ledger = Ledger.of(context, conn)
    if ledger.schema not in pool.done:
        with conn.transaction():
            publications.refuse(context, conn, ledger.schema)
            made = _create_ledger(context, ledger)
        pool.done.add(ledger.schema)
        if made:
            pool.made.add(ledger.schema)
    return ledger


def make_schema(context: ExecutionContext, ledger: Ledger, schema: str) -> bool:
    """Make a schema where it is missing, and record that it is ours.

    Returns:
        Whether it was missing.
    """
    if schema_exists(ledger.conn, schema) or not _create_schema(ledger.conn, schema):
        return False
    ledger.record_schema(context, schema)
    return True


def _create_ledger(context: ExecutionContext, ledger: Ledger) -> bool:
    """Make what is missing of the ledger; return whether that was its schema."""
    missing = _TABLES.keys() - ledger.tables()
    if not missing:
        return False
    made = not schema_exists(ledger.conn, ledger.schema) and _create_schema(
        ledger.conn, ledger.schema
    )
    if made:
        ledger.conn.execute(ledger._sql("REVOKE ALL ON SCHEMA {schema} FROM PUBLIC"))
    # A role that may write the existing tables need not own them.
    for table in [each for each in _TABLES if each in missing]:
        ledger.conn.execute(ledger._sql(_TABLES[table]))
        ledger.conn.execute(ledger._sql(f"REVOKE ALL ON {{schema}}.{table} FROM PUBLIC"))
    if made:
        ledger.record_schema(context, ledger.schema)
    return made


def schema_exists(conn: Conn, schema: str) -> bool:
    """Return whether a schema exists, after waiting for anybody who is making it."""
    # The name is hashed by the server, so that all versions of ours agree.
    conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('seeknal schema ' || %s, 0))", [schema]
    )
    row: Any = conn.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)", [schema]
    ).fetchone()
    return bool(row[0])


def _create_schema(conn: Conn, schema: str) -> bool:
    """Make a schema; return False if a program other than Seeknal was faster."""
    try:
        with conn.transaction():
            conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    except (pg.DuplicateSchema, pg.UniqueViolation):
        return False
    except (pg.InsufficientPrivilege, pg.ReservedName) as error:
        raise NamespaceRefused(
            f"schema {quote(schema)} is missing and cannot be created: {said(error)}",
            f"let its owner run: CREATE SCHEMA {quote(schema)} AUTHORIZATION {_user(conn)}",
            target=schema,
        ) from error
    return True


def _user(conn: Conn) -> str:
    return quote(conn.info.user)
