"""Apply what is staged to the tables of a batch: columns first, then rows."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.connection.script import Script
from seeknal_postgres.ledger import aside
from seeknal_postgres.ledger.tables import Table
from seeknal_postgres.promotion.batches import (
    Part,
    grant_defaults,
)
from seeknal_postgres.write.evolve import apply_change
from seeknal_postgres.write.moving import replace, rewrite
from seeknal_postgres.write.references import by_reference, refuse_orphans
from seeknal_postgres.write.rows import SWAPPED, Rows

#: Tables that are filled by one call, within one savepoint.
_AT_ONCE = 25


def apply(context: ExecutionContext, conn: Conn, parts: list[Part], rows: dict[str, Rows]) -> None:
    """Change columns, then rows: tables that point at others are emptied first and filled last."""
    by_key = {part.target.key: part for part in parts}
    with aside.aside(context, conn, _linked(parts)):
        for part in parts:
            if part.table is None:
                _make(conn, part)
            elif _is_moved(part):
                replace(
                    context,
                    conn,
                    part.target,
                    part.table,
                    part.change,
                    part.places.rows,
                    part.columns,
                )
            elif part.change and not part.known:
                if part.change.rewrites or part.change.retype:
                    rewrite(context, conn, part.target, part.table, part.change)
                else:
                    apply_change(conn, part.target, part.change)
    changed = {
        part.target.key: part.table
        for part in parts
        if part.table is not None and not part.known and not _is_moved(part)
    }
    # Tables whose rows are all kept or all rewritten may lose rows on the way.
    ours = {table.oid for key, table in changed.items() if by_key[key].mode.replaces}
    order = by_reference(changed)
    script = Script(conn, users_own=True)
    for key in order:
        gone = rows[key].gone(conn)
        if gone is None:
            continue
        if changed[key].referenced_by:
            script.flush()
            refuse_orphans(conn, by_key[key].target, changed[key], gone, ours)
        if rows[key].removes_last:
            continue
        if rows[key].is_watched:
            script.flush()
            rows[key].delete(conn, gone)
        else:
            script.add(rows[key].deletion(gone))
    _fill_all(conn, script, [(rows[key], changed[key]) for key in reversed(order)])


def _fill_all(conn: Conn, script: Script, tables: Sequence[tuple[Rows, Table]]) -> None:
    """Fill tables in their order, as many as go together by one call."""
    waiting: list[Rows] = []

    def fill_waiting() -> None:
        if waiting:
            script.flush()
            _fill(conn, waiting)
            waiting.clear()

    for rows, table in tables:
        if not table.referenced_by and rows.filling() is not None:
            waiting.append(rows)
            if len(waiting) == _AT_ONCE:
                fill_waiting()
            continue
        fill_waiting()
        if rows.is_refilled and not rows.is_watched:
            # In no savepoint: undoing finds added rows by the transaction's number.
            script.add(rows.insertion(sql.SQL("TRUE")))
            continue
        script.flush()
        rows.refuse_forgotten(conn)
        rows.fill(conn)
    fill_waiting()
    script.flush()


def _fill(conn: Conn, some: Sequence[Rows]) -> None:
    """Fill tables that need no check in between, together if that succeeds."""
    try:
        with conn.transaction():
            script = Script(conn, users_own=True)
            for rows in some:
                for statement in rows.filling() or ():
                    script.add(statement)
            script.flush()
    except SWAPPED:
        for rows in some:
            rows.fill(conn)


def _is_moved(part: Part) -> bool:
    """Whether all rows are replaced while types are changed by casting."""
    return bool(part.change.retype) and part.mode.replaces and not part.known


def _linked(parts: list[Part]) -> list[int]:
    """Return the tables whose links would be in the way of what is done to their columns."""
    return [
        part.table.oid
        for part in parts
        if part.table is not None and not part.known and part.change.moves_links
    ]


def _make(conn: Conn, part: Part) -> None:
    """Move a stage table to where the target is to be."""
    schema, table = part.target.name.parts
    stage = part.places.stage.parts
    moved_to = sql.Identifier(schema, stage[1])
    try:
        conn.execute(
            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                sql.Identifier(*stage), sql.Identifier(schema)
            )
        )
        conn.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(moved_to, sql.Identifier(table)))
    except (pg.DuplicateTable, pg.UniqueViolation) as error:
        raise refusals.moved(part.target.name, "staged", None, "(made by somebody else)") from error
    grant_defaults(conn, part.target.name)
