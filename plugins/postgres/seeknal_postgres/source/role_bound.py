"""Whether a source's rows depend on the role that reads them.

A view or a query that names ``current_user``, ``session_user`` or ``current_setting`` gives
each role its own rows. The definitions of the view, of the views that it uses and of the
functions that these call are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import LiteralString

from psycopg import sql

from seeknal_postgres.connection.pool import Conn

#: What SQL can ask about its role or its session. ``user`` is a keyword unless it is quoted.
_ASKS = re.compile(
    r"\b(current_user|session_user|current_role|current_setting|pg_has_role|has_\w+_privilege"
    r'|row_security_active|inet_client_addr|pg_backend_pid)\b|(?<![\w".$])user(?![\w"(])',
    re.IGNORECASE,
)
_WORD = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')

#: The definitions of views, of all that they use, and of functions of users that they call.
_DEFINITIONS: LiteralString = """
WITH RECURSIVE used(oid) AS (
    SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY(%(views)s::oid[])
  UNION
    SELECT d.refobjid FROM used u
    JOIN pg_catalog.pg_class v ON v.oid = u.oid AND v.relkind = 'v'
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid
    JOIN pg_catalog.pg_depend d
      ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> v.oid)
, views AS (
    SELECT c.oid FROM used JOIN pg_catalog.pg_class c USING (oid) WHERE c.relkind = 'v')
SELECT pg_catalog.pg_get_viewdef(oid) FROM views
UNION ALL
SELECT p.prosrc || coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '')
FROM pg_catalog.pg_proc p
WHERE p.oid >= 16384 AND (p.oid = ANY(%(functions)s::oid[]) OR p.oid IN (
    SELECT d.refobjid FROM views
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = views.oid
    JOIN pg_catalog.pg_depend d
      ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
     AND d.refclassid = 'pg_catalog.pg_proc'::regclass))
"""
#: Views and functions of users that may be what a query's words name.
_NAMED: LiteralString = """
SELECT 'v', c.oid FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'v' AND c.relname = ANY(%(words)s)
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'f', p.oid FROM pg_catalog.pg_proc p WHERE p.oid >= 16384 AND p.proname = ANY(%(words)s)
"""


def role_of_table(conn: Conn, table: Sequence[str]) -> str:
    """Return the session's role if it decides which rows a view gives, else nothing.

    Args:
        table: schema and name.
    """
    found = conn.execute(
        sql.SQL("SELECT oid FROM pg_catalog.pg_class WHERE oid = {}::regclass AND relkind = 'v'")
        .format(sql.Literal(sql.Identifier(*table).as_string(conn)))
    ).fetchall()  # fmt: skip
    views = [row[0] for row in found]
    return _role(conn) if views and _asks(_definitions(conn, views, [])) else ""


def role_of_query(conn: Conn, query: str) -> str:
    """Return the session's role if it may decide which rows a query gives, else nothing.

    A view of another schema that is called like one of the query's words counts, too.
    """
    if _ASKS.search(query):
        return _role(conn)
    words = [quoted.replace('""', '"') or bare.lower() for quoted, bare in _WORD.findall(query)]
    named = conn.execute(_NAMED, {"words": sorted(set(words))}).fetchall()
    if not named:
        return ""
    views, functions = ([oid for kind, oid in named if kind == each] for each in "vf")
    return _role(conn) if _asks(_definitions(conn, views, functions)) else ""


def _definitions(conn: Conn, views: list[int], functions: list[int]) -> Iterable[str]:
    rows = conn.execute(_DEFINITIONS, {"views": views, "functions": functions}).fetchall()
    return [text for (text,) in rows if text]


def _asks(texts: Iterable[str]) -> bool:
    return any(_ASKS.search(text) for text in texts)


def _role(conn: Conn) -> str:
    row = conn.execute("SELECT current_user::text || '/' || session_user::text").fetchone()
    assert row is not None
    return str(row[0])
