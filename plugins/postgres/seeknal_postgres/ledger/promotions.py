"""The ledger's record of promotions: which were published, and what undoes them.

A promotion's row is its commit record. It is written in the transaction that
publishes (or, where nothing was published, by the undoing), and always by INSERT:
that waits for another transaction's row and then tells the truth, where a SELECT
would not see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import attrs
from psycopg import errors as pg
from psycopg.types.json import Jsonb

from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import ExecutionContext, PublishedTarget, Target
from seeknal_postgres.connection.pool import connection_of
from seeknal_postgres.ledger.records import Ledger

PUBLISHED = "published"
REVERTED = "reverted"

_MINE: LiteralString = "project = %s AND environment = %s AND promotion = %s"


@attrs.frozen(kw_only=True)
class Book:
    """One promotion's part of the ledger, over the open transaction."""

    context: ExecutionContext
    ledger: Ledger
    promotion: str

    @property
    def _key(self) -> list[object]:
        return [self.context.project, self.context.environment.name, self.promotion]

    def publish(self, generation: int) -> bool:
        """Record that the promotion is published; return False if that is already recorded.

        Raises:
            StaleStage: another promotion was published since, or this one was undone.
        """
        try:
            inserted = self._insert(PUBLISHED, generation)
        except pg.UniqueViolation as error:
            raise refusals.another_promotion(generation, generation, self._where) from error
        if not inserted:
            if self.state() == PUBLISHED:
                return False
            raise refusals.undone(self._where, self.promotion)
        before = generation_of(self.context, self.ledger, besides=self.promotion)
        if before != generation - 1:
            raise refusals.another_promotion(before, generation, self._where)
        return True

    def bar(self) -> bool:
        """Record that the promotion is undone, so that it can't be published any more.

        Returns:
            False if it was published, or undone, before: that stays as it is.
        """
        return self._insert(REVERTED, 0)

    def _insert(self, state: str, generation: int) -> bool:
        row = self.ledger.conn.execute(
            self.ledger._sql(
                "INSERT INTO {schema}.promotions"
                " (project, environment, promotion, connection, state, generation, state_id, run_id)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
                " ON CONFLICT (project, environment, promotion) DO NOTHING RETURNING 1"
            ),
            [
                *self._key,
                connection_of(self.context).name,
                state,
                generation,
                self.context.state_id,
                self.context.run_id,
            ],
        ).fetchone()
        return row is not None

    @property
    def _where(self) -> str:
        return connection_of(self.context).place

    def state(self) -> str | None:
        """Return what is recorded of the promotion."""
        row = self.ledger.conn.execute(
            self.ledger._sql("SELECT state FROM {schema}.promotions WHERE " + _MINE), self._key
        ).fetchone()
        return row[0] if row is not None else None

    def mark_reverted(self) -> None:
        """Record that a published promotion is undone."""
        self.ledger.conn.execute(
            self.ledger._sql(
                "UPDATE {schema}.promotions SET state = 'reverted', at = now() WHERE " + _MINE
            ),
            self._key,
        )

    def save_results(self, results: Sequence[PublishedTarget]) -> None:
        """Record what the publish did, for anybody who asks again."""
        self.ledger.conn.execute(
            self.ledger._sql("UPDATE {schema}.promotions SET results = %s WHERE " + _MINE),
            [Jsonb([attrs.asdict(result) for result in results]), *self._key],
        )

    def results(self) -> dict[str, PublishedTarget]:
        """Return what the publish did, by target key."""
        row: Any = self.ledger.conn.execute(
            self.ledger._sql("SELECT results FROM {schema}.promotions WHERE " + _MINE), self._key
        ).fetchone()
        return {found["key"]: PublishedTarget(**found) for found in row[0]}

    def keep(self, plans: Sequence[tuple[Target, Mapping[str, object]]]) -> None:
        """Keep what undoes the publish: a plan per target, and its records as they are."""
        self.ledger.conn.execute(
            self.ledger._sql(
                "INSERT INTO {schema}.promotion_targets (project, environment, promotion, target_key,"
                " schema_name, table_name, plan, target, appended)"
                " SELECT %s, %s, %s, w.key, w.schema_name, w.table_name, w.plan,"
                " (SELECT to_jsonb(t) FROM {schema}.targets t WHERE t.schema_name = w.schema_name"
                "  AND t.table_name = w.table_name),"
                " (SELECT jsonb_agg(to_jsonb(a)) FROM {schema}.appended a"
                "  WHERE a.schema_name = w.schema_name AND a.table_name = w.table_name)"
                " FROM unnest(%s::text[], %s::text[], %s::text[], %s::jsonb[])"
                " AS w(key, schema_name, table_name, plan)"
            ),
            [
                *self._key,
                [target.key for target, _ in plans],
                [target.name.parts[0] for target, _ in plans],
                [target.name.parts[1] for target, _ in plans],
                [Jsonb(plan) for _, plan in plans],
            ],
        )

    def kept(self) -> dict[str, Mapping[str, Any]]:
        """Return the plans that `keep` kept, by target key."""
        rows = self.ledger.conn.execute(
            self.ledger._sql(
                "SELECT target_key, plan FROM {schema}.promotion_targets WHERE " + _MINE
            ),
            self._key,
        ).fetchall()
        return dict(rows)

    def restore_records(self, versions: Sequence[tuple[Target, str, str]]) -> None:
        """Put the targets' records back as `keep` found them.

        Args:
            versions: per target the version before the publish, and the one that the
                same rows have now: a record of the former gets the latter.
        """
        conn, kept = self.ledger.conn, "{schema}.promotion_targets u WHERE " + _MINE
        for table in ("targets", "appended"):
            conn.execute(
                self.ledger._sql(
                    f"DELETE FROM {{schema}}.{table} WHERE (schema_name, table_name) IN"
                    " (SELECT u.schema_name, u.table_name FROM " + kept + ")"
                ),
                self._key,
            )
        conn.execute(
            self.ledger._sql(
                "INSERT INTO {schema}.targets SELECT r.* FROM {schema}.promotion_targets u,"
                " jsonb_populate_record(NULL::{schema}.targets, u.target) r"
                " WHERE u.target IS NOT NULL AND u.project = %s AND u.environment = %s"
                " AND u.promotion = %s"
            ),
            self._key,
        )
        conn.execute(
            self.ledger._sql(
                "INSERT INTO {schema}.appended SELECT r.* FROM {schema}.promotion_targets u,"
                " jsonb_populate_recordset(NULL::{schema}.appended, u.appended) r"
                " WHERE u.project = %s AND u.environment = %s AND u.promotion = %s"
            ),
            self._key,
        )
        conn.execute(
            self.ledger._sql(
                "UPDATE {schema}.targets t SET version = w.now"
                " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])"
                " AS w(schema_name, table_name, before, now)"
                " WHERE t.schema_name = w.schema_name AND t.table_name = w.table_name"
                " AND t.version = w.before"
            ),
            [
                [target.name.parts[0] for target, _, _ in versions],
                [target.name.parts[1] for target, _, _ in versions],
                [before for _, before, _ in versions],
                [now for _, _, now in versions],
            ],
        )

    def forget(self) -> None:
        """Forget how to undo the promotion; that it was published stays."""
        self.ledger.conn.execute(
            self.ledger._sql("DELETE FROM {schema}.promotion_targets WHERE " + _MINE), self._key
        )
        self.ledger.conn.execute(
            self.ledger._sql(
                "DELETE FROM {schema}.promotions WHERE state = 'reverted' AND " + _MINE
            ),
            self._key,
        )


def generation_of(context: ExecutionContext, ledger: Ledger, *, besides: str = "") -> int:
    """Return how many promotions the project's environment had by this connection; 0 for none.

    Two connections to one database are two parts of one promotion, each with a count
    of its own: neither waits for the other's open transaction.
    """
    if "promotions" not in ledger.tables():
        return 0
    row: Any = ledger.conn.execute(
        ledger._sql(
            "SELECT coalesce(max(generation), 0) FROM {schema}.promotions WHERE project = %s"
            " AND environment = %s AND connection = %s AND state = 'published'"
            " AND promotion <> %s"
        ),
        [context.project, context.environment.name, connection_of(context).name, besides],
    ).fetchone()
    return int(row[0])
