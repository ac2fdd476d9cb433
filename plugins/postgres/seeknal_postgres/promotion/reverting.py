"""Undoing a publish, and deleting what was kept for it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import LiteralString

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import StaleStage, WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Batch, ExecutionContext, QualifiedName, Target
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import said, translated
from seeknal_postgres.connection.fate import transaction
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.settings import refuse_hidden, settle, users_own
from seeknal_postgres.ledger import aside, ending
from seeknal_postgres.ledger.attached import refuse_attached, unlike
from seeknal_postgres.ledger.places import Places, claim, drop, portions
from seeknal_postgres.ledger.promotions import PUBLISHED, REVERTED, Book
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import Table, describe_all, identifier
from seeknal_postgres.ledger.versions import versions_of
from seeknal_postgres.promotion.batches import key_of, lock, patiently, tables_of
from seeknal_postgres.promotion.staging import durable
from seeknal_postgres.promotion.undo import Kind, Restore, Undo
from seeknal_postgres.write.references import by_reference, refuse_orphans

#: Publishes that may have changed existing rows.
_CHANGED = (Kind.WHOLE, Kind.KEYED, Kind.INTERVAL, Kind.ADDED)


@attrs.frozen(kw_only=True)
class _Undoing:
    """One undoing within its transaction: plans and tables by target key."""

    context: ExecutionContext
    batch: Batch
    overwrite: bool
    conn: Conn
    ledger: Ledger
    book: Book
    plans: Mapping[str, Undo]
    tables: Mapping[str, Table]

    def targets(self, *kinds: Kind) -> list[Target]:
        """Return the targets whose plan is of one of the kinds."""
        return [target for target in self.batch.targets if self.plans[target.key].kind in kinds]


def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Implement the hook of the same name."""
    pool, place = pool_of(context), connection_of(context).place
    pool.let_go(key_of(context, batch))
    with pool.take(context) as conn, translated(context, place, writing=True):

        def attempt() -> bool:
            with transaction(context, conn, place):
                return _revert(context, conn, batch, overwrite)

        undone = patiently(context, conn, tables_of(context, conn, batch), attempt)
    # Anybody who writes later in this command looks again.
    for target in batch.targets:
        pool.done.discard(f"schema {target.name.parts[0]}")
    return undone


def _revert(context: ExecutionContext, conn: Conn, batch: Batch, overwrite: bool) -> bool:
    settle(conn)
    durable(conn)
    ledger = Ledger.of(context, conn)
    if not ledger.complete():
        return False  # nothing was ever staged here
    book = Book(context=context, ledger=ledger, promotion=batch.promotion)
    if book.bar() or book.state() == REVERTED:
        return False
    kept = book.kept()
    if any(target.key not in kept for target in batch.targets):
        raise refusals.past_undoing(connection_of(context).place, batch.promotion)
    plans = {target.key: Undo.of(kept[target.key]) for target in batch.targets}
    work = _Undoing(
        context=context,
        batch=batch,
        overwrite=overwrite,
        conn=conn,
        ledger=ledger,
        book=book,
        plans=plans,
        tables=_locked(conn, batch, plans),
    )
    _refuse_moved(work)
    with aside.aside(context, conn, _linked(work)):
        _restore(work)
        with users_own(conn):
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        _drop_created(work)
    _restore_records(work)
    book.mark_reverted()
    context.cancellation.check()
    return True


def _linked(work: _Undoing) -> list[int]:
    """Return the tables whose links would be in the way: what goes, or loses columns."""
    return [
        table.oid
        for key, table in work.tables.items()
        if (plan := work.plans[key]).kind is Kind.CREATED or plan.added or plan.widened
    ]


def _locked(conn: Conn, batch: Batch, plans: Mapping[str, Undo]) -> dict[str, Table]:
    """Lock the tables that are there, and return them as they are under the lock."""
    wanted = [target.name for target in batch.targets]
    there = describe_all(conn, wanted)
    modes: dict[QualifiedName, LiteralString] = {}
    for target in batch.targets:
        plan = plans[target.key]
        if target.name in there:
            strong = plan.kind is Kind.CREATED or plan.added or plan.widened
            modes[target.name] = locks.EVERYBODY if strong else locks.WRITERS
    lock(conn, modes, "published")
    there = describe_all(conn, wanted)
    refuse_hidden(conn, {name: table.oid for name, table in there.items()})
    return {target.key: there[target.name] for target in batch.targets if target.name in there}


def _refuse_moved(work: _Undoing) -> None:
    """Refuse what somebody wrote, dropped, or created again since it was published."""
    given = {key: result.version for key, result in work.book.results().items()}
    now = versions_of(work.conn, {table.name: table.oid for table in work.tables.values()})
    problems = []
    for target in work.batch.targets:
        found = now[target.name][1] if target.name in now else None
        if found != given[target.key]:
            then = given[target.key]
            problems.append(refusals.moved(target.name, "published", then, found))
    if problems and not work.overwrite:
        raise StaleStage(
            "; ".join(problem.message for problem in problems),
            problems[0].hint,
            target=problems[0].target,
        )
    for target in work.batch.targets:
        table, plan = work.tables.get(target.key), work.plans[target.key]
        if table is None and plan.kind is Kind.CREATED:
            continue
        if table is None or table.oid != plan.oid:
            how = "dropped and made anew" if table is not None else "dropped"
            raise WriteRefused(
                f"{target.name} was {how} by somebody else since it was published, and cannot "
                "be brought back",
                "keep what is there, or bring the table back yourself",
                target=str(target.name),
            )


def _restore(work: _Undoing) -> None:
    """Restore columns and rows: tables that point at others are emptied first and filled last."""
    conn = work.conn
    for target in work.targets(*_CHANGED):
        refuse_attached(target, work.tables[target.key])
    restores = {
        target.key: Restore(
            context=work.context,
            conn=conn,
            target=target,
            places=Places.of(work.context, work.ledger.schema, work.batch.promotion, target.key),
            undo=work.plans[target.key],
            table=work.tables[target.key],
        )
        for target in work.targets(*_CHANGED)
    }
    for restore in restores.values():
        restore.alter()
    ours = {table.oid for table in work.tables.values()}
    order = by_reference({key: work.tables[key] for key in restores})
    for key in order:
        restore = restores[key]
        doomed = restore.doomed()
        if doomed is not None and not work.overwrite:
            refuse_orphans(conn, restore.target, restore.table, doomed, ours)
        restore.remove()
    for key in reversed(order):
        restores[key].fill()


def _drop_created(work: _Undoing) -> None:
    """Drop the tables that the publish made, and the schemas that it made for them."""
    created = [t for t in work.targets(Kind.CREATED) if t.key in work.tables]
    if created:
        listed = sql.SQL(", ").join(identifier(target.name) for target in created)
        try:
            work.conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(listed))
        except pg.DependentObjectsStillExist as error:
            names = ", ".join(str(target.name) for target in created)
            raise WriteRefused(
                f"{names} cannot be dropped again: {said(error)}",
                "drop what depends on it yourself, then run again",
                target=names,
            ) from error
    made = [t.name.parts[0] for t in work.targets(Kind.CREATED) if work.plans[t.key].schema_made]
    for schema in sorted(set(made)):
        _drop_schema(work, schema)


def _drop_schema(work: _Undoing, schema: str) -> None:
    conn, ledger = work.conn, work.ledger
    ours = conn.execute(
        ledger._sql(
            "SELECT 1 FROM {schema}.schemas s JOIN pg_catalog.pg_namespace n"
            " ON n.oid = s.schema_oid AND n.nspname = s.name WHERE s.name = %s"
        ),
        [schema],
    ).fetchone()
    if ours is not None:
        try:
            with conn.transaction():
                conn.execute(sql.SQL("DROP SCHEMA {} RESTRICT").format(sql.Identifier(schema)))
        except pg.DependentObjectsStillExist:
            return  # somebody uses it; it stays recorded as ours
    conn.execute(ledger._sql("DELETE FROM {schema}.schemas WHERE name = %s"), [schema])


def _restore_records(work: _Undoing) -> None:
    kept = work.targets(*_CHANGED)
    now = versions_of(work.conn, {t.name: work.plans[t.key].oid for t in kept})
    for target in kept if not work.overwrite else ():
        # Rows that somebody wrote in the meantime are restored only if they were in the way.
        before = int((work.plans[target.key].base or "::").split(":")[1])
        if now[target.name][0] != before:
            raise unlike(target, work.tables[target.key], "", before, now[target.name][0])
    work.book.restore_records([(t, work.plans[t.key].base or "", now[t.name][1]) for t in kept])


def _drop_left(context: ExecutionContext, conn: Conn, ledger: Ledger, batch: Batch) -> None:
    """Drop the columns that left their nodes with this publish, now that nothing undoes it.

    Columns that somebody has written since stay, and so do columns that something depends on.
    """
    book = Book(context=context, ledger=ledger, promotion=batch.promotion)
    kept = book.kept()
    leaving = {
        target.key: Undo.of(kept[target.key])
        for target in batch.targets
        if target.key in kept and kept[target.key].get("dropping")
    }
    if not leaving or book.state() != PUBLISHED:
        return
    tables = describe_all(conn, [target.name for target in batch.targets])
    for target in batch.targets:
        table, plan = tables.get(target.name), leaving.get(target.key)
        if table is None or plan is None or table.oid != plan.oid:
            continue
        for name in sorted({*plan.dropping} & ledger.ours(table.oid)):
            with (
                contextlib.suppress(pg.DependentObjectsStillExist, WriteRefused, *locks.BUSY),
                conn.transaction(),
                aside.aside(context, conn, [table.oid]),
            ):
                _drop_empty(conn, table, name)


def _drop_empty(conn: Conn, table: Table, name: str) -> None:
    relation, column = identifier(table.name), sql.Identifier(name)
    conn.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(relation))
    row = conn.execute(
        sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)").format(relation, column)
    ).fetchone()
    if row is not None and not row[0]:
        conn.execute(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(relation, column))


def discard(context: ExecutionContext, batch: Batch) -> None:
    """Implement the hook of the same name."""
    pool, place = pool_of(context), connection_of(context).place
    pool.let_go(key_of(context, batch))
    with pool.take(context) as conn, translated(context, place, writing=True):
        ledger = Ledger.of(context, conn)

        places = [
            Places.of(context, ledger.schema, batch.promotion, target.key)
            for target in batch.targets
        ]

        def attempt() -> bool:
            # Some tables at a time: each holds several of the server's locks.
            for some in portions(places):
                with conn.transaction():
                    settle(conn)
                    if not ledger.complete():
                        return False  # nothing was ever staged here
                    claim(conn, some)
                    drop(conn, [name for each in some for name in each.all])
            with conn.transaction():
                settle(conn)
                if not ledger.complete():
                    return False
                _drop_left(context, conn, ledger, batch)
                Book(context=context, ledger=ledger, promotion=batch.promotion).forget()
                return ending.end_if_empty(ledger)

        if patiently(context, conn, tables_of(context, conn, batch), attempt):
            pool.done.discard(ledger.schema)
