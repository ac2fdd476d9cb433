"""Makes views of one environment on another one's tables: checks, creates and drops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import errors as pg

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import (
    ExecutionContext,
    Linked,
    Origin,
    QualifiedName,
    Target,
)
from seeknal_postgres.connection.errors import said, translated
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.script import Script
from seeknal_postgres.connection.settings import settle
from seeknal_postgres.ledger import making
from seeknal_postgres.ledger.links import (
    AS_MADE,
    INVOKER,
    columns_of,
    creation,
    find,
    give,
    make_way,
)
from seeknal_postgres.ledger.records import LINK, Ledger, Written
from seeknal_postgres.ledger.tables import store_identity

#: The first version in which membership doesn't always mean SET ROLE.
_SET_OPTION = 160_000


_WHY_NOT = """
SELECT w.place, o.oid IS NOT NULL AND o.relkind IN ('r', 'p'), o.relrowsecurity,
  has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(o.oid, 'SELECT'),
  pg_has_role(o.relowner, current_user::regrole::oid, %s), pg_get_userbyid(o.relowner)::text,
  current_user::text, t.relkind::text, t.oid::bigint
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
  WITH ORDINALITY AS w(schema, name, origin_schema, origin_name, place)
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.origin_schema
LEFT JOIN pg_catalog.pg_class o ON o.relnamespace = n.oid AND o.relname = w.origin_name
LEFT JOIN pg_catalog.pg_namespace m ON m.nspname = w.schema
LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = m.oid AND t.relname = w.name
ORDER BY w.place
"""


def can_link_targets(
    context: ExecutionContext, targets: Sequence[Target], origins: Sequence[Origin]
) -> tuple[str, ...]:
    """Implement the hook of the same name: one query for all of them."""
    with (
        pool_of(context).take(context) as conn,
        translated(context, connection_of(context).place),
    ):
        settle(conn)
        if conn.info.server_version < INVOKER:
            return ("the server is older than PostgreSQL 15",) * len(targets)
        store = store_identity(context, conn)
        ledger = Ledger.of(context, conn)
        ours = (
            find(ledger, [target.name for target in targets], context.project)
            if ledger.exists()
            else {}
        )
        rows = _ask_why_not(conn, targets, origins)
    return tuple(
        _why_not(row, origin, f"{store}/{origin.name}", target.name in ours)
        for row, target, origin in zip(rows, targets, origins, strict=True)
    )


def _ask_why_not(
    conn: Conn, targets: Sequence[Target], origins: Sequence[Origin]
) -> list[tuple[Any, ...]]:
    right = "SET" if conn.info.server_version >= _SET_OPTION else "MEMBER"
    return conn.execute(
        _WHY_NOT,
        [right, *_parts(targets, origins)],
    ).fetchall()


def _why_not(row: tuple[Any, ...], origin: Origin, here: str, ours: bool) -> str:
    """Return why one target can't be a link, or nothing."""
    _, there, policies, may_read, is_member, owner, role, kind, _ = row
    if origin.identity != here:
        return "production's table is in another database"
    if not there:
        return f"{origin.name} is not a table"
    if policies:
        return f"private: {origin.name} has row-level security"
    if not may_read:
        return f"private: role {role!r} may not read {origin.name}"
    if not is_member:
        return (
            f"{owner!r}, who owns {origin.name}, is no member of {role!r}, "
            "and could not move the link out of its way"
        )
    if kind is not None and not ours:
        return "something else has its name"
    return ""


def link_targets(
    context: ExecutionContext, targets: Sequence[Target], origins: Sequence[Origin]
) -> tuple[Linked, ...]:
    """Implement the hook of the same name: one transaction for all of them."""
    pool = pool_of(context)
    place = connection_of(context).place
    with pool.take(context) as conn, translated(context, place, writing=True):
        for target in targets:
            ledger = making.ensure(context, pool, conn, target)
        with conn.transaction():
            settle(conn)
            columns = columns_of(conn, [origin.name for origin in origins])
            for origin in origins:
                if origin.name not in columns:
                    raise WriteRefused(
                        f"{origin.name} is gone, and can't be linked",
                        "look again: seeknal run",
                        target=str(origin.name),
                    )
            standing = find(ledger, [target.name for target in targets], context.project)
            script = Script(conn)
            for target, origin in zip(targets, origins, strict=True):
                if target.name not in standing:
                    script.add(creation(target.name, origin.name, columns[origin.name]))
            try:
                script.flush()
            except pg.DuplicateTable as error:
                raise WriteRefused(
                    f"{place}: {said(error)}, and is not a link of ours",
                    "drop or rename it, or take it over with --all-targets --adopt",
                    target=place,
                ) from error
            for target, origin in zip(targets, origins, strict=True):
                if target.name in standing:
                    _renew(context, ledger, target.name, origin.name, columns[origin.name])
            _record(context, ledger, targets, origins)
            denied = _denied(conn, targets, origins)
    return tuple(
        Linked(
            version=AS_MADE,
            notes=tuple(
                f"role {role!r} may read it but not {origin.name}, and is denied"
                for role in denied.get(target.name, ())
            ),
        )
        for target, origin in zip(targets, origins, strict=True)
    )


_DENIED = """
SELECT w.place, pg_get_userbyid(a.grantee)::text
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
  WITH ORDINALITY AS w(schema, name, origin_schema, origin_name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
JOIN pg_catalog.pg_namespace m ON m.nspname = w.origin_schema
JOIN pg_catalog.pg_class o ON o.relnamespace = m.oid AND o.relname = w.origin_name
CROSS JOIN LATERAL aclexplode(c.relacl) a
WHERE a.privilege_type = 'SELECT' AND a.grantee <> 0 AND a.grantee <> c.relowner
  AND NOT (has_schema_privilege(a.grantee, m.oid, 'USAGE')
           AND has_table_privilege(a.grantee, o.oid, 'SELECT'))
ORDER BY 1, 2
"""


def _denied(
    conn: Conn, targets: Sequence[Target], origins: Sequence[Origin]
) -> dict[QualifiedName, list[str]]:
    """Return the roles that were given a link, and may not read what it shows."""
    found: dict[QualifiedName, list[str]] = {}
    for place, role in conn.execute(_DENIED, _parts(targets, origins)):
        found.setdefault(targets[place - 1].name, []).append(role)
    return found


def _parts(targets: Sequence[Target], origins: Sequence[Origin]) -> list[list[str]]:
    return [
        *([one.name.parts[place] for one in targets] for place in (0, 1)),
        *([one.name.parts[place] for one in origins] for place in (0, 1)),
    ]


def _renew(
    context: ExecutionContext,
    ledger: Ledger,
    name: QualifiedName,
    origin: QualifiedName,
    columns: Sequence[str],
) -> None:
    """Give a link its required definition; objects that depend on it stay if possible."""
    try:
        with ledger.conn.transaction():
            ledger.conn.execute(creation(name, origin, columns, replace=True))
    except (pg.InvalidTableDefinition, pg.DatatypeMismatch):
        # Columns went, or changed their order.
        for rights in make_way(context, ledger, [name]).values():
            ledger.conn.execute(creation(name, origin, columns))
            give(ledger.conn, name, rights, view=True)


def _record(
    context: ExecutionContext,
    ledger: Ledger,
    targets: Sequence[Target],
    origins: Sequence[Origin],
) -> None:
    """Write the links down, in the transaction that makes them."""
    rows = ledger.conn.execute(
        "SELECT w.place, c.oid::bigint, md5(pg_get_viewdef(c.oid))"
        " FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w(schema, name, place)"
        " JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema"
        " JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name",
        [[t.name.parts[0] for t in targets], [t.name.parts[1] for t in targets]],
    ).fetchall()
    found = {targets[place - 1].name: (oid, digest) for place, oid, digest in rows}
    ledger.record_writes(
        context,
        [
            Written(
                target=target,
                content_key=origin.content_key,
                oid=found[target.name][0],
                rows=0,
                created=True,
                version=found[target.name][1],
                mode=LINK,
            )
            for target, origin in zip(targets, origins, strict=True)
        ],
    )


def unlink_target(context: ExecutionContext, target: Target) -> bool:
    """Implement the hook of the same name."""
    with (
        pool_of(context).take(context) as conn,
        translated(context, str(target.name), writing=True),
        conn.transaction(),
    ):
        settle(conn)
        ledger = Ledger.of(context, conn)
        return ledger.exists() and bool(make_way(context, ledger, [target.name]))
