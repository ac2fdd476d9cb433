"""The record that a store keeps of what was written into it.

One private schema per environment (``_seeknal_dev``) holds it. A row counts only
while the table it names is the same table (by oid), so that one which somebody
dropped and created again is nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString

import attrs
from psycopg import sql

from seeknal_core.contract.types import ExecutionContext, Ownership, QualifiedName, Target
from seeknal_postgres.connection.pool import Conn, connection_of
from seeknal_postgres.names import ledger_schema, quote

#: The table of promotions' documents; made when the first one is kept (`notes`).
NOTES = "notes"
#: The mode of a link's entry.
LINK = "link"

#: The ledger's own tables.
TABLES = (
    "targets",
    "appended",
    "schemas",
    "promotions",
    "promotion_targets",
    "columns",
    NOTES,
)
#: What a ledger may lack and still undo what was published: an earlier version's lacks the
#: first, and the other is made when it is needed.
_LATER = frozenset({"columns", NOTES})


@attrs.frozen(kw_only=True)
class Record:
    """A target's row in the ledger, whether or not it still counts."""

    oid: int
    owner: Ownership
    generation: int
    created_by_us: bool


@attrs.frozen(kw_only=True)
class Written:
    """The record of a target's write; ``oid`` and ``version`` are the table's.

    ``columns`` are those that the write made.
    ``mode`` is the target's own unless it says `LINK`.
    """

    target: Target
    content_key: str
    oid: int
    rows: int
    created: bool
    version: str
    columns: tuple[str, ...] = ()
    mode: str = ""


@attrs.frozen(kw_only=True)
class Claim:
    """A content key whose rows are to be in a target's table, once."""

    target: Target
    content_key: str
    rows: int
    oid: int


@attrs.frozen
class Ledger:
    """The ledger of the context's environment, over one open transaction."""

    conn: Conn
    schema: str

    @classmethod
    def of(cls, context: ExecutionContext, conn: Conn) -> Ledger:
        """Return the ledger as the context's connection and environment name it."""
        stem = connection_of(context).state_schema
        return cls(conn, ledger_schema(stem, context.environment.name))

    def _sql(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(schema=sql.Identifier(self.schema))

    def exists(self) -> bool:
        """Whether the ledger stands in this database and may be read."""
        row = self.conn.execute(
            "SELECT to_regclass(%s) IS NOT NULL", [f"{quote(self.schema)}.targets"]
        ).fetchone()
        return bool(row and row[0])

    def complete(self) -> bool:
        """Whether the ledger has all tables that promotions need."""
        return {*TABLES} - _LATER <= {*self.tables()}

    def tables(self) -> tuple[str, ...]:
        """Return which of the ledger's own tables are there."""
        rows = self.conn.execute(
            "SELECT c.relname::text FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind = 'r'",
            [self.schema, list(TABLES)],
        ).fetchall()
        found = {row[0] for row in rows}
        return tuple(table for table in TABLES if table in found)

    def siblings(self, stem: str) -> list[Ledger]:
        """Return the ledgers of other environments in this database that the role may read."""
        rows = self.conn.execute(
            "SELECT n.nspname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relname = 'targets' AND c.relkind = 'r'"
            " AND starts_with(n.nspname, %s) AND n.nspname <> %s"
            " AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
            " ORDER BY 1",
            [f"{stem}_", self.schema],
        ).fetchall()
        return [Ledger(self.conn, row[0]) for row in rows]

    def record_schema(self, context: ExecutionContext, name: str) -> None:
        """Record that a schema was made by the context's project, in this transaction."""
        self.conn.execute(
            self._sql(
                "INSERT INTO {schema}.schemas (name, schema_oid, project)"
                " SELECT nspname, oid, %s FROM pg_catalog.pg_namespace WHERE nspname = %s"
                " ON CONFLICT (name) DO UPDATE SET schema_oid = excluded.schema_oid,"
                " project = excluded.project, at = now()"
            ),
            [context.project, name],
        )

    def find(self, schema: str, table: str, *, lock: bool = False) -> Record | None:
        """Return the record of a table's name."""
        return self._records([(schema, table)], " FOR UPDATE OF t" if lock else "").get(
            (schema, table)
        )

    def find_all(self, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, Record]:
        """Return the records of those tables' names that have one."""
        found = self._records([(name.parts[0], name.parts[1]) for name in wanted])
        return {
            name: found[name.parts[0], name.parts[1]]
            for name in wanted
            if (name.parts[0], name.parts[1]) in found
        }

    def _records(
        self, wanted: Sequence[tuple[str, str]], tail: LiteralString = ""
    ) -> dict[tuple[str, str], Record]:
        rows = self.conn.execute(
            self._sql(
                "SELECT t.schema_name, t.table_name, t.table_oid, t.project, t.environment,"
                " t.state_id, t.content_key, t.run_id, t.generation, t.created_by_us"
                " FROM {schema}.targets t JOIN unnest(%s::text[], %s::text[]) AS w(schema, name)"
                " ON t.schema_name = w.schema AND t.table_name = w.name" + tail
            ),
            [[schema for schema, _ in wanted], [table for _, table in wanted]],
        ).fetchall()
        return {
            (schema, table): Record(
                oid=oid,
                owner=Ownership(
                    project=project,
                    environment=environment,
                    state_id=state_id,
                    content_key=content_key,
                    run_id=run_id,
                ),
                generation=generation,
                created_by_us=created_by_us,
            )
            for schema, table, oid, project, environment, state_id, content_key, run_id, generation,
            created_by_us in rows
        }  # fmt: skip

    def owners(self, oids: Mapping[QualifiedName, int]) -> dict[QualifiedName, Ownership]:
        """Return who wrote tables last, of those whose record still counts."""
        listed = list(oids)
        rows = self.conn.execute(
            self._sql(
                "SELECT w.place, t.project, t.environment, t.state_id, t.content_key, t.run_id"
                " FROM unnest(%s::text[], %s::text[], %s::bigint[])"
                " WITH ORDINALITY AS w(schema_name, table_name, oid, place)"
                " JOIN {schema}.targets t ON t.schema_name = w.schema_name"
                " AND t.table_name = w.table_name AND t.table_oid = w.oid"
            ),
            [
                [name.parts[0] for name in listed],
                [name.parts[1] for name in listed],
                [oids[name] for name in listed],
            ],
        ).fetchall()
        return {
            listed[place - 1]: Ownership(
                project=project,
                environment=environment,
                state_id=state_id,
                content_key=content_key,
                run_id=run_id,
            )
            for place, project, environment, state_id, content_key, run_id in rows
        }

    def record_writes(self, context: ExecutionContext, written: Sequence[Written]) -> None:
        """Record targets' writes, in the transaction that makes them."""
        self.conn.execute(
            self._sql(
                "INSERT INTO {schema}.targets AS t (schema_name, table_name, table_oid, project,"
                " environment, state_id, target_key, node, content_key, run_id, mode, rows,"
                " generation, created_by_us, version)"
                " SELECT w.schema, w.name, w.oid, %s, %s, %s, w.key, w.node, w.content, %s, w.mode,"
                " w.rows, 1, w.created, w.version"
                " FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[],"
                " %s::text[], %s::text[], %s::bigint[], %s::boolean[], %s::text[])"
                " AS w(schema, name, oid, key, node, content, mode, rows, created, version)"
                " ON CONFLICT (schema_name, table_name) DO UPDATE SET"
                " table_oid = excluded.table_oid, project = excluded.project,"
                " environment = excluded.environment, state_id = excluded.state_id,"
                " target_key = excluded.target_key, node = excluded.node,"
                " content_key = excluded.content_key, run_id = excluded.run_id,"
                " mode = excluded.mode, rows = excluded.rows, generation = t.generation + 1,"
                " created_by_us = excluded.created_by_us"
                "   OR (t.table_oid = excluded.table_oid AND t.created_by_us),"
                " version = excluded.version, written_at = now()"
            ),
            [
                context.project,
                context.environment.name,
                context.state_id,
                context.run_id,
                *_names([one.target for one in written]),
                [one.oid for one in written],
                [one.target.key for one in written],
                [one.target.node for one in written],
                [one.content_key for one in written],
                [one.mode or one.target.mode.value for one in written],
                [one.rows for one in written],
                [one.created for one in written],
                [one.version for one in written],
            ],
        )
        self._record_columns([one for one in written if one.columns])

    def _record_columns(self, written: Sequence[Written]) -> None:
        """Record which columns we made, beside those that we made before.

        A column counts only while it has the number that it had: one that somebody
        dropped and created again is theirs.
        """
        if not written:
            return
        made = [(*one.target.name.parts, one.oid, name) for one in written for name in one.columns]
        self.conn.execute(
            self._sql(
                "INSERT INTO {schema}.columns AS c (schema_name, table_name, table_oid, names,"
                " numbers) SELECT w.schema, w.name, w.oid, array_agg(a.attname::text ORDER BY"
                " a.attnum), array_agg(a.attnum ORDER BY a.attnum) FROM (SELECT schema, name, oid,"
                "  array_agg(col) AS made FROM unnest(%s::text[], %s::text[], %s::bigint[],"
                "  %s::text[]) AS m(schema, name, oid, col) GROUP BY schema, name, oid) AS w"
                " JOIN pg_catalog.pg_attribute a ON a.attrelid = w.oid AND a.attnum > 0"
                "  AND NOT a.attisdropped"
                " WHERE a.attname = ANY(w.made) OR EXISTS (SELECT FROM {schema}.columns k,"
                "  unnest(k.names, k.numbers) AS n(name, number) WHERE k.schema_name = w.schema"
                "  AND k.table_name = w.name AND k.table_oid = w.oid AND n.name = a.attname"
                "  AND n.number = a.attnum)"
                " GROUP BY w.schema, w.name, w.oid"
                " ON CONFLICT (schema_name, table_name) DO UPDATE SET"
                " table_oid = excluded.table_oid, names = excluded.names,"
                " numbers = excluded.numbers"
            ),
            [list(values) for values in zip(*made, strict=True)],
        )

    def ours(self, oid: int) -> frozenset[str]:
        """Return the columns of a table that we made, as far as they are the same still."""
        if "columns" not in self.tables():
            return frozenset()
        rows = self.conn.execute(
            self._sql(
                "SELECT a.attname::text FROM {schema}.columns c,"
                " unnest(c.names, c.numbers) AS n(name, number)"
                " JOIN pg_catalog.pg_attribute a ON a.attname = n.name AND a.attnum = n.number"
                " WHERE c.table_oid = %s AND a.attrelid = c.table_oid AND NOT a.attisdropped"
            ),
            [oid],
        ).fetchall()
        return frozenset(row[0] for row in rows)

    def claim_appends(self, context: ExecutionContext, claims: Sequence[Claim]) -> set[str]:
        """Claim the right to add content keys' rows to tables.

        An INSERT waits for another transaction's claim and then tells the truth,
        where a SELECT would not see it.

        Returns:
            The keys of those targets whose rows were not added before.
        """
        if not claims:
            return set()
        rows = self.conn.execute(
            self._sql(
                "INSERT INTO {schema}.appended AS a"
                " (schema_name, table_name, table_oid, content_key, run_id, rows)"
                " SELECT w.schema, w.name, w.oid, w.content, %s, w.rows FROM unnest(%s::text[],"
                " %s::text[], %s::bigint[], %s::text[], %s::bigint[])"
                " AS w(schema, name, oid, content, rows)"
                " ON CONFLICT (schema_name, table_name, content_key) DO UPDATE SET"
                " table_oid = excluded.table_oid, run_id = excluded.run_id,"
                " rows = excluded.rows, at = now() WHERE a.table_oid <> excluded.table_oid"
                " RETURNING a.schema_name, a.table_name"
            ),
            [
                context.run_id,
                *_names([claim.target for claim in claims]),
                [claim.oid for claim in claims],
                [claim.content_key for claim in claims],
                [claim.rows for claim in claims],
            ],
        ).fetchall()
        taken = set(rows)
        return {claim.target.key for claim in claims if claim.target.name.parts in taken}

    def appended(self, target: Target, content_keys: Sequence[str], oid: int) -> bool:
        """Return whether rows are recorded as added to a table, by any of their keys."""
        row = self.conn.execute(
            self._sql(
                "SELECT 1 FROM {schema}.appended WHERE schema_name = %s AND table_name = %s"
                " AND content_key = ANY(%s) AND table_oid = %s LIMIT 1"
            ),
            [*target.name.parts, list(content_keys), oid],
        ).fetchone()
        return row is not None

    def keep_appends(self, target: Target, oid: int) -> None:
        """Apply the record of a name's appended rows to the table that exists now."""
        self.conn.execute(
            self._sql(
                "UPDATE {schema}.appended SET table_oid = %s"
                " WHERE schema_name = %s AND table_name = %s"
            ),
            [oid, *target.name.parts],
        )

    def forget_appends(self, targets: Sequence[Target]) -> None:
        """Delete the record of appended rows: all rows of the tables were replaced."""
        if not targets:
            return
        self.conn.execute(
            self._sql(
                "DELETE FROM {schema}.appended a USING unnest(%s::text[], %s::text[])"
                " AS w(schema, name) WHERE a.schema_name = w.schema AND a.table_name = w.name"
            ),
            _names(targets),
        )


def _names(targets: Sequence[Target]) -> list[list[str]]:
    return [[target.name.parts[place] for target in targets] for place in (0, 1)]
