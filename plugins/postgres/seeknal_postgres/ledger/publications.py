"""Publications that would send our tables to their subscribers."""

from __future__ import annotations

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import ExecutionContext
from seeknal_postgres.connection.pool import Conn, connection_of


def publishing(conn: Conn, schema: str) -> list[str]:
    """Return the publications, printed, that cover every table made in a schema."""
    rows = conn.execute(
        "SELECT quote_ident(p.pubname) FROM pg_catalog.pg_publication p WHERE p.puballtables"
        " ORDER BY 1"
    ).fetchall()
    # Publications of schemas came with version 15.
    if conn.info.server_version >= 150_000:
        rows += conn.execute(
            "SELECT quote_ident(p.pubname) FROM pg_catalog.pg_publication_namespace s"
            " JOIN pg_catalog.pg_publication p ON p.oid = s.pnpubid"
            " JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid WHERE n.nspname = %s ORDER BY 1",
            [schema],
        ).fetchall()
    return [row[0] for row in rows]


def refuse(context: ExecutionContext, conn: Conn, schema: str) -> None:
    """Refuse to create our tables if a publication would include them.

    Its subscribers have no such tables, and stop at the first row of one.

    Raises:
        WriteRefused: naming the publications, unless the connection allows it.
    """
    found = publishing(conn, schema) if not connection_of(context).allow_publication else []
    if found:
        raise WriteRefused(
            f"{connection_of(context).place}: publication {', '.join(found)} covers every table, "
            f"Seeknal's own in {schema} too, and its subscribers would stop at them",
            "publish the tables by name or by schema, or write allow_publication: true in the "
            "connection where nobody subscribes",
            target=schema,
        )
