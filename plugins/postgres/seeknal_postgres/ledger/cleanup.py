"""Drops what an environment created: its tables, its schemas, and last its ledger.

What counts as made is what the ledger says *and* the server's catalogs still
confirm by oid: a table that was adopted, renamed, or dropped and created again by
somebody is left alone. Nothing is dropped with CASCADE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, Owned, OwnedKind, QualifiedName
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import said, translated
from seeknal_postgres.connection.pool import Conn, Pool, connection_of, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import aside, links
from seeknal_postgres.ledger.ending import (
    end_ledger,
    foreign_in,
    has_others,
    schemas_made,
    tables_made,
)
from seeknal_postgres.ledger.making import schema_exists
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import find_oid, identifier, store_identity
from seeknal_postgres.names import quote


class _Moved(Exception):
    """The table was dropped, or created again, between the look and the lock."""


def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """Implement the hook of the same name.

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
            for name in tables_made(context, ledger)
        ]
        schemas = schemas_made(context, ledger)
        if not tables and not schemas and not has_others(context, ledger):
            schemas = [ledger.schema]
        return (*tables, *(Owned(kind=OwnedKind.NAMESPACE, name=_name(each)) for each in schemas))


def _name(schema: str) -> QualifiedName:
    return QualifiedName(parts=(schema,), quoted=quote(schema))


def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Implement the hook of the same name: one transaction, tried again where it is locked out."""
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
    """Implement the hook of the same name: one transaction, which waits for nobody for long."""
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
                gone = end_ledger(context, ledger)
        except _Moved:
            continue
        break
    # A later write of this command checks again.
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
        with aside.aside(context, conn, [oid] if oid is not None else []):
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
    """Return whether a table of ours is there; False if none is.

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
            why = "was not made by this project and environment"
            raise refusals.stays(owned.name, why, kind="schema")
        ledger.conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(schema)))
    if ours:
        ledger.conn.execute(ledger._sql("DELETE FROM {schema}.schemas WHERE name = %s"), [schema])
    return there


def _drop_listed_ledger(context: ExecutionContext, ledger: Ledger, owned: Owned) -> bool:
    """Drop the ledger where it was listed itself: something keeps it, or nothing is in it."""
    for what in (tables_made(context, ledger), schemas_made(context, ledger)):
        if what:
            raise WriteRefused(
                f"schema {owned.name} still records {refusals.listed(what)}",
                "drop what it records first",
                target=str(owned.name),
            )
    if has_others(context, ledger):
        raise WriteRefused(
            f"schema {owned.name} records what another project made",
            "delete that project's environment too",
            target=str(owned.name),
        )
    foreign = foreign_in(ledger)
    if foreign:
        raise WriteRefused(
            f"schema {owned.name} holds what is not Seeknal's: {refusals.listed(foreign)}",
            "move or drop it yourself, then run again",
            target=str(owned.name),
        )
    # `_end_ledger`, which follows in the same transaction, does the rest.
    return True
