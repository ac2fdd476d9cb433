"""Writing a snapshot beside its target, unseen, for a promotion to publish.

Whatever can be refused is refused here: first the target is looked at and the
server asked, by EXPLAIN, whether it would let us; then the rows are written into a
table of the ledger's schema. Nothing but the stage table is held meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract import rules
from seeknal_core.contract.errors import NamespaceRefused, WriteRefused
from seeknal_core.contract.types import ExecutionContext, Mode, Snapshot, Staged, Target
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, Pool, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import records
from seeknal_postgres.ledger.attached import refuse_attached
from seeknal_postgres.ledger.places import Places, claim, drop
from seeknal_postgres.ledger.promotions import PUBLISHED, Book
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import Table, describe, identifier, names, version_of
from seeknal_postgres.names import quote
from seeknal_postgres.promotion import undo
from seeknal_postgres.promotion.batches import patiently
from seeknal_postgres.source import sums
from seeknal_postgres.types.columns import Column, columns_of
from seeknal_postgres.write.checks import check_keys
from seeknal_postgres.write.evolve import Change, plan_change, refuse_fixed, schema_data
from seeknal_postgres.write.materialize import check_owner
from seeknal_postgres.write.modes.rows import Rows
from seeknal_postgres.write.retype import refuse_in_the_way, refuse_unfit
from seeknal_postgres.write.times import check_new_times
from seeknal_postgres.write.transit import make_empty, refuse_move
from seeknal_postgres.write.transit import stage as put


@attrs.frozen(kw_only=True)
class Work:
    """One staging under way.

    ``schema_notes`` and ``notes`` take what the user should hear of columns, and of rows,
    ``undo`` whether the tables that will undo the publish were made.
    """

    context: ExecutionContext
    conn: Conn
    target: Target
    snapshot: Snapshot
    columns: tuple[Column, ...]
    ledger: Ledger
    places: Places
    promotion: str
    notes: list[str] = attrs.field(factory=list)
    schema_notes: list[str] = attrs.field(factory=list)
    undo: list[bool] = attrs.field(factory=list)

    @property
    def mode(self) -> Mode:
        """The mode in force: a full refresh replaces all rows."""
        return Mode.FULL if self.context.full_refresh else self.target.mode

    @property
    def names(self) -> list[str]:
        """The snapshot's columns."""
        return [column.name for column in self.columns]


@attrs.frozen(kw_only=True)
class Found:
    """What stands where the target will be, and what a publish will do to it.

    ``known`` tells that the rows were appended before.
    """

    table: Table | None = None
    version: str | None = None
    change: Change = Change()
    known: bool = False


def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Carry out the hook of the same name."""
    columns = columns_of(snapshot.schema, str(target.name))
    rules.check_named_columns(target, [column.name for column in columns])
    pool = pool_of(context)
    with pool.take(context) as conn, translated(context, str(target.name), writing=True):
        try:
            work = _begun(context, pool, conn, target, snapshot, columns, promotion)
            return _staged(work, promotion)
        except (pg.InvalidSchemaName, pg.UndefinedTable):
            # Somebody ended an empty ledger between our look and our table.
            pool.done.discard(Ledger.of(context, conn).schema)
            work = _begun(context, pool, conn, target, snapshot, columns, promotion)
            return _staged(work, promotion)


def _begun(
    context: ExecutionContext,
    pool: Pool,
    conn: Conn,
    target: Target,
    snapshot: Snapshot,
    columns: tuple[Column, ...],
    promotion: str,
) -> Work:
    ledger = records.ensure_ledger(context, pool, conn)
    return Work(
        context=context,
        conn=conn,
        target=target,
        snapshot=snapshot,
        columns=columns,
        ledger=ledger,
        places=Places.of(context, ledger.schema, promotion, target.key),
        promotion=promotion,
    )


def _staged(work: Work, promotion: str) -> Staged:
    tables = [work.target.name, work.places.stage]
    found = patiently(work.context, work.conn, tables, lambda: _look(work))
    sent = sums.sent_columns(work.columns, found.table)
    rows = patiently(work.context, work.conn, tables, lambda: _write(work, found, sent))
    data: dict[str, object] = {
        "table": str(work.places.stage),
        "mode": work.mode.value,
        "shape": shape_of(found.table),
        "rewrites": list(found.change.rewrites),
        "known": found.known,
        **schema_data(found.change),
        "sent": dict(sent),
        "undo": bool(work.undo),
        "read": sums.read_types(work.columns, found.table),
    }
    return Staged(
        promotion=promotion,
        base=found.version,
        rows=rows,
        data=data,
        notes=(*work.schema_notes, *work.notes),
    )


def shape_of(table: Table | None) -> str:
    """Return a digest of all that the plan for a table was made upon."""
    return hashlib.sha256(repr(table).encode()).hexdigest()[:32] if table else ""


def _look(work: Work) -> Found:
    """Look at the target and refuse what would be refused later; hold no lock afterwards."""
    work.context.cancellation.check()
    conn, target = work.conn, work.target
    with conn.transaction(force_rollback=True):
        settle(conn)
        table = describe(conn, target.name)
        if table is None:
            refuse_no_room(work.conn, target)
            return Found()
        check_owner(work.context, work.ledger.find(*target.name.parts), target, table)
        change = plan_change(
            target,
            table,
            work.columns,
            work.snapshot,
            work.mode,
            lambda: work.ledger.ours(table.oid),
        )
        refuse_attached(target, table)
        refuse_fixed(target, table, change)
        rows = Rows.of(target, table, work.names, work.mode, left=(*change.left, *change.drop))
        work.schema_notes[:] = change.notes(
            table, work.mode, keyed=rows.key is not None, later=True
        )
        if change:
            _refuse_change(work, table, change)
        refuse_rights(conn, planned(work.names, table, rows))
        known = work.mode is Mode.APPEND and work.ledger.appended(
            target, work.snapshot.keys, table.oid
        )
        version = version_of(conn, target.name, table.oid)[1]
        return Found(table=table, version=version, change=change, known=known)


def refuse_no_room(conn: Conn, target: Target) -> None:
    """Refuse where the role may not make the table, or the schema for it.

    Raises:
        NamespaceRefused, WriteRefused: saying which right is missing.
    """
    schema = target.name.parts[0]
    row: Any = conn.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), current_user,"
        " (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace"
        "  WHERE nspname = %s)",
        [schema],
    ).fetchone()
    database, user, there = row
    if there or (there is None and database):
        return
    if there is None:
        raise NamespaceRefused(
            f"schema {quote(schema)} is missing and the role may not create schemas",
            f"let its owner run: CREATE SCHEMA {quote(schema)} AUTHORIZATION {quote(user)}",
            target=schema,
        )
    raise WriteRefused(
        f"{target.name}: the role may not create tables in schema {quote(schema)}",
        f"let its owner run: GRANT CREATE ON SCHEMA {quote(schema)} TO {quote(user)}",
        target=str(target.name),
    )


def _refuse_change(work: Work, table: Table, change: Change) -> None:
    """Refuse a change of columns that could not be made, or not be undone."""
    conn, name = work.conn, work.target.name
    owner: Any = conn.execute(
        "SELECT pg_has_role(relowner, 'USAGE'), relowner::regrole::text"
        " FROM pg_catalog.pg_class WHERE oid = %s",
        [table.oid],
    ).fetchone()
    if not owner[0]:
        columns = ", ".join(repr(column) for column, _ in (*change.add, *change.types.items()))
        raise WriteRefused(
            f"{name}: must be owner of the table to change its columns ({columns})",
            f"write as its owner, {owner[1]}, or change the columns yourself",
            target=str(name),
        )
    if change.types or change.drop:
        refuse_in_the_way(work.context, conn, work.target, table, change)
    if work.mode is not Mode.FULL:
        refuse_unfit(conn, work.target, table, change)
    if not change.types:
        return
    # Any type that is given back is a rewrite, whatever the widening was.
    refuse_move(work.target, table, change)


def refuse_rights(conn: Conn, statements: Sequence[sql.Composable]) -> None:
    """Let the server plan what publishing and undoing will do, which checks all rights.

    EXPLAIN sets off no trigger, and refuses like the statement itself: privileges,
    row-level security, a missing replica identity.

    Args:
        statements: what `planned` gave.
    """
    try:
        with conn.transaction():
            # A plan wants the lock of its statement. Somebody who keeps it is dealt with
            # when the rows are published, and so is what this would have told.
            first = sql.SQL("SELECT set_config('lock_timeout', '300', true)")
            conn.execute(sql.SQL("; ").join([first, *statements]))
    except pg.LockNotAvailable:
        return
    settle(conn)


def planned(given: Sequence[str], table: Table, rows: Rows) -> list[sql.Composable]:
    """Return the statements that publishing and undoing will need the rights for."""
    into = identifier(table.name)
    there = [name for name in given if table.column(name) is not None]
    statements: list[sql.Composable] = [sql.SQL("EXPLAIN DELETE FROM {}").format(into)]
    if there:
        statements.append(
            sql.SQL(
                "EXPLAIN INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {1} FROM {0}"
            ).format(into, names(there))
        )
    values = [name for name in there if name in rows.values()]
    if rows.key is not None and values:
        pairs = [sql.SQL("{0} = {0}").format(sql.Identifier(name)) for name in values]
        statements.append(
            sql.SQL("EXPLAIN UPDATE {} SET {}").format(into, sql.SQL(", ").join(pairs))
        )
    return statements


def _write(work: Work, found: Found, sent: Mapping[str, str]) -> int:
    """Make the stage table anew and fill it."""
    work.context.cancellation.check()
    work.notes.clear()
    work.undo.clear()
    conn, places = work.conn, work.places
    with conn.transaction():
        settle(conn)
        durable(conn)
        claim(conn, [places])
        book = Book(context=work.context, ledger=work.ledger, promotion=work.promotion)
        published = book.state() == PUBLISHED
        # A staging that died may have left some. What undoes a publish is kept.
        drop(conn, [places.stage] if published else places.all)
        if found.known:
            assert found.table is not None
            there = [name for name in work.names if found.table.column(name) is not None]
            make_empty(conn, places.rows, there, found.table)
            return 0
        rows = put(
            work.context, conn, work.target, work.snapshot, work.columns,
            found.table, found.change, into=places.rows, sent=sent,
        )  # fmt: skip
        close(conn, [places])
        if found.table is not None and work.mode is not Mode.APPEND and not published:
            script = Script(conn)
            rows_to = Rows.of(work.target, found.table, work.names, work.mode, places.rows)
            undo.make(script, places, rows_to)
            script.flush()
            work.undo.append(True)
        work.notes.extend(_check(work, found))
        work.context.cancellation.check()
        return rows


def _check(work: Work, found: Found) -> tuple[str, ...]:
    target, columns = work.target, work.columns
    if found.table is not None:
        rows = Rows.of(target, found.table, work.names, work.mode, work.places.rows)
        rows.check(work.conn, columns)
        return rows.check_days(work.conn, columns)
    if target.unique_keys:
        check_keys(work.conn, target, work.places.rows, target.unique_keys)
    if work.mode is Mode.INCREMENTAL_BY_TIME:
        check_new_times(work.conn, target, work.places.rows, columns)
    return ()


def durable(conn: Conn) -> None:
    """Let this transaction's commit wait for the disk, whatever the role's settings are."""
    conn.execute(
        "SELECT set_config('synchronous_commit', 'on', true)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


def close(conn: Conn, places: Sequence[Places]) -> None:
    """Take from everybody what the role's default privileges may have given."""
    row: Any = conn.execute(
        "SELECT bool_or(relacl IS NOT NULL) FROM pg_catalog.pg_class"
        " WHERE oid = ANY(%s::regclass[])",
        [[str(place.stage) for place in places]],
    ).fetchone()
    if row[0]:
        stages = sql.SQL(", ").join(place.rows for place in places)
        conn.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(stages))
