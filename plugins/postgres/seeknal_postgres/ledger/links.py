"""Links: views of one environment that read another one's tables, live.

A link is made of one fixed form, so that it can be made again whenever production's DDL
needs it out of the way. It names its columns, so that a column that comes to the table
doesn't matter to it; it joins a table without columns, so that nobody can write through
it; and it checks the reader's own rights (``security_invoker``, PostgreSQL 15). The
ledger of its environment has an entry for it, with mode ``link``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import (
    ExecutionContext,
    QualifiedName,
    TargetColumn,
)
from seeknal_postgres.connection.errors import said
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.records import Ledger
from seeknal_postgres.ledger.tables import identifier, names

#: The version of a link whose definition is the one that we gave it.
AS_MADE = "link"

#: The first version whose views can check the reader's own rights.
INVOKER = 150_000


@attrs.frozen(kw_only=True)
class Link:
    """A link's current state. ``version`` is `AS_MADE`, or another value for another definition."""

    oid: int
    version: str
    columns: tuple[TargetColumn, ...]


_FIND = """
SELECT w.place, c.oid::bigint, md5(pg_get_viewdef(c.oid)), t.version,
  (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod))
          ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w(schema_name, table_name, place)
JOIN {schema}.targets t ON t.schema_name = w.schema_name AND t.table_name = w.table_name
JOIN pg_catalog.pg_class c ON c.oid = t.table_oid AND c.relkind = 'v' AND c.relname = t.table_name
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name
WHERE t.mode = 'link' AND (%s::text IS NULL OR t.project = %s)
"""


def find(
    ledger: Ledger, wanted: Sequence[QualifiedName], project: str | None = None
) -> dict[QualifiedName, Link]:
    """Return those of the names that are links of the ledger's environment.

    Args:
        project: whose links, None for any project's.
    """
    rows = ledger.conn.execute(
        ledger._sql(_FIND),
        [[n.parts[0] for n in wanted], [n.parts[1] for n in wanted], project, project],
    )
    return {
        wanted[place - 1]: Link(
            oid=oid,
            version=AS_MADE if digest == made else f"{AS_MADE}, altered {digest}",
            columns=tuple(TargetColumn(name=name, type=kind) for name, kind in columns or ()),
        )
        for place, oid, digest, made, columns in rows
    }


_COLUMNS = """
SELECT w.place, json_agg(a.attname ORDER BY a.attnum)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w(schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
  AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY w.place
"""


def columns_of(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, list[str]]:
    """Return the names of columns, by table."""
    rows = conn.execute(_COLUMNS, [[n.parts[0] for n in wanted], [n.parts[1] for n in wanted]])
    return {wanted[place - 1]: list(columns) for place, columns in rows}


def creation(
    name: QualifiedName, origin: QualifiedName, columns: Sequence[str], *, replace: bool = False
) -> sql.Composed:
    """Return the statement that makes a link."""
    return sql.SQL(
        "CREATE {}VIEW {} ({}) WITH (security_invoker = true) AS"
        " SELECT {} FROM {} AS t CROSS JOIN (SELECT) AS ro"
    ).format(
        sql.SQL("OR REPLACE " if replace else ""),
        identifier(name),
        names(columns),
        names(columns, "t"),
        identifier(origin),
    )


@attrs.frozen(kw_only=True)
class Rights:
    """What users set on a link: its owner, grants and comment."""

    owner: str
    grants: tuple[tuple[str, bool, str | None], ...]
    comment: str | None


def make_way(
    context: ExecutionContext, ledger: Ledger, wanted: Sequence[QualifiedName]
) -> dict[QualifiedName, Rights]:
    """Drop the environment's own links of those names, in the open transaction.

    Returns:
        The rights that they had, for the objects that replace them.

    Raises:
        WriteRefused: something of somebody's depends on a link; it is named.
    """
    ours = find(ledger, wanted, context.project)
    if not ours:
        return {}
    rights = rights_of(ledger.conn, {name: link.oid for name, link in ours.items()})
    drop(ledger, list(ours))
    return rights


def drop(ledger: Ledger, wanted: Sequence[QualifiedName], *, forget: bool = True) -> None:
    """Drop links that are the ledger's, and their entries unless they are made again.

    Raises:
        WriteRefused: something of somebody's depends on one.
    """
    listed = sql.SQL(", ").join(identifier(name) for name in wanted)
    try:
        with ledger.conn.transaction():
            ledger.conn.execute(sql.SQL("DROP VIEW {} RESTRICT").format(listed))
    except pg.DependentObjectsStillExist as error:
        raise hanging(", ".join(map(str, wanted[:5])), said(error)) from error
    if not forget:
        return
    ledger.conn.execute(
        ledger._sql(
            "DELETE FROM {schema}.targets t USING unnest(%s::text[], %s::text[]) AS w(schema, name)"
            " WHERE t.schema_name = w.schema AND t.table_name = w.name AND t.mode = 'link'"
        ),
        [[n.parts[0] for n in wanted], [n.parts[1] for n in wanted]],
    )


def rights_of(conn: Conn, oids: Mapping[QualifiedName, int]) -> dict[QualifiedName, Rights]:
    """Return what users set on links."""
    listed = list(oids)
    rows = conn.execute(
        "SELECT w.place, pg_get_userbyid(c.relowner)::text,"
        " (SELECT json_agg(json_build_array(a.privilege_type, a.is_grantable,"
        "    CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END))"
        "  FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner),"
        " obj_description(c.oid, 'pg_class')"
        " FROM unnest(%s::oid[]) WITH ORDINALITY AS w(oid, place)"
        " JOIN pg_catalog.pg_class c ON c.oid = w.oid",
        [list(oids.values())],
    )
    return {
        listed[place - 1]: Rights(
            owner=owner,
            grants=tuple((kind, option, grantee) for kind, option, grantee in grants or ()),
            comment=comment,
        )
        for place, owner, grants, comment in rows
    }


def give(conn: Conn, name: QualifiedName, rights: Rights, *, view: bool = False) -> None:
    """Restore a link's rights, on the link or on the table that replaced it."""
    what = sql.SQL("VIEW" if view else "TABLE")
    if rights.comment is not None:
        conn.execute(
            sql.SQL("COMMENT ON {} {} IS {}").format(
                what, identifier(name), sql.Literal(rights.comment)
            )
        )
    for privilege, grantable, grantee in rights.grants:
        conn.execute(
            sql.SQL("GRANT {} ON {} TO {}{}").format(
                sql.SQL(privilege),
                identifier(name),
                sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable and grantee else ""),
            )
        )


def hanging(which: str, what: str) -> WriteRefused:
    """Return the error for a link that can't be dropped, since something depends on it."""
    return WriteRefused(
        f"link {which} has to make way, and something hangs on it: {what}",
        "drop what hangs on the link, or let it read the table itself, then run again",
        target=which,
    )
