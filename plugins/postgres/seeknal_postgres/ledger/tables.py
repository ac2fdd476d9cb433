"""What the server's catalogs say about a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from psycopg import sql

from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.types import ExecutionContext, QualifiedName
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.types.pgtypes import PgType

_KINDS = {
    "v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence",
    "i": "an index", "I": "an index", "c": "a composite type",
}  # fmt: skip


@attrs.frozen(kw_only=True)
class TableColumn:
    """A table's column. ``type`` is a domain's base type; ``declared`` the type as named.

    ``collation`` is printed for a statement, empty for the type's own. ``exact`` says
    whether values that are equal are identical: to a collation that ignores case, or to
    numeric (1.0 and 1.00), they need not be. ``equals`` is the schema and name of the
    type's equality operator, printed, empty if that is the server's own ``=``.
    """

    name: str
    type: PgType
    declared: str
    not_null: bool
    identity: bool
    generated: bool
    has_default: bool
    enum: bool
    collation: str = ""
    exact: bool = True
    equals: str = ""

    @property
    def filled_by_server(self) -> bool:
        """Whether an INSERT that doesn't name the column is still complete."""
        return self.identity or self.generated or self.has_default


@attrs.frozen(kw_only=True)
class ForeignKey:
    """A foreign key that points at the table.

    ``table`` is the pointing table as printed, ``parts`` its name, ``oid`` its oid.
    ``columns`` hold what stands in ``refers_to`` of the table. ``acts`` says whether
    deleting a row changes or deletes those that point at it, ``forgets`` whether a new
    value in ``refers_to`` makes them lose theirs. ``part`` is the oid of the partition
    that it points at, 0 if that is the whole table.
    """

    name: str
    table: str
    parts: tuple[str, ...]
    oid: int
    columns: tuple[str, ...]
    refers_to: tuple[str, ...]
    acts: bool
    forgets: bool = False
    part: int = 0


@attrs.frozen(kw_only=True)
class Reaction:
    """A rule or trigger that a statement on the table, or on a partition, sets off.

    ``kind`` is ``rule`` or ``trigger``, ``table`` what it depends on, as printed.
    ``events`` are those of ``INSERT``, ``UPDATE`` and ``DELETE`` that set it off;
    ``instead`` says whether a rule replaces the statement, ``before`` whether a trigger
    may change or refuse a row before it is written.
    """

    kind: str
    name: str
    table: str
    events: tuple[str, ...]
    instead: bool = False
    before: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({' or '.join(self.events)}) of {self.table}"


@attrs.frozen(kw_only=True)
class Table:
    """A table's current state.

    ``keys`` are the columns of its unconditional unique indexes over columns that
    are never NULL, the primary key first; ``unique`` counts all unique indexes.
    ``referenced_by`` are the foreign keys that point at it or at a partition of it, and
    ``reactions`` the rules and triggers that are switched on; ``triggers`` says whether
    one of them is a trigger. ``children`` inherit from it and ``foreign`` are partitions
    that lie on another server, both as printed. ``fixed`` says in words why it takes no
    columns, empty if it does; ``unlogged`` that a crash of the server empties it.
    """

    oid: int
    name: QualifiedName
    partitioned: bool
    columns: tuple[TableColumn, ...]
    keys: tuple[tuple[str, ...], ...]
    unique: int
    referenced_by: tuple[ForeignKey, ...]
    triggers: bool
    reactions: tuple[Reaction, ...] = ()
    children: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    fixed: str = ""
    unlogged: bool = False

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


def is_equal(
    column: TableColumn | None, one: sql.Composable, other: sql.Composable
) -> sql.Composed:
    """Return the condition that two values are equal as the table's column has it.

    By the operator's schema: the search path is empty or the login's, and an extension's
    type (citext) would be compared as the text that it can become. Between two collations
    the column's decides.

    Args:
        column: None if it is to be added.
    """
    own = column.equals if column is not None else ""
    equals = sql.SQL(f"OPERATOR({own or 'pg_catalog.='})")
    if column is not None and column.collation:
        collation = sql.SQL(f" COLLATE {column.collation}")
        return sql.SQL("{}{} {} {}{}").format(one, collation, equals, other, collation)
    return sql.SQL("{} {} {}").format(one, equals, other)


def find_oid(conn: Conn, name: QualifiedName) -> int | None:
    """Return the oid of the table of that name.

    Raises:
        WriteRefused: something else than a table has the name.
    """
    row: Any = conn.execute(
        "SELECT c.oid::bigint, c.relkind::text FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        list(name.parts),
    ).fetchone()
    if row is None:
        return None
    _refuse_other(name, row[1])
    return int(row[0])


def _refuse_other(name: QualifiedName, kind: str) -> None:
    if kind not in ("r", "p"):
        raise WriteRefused(
            f"{name} is {_KINDS.get(kind, 'no table')}, not a table",
            "write to another table",
            target=str(name),
        )


# Only what is always enforced counts as a key: a partial, deferrable or
# expression index, or one with NULLs, doesn't tell two rows apart.
# A foreign key may point at a partition, and triggers may depend on one. Those that act
# when a row goes are found by their triggers, which have an index; the copy that a
# partition has of its parent's is no second one.
_DESCRIBE = """
SELECT w.place, c.oid::bigint, c.relkind::text,
  (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod),
            a.attnotnull, a.attidentity::text <> '', a.attgenerated::text <> '', a.atthasdef,
            CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
            t.typtype = 'e' OR coalesce(e.typtype = 'e', false) OR coalesce(b.typtype = 'e', false),
            CASE WHEN a.attcollation <> t.typcollation THEN
             (SELECT format('%%I.%%I', cn.nspname, l.collname) FROM pg_catalog.pg_collation l
              JOIN pg_catalog.pg_namespace cn ON cn.oid = l.collnamespace
              WHERE l.oid = a.attcollation) END,
            a.attcollation IN (0, 100) OR (SELECT l.collisdeterministic
             FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation),
            CASE WHEN coalesce(b.typnamespace, t.typnamespace) <> 'pg_catalog'::regnamespace THEN
             (SELECT format('%%I.%%s', pn.nspname, p.oprname) FROM pg_catalog.pg_opclass oc
              JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily
               AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
               AND ao.amopstrategy = 3
              JOIN pg_catalog.pg_am am ON am.oid = oc.opcmethod AND am.amname = 'btree'
              JOIN pg_catalog.pg_operator p ON p.oid = ao.amopopr
              JOIN pg_catalog.pg_namespace pn ON pn.oid = p.oprnamespace
              WHERE oc.opcintype = coalesce(b.oid, t.oid) AND oc.opcdefault
               AND pn.nspname <> 'pg_catalog') END)
          ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute a
   JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
   LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
   LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT json_agg(json_build_array(
            array(SELECT a.attname FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
                  WHERE k.place <= i.indnkeyatts ORDER BY k.place),
            i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND
            NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, place)
                        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
                        WHERE k.place <= i.indnkeyatts AND NOT a.attnotnull))
          ORDER BY i.indisprimary DESC, i.indexrelid)
   FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique),
  (SELECT json_agg(json_build_array(f.conname, f.conrelid::regclass::text, fn.nspname,
            fc.relname, f.conrelid::bigint,
            array(SELECT a.attname FROM unnest(f.conkey) WITH ORDINALITY k(num, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.num
                  ORDER BY k.place),
            array(SELECT a.attname FROM unnest(f.confkey) WITH ORDINALITY k(num, place)
                  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.num
                  ORDER BY k.place),
            f.confdeltype IN ('c', 'n', 'd'), f.confupdtype IN ('n', 'd'),
            CASE WHEN f.confrelid <> c.oid THEN f.confrelid::bigint ELSE 0 END)
          ORDER BY f.conrelid::regclass::text, f.conname)
   FROM pg_catalog.pg_constraint f
   JOIN pg_catalog.pg_class fc ON fc.oid = f.conrelid
   JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
   WHERE f.oid = ANY (ARRAY(SELECT g.tgconstraint FROM pg_catalog.pg_trigger g
                            WHERE g.tgrelid = ANY (m.members) AND g.tgconstraint <> 0))
     AND f.contype = 'f' AND f.confrelid = ANY (m.members)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p
                     WHERE p.oid = f.conparentid AND p.confrelid = ANY (m.members))),
  (SELECT json_agg(json_build_array('trigger', quote_ident(g.tgname), g.tgrelid::regclass::text,
            array_remove(ARRAY[CASE WHEN g.tgtype & 4 > 0 THEN 'INSERT' END,
                               CASE WHEN g.tgtype & 16 > 0 THEN 'UPDATE' END,
                               CASE WHEN g.tgtype & 8 > 0 THEN 'DELETE' END], NULL),
            false, g.tgtype & 2 > 0) ORDER BY g.tgrelid::regclass::text, g.tgname)
   FROM pg_catalog.pg_trigger g
   WHERE g.tgrelid = ANY (m.members) AND NOT g.tgisinternal AND g.tgtype & 28 > 0
     AND (g.tgrelid = c.oid OR g.tgtype & 1 > 0) AND g.tgenabled::text = ANY (m.fired)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger p
                     WHERE p.oid = g.tgparentid AND p.tgrelid = ANY (m.members))),
  (SELECT json_agg(json_build_array('rule', quote_ident(r.rulename), c.oid::regclass::text,
            ARRAY[CASE r.ev_type WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END],
            r.is_instead, false) ORDER BY r.rulename)
   FROM pg_catalog.pg_rewrite r
   WHERE r.ev_class = c.oid AND r.ev_type IN ('2', '3', '4') AND r.ev_enabled::text = ANY (m.fired)),
  CASE WHEN c.relkind = 'r' AND c.relhassubclass THEN
   (SELECT json_agg(i.inhrelid::regclass::text ORDER BY i.inhrelid::regclass::text)
    FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) END,
  CASE WHEN c.relkind = 'p' THEN
   (SELECT json_agg(p.oid::regclass::text ORDER BY p.oid::regclass::text)
    FROM pg_catalog.pg_class p WHERE p.oid = ANY (m.members) AND p.relkind = 'f') END,
  CASE WHEN c.reloftype <> 0 THEN 'it is of type ' || format_type(c.reloftype, NULL)
       WHEN c.relispartition THEN 'it is a partition of ' ||
        (SELECT i.inhparent::regclass::text FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
       ELSE '' END,
  c.relpersistence = 'u'
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w(schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
CROSS JOIN LATERAL (SELECT
  CASE WHEN c.relkind = 'p' THEN ARRAY(
    WITH RECURSIVE tree AS (SELECT c.oid AS relid UNION ALL
      SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.relid)
    SELECT relid FROM tree) ELSE ARRAY[c.oid] END AS members,
  CASE current_setting('session_replication_role') WHEN 'replica' THEN ARRAY['R', 'A']
    ELSE ARRAY['O', 'A'] END AS fired) AS m
"""

#: Types whose values are identical where they are equal, text under most collations.
_IDENTICAL = frozenset(
    {"boolean", "smallint", "integer", "bigint", "oid", "date", "uuid", "bytea",
     "timestamp without time zone", "timestamp with time zone", "time without time zone",
     "text", "character varying", "character", "name", "macaddr", "macaddr8"}
)  # fmt: skip


def describe(conn: Conn, name: QualifiedName) -> Table | None:
    """Return the table of that name as it stands, or None."""
    return describe_all(conn, [name]).get(name)


def describe_all(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, Table]:
    """Return the tables of those names that are there, by one query for all of them.

    Raises:
        WriteRefused: something else than a table bears one of the names.
    """
    if not wanted:
        return {}
    parts = [[name.parts[0] for name in wanted], [name.parts[1] for name in wanted]]
    found = {}
    for row in conn.execute(_DESCRIBE, parts):
        place, oid, kind, columns, keys, pointing, triggers, rules, *rest = row
        children, foreign, fixed, unlogged = rest
        name = wanted[place - 1]
        _refuse_other(name, kind)
        found[name] = Table(
            oid=int(oid),
            name=name,
            partitioned=kind == "p",
            triggers=bool(triggers),
            columns=tuple(_column(tuple(row)) for row in columns or ()),
            keys=tuple(tuple(key) for key, usable in keys or () if usable),
            unique=len(keys or ()),
            referenced_by=tuple(_foreign_key(row) for row in pointing or ()),
            reactions=tuple(_reaction(row) for row in (*(triggers or ()), *(rules or ()))),
            children=tuple(children or ()),
            foreign=tuple(foreign or ()),
            fixed=fixed,
            unlogged=unlogged,
        )
    return found


def _reaction(row: Sequence[Any]) -> Reaction:
    kind, name, table, events, instead, before = row
    return Reaction(
        kind=kind, name=name, table=table, events=tuple(events), instead=instead, before=before
    )


def _foreign_key(row: Sequence[Any]) -> ForeignKey:
    name, table, schema, bare, other, held, referred, acts, forgets, part = row
    return ForeignKey(
        name=name,
        table=table,
        parts=(schema, bare),
        oid=other,
        columns=tuple(held),
        refers_to=tuple(referred),
        acts=acts,
        forgets=forgets,
        part=part,
    )


def _column(row: tuple[Any, ...]) -> TableColumn:
    name, declared, not_null, identity, generated, has_default, base, enum, *rest = row
    collation, deterministic, equals = rest
    kind = PgType.parse(base or declared)
    return TableColumn(
        name=name,
        type=kind,
        declared=declared,
        not_null=not_null,
        identity=identity,
        generated=generated,
        has_default=has_default,
        enum=enum,
        collation=collation or "",
        exact=deterministic and (enum or kind.base in _IDENTICAL) and not kind.array and not equals,
        equals=equals or "",
    )


def store_identity(context: ExecutionContext, conn: Conn) -> str:
    """Return the physical identity of this server and database, without a secret.

    The cluster's system identifier is the same by whatever host name it is reached
    (clones made by a base backup share it). A role that may not call
    ``pg_control_system`` gets host and port instead. Asked once a command.
    """
    pool = pool_of(context)
    if not pool.identity:
        pool.identity = _ask_identity(conn, connection_of(context).place)
    return pool.identity


def _ask_identity(conn: Conn, place: str) -> str:
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
