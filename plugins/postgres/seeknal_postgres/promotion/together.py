"""Small targets, many at a time: as one by one, in one transaction.

A small table costs its round trips and its commit, not its rows. So all that is asked of
the server, locked or written down is so for all tables by one statement, and only the
rows travel table by table. What takes more (a temporary table, a change of columns)
goes the ordinary way, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs
from psycopg import sql

from seeknal_core.contract import rules
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import (
    ExecutionContext,
    Mode,
    Snapshot,
    Staged,
    Target,
    WriteResult,
)
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.fate import transaction
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import refuse_hidden, settle, users_names, users_own
from seeknal_postgres.ledger import links, records
from seeknal_postgres.ledger.marks import marks_of
from seeknal_postgres.ledger.places import Places, claim, drop
from seeknal_postgres.ledger.promotions import PUBLISHED, Book
from seeknal_postgres.ledger.records import Claim, Ledger, Written
from seeknal_postgres.ledger.tables import (
    Table,
    TableColumn,
    describe_all,
    identifier,
    names,
    versions_of,
)
from seeknal_postgres.promotion import staging, undo
from seeknal_postgres.source.sums import read_types, sent_columns
from seeknal_postgres.types.columns import Column, columns_of
from seeknal_postgres.write import materialize as write
from seeknal_postgres.write.checks import check_keys
from seeknal_postgres.write.copy import copy_in
from seeknal_postgres.write.evolve import collated, direct, plan_change
from seeknal_postgres.write.modes.rows import Rows
from seeknal_postgres.write.times import check_new_times
from seeknal_postgres.write.transit import copy_statement, looked_at

#: Milliseconds to wait for a table's lock while others are held. Whoever keeps it is
#: waited for when the targets are written one by one.
_LOCK_WAIT = 200


@attrs.frozen(kw_only=True)
class _One:
    """One target, its snapshot, and the table that stands there, if any.

    ``mode`` is the mode in force.
    """

    target: Target
    snapshot: Snapshot
    columns: tuple[Column, ...]
    mode: Mode
    table: Table | None = None

    @property
    def names(self) -> list[str]:
        """The snapshot's columns."""
        return [column.name for column in self.columns]


def _ones(
    context: ExecutionContext, targets: Sequence[Target], snapshots: Sequence[Snapshot]
) -> list[_One]:
    found = []
    for target, snapshot in zip(targets, snapshots, strict=True):
        columns = columns_of(snapshot.schema, str(target.name))
        rules.check_named_columns(target, [column.name for column in columns])
        mode = Mode.FULL if context.full_refresh else target.mode
        found.append(_One(target=target, snapshot=snapshot, columns=columns, mode=mode))
    return found


def _looked_at(context: ExecutionContext, ledger: Ledger, ones: Sequence[_One]) -> list[_One]:
    """Find the targets' tables, and return those whose rows need nothing but to be copied.

    Raises:
        WriteRefused: a table is not ours, or cannot take its snapshot.
    """
    names = [one.target.name for one in ones]
    tables, records = describe_all(ledger.conn, names), ledger.find_all(names)
    simple = []
    for one in ones:
        table = tables.get(one.target.name)
        if table is None:
            if all(direct(column, None) for column in one.columns):
                simple.append(one)
            continue
        write.check_owner(context, records.get(one.target.name), one.target, table)
        oid = table.oid
        change = plan_change(
            one.target, table, one.columns, one.snapshot, one.mode, partial(ledger.ours, oid)
        )
        rows = Rows.of(one.target, table, one.names, one.mode)
        # What triggers make of the rows is counted where a table goes alone, and what there is
        # to say of columns is said there.
        simply = write.is_straight(rows, change, one.columns) and not rows.is_watched
        if simply and not (change.left or change.others):
            simple.append(attrs.evolve(one, table=table))
    return simple


def materialize_targets(
    context: ExecutionContext, targets: Sequence[Target], snapshots: Sequence[Snapshot]
) -> tuple[WriteResult, ...]:
    """Carry out the hook of the same name."""
    pool = pool_of(context)
    ones = _ones(context, targets, snapshots)
    with (
        pool.take(context) as conn,
        translated(context, connection_of(context).place, writing=True),
    ):
        for target in targets:
            ledger = records.ensure(context, pool, conn, target)
        with transaction(context, conn, connection_of(context).place):
            settle(conn, _LOCK_WAIT)
            rights = links.make_way(context, ledger, [target.name for target in targets])
            done = _written(context, ledger, _looked_at(context, ledger, ones))
            for name, held in rights.items():
                if any(one.target.name == name and one.target.key in done for one in ones):
                    links.give(conn, name, held)
    return tuple(
        done[one.target.key]
        if one.target.key in done
        else write.materialize(context, one.target, one.snapshot)
        for one in ones
    )


def _written(
    context: ExecutionContext, ledger: Ledger, ones: Sequence[_One]
) -> dict[str, WriteResult]:
    """Write targets in the open transaction; return a result for each, by key."""
    if not ones:
        return {}
    conn = ledger.conn
    there = {one.target.name: one.table for one in ones if one.table is not None}
    modes = {one.target.name: one.mode for one in ones}
    locks.lock_all(
        conn,
        {name: locks.NOBODY if modes[name] is Mode.APPEND else locks.WRITERS for name in there},
    )
    if describe_all(conn, list(there)) != there:
        raise WriteRefused(
            f"tables in {connection_of(context).place} are being changed by somebody else",
            "run again",
        )
    new = [one for one in ones if one.table is None]
    added = [one for one in ones if one.table is not None and one.mode is Mode.APPEND]
    claimed = ledger.claim_appends(
        context, [_claim(one, one.table.oid) for one in added if one.table is not None]
    )
    known = {one.target.key for one in added} - claimed
    _create(conn, new, lambda one: identifier(one.target.name))
    refuse_hidden(conn, {name: table.oid for name, table in there.items()})
    script = Script(conn, users_own=True)
    for name in there:
        if modes[name] is Mode.FULL:
            script.add(sql.SQL("DELETE FROM {}").format(identifier(name)))
    script.flush()
    for one in ones:
        if one.target.key not in known:
            into = identifier(one.target.name)
            if one.table is None:
                _copy(context, conn, one, into, freeze=True)
                continue
            with users_own(conn):
                _copy(context, conn, one, into, freeze=False)
    _analyze(conn, new, lambda one: identifier(one.target.name))
    for one in new:
        _check(conn, one, identifier(one.target.name))
    with users_own(conn):
        conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    made = describe_all(conn, [one.target.name for one in new])
    oids = {name: table.oid for name, table in {**there, **made}.items()}
    versions = versions_of(conn, oids)
    ledger.forget_appends(
        [one.target for one in ones if one.table is None or one.mode is Mode.FULL]
    )
    # As a single write does: an upsert's table, say, has no list of what was added.
    listed = [one for one in ones if one.mode in (Mode.APPEND, Mode.FULL) and one not in added]
    ledger.claim_appends(context, [_claim(one, oids[one.target.name]) for one in listed])
    written = [
        Written(
            target=one.target,
            content_key=one.snapshot.content_key,
            oid=oids[one.target.name],
            rows=versions[one.target.name][0],
            created=one.table is None,
            version=versions[one.target.name][1],
            columns=tuple(one.names) if one.table is None else (),
        )
        for one in ones
    ]
    ledger.record_writes(context, written)
    marks = marks_of(conn, oids, writing=True)
    context.cancellation.check()
    return {
        one.target.key: WriteResult(
            rows_written=0 if one.target.key in known else one.snapshot.row_count,
            rows_after=each.rows,
            version=each.version,
            created=each.created,
            mark=marks.get(one.target.name, ""),
        )
        for one, each in zip(ones, written, strict=True)
    }


def _claim(one: _One, oid: int) -> Claim:
    return Claim(
        target=one.target,
        content_key=one.snapshot.content_key,
        rows=one.snapshot.row_count,
        oid=oid,
    )


def _create(conn: Conn, ones: Sequence[_One], into: Callable[[_One], sql.Identifier]) -> None:
    """Make tables of the snapshots' columns."""
    script = Script(conn)
    for one in ones:
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(name), collated(kind, _old(one, name)))
            for name, kind in _declared(one).items()
        ]
        listed = sql.SQL(", ").join(columns)
        script.add(sql.SQL("CREATE TABLE {} ({})").format(into(one), listed))
    script.flush()


def _declared(one: _One) -> Mapping[str, str]:
    """Return each column's type: that of the table that stands, else the snapshot's."""
    found = {}
    for column in one.columns:
        old = _old(one, column.name)
        found[column.name] = old.declared if old is not None else str(column.type)
    return found


def _old(one: _One, name: str) -> TableColumn | None:
    return one.table.column(name) if one.table is not None else None


def _copy(
    context: ExecutionContext, conn: Conn, one: _One, into: sql.Identifier, *, freeze: bool
) -> int:
    with conn.cursor() as cursor:
        statement = copy_statement(into, one.columns, freeze=freeze)
        name = str(one.target.name)
        return copy_in(context, cursor, statement, one.columns, one.snapshot, name)


def _analyze(conn: Conn, ones: Sequence[_One], into: Callable[[_One], sql.Identifier]) -> None:
    parts: list[sql.Composable] = []
    for one in ones:
        some = looked_at(one.names)
        listed = sql.SQL(" ({})").format(names(some)) if some else sql.SQL("")
        parts.append(into(one) + listed)
    if parts:
        conn.execute(sql.SQL("ANALYZE {}").format(sql.SQL(", ").join(parts)))


def _check(conn: Conn, one: _One, rows: sql.Identifier) -> None:
    """Check keys and times of rows for a table that is not there yet."""
    if one.target.unique_keys:
        check_keys(conn, one.target, rows, one.target.unique_keys)
    if one.mode is Mode.INCREMENTAL_BY_TIME:
        check_new_times(conn, one.target, rows, one.columns)


def stage_targets(
    context: ExecutionContext,
    targets: Sequence[Target],
    snapshots: Sequence[Snapshot],
    promotion: str,
) -> tuple[Staged, ...]:
    """Carry out the hook of the same name."""
    pool = pool_of(context)
    ones = _ones(context, targets, snapshots)
    with (
        pool.take(context) as conn,
        translated(context, connection_of(context).place, writing=True),
    ):
        ledger = records.ensure_ledger(context, pool, conn)
        with conn.transaction(force_rollback=True):
            settle(conn, _LOCK_WAIT)
            simple, bases = _stageable(context, ledger, ones)
        with conn.transaction():
            settle(conn, _LOCK_WAIT)
            done = _staged(context, ledger, simple, promotion)
    return tuple(
        attrs.evolve(done[one.target.key], base=bases.get(one.target.key))
        if one.target.key in done
        else staging.stage(context, one.target, one.snapshot, promotion)
        for one in ones
    )


def _stageable(
    context: ExecutionContext, ledger: Ledger, ones: Sequence[_One]
) -> tuple[list[_One], dict[str, str]]:
    """Refuse what publishing would refuse; return what is simple to stage, and versions."""
    conn = ledger.conn
    simple = [
        one
        for one in _looked_at(context, ledger, ones)
        if one.mode is not Mode.APPEND and not sent_columns(one.columns, one.table)
    ]
    schemas = {one.target.name.parts[0]: one.target for one in simple if one.table is None}
    for target in schemas.values():
        staging.refuse_no_room(conn, target)
    planned: list[sql.Composable] = []
    for one in simple:
        if one.table is not None:
            rows = Rows.of(one.target, one.table, one.names, one.mode)
            planned += staging.planned(one.names, one.table, rows)
    if planned:
        staging.refuse_rights(conn, planned)
    oids = {one.target.name: one.table.oid for one in simple if one.table is not None}
    versions = versions_of(conn, oids)
    return simple, {
        one.target.key: versions[one.target.name][1]
        for one in simple
        if one.target.name in versions
    }


def _staged(
    context: ExecutionContext, ledger: Ledger, ones: Sequence[_One], promotion: str
) -> dict[str, Staged]:
    """Fill the stage tables in the open transaction; return what was staged, by key."""
    conn, schema = ledger.conn, ledger.schema
    if not ones:
        return {}
    places = {one.target.key: Places.of(context, schema, promotion, one.target.key) for one in ones}
    staging.durable(conn)
    claim(conn, list(places.values()))
    # A staging that died may have left some. What undoes a publish is kept.
    published = Book(context=context, ledger=ledger, promotion=promotion).state() == PUBLISHED
    drop(
        conn,
        [name for each in places.values() for name in ((each.stage,) if published else each.all)],
    )
    _create(conn, ones, lambda one: places[one.target.key].rows)
    found = {}
    for one in ones:
        with users_names(conn, one.table is not None):
            rows = _copy(context, conn, one, places[one.target.key].rows, freeze=True)
        data: dict[str, object] = {
            "table": str(places[one.target.key].stage),
            "mode": one.mode.value,
            "shape": staging.shape_of(one.table),
            "rewrites": [],
            "known": False,
            "sent": {},
            "retype": [],
            "left": [],
            "drop": [],
            "undo": one.table is not None and not published,
            "read": read_types(one.columns, one.table),
        }
        found[one.target.key] = Staged(promotion=promotion, base=None, rows=rows, data=data)
    script = Script(conn)
    for one in ones:
        if one.table is not None and not published:
            place = places[one.target.key]
            undo.make(
                script, place, Rows.of(one.target, one.table, one.names, one.mode, place.rows)
            )
    script.flush()
    _analyze(conn, ones, lambda one: places[one.target.key].rows)
    staging.close(conn, list(places.values()))
    for one in ones:
        if one.table is None:
            _check(conn, one, places[one.target.key].rows)
    context.cancellation.check()
    return found
