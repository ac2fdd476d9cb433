"""The targets of a batch within one transaction: their tables, and the locks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import LiteralString, TypeVar

import attrs
import tenacity
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import StaleStage, WriteRefused
from seeknal_core.contract.types import Batch, ExecutionContext, QualifiedName, Target
from seeknal_postgres.connection import locks
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn, connection_of
from seeknal_postgres.ledger.places import Places
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.staged import StageData
from seeknal_postgres.ledger.tables import Table, describe_all
from seeknal_postgres.write.evolve import Change, change_between
from seeknal_postgres.write.modes import TableMode, mode_of

R = TypeVar("R")

#: Seconds that a publish tries for its tables' locks, at most: others wait meanwhile.
PUBLISH_WAIT = 10.0


@attrs.frozen(kw_only=True)
class Part:
    """One target of a batch, as a publish finds it.

    ``table`` is None if the target is to be made, ``staged`` None if its rows
    are gone. ``columns`` are the snapshot's, ``known`` tells that an append's rows
    are there already.
    """

    target: Target
    places: Places
    mode: TableMode
    data: StageData
    table: Table | None
    staged: Table | None
    change: Change = Change()
    columns: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether an append's rows are in the table already."""
        return self.data.known


def key_of(context: ExecutionContext, batch: Batch) -> str:
    """Name the transaction that is held open for a batch."""
    return f"{context.project} {context.environment.name} {batch.promotion}"


def parts_of(context: ExecutionContext, ledger: Ledger, batch: Batch) -> list[Part]:
    """Inspect all targets of a batch, and their staged rows."""
    places = {
        target.key: Places.of(context, ledger.schema, batch.promotion, target.key)
        for target in batch.targets
    }
    wanted = [target.name for target in batch.targets]
    found = describe_all(ledger.conn, [*wanted, *(each.stage for each in places.values())])
    parts = []
    for target in batch.targets:
        place = places[target.key]
        table, staged = found.get(target.name), found.get(place.stage)
        data = StageData.of(target)
        sent = set(data.sent.values())
        change = Change()
        if table is not None and staged is not None:
            own = tuple(column for column in staged.columns if column.name not in sent)
            staged = attrs.evolve(staged, columns=own)
            change = change_between(table, staged, data)
        parts.append(
            Part(
                target=target,
                places=place,
                mode=mode_of(data.mode, target),
                data=data,
                table=table,
                staged=staged,
                change=change,
                columns=tuple(column.name for column in staged.columns) if staged else (),
            )
        )
    return parts


def lock(conn: Conn, wanted: Mapping[QualifiedName, LiteralString], when: str) -> None:
    """Lock the tables that are there.

    Args:
        when: since when nobody may have dropped one, for the message.

    Raises:
        StaleStage: one was dropped.
    """
    try:
        locks.lock_all(conn, wanted)
    except (pg.UndefinedTable, pg.InvalidSchemaName) as error:
        raise StaleStage(
            f"a table was dropped by somebody else since it was {when}: {said(error)}",
            "look at who dropped it, then run again",
        ) from error


def patiently(
    context: ExecutionContext,
    conn: Conn,
    tables: Sequence[QualifiedName],
    attempt: Callable[[], R],
    most: float = math.inf,
) -> R:
    """Try a whole transaction again while a lock or a deadlock stops it.

    Args:
        tables: those that it may wait for.
        most: seconds, where that is less than the connection's ``lock_wait``.

    Raises:
        WriteRefused: the locks were not released in time; names the tables and who holds them.
    """

    def once() -> R:
        context.cancellation.check()
        try:
            return attempt()
        except BaseException:
            if not conn.closed:
                conn.rollback()
            raise

    def told() -> str:
        held = locks.holders(conn, tables)
        conn.rollback()
        return "; ".join(f"{name} is locked by {by}" for name, by in held.items()) or (
            f"waiting for locks on {', '.join(map(str, tables[:5]))}"
        )

    retrying: tenacity.Retrying = locks.patience(context, most, told=told)
    try:
        return retrying(once)
    except locks.BUSY as error:
        wait = min(connection_of(context).lock_wait, most)
        held = locks.holders(conn, tables)
        conn.rollback()
        who = "; ".join(f"{name} by {by}" for name, by in held.items())
        named = ", ".join(map(str, held)) or ", ".join(map(str, tables[:5]))
        raise WriteRefused(
            f"{named} stayed locked for {wait:g} s{f' ({who})' if who else f': {said(error)}'}",
            "let the other session finish or end it, then run again",
            target=named,
        ) from error


def tables_of(context: ExecutionContext, conn: Conn, batch: Batch) -> list[QualifiedName]:
    """Return the tables that a batch is about: the targets, and what is staged for them."""
    schema = Ledger.of(context, conn).schema
    stages = [Places.of(context, schema, batch.promotion, t.key).stage for t in batch.targets]
    return [*(target.name for target in batch.targets), *stages]


def grant_defaults(conn: Conn, name: QualifiedName) -> None:
    """Grant a table from our schema the rights that it would have got at its creation.

    ``ALTER DEFAULT PRIVILEGES`` counts where a table is made, not where it moves.
    """
    rows = conn.execute(
        "SELECT DISTINCT a.privilege_type, a.is_grantable,"
        " CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END"
        " FROM pg_catalog.pg_default_acl d, aclexplode(d.defaclacl) a"
        " WHERE d.defaclobjtype = 'r' AND d.defaclrole = current_user::regrole"
        " AND (d.defaclnamespace = 0 OR d.defaclnamespace ="
        "  (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s))",
        [name.parts[0]],
    ).fetchall()
    for privilege, grantable, grantee in rows:
        conn.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                sql.SQL(privilege),
                sql.Identifier(*name.parts),
                sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable and grantee else ""),
            )
        )
