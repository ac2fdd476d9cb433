"""Changes a column's type by casting its values, and finds what prevents it."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Target
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger import aside
from seeknal_postgres.ledger.tables import Table, identifier
from seeknal_postgres.types.pgtypes import PgType
from seeknal_postgres.write.evolve import Change, type_sql

# Whatever depends on a column. Its indexes, statistics and own default, and the constraints of
# the table over it change along (foreign keys only to a wider type); the rest the server
# refuses to follow.
_DEPENDENTS: LiteralString = """
SELECT DISTINCT a.attname::text, pg_describe_object(o.classid, o.objid, 0)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_depend d ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
  AND d.refclassid = 'pg_catalog.pg_class'::regclass
LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass
  AND r.oid = d.objid
LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::regclass
  AND f.oid = d.objid
LEFT JOIN pg_catalog.pg_constraint k ON d.classid = 'pg_catalog.pg_constraint'::regclass
  AND k.oid = d.objid
CROSS JOIN LATERAL (SELECT
  CASE WHEN r.oid IS NOT NULL THEN 'pg_catalog.pg_class'::regclass::oid ELSE d.classid END,
  coalesce(r.ev_class, d.objid)) AS o(classid, objid)
WHERE a.attrelid = %s AND a.attname = ANY(%s)
  AND (r.oid IS NULL OR r.ev_class <> a.attrelid OR r.rulename <> '_RETURN')
  AND (r.oid IS NULL OR r.ev_class <> ALL(%s::oid[]))
  AND NOT (f.oid IS NOT NULL AND f.adnum = a.attnum)
  AND NOT (k.oid IS NOT NULL AND (k.contype = 'n' OR (k.contype <> 'f' AND %s) OR %s))
  AND NOT (d.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_statistic_ext'::regclass)
           AND %s)
  AND d.deptype IN ('n', 'a')
ORDER BY 1, 2
"""


def refuse_in_the_way(
    context: ExecutionContext, conn: Conn, target: Target, table: Table, change: Change
) -> None:
    """Refuse a change of a type, or the end of a column, that something of others depends on.

    Links of ours are not in the way: they are moved aside.

    Raises:
        WriteRefused: naming the column and what is in the way.
    """
    retyped, dropped = [name for name, _ in change.retype], list(change.drop)
    widened = [name for name, _ in change.widen]
    ours = aside.movable(context, conn, table.oid) if retyped or dropped or widened else []
    typed = ("cannot change its type", "drop what uses it, write, and make it anew")
    for names, follows, keys, what, hint in (
        (retyped, True, False, *typed),
        (widened, True, True, *typed),
        (
            dropped,
            False,
            False,
            "left the node and cannot be dropped",
            "drop what uses it first, or set on_schema_change: evolve",
        ),
    ):
        if not names:
            continue
        found = conn.execute(
            _DEPENDENTS, [table.oid, names, ours, follows, keys, follows]
        ).fetchall()
        if found:
            users = "; ".join(f"column {name!r} {what}: {user} uses it" for name, user in found)
            raise WriteRefused(f"{target.name}: {users}", hint, target=str(target.name))
    if change.retype:
        _try_on_a_copy(conn, target, table, change)


def _try_on_a_copy(conn: Conn, target: Target, table: Table, change: Change) -> None:
    """Test on an empty copy whether the server can convert indexes, defaults and constraints.

    Raises:
        WriteRefused: with what the server said.
    """
    copy = sql.Identifier("pg_temp", "_seeknal_trial")
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(
                sql.SQL(
                    "CREATE TEMP TABLE _seeknal_trial (LIKE {} INCLUDING DEFAULTS"
                    " INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING GENERATED)"
                ).format(identifier(table.name))
            )
            for name, kind in change.retype:
                conn.execute(
                    sql.SQL("ALTER TABLE {0} ALTER COLUMN {1} TYPE {2} USING NULL::{2}").format(
                        copy, sql.Identifier(name), type_sql(kind)
                    )
                )
    except pg.InsufficientPrivilege:
        return  # The role may make no temporary tables: the change itself will tell.
    except pg.Error as error:
        listed = ", ".join(f"{name!r} to {kind}" for name, kind in change.retype)
        raise WriteRefused(
            f"{target.name}: column {listed} cannot change its type: {said(error)}",
            "drop the default, index or constraint, write, and make it anew",
            target=str(target.name),
        ) from error


def refuse_unfit(conn: Conn, target: Target, table: Table, change: Change) -> None:
    """Refuse to cast values of rows that stay where one would become another value.

    Raises:
        WriteRefused: naming the column and the first such value.
    """
    for name, kind in change.retype:
        old = table.column(name)
        assert old is not None
        try:
            with conn.transaction():
                row: Any = conn.execute(_unfit(table, name, old.type, kind)).fetchone()
        except pg.Error as error:
            raise _refused(target, name, old.declared, kind, said(error)) from error
        if row is not None:
            raise _refused(target, name, old.declared, kind, f"{row[0]} would become {row[1]}")


def _unfit(table: Table, name: str, old: PgType, kind: PgType) -> sql.Composed:
    column = sql.Identifier(name)
    return sql.SQL(
        "SELECT {0}::text, CAST({0} AS {1})::text FROM {2}"
        " WHERE CAST(CAST({0} AS {1}) AS {3})::text IS DISTINCT FROM {0}::text LIMIT 1"
    ).format(column, type_sql(kind), identifier(table.name), type_sql(old))


def _refused(target: Target, name: str, old: str, kind: PgType, why: str) -> WriteRefused:
    return WriteRefused(
        f"{target.name}: column {name!r} is {kind} here and {old} there, and the rows that stay "
        f"cannot be cast: {why}",
        "cast it in the SQL, or replace all rows: seeknal run --full-refresh",
        target=str(target.name),
    )
