"""Writes snapshots beside their targets, where no reader sees them, for a promotion to publish.

Everything that can be refused is refused here. First all targets are inspected, and the server is
asked by EXPLAIN whether it would let us; no lock is held afterwards. Then the rows are written
into tables of the ledger's schema, in one transaction. One target is a batch of one, and waits
for who holds its table; several try once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import NamespaceRefused, WriteRefused
from seeknal_core.contract.types import ExecutionContext, Snapshot, Staged, Target
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, Pool, connection_of, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import making
from seeknal_postgres.ledger.attached import refuse_attached
from seeknal_postgres.ledger.places import Places, claim, drop
from seeknal_postgres.ledger.promotions import PUBLISHED, Book
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.ledger.tables import Table, identifier, names
from seeknal_postgres.ledger.versions import versions_of
from seeknal_postgres.names import quote
from seeknal_postgres.promotion import undo
from seeknal_postgres.promotion.batches import patiently
from seeknal_postgres.source.sums import read_types, sent_columns
from seeknal_postgres.write.items import Item, check_new, items_of, look
from seeknal_postgres.write.moving import refuse_move
from seeknal_postgres.write.retype import refuse_in_the_way, refuse_unfit
from seeknal_postgres.write.rows import Rows
from seeknal_postgres.write.transit import Arrival, make_empty, put

R = TypeVar("R")

#: Milliseconds to wait for a table's lock while others are held. Anybody who keeps it is
#: waited for when the targets are staged one by one.
_LOCK_WAIT = 200


@attrs.frozen(kw_only=True)
class _Staging:
    """One staging under way."""

    context: ExecutionContext
    conn: Conn
    ledger: Ledger
    promotion: str
    targets: Sequence[Target]

    def places(self, target: Target) -> Places:
        """Return where the rows of a target go."""
        return Places.of(self.context, self.ledger.schema, self.promotion, target.key)

    def tried(self, step: Callable[[], R]) -> R:
        """Carry out a transaction: a single target's again and again while others are at it."""
        if len(self.targets) > 1:
            return step()
        (target,) = self.targets
        tables = [target.name, self.places(target).stage]
        return patiently(self.context, self.conn, tables, step)

    def settle(self) -> None:
        """Begin a transaction of ours."""
        if len(self.targets) > 1:
            settle(self.conn, _LOCK_WAIT)
        else:
            settle(self.conn)


@attrs.frozen(kw_only=True)
class _Found:
    """An item as it was found.

    ``version`` is the table's, ``known`` tells that its rows were appended before, and
    ``sent`` names the further columns of the stage table, by column.
    """

    item: Item
    places: Places
    version: str | None = None
    known: bool = False

    @property
    def sent(self) -> dict[str, str]:
        """The further columns of the stage table that keep values as they were sent."""
        return sent_columns(self.item.columns, self.item.table)

    @property
    def rows(self) -> Rows | None:
        """The staged rows and their table; None if the target is to be made."""
        if self.item.rows is None:
            return None
        return attrs.evolve(self.item.rows, source=self.places.rows)


def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Implement the hook of the same name: a batch of one."""
    return stage_targets(context, (target,), (snapshot,), promotion)[0]


def stage_targets(
    context: ExecutionContext,
    targets: Sequence[Target],
    snapshots: Sequence[Snapshot],
    promotion: str,
) -> tuple[Staged, ...]:
    """Implement the hook of the same name."""
    pool = pool_of(context)
    items = items_of(context, targets, snapshots)
    what = str(targets[0].name) if len(targets) == 1 else connection_of(context).place
    with pool.take(context) as conn, translated(context, what, writing=True):
        try:
            return _staged(_begun(context, pool, conn, targets, promotion), items)
        except (pg.InvalidSchemaName, pg.UndefinedTable):
            # Somebody ended an empty ledger between our look and our table.
            pool.done.discard(Ledger.of(context, conn).schema)
            return _staged(_begun(context, pool, conn, targets, promotion), items)


def _begun(
    context: ExecutionContext, pool: Pool, conn: Conn, targets: Sequence[Target], promotion: str
) -> _Staging:
    ledger = making.ensure_ledger(context, pool, conn)
    return _Staging(context=context, conn=conn, ledger=ledger, promotion=promotion, targets=targets)


def _staged(work: _Staging, items: Sequence[Item]) -> tuple[Staged, ...]:
    found = work.tried(lambda: _look(work, items))
    return work.tried(lambda: _write(work, found))


def shape_of(table: Table | None) -> str:
    """Return a digest of all that the plan for a table was made upon."""
    return hashlib.sha256(repr(table).encode()).hexdigest()[:32] if table else ""


def _look(work: _Staging, items: Sequence[Item]) -> list[_Found]:
    """Inspect the targets and refuse what would be refused later; hold no lock afterwards."""
    work.context.cancellation.check()
    conn = work.conn
    with conn.transaction(force_rollback=True):
        work.settle()
        seen = look(work.context, work.ledger, items, later=True)
        new = {i.target.name.parts[0]: i.target for i in seen if i.table is None}
        for target in new.values():
            refuse_no_room(conn, target)
        statements: list[sql.Composable] = []
        for item in seen:
            if item.table is None or item.rows is None:
                continue
            refuse_attached(item.target, item.table)
            if item.change:
                _refuse_change(work, item, item.table)
            statements += _planned(item.names, item.table, item.rows)
        if statements:
            _refuse_rights(conn, statements)
            work.settle()
        oids = {item.target.name: item.table.oid for item in seen if item.table is not None}
        versions = versions_of(conn, oids)
        return [
            _Found(
                item=item,
                places=work.places(item.target),
                version=versions[item.target.name][1] if item.table is not None else None,
                known=_is_known(work, item),
            )
            for item in seen
        ]


def _is_known(work: _Staging, item: Item) -> bool:
    return (
        item.mode.adds
        and item.table is not None
        and work.ledger.appended(item.target, item.arriving.keys, item.table.oid)
    )


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


def _refuse_change(work: _Staging, item: Item, table: Table) -> None:
    """Refuse a change of columns that could not be made, or not be undone."""
    conn, target, change = work.conn, item.target, item.change
    owner: Any = conn.execute(
        "SELECT pg_has_role(relowner, 'USAGE'), relowner::regrole::text"
        " FROM pg_catalog.pg_class WHERE oid = %s",
        [table.oid],
    ).fetchone()
    if not owner[0]:
        columns = ", ".join(repr(column) for column, _ in (*change.add, *change.types.items()))
        raise WriteRefused(
            f"{target.name}: must be owner of the table to change its columns ({columns})",
            f"write as its owner, {owner[1]}, or change the columns yourself",
            target=str(target.name),
        )
    if change.types or change.drop:
        refuse_in_the_way(work.context, conn, target, table, change)
    if not item.mode.replaces:
        refuse_unfit(conn, target, table, change)
    if change.types:
        # Any type that is given back is a rewrite, independent of the widening.
        refuse_move(target, table, change)


def _refuse_rights(conn: Conn, statements: Sequence[sql.Composable]) -> None:
    """Check all rights for publishing and undoing: the server plans their statements.

    EXPLAIN fires no trigger, and is refused like the statement itself: privileges,
    row-level security, a missing replica identity.

    Args:
        statements: what `_planned` gave.
    """
    try:
        with conn.transaction():
            # A plan wants the lock of its statement. Somebody who keeps it is dealt with
            # when the rows are published, and so is what this would have told.
            first = sql.SQL("SELECT set_config('lock_timeout', '300', true)")
            conn.execute(sql.SQL("; ").join([first, *statements]))
    except pg.LockNotAvailable:
        return


def _planned(given: Sequence[str], table: Table, rows: Rows) -> list[sql.Composable]:
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


def _write(work: _Staging, found: Sequence[_Found]) -> tuple[Staged, ...]:
    """Make the stage tables again and fill them."""
    work.context.cancellation.check()
    conn = work.conn
    with conn.transaction():
        work.settle()
        durable(conn)
        claim(conn, [one.places for one in found])
        book = Book(context=work.context, ledger=work.ledger, promotion=work.promotion)
        published = book.state() == PUBLISHED
        # A staging that died may have left some. What undoes a publish is kept.
        drop(
            conn,
            [
                name
                for one in found
                for name in ([one.places.stage] if published else one.places.all)
            ],
        )
        counts = _put(work, found)
        close(conn, [one.places for one in found])
        undone = [] if published else _make_undo(conn, found)
        notes = [_checked(conn, one) for one in found]
        work.context.cancellation.check()
    return tuple(
        Staged(
            promotion=work.promotion,
            base=one.version,
            rows=count,
            data=_data(one, undo_made=one.item.target.key in undone).document(),
            notes=(*one.item.notes(later=True), *more),
        )
        for one, count, more in zip(found, counts, notes, strict=True)
    )


def _put(work: _Staging, found: Sequence[_Found]) -> list[int]:
    """Fill the stage tables; return how many rows each has, none where they are known."""
    arriving = [one for one in found if not one.known]
    for one in found:
        table = one.item.table
        if one.known and table is not None:
            there = [name for name in one.item.names if table.column(name) is not None]
            make_empty(work.conn, one.places.rows, there, table)
    counts = put(
        work.context,
        work.conn,
        [Arrival(item=one.item, into=one.places.rows, sent=one.sent) for one in arriving],
    )
    by_key = {one.item.target.key: n for one, n in zip(arriving, counts, strict=True)}
    return [by_key.get(one.item.target.key, 0) for one in found]


def _make_undo(conn: Conn, found: Sequence[_Found]) -> set[str]:
    """Make the tables that will undo the publish; return the keys of the targets that have some."""
    script, made = Script(conn), set()
    for one in found:
        rows = one.rows
        if rows is not None and not one.item.mode.adds:
            undo.make(script, one.places, rows)
            made.add(one.item.target.key)
    script.flush()
    return made


def _checked(conn: Conn, one: _Found) -> tuple[str, ...]:
    """Check the staged rows; return what the user should hear of rows that are kept."""
    if one.known:
        return ()
    if one.rows is None:
        check_new(conn, one.item, one.places.rows)
        return ()
    one.rows.check(conn, one.item.columns)
    return one.rows.check_kept(conn, one.item.columns)


def _data(one: _Found, *, undo_made: bool) -> StageData:
    item, change = one.item, one.item.change
    return StageData(
        table=str(one.places.stage),
        mode=item.mode.mode,
        shape=shape_of(item.table),
        rewrites=change.rewrites,
        retype=tuple(name for name, _ in change.retype),
        # Columns are dropped once the promotion can no longer be undone.
        left=(*change.left, *change.drop),
        drop=change.drop,
        sent=one.sent,
        known=one.known,
        undo=undo_made,
        changes=bool(change),
        read=read_types(item.columns, item.table),
    )


def durable(conn: Conn) -> None:
    """Make this transaction's commit wait for the disk, independent of the role's settings."""
    conn.execute(
        "SELECT set_config('synchronous_commit', 'on', true)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


def close(conn: Conn, places: Sequence[Places]) -> None:
    """Revoke what the role's default privileges may have granted to others."""
    row: Any = conn.execute(
        "SELECT bool_or(relacl IS NOT NULL) FROM pg_catalog.pg_class"
        " WHERE oid = ANY(%s::regclass[])",
        [[str(place.stage) for place in places]],
    ).fetchone()
    if row[0]:
        stages = sql.SQL(", ").join(place.rows for place in places)
        conn.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(stages))
