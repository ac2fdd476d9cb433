"""Removing what an environment made: its tables, its schemas, at last its ledger.

What counts as made is what the ledger says *and* the server's catalogs still
confirm by oid: a table that was adopted, renamed, or dropped and made anew by
somebody is left alone. Nothing is dropped with CASCADE.
"""

from __future__ import annotations

import contextlib
import graphlib
from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Owned, OwnedKind, QualifiedName, Target
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import said, translated
from seeknal_postgres.connection.pool import Conn, Pool, connection_of, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import links
from seeknal_postgres.ledger.records import NOTES, TABLES, Ledger, schema_exists
from seeknal_postgres.ledger.tables import find_oid, identifier, store_identity
from seeknal_postgres.names import qualified, quote

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


class _Moved(Exception):
    """The table was dropped, or made anew, between the look and the lock."""


def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """Carry out the hook of the same name.

    The ledger's own schema is listed where it is the only thing left.
    """
    with (
        pool_of(context).take(context) as conn,
        translated(context, connection_of(context).place),
        conn.transaction(),
    ):
        settle(conn)
        ledger = Ledger.of(context, conn)
        if not ledger.exists():
            return ()
        store = store_identity(context, conn)
        tables = [
            Owned(kind=OwnedKind.TABLE, name=name, identity=f"{store}/{name}")
            for name in _tables(context, ledger)
        ]
        schemas = _schemas(context, ledger)
        if not tables and not schemas and not _others(context, ledger):
            schemas = [ledger.schema]
        return (*tables, *(Owned(kind=OwnedKind.NAMESPACE, name=_name(each)) for each in schemas))


def _name(schema: str) -> QualifiedName:
    return QualifiedName(parts=(schema,), quoted=quote(schema))


def _tables(context: ExecutionContext, ledger: Ledger) -> list[QualifiedName]:
    """Return our tables, those with foreign keys before those that they point at."""
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


def _schemas(context: ExecutionContext, ledger: Ledger) -> list[str]:
    rows = ledger.conn.execute(ledger._sql(_OWNED_SCHEMAS), [context.project, ledger.schema])
    return [row[0] for row in rows]


def _others(context: ExecutionContext, ledger: Ledger) -> bool:
    """Tell whether the ledger records anything of another project or environment."""
    row = ledger.conn.execute(
        ledger._sql(_OTHERS),
        [context.project, context.environment.name, context.project, ledger.schema],
    ).fetchone()
    if row and not row[0] and "promotions" in ledger.tables():
        row = ledger.conn.execute(
            ledger._sql(_OTHER_PROMOTIONS), [context.project, context.environment.name]
        ).fetchone()
    return bool(row and row[0])


def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Carry out the hook of the same name: one transaction, tried again where it is locked out."""
    name = str(owned.name)
    pool = pool_of(context)
    drop = _drop_table if owned.kind is OwnedKind.TABLE else _drop_schema

    def step(context: ExecutionContext, ledger: Ledger, some: Sequence[Owned]) -> list[bool]:
        return [drop(context, ledger, one) for one in some]

    with pool.take(context) as conn, translated(context, name, writing=True):
        _check_place(context, conn, owned)
        retrying = locks.patience(context)
        try:
            return retrying(_attempt, context, pool, conn, [owned], step)[0]
        except pg.DependentObjectsStillExist as error:
            raise WriteRefused(
                f"{name} is not dropped: {said(error)}",
                "drop what depends on it yourself, then run again",
                target=name,
            ) from error


def drop_targets(context: ExecutionContext, owned: Sequence[Owned]) -> tuple[bool, ...]:
    """Carry out the hook of the same name: one transaction, which waits for nobody for long."""
    pool, place = pool_of(context), connection_of(context).place
    with pool.take(context) as conn, translated(context, place, writing=True):
        for one in owned:
            _check_place(context, conn, one)
        try:
            return tuple(_attempt(context, pool, conn, owned, _drop_tables))
        except (pg.DependentObjectsStillExist, *locks.BUSY) as error:
            raise WriteRefused(
                f"{len(owned)} tables are not dropped together: {said(error)}",
                "drop them one by one",
                target=place,
            ) from error


def _drop_tables(context: ExecutionContext, ledger: Ledger, owned: Sequence[Owned]) -> list[bool]:
    """Drop the links by one statement, then lock all tables by one try, and drop them."""
    names = [one.name for one in owned]
    linked = list(links.find(ledger, names, context.project))
    if linked:
        links.drop(ledger, linked)
    ours = [name for name in names if name not in linked and _is_ours(context, ledger, name)]
    try:
        locks.lock_all(ledger.conn, dict.fromkeys(ours, locks.EVERYBODY))
    except pg.UndefinedTable as error:
        raise _Moved from error
    rest = {one.name: _drop_table(context, ledger, one) for one in owned if one.name not in linked}
    return [rest.get(name, True) for name in names]


def _check_place(context: ExecutionContext, conn: Conn, owned: Owned) -> None:
    if not owned.identity:
        return
    here = f"{store_identity(context, conn)}/{owned.name}"
    conn.rollback()
    if here != owned.identity:
        raise WriteRefused(
            f"{owned.name} was listed on another server or database than this one",
            "list the environment's objects again",
            target=str(owned.name),
        )


def _attempt(
    context: ExecutionContext,
    pool: Pool,
    conn: Conn,
    owned: Sequence[Owned],
    step: Callable[[ExecutionContext, Ledger, Sequence[Owned]], list[bool]],
) -> list[bool]:
    """Drop things, and with the last one the ledger, in one transaction."""
    ledger = Ledger.of(context, conn)
    while True:
        context.cancellation.check()
        try:
            with conn.transaction():
                settle(conn)
                if not ledger.exists():
                    return [False] * len(owned)
                there = step(context, ledger, owned)
                gone = _end_ledger(context, ledger)
        except _Moved:
            continue
        break
    # Whoever writes later in this command looks again.
    pool.done -= {f"schema {one.name.parts[0]}" for one in owned}
    if gone:
        pool.done.discard(ledger.schema)
    return there


def _drop_table(context: ExecutionContext, ledger: Ledger, owned: Owned) -> bool:
    conn, name = ledger.conn, owned.name
    if links.find(ledger, [name], context.project):
        links.drop(ledger, [name])
        return True
    there = _is_ours(context, ledger, name)
    if there:
        try:
            locks.lock(context, conn, name, locks.EVERYBODY)
        except pg.UndefinedTable as error:
            raise _Moved from error
        if not _is_ours(context, ledger, name, lock=True):
            raise _Moved
        oid = find_oid(conn, name)
        with links.aside(context, conn, [oid] if oid is not None else []):
            conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(identifier(name)))
    for table in ("appended", "targets"):
        conn.execute(
            ledger._sql(
                f"DELETE FROM {{schema}}.{table} WHERE schema_name = %s AND table_name = %s"
            ),
            list(name.parts),
        )
    return there


def _is_ours(
    context: ExecutionContext, ledger: Ledger, name: QualifiedName, *, lock: bool = False
) -> bool:
    """Tell whether a table of ours is there; False where none is.

    Raises:
        WriteRefused: one is there that is not, or no more, this environment's own.
    """
    oid = find_oid(ledger.conn, name)
    record = ledger.find(*name.parts, lock=lock)
    whose = ""
    if record is not None:
        owner = record.owner
        if (owner.project, owner.environment) != (context.project, context.environment.name):
            whose = refusals.whose(owner)
        elif record.oid == oid and not record.created_by_us:
            whose = "was adopted, not made, by this environment"
    if oid is None and not whose:
        return False
    if not whose and (record is None or record.oid != oid):
        whose = "was not made by this project and environment"
    if whose:
        raise refusals.stays(name, whose)
    return True


def _drop_schema(context: ExecutionContext, ledger: Ledger, owned: Owned) -> bool:
    (schema,) = owned.name.parts
    if schema == ledger.schema:
        return _drop_listed_ledger(context, ledger, owned)
    there = schema_exists(ledger.conn, schema)
    row = ledger.conn.execute(
        ledger._sql(
            "SELECT s.project, n.oid IS NOT NULL FROM {schema}.schemas s"
            " LEFT JOIN pg_catalog.pg_namespace n ON n.oid = s.schema_oid AND n.nspname = s.name"
            " WHERE s.name = %s FOR UPDATE OF s"
        ),
        [schema],
    ).fetchone()
    ours = row is not None and row[0] == context.project
    if there:
        if row is None or not ours or not row[1]:
            raise refusals.stays(
                owned.name, "is a schema that was not made by this project and environment"
            )
        ledger.conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(schema)))
    if ours:
        ledger.conn.execute(ledger._sql("DELETE FROM {schema}.schemas WHERE name = %s"), [schema])
    return there


def _drop_listed_ledger(context: ExecutionContext, ledger: Ledger, owned: Owned) -> bool:
    """Drop the ledger where it was listed itself: something keeps it, or nothing is in it."""
    for what in (_tables(context, ledger), _schemas(context, ledger)):
        if what:
            raise WriteRefused(
                f"schema {owned.name} still records {_some(what)}",
                "drop what it records first",
                target=str(owned.name),
            )
    if _others(context, ledger):
        raise WriteRefused(
            f"schema {owned.name} records what another project made",
            "delete that project's environment too",
            target=str(owned.name),
        )
    foreign = _foreign_in_ledger(ledger)
    if foreign:
        raise WriteRefused(
            f"schema {owned.name} holds what is not Seeknal's: {_some(foreign)}",
            "move or drop it yourself, then run again",
            target=str(owned.name),
        )
    # `_end_ledger`, which follows in the same transaction, does the rest.
    return True


def _some(found: Sequence[object]) -> str:
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(str(each) for each in found[:5]) + more


def _end_ledger(context: ExecutionContext, ledger: Ledger) -> bool:
    """Drop the ledger if nothing that this project made here is left; tell whether it went.

    The records of adopted tables, and of tables that somebody else dropped, go too.
    Another project's records keep the ledger; what else stands in its schema keeps that.
    """
    if _tables(context, ledger) or _schemas(context, ledger):
        return False
    if not _others(context, ledger):
        # Nobody may write a record between the look and the end.
        _lock_ledger(context, ledger)
        if not _others(context, ledger):
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
    """Drop the ledger where it records nothing and holds nothing; tell whether it went.

    Does not wait for anybody: who uses the ledger keeps it. Whoever is about to write
    into it makes it again, or keeps it: who made a table in it, in a transaction that
    is still open, holds its schema.
    """
    if _recorded(ledger) or _leftovers(ledger) or _foreign_in_ledger(ledger):
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
        # Whoever writes next looks again.
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
    if _foreign_in_ledger(ledger):
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
        # What a table owns goes with it: the sequences of its columns.
        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend o WHERE o.classid = d.classid"
        " AND o.objid = d.objid AND o.refclassid = 'pg_catalog.pg_class'::regclass"
        " AND o.deptype IN ('a', 'i'))"
        " ORDER BY 1",
        [ledger.schema],
    ).fetchall()


def _leftovers(ledger: Ledger) -> list[str]:
    return [table for _, table in _held(ledger) if table and table.startswith(LEFTOVERS)]


def _foreign_in_ledger(ledger: Ledger) -> list[str]:
    known = {*TABLES, *_leftovers(ledger)}
    return [described for described, table in _held(ledger) if table not in known]
