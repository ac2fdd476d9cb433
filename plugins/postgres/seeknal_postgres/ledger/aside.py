"""Drops links while their table's columns change, and creates them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.types import (
    ExecutionContext,
    QualifiedName,
)
from seeknal_postgres.connection.pool import Conn, connection_of
from seeknal_postgres.ledger.links import (
    INVOKER,
    Rights,
    columns_of,
    creation,
    drop,
    find,
    give,
    hanging,
    rights_of,
)
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.names import qualified


@attrs.frozen(kw_only=True)
class _Aside:
    """A link that was dropped so that its table's DDL can run."""

    name: QualifiedName
    origin: int
    columns: tuple[str, ...]
    rights: Rights
    ledger: str


_ON_TABLES = """
SELECT DISTINCT c.oid::bigint, n.nspname::text, c.relname::text, d.refobjid::bigint,
  pg_get_userbyid(c.relowner)::text,
  ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass
  AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = ANY(%s::oid[])
  AND c.oid <> d.refobjid
ORDER BY 2, 3
"""


@contextmanager
def aside(context: ExecutionContext, conn: Conn, oids: Sequence[int]) -> Iterator[None]:
    """Drop all links on tables, and create them again at the end of the block.

    All of it in the open transaction: nobody else sees that they were gone. A column
    that the block took from a table is taken from the link, too; a table that it
    dropped has no link any more.

    Raises:
        WriteRefused: something of somebody's depends on a link; it is named.
    """
    moved = put_aside(context, conn, oids)
    yield
    for one in moved:
        _put_back(conn, one)


def put_aside(context: ExecutionContext, conn: Conn, oids: Sequence[int]) -> list[_Aside]:
    """Drop all links on tables; views that are not our links stay, and the DDL names them."""
    moved: list[_Aside] = []
    for one in _standing(context, conn, oids):
        with _as_owner(conn, one.owner):
            rights = rights_of(conn, {one.name: one.oid})[one.name]
            drop(one.book, [one.name], forget=False)
        moved.append(
            _Aside(
                name=one.name,
                origin=one.origin,
                columns=one.columns,
                rights=rights,
                ledger=one.book.schema,
            )
        )
    return moved


@attrs.frozen(kw_only=True)
class _Standing:
    """A link on a table, and the ledger that has it."""

    oid: int
    name: QualifiedName
    origin: int
    owner: str
    columns: tuple[str, ...]
    book: Ledger


def _standing(context: ExecutionContext, conn: Conn, oids: Sequence[int]) -> Iterator[_Standing]:
    """Find the links on tables, of all environments, that this role may move."""
    if not oids or conn.info.server_version < INVOKER:
        return
    found = conn.execute(_ON_TABLES, [list(oids)]).fetchall()
    for oid, schema, table, origin, owner, columns in found:
        name = qualified(schema, table)
        with _as_owner(conn, owner) as allowed:
            book = _book_of(context, conn, name, oid) if allowed else None
        if book is not None:
            yield _Standing(
                oid=oid, name=name, origin=origin, owner=owner, columns=tuple(columns), book=book
            )


_ON_LINKS = """
SELECT DISTINCT v.oid::bigint, pg_describe_object(o.classid, o.objid, 0)
FROM pg_catalog.pg_class v
JOIN pg_catalog.pg_depend d ON (d.refclassid, d.refobjid) IN (
  ('pg_catalog.pg_class'::regclass, v.oid), ('pg_catalog.pg_type'::regclass, v.reltype))
LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass
  AND r.oid = d.objid
CROSS JOIN LATERAL (SELECT
  CASE WHEN r.oid IS NOT NULL THEN 'pg_catalog.pg_class'::regclass::oid ELSE d.classid END,
  coalesce(r.ev_class, d.objid)) AS o(classid, objid)
WHERE v.oid = ANY(%s::oid[]) AND d.deptype = 'n' AND o.objid <> v.oid
ORDER BY 1, 2
"""


def movable(context: ExecutionContext, conn: Conn, oid: int) -> list[int]:
    """Return the links on a table that a change of its columns moves aside, moving none.

    Raises:
        WriteRefused: something of somebody's depends on one; it is named.
    """
    links = {one.oid: one.name for one in _standing(context, conn, [oid])}
    if links:
        for link, user in conn.execute(_ON_LINKS, [list(links)]):
            raise hanging(str(links[link]), f"{user} uses it")
    return list(links)


@contextmanager
def _as_owner(conn: Conn, owner: str) -> Iterator[bool]:
    """Act as a link's owner; return False if this role may not."""
    row: Any = conn.execute("SELECT current_user::text").fetchone()
    if row[0] == owner:
        yield True
        return
    try:
        with conn.transaction():
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner)))
    except pg.InsufficientPrivilege:
        yield False
        return
    yield True
    conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(row[0])))


def _book_of(context: ExecutionContext, conn: Conn, name: QualifiedName, oid: int) -> Ledger | None:
    """Return the ledger that has a view as a link, None if none has."""
    own = Ledger.of(context, conn)
    # The link's owner need not be a role that may use this environment's ledger.
    row = conn.execute(
        "SELECT coalesce(bool_or(has_schema_privilege(oid, 'USAGE')), false)"
        " FROM pg_catalog.pg_namespace WHERE nspname = %s",
        [own.schema],
    ).fetchone()
    usable = bool(row and row[0]) and own.exists()
    books = [*([own] if usable else []), *own.siblings(connection_of(context).state_schema)]
    for book in books:
        link = find(book, [name]).get(name)
        if link is not None and link.oid == oid:
            return book
    return None


def _put_back(conn: Conn, one: _Aside) -> None:
    row: Any = conn.execute(
        "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s",
        [one.origin],
    ).fetchone()
    entry = [*one.name.parts]
    with _as_owner(conn, one.rights.owner):
        if row is None:
            conn.execute(
                sql.SQL("DELETE FROM {}.targets WHERE schema_name = %s AND table_name = %s").format(
                    sql.Identifier(one.ledger)
                ),
                entry,
            )
            return
        origin = qualified(row[0], row[1])
        there = set(columns_of(conn, [origin])[origin])
        conn.execute(creation(one.name, origin, [c for c in one.columns if c in there]))
        give(conn, one.name, one.rights, view=True)
        conn.execute(
            sql.SQL(
                "UPDATE {}.targets t SET table_oid = c.oid::bigint,"
                " version = md5(pg_get_viewdef(c.oid))"
                " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
                " ON n.oid = c.relnamespace WHERE n.nspname = t.schema_name"
                " AND c.relname = t.table_name AND t.schema_name = %s AND t.table_name = %s"
            ).format(sql.Identifier(one.ledger)),
            entry,
        )
