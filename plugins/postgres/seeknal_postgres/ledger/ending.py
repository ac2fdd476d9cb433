"""What a ledger records as created, and how the ledger is dropped once it records nothing."""

from __future__ import annotations

import contextlib
import graphlib
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.types import ExecutionContext, QualifiedName, Target
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.pool import Conn, Pool
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger.records import NOTES, TABLES, Ledger
from seeknal_postgres.names import qualified

#: How the names of tables begin that a write or a promotion keeps in the ledger's
#: schema for a while, and that go with it.
LEFTOVERS = ("stage_", "undo_")


_OWNED_TABLES: LiteralString = """
SELECT t.schema_name, t.table_name, t.table_oid FROM {schema}.targets t
JOIN pg_catalog.pg_class c ON c.oid = t.table_oid AND c.relname = t.table_name
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name
WHERE t.project = %s AND t.environment = %s AND t.created_by_us
ORDER BY 1, 2
"""


_OWNED_SCHEMAS: LiteralString = """
SELECT s.name FROM {schema}.schemas s
JOIN pg_catalog.pg_namespace n ON n.oid = s.schema_oid AND n.nspname = s.name
WHERE s.project = %s AND s.name <> %s
ORDER BY 1
"""


# The ledger's own schema is nobody's in particular: projects share it.
_OTHERS: LiteralString = """
SELECT EXISTS (SELECT FROM {schema}.targets WHERE project <> %s OR environment <> %s)
    OR EXISTS (SELECT FROM {schema}.schemas WHERE project <> %s AND name <> %s)
"""


_OTHER_PROMOTIONS: LiteralString = """
SELECT EXISTS (SELECT FROM {schema}.promotions WHERE project <> %s OR environment <> %s)
"""


# What alone makes a ledger worth keeping: the schemas table names the ledger's own.
_RECORDS: LiteralString = """
SELECT EXISTS (SELECT FROM {schema}.targets) OR EXISTS (SELECT FROM {schema}.appended)
    OR EXISTS (SELECT FROM {schema}.promotions) OR EXISTS (SELECT FROM {schema}.promotion_targets)
    OR EXISTS (SELECT FROM {schema}.schemas WHERE name <> %s)
"""


_REFERENCES: LiteralString = """
SELECT confrelid::bigint, conrelid::bigint FROM pg_catalog.pg_constraint
WHERE contype = 'f' AND confrelid <> conrelid
  AND confrelid = ANY(%s::oid[]) AND conrelid = ANY(%s::oid[])
"""


def tables_made(context: ExecutionContext, ledger: Ledger) -> list[QualifiedName]:
    """Return our tables, those with foreign keys before the tables that they point at."""
    rows = ledger.conn.execute(
        ledger._sql(_OWNED_TABLES), [context.project, context.environment.name]
    ).fetchall()
    by_oid = {oid: qualified(schema, table) for schema, table, oid in rows}
    oids = list(by_oid)
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter(dict.fromkeys(oids, ()))
    for pointed_at, pointing in ledger.conn.execute(_REFERENCES, [oids, oids]):
        sorter.add(pointed_at, pointing)
    try:
        return [by_oid[oid] for oid in sorter.static_order()]
    except graphlib.CycleError:
        # None of the tables in the circle can be dropped; each is refused by name.
        return list(by_oid.values())


def schemas_made(context: ExecutionContext, ledger: Ledger) -> list[str]:
    """Return the schemas that the project made, but the ledger's own."""
    rows = ledger.conn.execute(ledger._sql(_OWNED_SCHEMAS), [context.project, ledger.schema])
    return [row[0] for row in rows]


def has_others(context: ExecutionContext, ledger: Ledger) -> bool:
    """Return whether the ledger records anything of another project or environment."""
    row = ledger.conn.execute(
        ledger._sql(_OTHERS),
        [context.project, context.environment.name, context.project, ledger.schema],
    ).fetchone()
    if row and not row[0] and "promotions" in ledger.tables():
        row = ledger.conn.execute(
            ledger._sql(_OTHER_PROMOTIONS), [context.project, context.environment.name]
        ).fetchone()
    return bool(row and row[0])


def end_ledger(context: ExecutionContext, ledger: Ledger) -> bool:
    """Drop the ledger if nothing that this project made here is left; return whether it went.

    The records of adopted tables, and of tables that somebody else dropped, go too.
    Another project's records keep the ledger; what else stands in its schema keeps that.
    """
    if tables_made(context, ledger) or schemas_made(context, ledger):
        return False
    if not has_others(context, ledger):
        # Nobody may write a record between the check and the drop.
        _lock_ledger(context, ledger)
        if not has_others(context, ledger):
            return _drop_ledger(ledger)
    mine = [context.project, context.environment.name]
    ledger.conn.execute(
        ledger._sql(
            "DELETE FROM {schema}.appended a USING {schema}.targets t"
            " WHERE (a.schema_name, a.table_name) = (t.schema_name, t.table_name)"
            " AND t.project = %s AND t.environment = %s"
        ),
        mine,
    )
    ledger.conn.execute(
        ledger._sql("DELETE FROM {schema}.targets WHERE project = %s AND environment = %s"), mine
    )
    ledger.conn.execute(
        ledger._sql("DELETE FROM {schema}.schemas WHERE project = %s AND name <> %s"),
        [context.project, ledger.schema],
    )
    for table in ("promotions", "promotion_targets"):
        if table in ledger.tables():
            ledger.conn.execute(
                ledger._sql(
                    f"DELETE FROM {{schema}}.{table} WHERE project = %s AND environment = %s"
                ),
                mine,
            )
    return False


def _lock_ledger(context: ExecutionContext, ledger: Ledger) -> None:
    for table in ledger.tables():
        locks.lock(context, ledger.conn, qualified(ledger.schema, table), locks.EVERYBODY)


def end_if_empty(ledger: Ledger) -> bool:
    """Drop the ledger where it records nothing and holds nothing; return whether it went.

    Does not wait for anybody: a session that uses the ledger keeps it. A session that is about
    to write into it creates it again, or keeps it: one that made a table in it, in a transaction
    that is still open, holds its schema.
    """
    if _recorded(ledger) or _leftovers(ledger) or foreign_in(ledger):
        return False
    try:
        with ledger.conn.transaction():
            for table in ledger.tables():
                ledger.conn.execute(
                    sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(
                        sql.Identifier(ledger.schema, table)
                    )
                )
            return not _recorded(ledger) and not _leftovers(ledger) and _drop_ledger(ledger)
    except (pg.DependentObjectsStillExist, *locks.BUSY):
        return False


def take_back(pool: Pool, conn: Conn, ledger: Ledger, target: Target) -> None:
    """Drop the schema and the ledger that were made for a write which was refused.

    Only what this command made, and what is empty; waits for nobody, and whatever
    keeps it from being dropped keeps it.
    """
    schema = target.name.parts[0]
    names = {ledger.schema, f"schema {schema}"} & pool.made
    if not names:
        return
    with contextlib.suppress(psycopg.Error), conn.transaction():
        settle(conn, 200)
        if f"schema {schema}" in names:
            with conn.transaction():
                conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(schema)))
                conn.execute(ledger._sql("DELETE FROM {schema}.schemas WHERE name = %s"), [schema])
        end_if_empty(ledger)
        # The next write checks again.
        pool.done -= names
        pool.made -= names


def _recorded(ledger: Ledger) -> bool:
    row = ledger.conn.execute(ledger._sql(_RECORDS), [ledger.schema]).fetchone()
    if row and row[0]:
        return True
    if NOTES not in ledger.tables():
        return False
    row = ledger.conn.execute(ledger._sql("SELECT EXISTS (SELECT FROM {schema}.notes)")).fetchone()
    return bool(row and row[0])


def _drop_ledger(ledger: Ledger) -> bool:
    conn = ledger.conn
    if foreign_in(ledger):
        # It is listed from now on, and dropping it says what it holds.
        for table in ("appended", "targets", "promotions", "promotion_targets"):
            if table in ledger.tables():
                conn.execute(ledger._sql(f"DELETE FROM {{schema}}.{table}"))
        return False
    row = conn.execute(
        ledger._sql(
            "SELECT EXISTS (SELECT FROM {schema}.schemas s JOIN pg_catalog.pg_namespace n"
            " ON n.oid = s.schema_oid AND n.nspname = s.name WHERE s.name = %s)"
        ),
        [ledger.schema],
    ).fetchone()
    for table in (*_leftovers(ledger), *ledger.tables()):
        conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(sql.Identifier(ledger.schema, table)))
    # A schema that was made for us is left as it was, empty.
    if row and row[0]:
        conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(ledger.schema)))
    return True


def _held(ledger: Ledger) -> list[tuple[str, str | None]]:
    """Return what stands in the ledger's schema, described, and its name where it is a table."""
    return ledger.conn.execute(
        "SELECT pg_describe_object(d.classid, d.objid, 0),"
        " CASE WHEN c.relkind = 'r' THEN c.relname::text END"
        " FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_namespace n ON n.oid = d.refobjid"
        " LEFT JOIN pg_catalog.pg_class c"
        " ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass"
        " WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass AND n.nspname = %s"
        # Objects that a table owns are dropped with it: the sequences of its columns.
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o WHERE o.classid = d.classid"
        " AND o.objid = d.objid AND o.refclassid = 'pg_catalog.pg_class'::regclass"
        " AND o.deptype IN ('a', 'i'))"
        " ORDER BY 1",
        [ledger.schema],
    ).fetchall()


def _leftovers(ledger: Ledger) -> list[str]:
    return [table for _, table in _held(ledger) if table and table.startswith(LEFTOVERS)]


def foreign_in(ledger: Ledger) -> list[str]:
    """Name what is in the ledger's schema and is not Seeknal's."""
    known = {*TABLES, *_leftovers(ledger)}
    return [described for described, table in _held(ledger) if table not in known]
