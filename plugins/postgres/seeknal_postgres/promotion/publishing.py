"""Making a batch visible: one transaction, which may be held open before its commit."""

from __future__ import annotations

import contextlib

import attrs
import psycopg
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import StaleStage
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Published,
    PublishedTarget,
    QualifiedName,
)
from seeknal_postgres.connection import fate, locks
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import refuse_hidden, settle, users_own
from seeknal_postgres.ledger.making import make_schema
from seeknal_postgres.ledger.marks import oids_of
from seeknal_postgres.ledger.places import Places, drop, portions
from seeknal_postgres.ledger.promotions import Book
from seeknal_postgres.ledger.records import Claim, Ledger, Written
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.ledger.tables import Table, identifier
from seeknal_postgres.ledger.versions import versions_of
from seeknal_postgres.promotion import room, undo
from seeknal_postgres.promotion.applying import apply
from seeknal_postgres.promotion.batches import (
    PUBLISH_WAIT,
    Part,
    key_of,
    lock,
    parts_of,
    patiently,
    tables_of,
)
from seeknal_postgres.promotion.staging import durable, shape_of
from seeknal_postgres.promotion.undo import Kind, Undo
from seeknal_postgres.write.planning import by_index
from seeknal_postgres.write.rows import Rows


@attrs.frozen(kw_only=True)
class _Publish:
    """One publish within its transaction."""

    context: ExecutionContext
    batch: Batch
    conn: Conn
    ledger: Ledger
    book: Book


def prepare_publish(context: ExecutionContext, batch: Batch) -> bool:
    """Implement the hook of the same name."""
    pool, key = pool_of(context), key_of(context, batch)
    held = pool.held(key)
    if held is not None:
        if _is_open(held):
            return True
        pool.let_go(key)
    conn = pool.hold(context, key)
    try:
        with translated(context, connection_of(context).place, writing=True):
            tables = tables_of(context, conn, batch)
            try:
                open = patiently(
                    context, conn, tables, lambda: _prepare(context, conn, batch), PUBLISH_WAIT
                )
            except pg.OutOfMemory as error:
                raise room.no_room(conn, batch.targets) from error
    except BaseException:
        pool.let_go(key)
        raise
    if not open:
        pool.let_go(key)
    return open


def _is_open(conn: Conn) -> bool:
    """Whether a held transaction still waits for its commit."""
    try:
        conn.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Implement the hook of the same name."""
    pool, key = pool_of(context), key_of(context, batch)
    if pool.held(key) is None and not prepare_publish(context, batch):
        with pool.take(context) as conn, translated(context, connection_of(context).place):
            settle(conn)
            book = Book(context=context, ledger=Ledger.of(context, conn), promotion=batch.promotion)
            found = _published(batch, book)
            conn.rollback()
            # Whoever published may have died between the commit and this.
            _drop_stages(context, conn, batch)
            return found
    held = pool.held(key)
    assert held is not None
    try:
        # Whether a commit without an answer happened, the next call's INSERT tells.
        with translated(context, connection_of(context).place):
            book = Book(context=context, ledger=Ledger.of(context, held), promotion=batch.promotion)
            found = _published(batch, book)
            _commit(context, held)
        _drop_stages(context, held, batch)
    finally:
        pool.let_go(key)
    return found


def _commit(context: ExecutionContext, held: Conn) -> None:
    xid = fate.number(held)
    try:
        held.commit()
    except psycopg.OperationalError:
        if not held.closed or not fate.is_finished(
            context, xid, connection_of(context).place, fate.pid_of(held)
        ):
            raise


def _drop_stages(context: ExecutionContext, conn: Conn, batch: Batch) -> None:
    """Drop what was staged, some tables at a time.

    In the publish itself each would hold several locks until its end, and the server has
    room for some thousands. What stays, `discard` drops.
    """
    schema = Ledger.of(context, conn).schema
    places = [Places.of(context, schema, batch.promotion, t.key).stage for t in batch.targets]
    with contextlib.suppress(psycopg.Error):
        for some in portions(places):
            with conn.transaction():
                settle(conn)
                drop(conn, some)


def _published(batch: Batch, book: Book) -> Published:
    results = book.results()
    return Published(targets=tuple(results[target.key] for target in batch.targets))


def _prepare(context: ExecutionContext, conn: Conn, batch: Batch) -> bool:
    """Do everything except the commit. The transaction is open afterwards."""
    settle(conn)
    durable(conn)
    _keep_open(conn)
    ledger = Ledger.of(context, conn)
    if not ledger.complete():
        raise refusals.stage_is_gone(connection_of(context).place, batch.promotion)
    book = Book(context=context, ledger=ledger, promotion=batch.promotion)
    if not book.publish(batch.generation):
        return False
    work = _Publish(context=context, batch=batch, conn=conn, ledger=ledger, book=book)
    parts, before = _locked(work)
    rows = {
        part.target.key: _rows(conn, part, part.table) for part in parts if part.table is not None
    }
    plans = _keep_undo(work, parts, rows)
    apply(context, conn, parts, _compared(conn, parts, rows, plans))
    # Deferred constraints are checked now instead of at the commit.
    with users_own(conn):
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    after = _record(work, parts)
    for part in parts:
        if part.table is not None and not part.known:
            name = part.target.name
            rows[part.target.key].check_after(after[name], before[name])
    _keep_keys(conn, parts, plans)
    context.cancellation.check()
    return True


def _keep_open(conn: Conn) -> None:
    """Allow the transaction to wait for other stores, independent of the role's limits."""
    conn.execute(
        "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings"
        " WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')"
    )


def _locked(work: _Publish) -> tuple[list[Part], dict[QualifiedName, int]]:
    """Lock the tables and see that each is as it was staged upon.

    Returns:
        The targets, and how many rows each table has.
    """
    conn, batch = work.conn, work.batch
    changing = _changing(work)
    lock(
        conn,
        {
            name: locks.EVERYBODY if name in changing else locks.WRITERS
            for name in oids_of(conn, [target.name for target in batch.targets])
        },
        "staged",
    )
    parts = parts_of(work.context, work.ledger, batch)
    there = {part.target.name: part.table.oid for part in parts if part.table is not None}
    refuse_hidden(conn, there)
    versions = versions_of(conn, there)
    for part in parts:
        staged, found = part.target.staged, versions.get(part.target.name)
        if staged is None or part.staged is None:
            raise refusals.stage_is_gone(part.target.name, batch.promotion)
        now = found[1] if found is not None else None
        if now != staged.base:
            raise refusals.moved(part.target.name, "staged", staged.base, now)
        if shape_of(part.table) != part.data.shape:
            raise StaleStage(
                f"{part.target.name}: its columns, keys, foreign keys, triggers or rules were "
                f"changed since it was staged (its rows were not: version {now})",
                "promote again",
                target=str(part.target.name),
            )
    return parts, {name: rows for name, (rows, _) in versions.items()}


def _changing(work: _Publish) -> set[QualifiedName]:
    """Return the targets whose columns change, so that nobody else may read them meanwhile."""
    data = {target.name: StageData.of(target) for target in work.batch.targets}
    if all(one.changes is not None for one in data.values()):
        return {name for name, one in data.items() if one.changes}
    # An older version's journal does not say so.
    parts = parts_of(work.context, work.ledger, work.batch)
    return {part.target.name for part in parts if part.change}


def _rows(conn: Conn, part: Part, table: Table) -> Rows:
    rows = Rows.of(part.target, table, part.columns, part.mode, part.places.rows, part.change.left)
    assert part.target.staged is not None
    return attrs.evolve(rows, count=part.target.staged.rows).decided(conn)


def _compared(
    conn: Conn, parts: list[Part], rows: dict[str, Rows], plans: dict[str, Undo]
) -> dict[str, Rows]:
    """Use the undo data to find the rows that differ, if that is enough."""
    found = dict(rows)
    # These may lose rows on the way, by a deletion in a table that they point at.
    pointing = {key.oid for each in rows.values() for key in each.table.referenced_by if key.acts}
    for part in parts:
        key = part.target.key
        if plans[key].kind is not Kind.KEYED or part.change or rows[key].table.oid in pointing:
            continue
        if rows[key].is_looked_up(conn):
            continue
        if part.mode.merges or not rows[key].lacks_keys(conn):
            places = identifier(part.places.undo), identifier(part.places.keys)
            found[key] = attrs.evolve(rows[key], differences=places)
    return found


def _keep_undo(work: _Publish, parts: list[Part], rows: dict[str, Rows]) -> dict[str, Undo]:
    plans: list[tuple[Part, Undo]] = []
    script = Script(work.conn)
    missing = _missing_schemas(work.conn, parts)
    made: set[str] = set()
    for part in parts:
        staged = part.target.staged
        assert staged is not None
        assert part.staged is not None
        if part.table is None:
            schema = part.target.name.parts[0]
            if schema in missing - made and make_schema(work.context, work.ledger, schema):
                made.add(schema)
            found = Undo(kind=Kind.CREATED, oid=part.staged.oid, schema_made=schema in made)
        elif part.known:
            found = Undo(kind=Kind.NOTHING, oid=part.table.oid, base=staged.base)
        else:
            found = _captured(work.conn, script, part, rows[part.target.key], staged.base)
        plans.append((part, found))
    script.flush()
    work.book.keep([(part.target, found.document()) for part, found in plans])
    return {part.target.key: found for part, found in plans}


def _captured(conn: Conn, script: Script, part: Part, rows: Rows, base: str | None) -> Undo:
    made = bool(part.data.undo)
    if not rows.is_looked_up(conn):
        return undo.capture(
            conn, script, part.places, rows, part.change, base, part.data.drop, made=made
        )
    script.flush()
    with by_index(conn):
        found = undo.capture(
            conn, script, part.places, rows, part.change, base, part.data.drop, made=made
        )
        script.flush()
    return found


def _missing_schemas(conn: Conn, parts: list[Part]) -> set[str]:
    wanted = {part.target.name.parts[0] for part in parts if part.table is None}
    rows = conn.execute(
        "SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s)", [list(wanted)]
    )
    return wanted - {row[0] for row in rows}


def _keep_keys(conn: Conn, parts: list[Part], plans: dict[str, Undo]) -> None:
    """Keep the keys of added rows, which undoing asks for, of what was staged."""
    for part in parts:
        plan = plans[part.target.key]
        if plan.kind is Kind.ADDED and plan.key:
            conn.execute(
                sql.SQL("ALTER TABLE {} RENAME TO {}").format(
                    part.places.rows, sql.Identifier(part.places.keys.parts[1])
                )
            )


def _record(work: _Publish, parts: list[Part]) -> dict[QualifiedName, int]:
    """Record who wrote what, and what each target is from now on; return its rows."""
    oids: dict[QualifiedName, int] = {}
    for part in parts:
        table = part.table or part.staged
        assert table is not None
        oids[part.target.name] = table.oid
    versions = versions_of(work.conn, oids)
    replaced, claims, written, results = [], [], [], []
    for part in parts:
        target, oid = part.target, oids[part.target.name]
        rows, version = versions[target.name]
        created = part.table is None
        results.append(
            PublishedTarget(key=target.key, version=version, rows_after=rows, created=created)
        )
        staged = target.staged
        assert staged is not None
        content_key = work.batch.content_keys[target.key]
        if not part.known:
            if part.mode.replaces or created:
                replaced.append(target)
            if part.mode.remembers:
                claims.append(
                    Claim(target=target, content_key=content_key, rows=staged.rows, oid=oid)
                )
        written.append(
            Written(
                target=target,
                content_key=content_key,
                oid=oid,
                rows=rows,
                created=created,
                version=version,
                columns=part.columns if created else tuple(name for name, _ in part.change.add),
            )
        )
    work.ledger.forget_appends(replaced)
    work.ledger.claim_appends(work.context, claims)
    work.ledger.record_writes(work.context, written)
    work.book.save_results(results)
    return {name: rows for name, (rows, _) in versions.items()}
