"""Documents of promotions, kept beside the ledger in case a machine is lost."""

from __future__ import annotations

from datetime import UTC
from typing import LiteralString

from seeknal_core.contract.types import ExecutionContext, PromotionNote
from seeknal_postgres.connection.errors import translated
from seeknal_postgres.connection.pool import connection_of, pool_of
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import ending, making
from seeknal_postgres.ledger.records import NOTES, Ledger

_TABLE: LiteralString = """
CREATE TABLE IF NOT EXISTS {schema}.notes (
    project text NOT NULL, environment text NOT NULL, promotion text NOT NULL,
    state_id text NOT NULL, document text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project, environment, promotion))
"""

_MINE: LiteralString = "project = %s AND environment = %s"


def note_promotion(context: ExecutionContext, note: PromotionNote) -> bool:
    """Implement the hook of the same name."""
    pool, place = pool_of(context), connection_of(context).place
    with pool.take(context) as conn, translated(context, place, writing=True):
        ledger = making.ensure_ledger(context, pool, conn)
        with conn.transaction():
            settle(conn)
            if NOTES not in ledger.tables():
                conn.execute(ledger._sql(_TABLE))
                conn.execute(ledger._sql("REVOKE ALL ON {schema}.notes FROM PUBLIC"))
            conn.execute(
                ledger._sql(
                    "INSERT INTO {schema}.notes AS n"
                    " (project, environment, promotion, state_id, document)"
                    " VALUES (%s, %s, %s, %s, %s)"
                    " ON CONFLICT (project, environment, promotion)"
                    " DO UPDATE SET state_id = excluded.state_id, document = excluded.document"
                ),
                [
                    context.project,
                    context.environment.name,
                    note.promotion,
                    note.state_id,
                    note.document,
                ],
            )
    return True


def list_promotions(context: ExecutionContext) -> tuple[PromotionNote, ...]:
    """Implement the hook of the same name."""
    place = connection_of(context).place
    with (
        pool_of(context).take(context) as conn,
        translated(context, place),
        conn.transaction(),
    ):
        settle(conn)
        ledger = Ledger.of(context, conn)
        if NOTES not in ledger.tables():
            return ()
        rows = conn.execute(
            ledger._sql(
                "SELECT promotion, state_id, document, at FROM {schema}.notes WHERE "
                + _MINE
                + " ORDER BY at"
            ),
            [context.project, context.environment.name],
        ).fetchall()
        return tuple(
            PromotionNote(
                promotion=promotion,
                state_id=state_id,
                document=document,
                written_at=at.astimezone(UTC).isoformat(timespec="seconds"),
            )
            for promotion, state_id, document, at in rows
        )


def forget_promotion(context: ExecutionContext, promotion: str) -> bool:
    """Implement the hook of the same name."""
    pool, place = pool_of(context), connection_of(context).place
    with pool.take(context) as conn, translated(context, place, writing=True):
        ledger = Ledger.of(context, conn)
        with conn.transaction():
            settle(conn)
            if NOTES not in ledger.tables():
                return False
            gone = conn.execute(
                ledger._sql("DELETE FROM {schema}.notes WHERE " + _MINE + " AND promotion = %s"),
                [context.project, context.environment.name, promotion],
            ).rowcount
            if ending.end_if_empty(ledger):
                pool.done.discard(ledger.schema)
    return gone > 0
