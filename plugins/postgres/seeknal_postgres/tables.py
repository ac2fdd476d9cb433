"""What the server's catalogs say about a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from psycopg import sql

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import QualifiedName
from seeknal_postgres.pgtypes import PgType
from seeknal_postgres.pool import Conn

_KINDS = {
    "v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence",
    "i": "an index", "I": "an index", "c": "a composite type",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class TableColumn:
    """A table's column. ``type`` is a domain's base type; ``declared`` the type as named."""

    name: str
    type: PgType
    declared: str
    not_null: bool
    identity: bool
    generated: bool
    has_default: bool
    enum: bool

    @property
    def filled_by_server(self) -> bool:
        """Whether an INSERT that doesn't name the column is still complete."""
        return self.identity or self.generated or self.has_default


@attrs.frozen(kw_only=True)
class ForeignKey:
    """A foreign key that points at the table.

    ``table`` is the pointing table as printed, ``parts`` its name, ``oid`` its oid.
    ``columns`` hold what stands in ``refers_to`` of the table. ``acts`` tells whether
    deleting a row changes or deletes those that point at it.
    """

    name: str
    table: str
    parts: tuple[str, ...]
    oid: int
    columns: tuple[str, ...]
    refers_to: tuple[str, ...]
    acts: bool


@attrs.frozen(kw_only=True)
class Table:
    """A table as it stands.

    ``keys`` are the columns of its unconditional unique indexes over columns that
    are never NULL, the primary key first; ``unique`` counts all unique indexes.
    """

    oid: int
    name: QualifiedName
    partitioned: bool
    columns: tuple[TableColumn, ...]
    keys: tuple[tuple[str, ...], ...]
    unique: int
    referenced_by: tuple[ForeignKey, ...]
    triggers: bool

    def column(self, name: str) -> TableColumn | None:
        """Return the column of that name."""
        return next((column for column in self.columns if column.name == name), None)


def identifier(name: QualifiedName) -> sql.Identifier:
    """Return a table's name for a statement."""
    return sql.Identifier(*name.parts)


def names(columns: Sequence[str], table: str | None = None) -> sql.Composed:
    """Return column names, separated by commas, maybe qualified."""
    found = [
        sql.Identifier(table, column) if table else sql.Identifier(column) for column in columns
    ]
    return sql.SQL(", ").join(found)


_SETTINGS = (
    "SELECT set_config('search_path', '', true), set_config('row_security', 'off', true),"
    " set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true),"
    " set_config('intervalstyle', 'postgres', true), set_config('bytea_output', 'hex', true),"
    " set_config('lock_timeout', %s, true)"
)


def settle(conn: Conn, lock_timeout_ms: int = 2000) -> None:
    """Set what a transaction of ours relies on, for that transaction only.

    With ``row_security`` off the server refuses what a policy would cut short.
    """
    conn.execute(_SETTINGS, [str(lock_timeout_ms)])


def find_oid(conn: Conn, name: QualifiedName) -> int | None:
    """Return the oid of the table of that name.

    Raises:
        WriteRefused: something else than a table bears the name.
    """
    return _find_oids(conn, [name]).get(name)


def _find_oids(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, int]:
    """Return the oids of the tables that are there."""
    rows = conn.execute(
        "SELECT w.place, c.oid::bigint, c.relkind::text"
        " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w(schema, name, place)"
        " JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema"
        " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name",
        [[name.parts[0] for name in wanted], [name.parts[1] for name in wanted]],
    ).fetchall()
    found = {}
    for place, oid, kind in rows:
        name = wanted[place - 1]
        if kind not in ("r", "p"):
            raise WriteRefused(
                f"{name} is {_KINDS.get(kind, 'no table')}, not a table",
                "write to another table",
                target=str(name),
            )
        found[name] = int(oid)
    return found


_COLUMNS = """
SELECT a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.attidentity::text <> '', a.attgenerated::text <> '', a.atthasdef,
       CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
       t.typtype = 'e' OR coalesce(e.typtype = 'e', false) OR coalesce(b.typtype = 'e', false)
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

# Only what is always enforced counts as a key: a partial, deferrable or
# expression index, or one with NULLs, doesn't tell two rows apart.
_KEYS = """
SELECT i.indrelid::bigint,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
             WHERE k.place <= i.indnkeyatts ORDER BY k.place),
       i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND
       NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
                   WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull)
FROM pg_catalog.pg_index i
WHERE i.indrelid = ANY(%s::oid[]) AND i.indisunique
ORDER BY i.indisprimary DESC, i.indexrelid
"""

_REFERENCES = """
SELECT f.confrelid::bigint, f.conname::text, f.conrelid::regclass::text, n.nspname::text,
       c.relname::text, f.conrelid::bigint,
       array(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY k(num, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.num
             ORDER BY k.place),
       array(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY k(num, place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.num
             ORDER BY k.place),
       f.confdeltype IN ('c', 'n', 'd')
FROM pg_catalog.pg_constraint f
JOIN pg_catalog.pg_class c ON c.oid = f.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE f.confrelid = ANY(%s::oid[]) AND f.contype = 'f' AND f.conparentid = 0 ORDER BY 3, 2
"""

_KIND_OF = """
SELECT c.oid::bigint, c.relkind = 'p', EXISTS (SELECT FROM pg_catalog.pg_trigger
       WHERE tgrelid = c.oid AND NOT tgisinternal)
FROM pg_catalog.pg_class c WHERE c.oid = ANY(%s::oid[])
"""


def describe(conn: Conn, name: QualifiedName) -> Table | None:
    """Return the table of that name as it stands, or None."""
    return describe_all(conn, [name]).get(name)


def describe_all(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, Table]:
    """Return the tables of those names that are there, in a few queries for all of them.

    Raises:
        WriteRefused: something else than a table bears one of the names.
    """
    oids = _find_oids(conn, wanted)
    if not oids:
        return {}
    listed = [list(oids.values())]
    columns: dict[int, list[TableColumn]] = defaultdict(list)
    for oid, *row in conn.execute(_COLUMNS, listed):
        columns[oid].append(_column(tuple(row)))
    keys: dict[int, list[tuple[tuple[str, ...], bool]]] = defaultdict(list)
    for oid, key, usable in conn.execute(_KEYS, listed):
        keys[oid].append((tuple(key), usable))
    pointing: dict[int, list[ForeignKey]] = defaultdict(list)
    for oid, name, table, schema, bare, other, held, referred, acts in conn.execute(
        _REFERENCES, listed
    ):
        pointing[oid].append(
            ForeignKey(
                name=name,
                table=table,
                parts=(schema, bare),
                oid=other,
                columns=tuple(held),
                refers_to=tuple(referred),
                acts=acts,
            )
        )
    kinds = {
        oid: (partitioned, triggers)
        for oid, partitioned, triggers in conn.execute(_KIND_OF, listed)
    }
    return {
        name: Table(
            oid=oid,
            name=name,
            partitioned=kinds[oid][0],
            triggers=kinds[oid][1],
            columns=tuple(columns[oid]),
            keys=tuple(key for key, usable in keys[oid] if usable),
            unique=len(keys[oid]),
            referenced_by=tuple(pointing[oid]),
        )
        for name, oid in oids.items()
        if oid in kinds
    }


def _column(row: tuple[Any, ...]) -> TableColumn:
    name, declared, not_null, identity, generated, has_default, base, enum = row
    return TableColumn(
        name=name,
        type=PgType.parse(base or declared),
        declared=declared,
        not_null=not_null,
        identity=identity,
        generated=generated,
        has_default=has_default,
        enum=enum,
    )


# Every write of a row leaves the number of its transaction in xmin, and a deletion
# takes a row away, so that the rows by transaction change with every write of
# anybody. VACUUM, CLUSTER and freezing leave xmin as it is (PostgreSQL 9.4+).
_VERSION = """
SELECT coalesce(sum(n), 0)::bigint,
       coalesce(sum(hashint8extended(x::text::bigint, n)), 0)::text
FROM (SELECT xmin AS x, count(*) AS n FROM {table} GROUP BY xmin) AS by_transaction
"""


def version_of(conn: Conn, name: QualifiedName, oid: int) -> tuple[int, str]:
    """Return a table's row count and version token, in one pass over the table."""
    row: Any = conn.execute(sql.SQL(_VERSION).format(table=identifier(name))).fetchone()
    return int(row[0]), f"{oid}:{row[0]}:{row[1]}"


def versions_of(
    conn: Conn, oids: Mapping[QualifiedName, int]
) -> dict[QualifiedName, tuple[int, str]]:
    """Return what `version_of` gives for each of several tables, by one statement."""
    if not oids:
        return {}
    listed = list(oids)
    asked = [
        sql.SQL("SELECT {}, v.* FROM ({}) AS v").format(
            sql.Literal(place), sql.SQL(_VERSION).format(table=identifier(name))
        )
        for place, name in enumerate(listed)
    ]
    found = {}
    for place, rows, token in conn.execute(sql.SQL(" UNION ALL ").join(asked)):
        name = listed[place]
        found[name] = (int(rows), f"{oids[name]}:{rows}:{token}")
    return found


def fresh_version(conn: Conn, oid: int, rows: int) -> str:
    """Return the token that `version_of` would find where all rows are this transaction's."""
    row: Any = conn.execute(
        "SELECT coalesce(sum(hashint8extended(x, n)), 0)::text FROM"
        " (SELECT pg_current_xact_id()::xid::text::bigint AS x, %s::bigint AS n) AS ours"
        " WHERE n > 0",
        [rows],
    ).fetchone()
    return f"{oid}:{rows}:{row[0]}"


def count(conn: Conn, name: QualifiedName) -> int:
    """Count a table's rows as a reader sees them."""
    row: Any = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(identifier(name))).fetchone()
    return int(row[0])


def store_identity(conn: Conn, place: str) -> str:
    """Return what names this server and database physically, without a secret.

    The cluster's system identifier is the same by whatever host name it is reached
    (clones made by a base backup share it). A role that may not call
    ``pg_control_system`` gets host and port instead.
    """
    row: Any = conn.execute(
        "SELECT current_database(),"
        " has_function_privilege('pg_catalog.pg_control_system()', 'execute')"
    ).fetchone()
    if not row[1]:
        return f"postgresql:{place}"
    cluster: Any = conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return f"postgresql:{cluster[0]}/{row[0]}"


def missing(name: QualifiedName) -> BackendError:
    """Return the error for a table that isn't there."""
    return BackendError(f"table {name} does not exist", "seeknal run", target=str(name))
