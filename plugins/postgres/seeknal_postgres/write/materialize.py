"""Make tables hold their snapshots, by the targets' modes, in one transaction.

Readers at every isolation level see the rows from before or those from after. Nothing of
what depends on a table is dropped: rows are deleted, updated and inserted, never truncated.

There is one path, for one target as for many (`_attempt`): look at what is there, then write.
A small table costs its round trips and its commit, not its rows; so all that the server is
asked, locks or notes is so for all targets by one statement of each kind, and only the rows
travel table by table.

The slow lane (`_change`) is for a table whose rows cannot be copied straight into it: they are
compared by a key, its columns change, a rule has to see them. Such a target is looked at with
the others, and then written in a transaction of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import tenacity
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import (
    ExecutionContext,
    QualifiedName,
    Snapshot,
    Target,
    WriteResult,
)
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.fate import transaction
from seeknal_postgres.connection.pool import Conn, Pool, connection_of, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import refuse_hidden, settle, users_own
from seeknal_postgres.ledger import aside, ending, links, making
from seeknal_postgres.ledger.marks import marks_of
from seeknal_postgres.ledger.records import Claim, Ledger, Written
from seeknal_postgres.ledger.tables import Table, describe_all, identifier
from seeknal_postgres.ledger.versions import counts_of, fresh_versions, versions_of
from seeknal_postgres.write.evolve import apply_change
from seeknal_postgres.write.items import Item, check_new, items_of, look
from seeknal_postgres.write.moving import replace, rewrite
from seeknal_postgres.write.retype import refuse_in_the_way
from seeknal_postgres.write.rows import Tally
from seeknal_postgres.write.transit import Arrival, analyze, copy_rows, put

#: How often a write begins again where the schema that it made is taken away under it.
_AGAIN = 5
#: Milliseconds to wait for a table's lock while others are held. Anybody who keeps it is
#: waited for when the targets are written one by one.
_LOCK_WAIT = 200


class _Moved(Exception):
    """Somebody created or changed a table while the rows were being sent."""


@attrs.frozen(kw_only=True)
class _Write:
    """One write under way. ``alone`` says that it is one target's, which waits for its lock."""

    context: ExecutionContext
    pool: Pool
    conn: Conn
    ledger: Ledger
    alone: bool


@attrs.frozen(kw_only=True)
class _Done:
    """The outcome of one item's rows: ``oid`` is its table's, ``written`` how many arrived."""

    item: Item
    oid: int
    written: int
    created: bool = False
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    before: int | None = None
    repeated: bool = False


def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Implement the hook of the same name: a write of one."""
    return materialize_targets(context, (target,), (snapshot,))[0]


def materialize_targets(
    context: ExecutionContext, targets: Sequence[Target], snapshots: Sequence[Snapshot]
) -> tuple[WriteResult, ...]:
    """Implement the hook of the same name.

    Several targets try once, together; those that need the slow lane then go one by one.
    """
    items = items_of(context, targets, snapshots)
    done: dict[str, WriteResult] = {}
    if len(items) > 1:
        place = connection_of(context).place
        with pool_of(context).take(context) as conn, translated(context, place, writing=True):
            done |= _together(context, conn, items)
    for item in items:
        name = str(item.target.name)
        if item.target.key not in done:
            with pool_of(context).take(context) as conn, translated(context, name, writing=True):
                done |= _alone(context, conn, item)
    return tuple(done[item.target.key] for item in items)


def _together(
    context: ExecutionContext, conn: Conn, items: Sequence[Item]
) -> dict[str, WriteResult]:
    pool = pool_of(context)
    for item in items:
        ledger = making.ensure(context, pool, conn, item.target)
    write = _Write(context=context, pool=pool, conn=conn, ledger=ledger, alone=False)
    try:
        return _attempt(write, items)
    except _Moved as error:
        raise WriteRefused(
            f"tables in {connection_of(context).place} are being changed by somebody else",
            "run again",
        ) from error


def _alone(context: ExecutionContext, conn: Conn, item: Item) -> dict[str, WriteResult]:
    """Write one target, as often as it takes while others are at its table."""
    pool, target = pool_of(context), item.target
    ledger = making.ensure(context, pool, conn, target)
    write = _Write(context=context, pool=pool, conn=conn, ledger=ledger, alone=True)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type((*locks.BUSY, _Moved)),
        stop=tenacity.stop_after_delay(connection_of(context).lock_wait),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.5),
        reraise=True,
    )
    try:
        for left in reversed(range(_AGAIN)):
            try:
                return retrying(_attempt, write, [item])
            except (pg.UndefinedTable, pg.InvalidSchemaName):
                if not left:
                    raise
                # Another session dropped the schema that it had created for a refused write.
                pool.done -= {ledger.schema, f"schema {target.name.parts[0]}"}
                making.ensure(context, pool, conn, target)
        raise AssertionError("unreachable")
    except WriteRefused:
        ending.take_back(pool, conn, ledger, target)
        raise
    except _Moved as error:
        raise WriteRefused(
            f"{target.name} keeps being changed by somebody else",
            "run again",
            target=str(target.name),
        ) from error


def _attempt(write: _Write, items: Sequence[Item]) -> dict[str, WriteResult]:
    """Inspect all targets and write those that can be written now; return results by target key."""
    context, conn = write.context, write.conn
    context.cancellation.check()
    what = str(items[0].target.name) if write.alone else connection_of(context).place
    with transaction(context, conn, what):
        settle(conn) if write.alone else settle(conn, _LOCK_WAIT)
        items = _replaceable(write, items)
        rights = links.make_way(context, write.ledger, [item.target.name for item in items])
        found = look(context, write.ledger, items)
        straight = [item for item in found if item.is_straight or _is_new(write, item)]
        done = _write_straight(write, straight) if straight else []
        if write.alone:
            done += [_change(write, item) for item in found if item not in straight]
        results = _finish(write, done) if done else {}
        for item in straight:
            if item.target.name in rights:
                links.give(conn, item.target.name, rights[item.target.name])
        return results


def _replaceable(write: _Write, items: Sequence[Item]) -> Sequence[Item]:
    """Leave out targets that are links and would not be written now: their links stay."""
    if write.alone or all(item.fits for item in items):
        return items
    names = [item.target.name for item in items]
    linked = links.find(write.ledger, names, write.context.project)
    return [item for item in items if item.fits or item.target.name not in linked]


def _is_new(write: _Write, item: Item) -> bool:
    """Whether a table is to be made for rows that are cast first; such take time, and go alone."""
    return write.alone and item.table is None


def _write_straight(write: _Write, items: Sequence[Item]) -> list[_Done]:
    """Write rows that need nothing but to be copied, into new tables and into old ones."""
    new = [item for item in items if item.table is None]
    there = {item.target.name: item.table for item in items if item.table is not None}
    _lock(write, there, items)
    old = [item for item in items if item.table is not None]
    known = _known(write, old)
    before = counts_of(write.conn, [item.target.name for item in old if _is_counted(item)])
    made = _create(write, new)
    _fill(write, [item for item in old if item.target.key not in known])
    done = [
        _Done(
            item=item,
            oid=made[item.target.name].oid,
            written=item.count,
            created=True,
            columns=tuple(item.names),
        )
        for item in new
    ]
    for item in old:
        assert item.table is not None
        assert item.rows is not None
        repeated = item.target.key in known
        tally = Tally(inserted=item.count)
        done.append(
            _Done(
                item=attrs.evolve(
                    item, rows=attrs.evolve(item.rows, count=item.count, tally=tally)
                ),
                oid=item.table.oid,
                written=0 if repeated else item.count,
                before=before.get(item.target.name),
                notes=() if repeated else tuple(item.notes(later=False)),
                repeated=repeated,
            )
        )
    return done


def _lock(write: _Write, there: Mapping[QualifiedName, Table], items: Sequence[Item]) -> None:
    """Lock tables, and check that each is still the one that was inspected.

    Raises:
        _Moved: one is not.
    """
    if not there:
        return
    modes = {}
    for item in items:
        if item.target.name in there:
            # What triggers do to added rows is counted, and nobody else may add some meanwhile.
            free = item.mode.adds and not there[item.target.name].reactions
            weak = locks.NOBODY if free else locks.WRITERS
            modes[item.target.name] = locks.EVERYBODY if item.change else weak
    if write.alone:
        for name, mode in modes.items():
            locks.lock(write.context, write.conn, name, mode)
    else:
        locks.lock_all(write.conn, modes)
    if describe_all(write.conn, list(there)) != there:
        raise _Moved
    refuse_hidden(write.conn, {name: table.oid for name, table in there.items()})


def _claim(write: _Write, items: Sequence[tuple[Item, int]]) -> set[str]:
    """Note that rows are in tables; return the keys of the targets that did not have them.

    Args:
        items: each with its table's oid.
    """
    claims = [
        Claim(target=i.target, content_key=i.arriving.content_key, rows=i.count, oid=oid)
        for i, oid in items
    ]
    return write.ledger.claim_appends(write.context, claims)


def _known(write: _Write, items: Sequence[Item]) -> set[str]:
    """Claim the rows that are to be added; return the keys of targets that have them already."""
    adding = [(i, i.table.oid) for i in items if i.mode.adds and i.table is not None]
    known = {item.target.key for item, _ in adding} - _claim(write, adding)
    for item, oid in adding:
        # An older version may have added them, under the key that it had for them.
        former = item.arriving.former_keys
        if former and write.ledger.appended(item.target, former, oid):
            known.add(item.target.key)
    return known


def _create(write: _Write, items: Sequence[Item]) -> Mapping[QualifiedName, Table]:
    """Make tables that hold their snapshots.

    Raises:
        _Moved: somebody was faster.
    """
    conn = write.conn
    arrivals = [Arrival(item=item, into=identifier(item.target.name)) for item in items]
    try:
        put(write.context, conn, arrivals)
    except (pg.DuplicateTable, pg.UniqueViolation) as error:
        raise _Moved from error
    for item in items:
        check_new(conn, item, identifier(item.target.name))
    return describe_all(conn, [item.target.name for item in items])


def _fill(write: _Write, items: Sequence[Item]) -> None:
    """Copy rows into tables that are there, in place of theirs or beside them."""
    conn = write.conn
    script = Script(conn, users_own=True)
    for item in items:
        if item.rows is None or not item.mode.replaces:
            continue
        if item.rows.is_watched:
            item.rows.delete_all(conn)
        else:
            script.add(item.rows.deletion(sql.SQL("TRUE")))
    script.flush()
    for item in items:
        with users_own(conn):
            copy_rows(write.context, conn, item, identifier(item.target.name), freeze=False)


def _change(write: _Write, item: Item) -> _Done:
    """Take the slow lane: stage rows in a temporary table, and change the target by them."""
    context, conn, table, change = write.context, write.conn, item.table, item.change
    assert table is not None
    assert item.rows is not None
    if change.types or change.drop:
        refuse_in_the_way(context, conn, item.target, table, change)
    (count,) = put(context, conn, [Arrival(item=item)], analyzed=False)
    rows = attrs.evolve(item.rows, count=count)
    if not rows.is_looked_up(conn):
        analyze(conn, [(rows.source, rows.key or ())])
    rows.check(conn, item.columns)
    _lock(write, {item.target.name: table}, [item])
    kept = rows.check_kept(conn, item.columns)
    if item.target.key in _known(write, [item]):
        return _Done(item=item, oid=table.oid, written=0, repeated=True)
    before = counts_of(conn, [item.target.name]) if _is_counted(item) else {}
    replaced = bool(change.retype) and item.mode.replaces
    with aside.aside(context, conn, [table.oid] if change.moves_links else []):
        if replaced:
            replace(context, conn, item.target, table, change, rows.source, item.names)
        elif change.rewrites or change.retype:
            rewrite(context, conn, item.target, table, change)
        elif change:
            apply_change(conn, item.target, change)
    if not replaced:
        rows.apply(conn)
    return _Done(
        item=attrs.evolve(item, rows=rows),
        oid=table.oid,
        written=item.count,
        columns=tuple(name for name, _ in change.add),
        notes=(*item.notes(later=False), *kept),
        before=before.get(item.target.name),
    )


def _finish(write: _Write, done: Sequence[_Done]) -> dict[str, WriteResult]:
    """Note what was written; return a result for each target, by key.

    Raises:
        WriteRefused: triggers or rules did something else with the rows.
    """
    context, conn = write.context, write.conn
    # Deferred constraints are checked now instead of at the commit.
    with users_own(conn):
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    # Nobody else can have changed a table that nobody else has seen yet.
    made = {one.item.target.name: (one.oid, one.written) for one in done if one.created}
    oids = {one.item.target.name: one.oid for one in done}
    old = {name: oid for name, oid in oids.items() if name not in made}
    versions = fresh_versions(conn, made) | versions_of(conn, old)
    replaced = [one for one in done if one.created or one.item.mode.replaces]
    write.ledger.forget_appends([one.item.target for one in replaced])
    _claim(write, [(one.item, one.oid) for one in replaced if one.item.mode.remembers])
    written = [
        Written(
            target=one.item.target,
            content_key=one.item.arriving.content_key,
            oid=one.oid,
            rows=versions[one.item.target.name][0],
            created=one.created,
            version=versions[one.item.target.name][1],
            columns=one.columns,
        )
        for one in done
    ]
    write.ledger.record_writes(context, written)
    for one in done:
        if one.item.rows is not None and not one.repeated:
            one.item.rows.check_after(versions[one.item.target.name][0], one.before)
    marks = marks_of(conn, oids, writing=True)
    context.cancellation.check()
    return {
        one.item.target.key: WriteResult(
            rows_written=one.written,
            rows_after=each.rows,
            version=each.version,
            created=one.created,
            mark=marks.get(one.item.target.name, ""),
            notes=one.notes,
        )
        for one, each in zip(done, written, strict=True)
    }


def _is_counted(item: Item) -> bool:
    """Whether the table's rows are counted first, since triggers may do something else."""
    return item.rows is not None and item.rows.is_watched and not item.mode.replaces
