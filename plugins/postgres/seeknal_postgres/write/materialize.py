"""Making a table hold a snapshot, by the target's mode, in one transaction.

Readers at every isolation level see the rows from before or those from after.
Nothing of what hangs on a table is dropped: rows are deleted, updated and
inserted, never truncated.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import tenacity
from psycopg import errors as pg

from seeknal_core.contract import rules
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext, Mode, Snapshot, Target, WriteResult
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.fate import transaction
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.settings import refuse_hidden, settle, users_own
from seeknal_postgres.ledger import cleanup, links, records
from seeknal_postgres.ledger.marks import marks_of
from seeknal_postgres.ledger.records import Claim, Ledger, Record, Written
from seeknal_postgres.ledger.tables import (
    Table,
    count,
    describe,
    fresh_version,
    identifier,
    missing,
    version_of,
)
from seeknal_postgres.types.columns import Column, columns_of
from seeknal_postgres.write.checks import check_keys
from seeknal_postgres.write.copy import copy_in
from seeknal_postgres.write.evolve import Change, apply_change, direct, plan_change, refuse_fixed
from seeknal_postgres.write.modes.rows import Rows
from seeknal_postgres.write.retype import refuse_in_the_way
from seeknal_postgres.write.times import check_new_times
from seeknal_postgres.write.transit import analyze, copy_statement, replace, rewrite, stage


class _Moved(Exception):
    """Somebody made or changed the table while the rows were on their way."""


@attrs.frozen(kw_only=True)
class Write:
    """One write under way, within its transaction."""

    context: ExecutionContext
    conn: Conn
    target: Target
    snapshot: Snapshot
    columns: tuple[Column, ...]
    ledger: Ledger

    @property
    def mode(self) -> Mode:
        """The mode in force: a full refresh replaces all rows."""
        return Mode.FULL if self.context.full_refresh else self.target.mode


#: How often a write begins again where the schema that it made is taken away under it.
_AGAIN = 5


def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Carry out the hook of the same name."""
    columns = columns_of(snapshot.schema, str(target.name))
    rules.check_named_columns(target, [column.name for column in columns])
    pool = pool_of(context)
    with pool.take(context) as conn, translated(context, str(target.name), writing=True):
        book = records.ensure(context, pool, conn, target)
        write = Write(
            context=context,
            conn=conn,
            target=target,
            snapshot=snapshot,
            columns=columns,
            ledger=book,
        )
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((*locks.BUSY, _Moved)),
            stop=tenacity.stop_after_delay(connection_of(context).lock_wait),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.5),
            reraise=True,
        )
        try:
            for left in reversed(range(_AGAIN)):
                try:
                    return retrying(_attempt, write)
                except (pg.UndefinedTable, pg.InvalidSchemaName):
                    if not left:
                        raise
                    # Somebody took back what they had made for a write that was refused.
                    pool.done -= {book.schema, f"schema {target.name.parts[0]}"}
                    records.ensure(context, pool, conn, target)
            raise AssertionError("unreachable")
        except WriteRefused:
            cleanup.take_back(pool, conn, book, target)
            raise
        except _Moved as error:
            raise WriteRefused(
                f"{target.name} keeps being changed by somebody else",
                "run again",
                target=str(target.name),
            ) from error


def _attempt(write: Write) -> WriteResult:
    write.context.cancellation.check()
    with transaction(write.context, write.conn, str(write.target.name)):
        settle(write.conn)
        rights = links.make_way(write.context, write.ledger, [write.target.name]).get(
            write.target.name
        )
        table = describe(write.conn, write.target.name)
        if table is None:
            result = _create(write)
            if rights is not None:
                links.give(write.conn, write.target.name, rights)
            return result
        record = write.ledger.find(*write.target.name.parts)
        check_owner(write.context, record, write.target, table)
        return _change(write, table)


def check_owner(
    context: ExecutionContext, record: Record | None, target: Target, table: Table
) -> None:
    """Refuse a table that is not this project's and environment's, unless it is adopted.

    Args:
        record: what the ledger says of the target's name.

    Raises:
        WriteRefused: saying whose it is.
    """
    owner = record.owner if record is not None and record.oid == table.oid else None
    rules.check_owner(context, target, owner)


def _create(write: Write) -> WriteResult:
    conn, target, columns = write.conn, write.target, write.columns
    try:
        stage(write.context, conn, target, write.snapshot, columns, into=identifier(target.name))
    except (pg.DuplicateTable, pg.UniqueViolation) as error:
        raise _Moved from error
    if target.unique_keys:
        check_keys(conn, target, identifier(target.name), target.unique_keys)
    if write.mode is Mode.INCREMENTAL_BY_TIME:
        check_new_times(conn, target, identifier(target.name), columns)
    table = describe(conn, target.name)
    assert table is not None
    if target.mode in (Mode.APPEND, Mode.FULL):
        write.ledger.forget_appends([target])
        _claim(write, table)
    return _finish(
        write,
        table,
        created=True,
        rows_written=write.snapshot.row_count,
        columns=tuple(column.name for column in columns),
    )


def _change(write: Write, table: Table) -> WriteResult:
    conn, target = write.conn, write.target
    names = [column.name for column in write.columns]
    change = plan_change(
        target,
        table,
        write.columns,
        write.snapshot,
        write.mode,
        lambda: write.ledger.ours(table.oid),
    )
    refuse_fixed(target, table, change)
    rows = Rows.of(target, table, names, write.mode, left=change.left)
    if change.types or change.drop:
        refuse_in_the_way(write.context, conn, target, table, change)
    notes = change.notes(table, write.mode, keyed=rows.key is not None)
    straight = is_straight(rows, change, write.columns)
    if straight:
        rows = attrs.evolve(rows, count=write.snapshot.row_count)
    else:
        staged = stage(
            write.context,
            conn,
            target,
            write.snapshot,
            write.columns,
            table,
            change,
            analyzed=False,
        )
        rows = attrs.evolve(rows, count=staged)
        if not rows.is_looked_up(conn):
            analyze(conn, rows.source, rows.key or ())
        rows.check(conn, write.columns)
    _lock(write, table, change)
    notes += rows.check_days(conn, write.columns)
    if write.mode is Mode.APPEND:
        claimed = _claim(write, table)
        if not claimed:
            return _finish(write, table, created=False, rows_written=0)
    watched = rows.is_watched and write.mode is not Mode.FULL
    before = count(conn, target.name) if watched else None
    replaced = bool(change.retype) and write.mode is Mode.FULL
    with links.aside(write.context, conn, [table.oid] if change.moves_links else []):
        if replaced:
            replace(write.context, conn, target, table, change, rows.source, names)
        elif change:
            if change.rewrites or change.retype:
                rewrite(write.context, conn, target, table, change)
            else:
                apply_change(conn, target, change)
    if straight:
        if write.mode is Mode.FULL:
            rows.delete_all(conn)
        into = copy_statement(identifier(target.name), write.columns)
        with conn.cursor() as cursor, users_own(conn):
            copy_in(write.context, cursor, into, write.columns, write.snapshot, str(target.name))
        rows.tally.inserted += write.snapshot.row_count
    elif not replaced:
        rows.apply(conn)
    if write.mode is Mode.FULL:
        write.ledger.forget_appends([target])
        _claim(write, table)
    made = tuple(name for name, _ in change.add)
    done = _finish(write, table, created=False, rows_written=write.snapshot.row_count, columns=made)
    rows.check_after(done.rows_after, before)
    return attrs.evolve(done, notes=tuple(notes))


def is_straight(rows: Rows, change: Change, columns: Sequence[Column]) -> bool:
    """Whether the snapshot's rows may be copied straight into the table, unstaged."""
    return (
        rows.key is None
        and not change
        # COPY sets off no rules.
        and not any(each.kind == "rule" for each in rows.table.reactions)
        and rows.mode in (Mode.FULL, Mode.APPEND)
        and all(direct(column, rows.table.column(column.name)) for column in columns)
    )


def _lock(write: Write, table: Table, change: Change) -> None:
    """Lock the table, and see that it is still the one that the rows were staged for."""
    if change:
        mode = locks.EVERYBODY
    else:
        # What triggers do to added rows is counted, and nobody else may add some meanwhile.
        free = write.mode is Mode.APPEND and not table.reactions
        mode = locks.NOBODY if free else locks.WRITERS
    locks.lock(write.context, write.conn, write.target.name, mode)
    if describe(write.conn, write.target.name) != table:
        raise _Moved
    refuse_hidden(write.conn, {table.name: table.oid})


def _claim(write: Write, table: Table) -> bool:
    snapshot = write.snapshot
    claim = Claim(
        target=write.target,
        content_key=snapshot.content_key,
        rows=snapshot.row_count,
        oid=table.oid,
    )
    claimed = bool(write.ledger.claim_appends(write.context, [claim]))
    # An older version may have added them, under the key that it had for them.
    former = snapshot.former_keys
    return claimed and not (former and write.ledger.appended(write.target, former, table.oid))


def _finish(
    write: Write,
    table: Table,
    *,
    created: bool,
    rows_written: int,
    columns: tuple[str, ...] = (),
) -> WriteResult:
    # What a deferred constraint would say at the commit, it says now.
    with users_own(write.conn):
        write.conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    if created:
        # Nobody else has been at a table that nobody else has seen yet.
        rows, version = rows_written, fresh_version(write.conn, table.oid, rows_written)
    else:
        rows, version = version_of(write.conn, write.target.name, table.oid)
    written = Written(
        target=write.target,
        content_key=write.snapshot.content_key,
        oid=table.oid,
        rows=rows,
        created=created,
        version=version,
        columns=columns,
    )
    write.ledger.record_writes(write.context, [written])
    mark = marks_of(write.conn, {write.target.name: table.oid}, writing=True)
    write.context.cancellation.check()
    return WriteResult(
        rows_written=rows_written,
        rows_after=rows,
        version=version,
        created=created,
        mark=mark.get(write.target.name, ""),
    )


def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Carry out the hook of the same name: the ledger's entry changes, the table doesn't."""
    pool = pool_of(context)
    with pool.take(context) as conn, translated(context, str(target.name), writing=True):
        book = records.ensure(context, pool, conn, target)
        with conn.transaction():
            settle(conn)
            table = describe(conn, target.name)
            if table is None:
                raise missing(target.name)
            locks.lock(context, conn, target.name, locks.WRITERS)
            mark = marks_of(conn, {target.name: table.oid}).get(target.name, "")
            rows, version = version_of(conn, target.name, table.oid)
            written = Written(
                target=target,
                content_key=content_key,
                oid=table.oid,
                rows=rows,
                created=False,
                version=version,
            )
            book.record_writes(context, [written])
            book.keep_appends(target, table.oid)
    return WriteResult(rows_written=0, rows_after=rows, version=version, mark=mark)
