"""The tables of a promotion in the ledger's schema, and their derived names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

import attrs
from psycopg import sql

from seeknal_core.contract.types import ExecutionContext, QualifiedName
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import identifier
from seeknal_postgres.names import qualified

T = TypeVar("T")

#: Targets whose tables are dropped in one transaction, each of up to four locks.
_AT_ONCE = 200


@attrs.frozen(kw_only=True)
class Places:
    """The tables of one target of a promotion.

    ``stage`` holds the staged rows, ``undo`` rows as they were before the publish,
    ``keys`` the keys of rows that the publish inserted. A publish ends the first. Their
    names are made of the promotion and the target, so that they are found without any
    record.
    """

    stage: QualifiedName
    undo: QualifiedName
    keys: QualifiedName

    @classmethod
    def of(cls, context: ExecutionContext, schema: str, promotion: str, key: str) -> Places:
        """Derive the names in the ledger's schema."""
        text = "\0".join((context.project, promotion, key))
        digest = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls(
            stage=qualified(schema, f"stage_{digest}"),
            undo=qualified(schema, f"undo_{digest}"),
            keys=qualified(schema, f"undo_{digest}_keys"),
        )

    @property
    def all(self) -> tuple[QualifiedName, ...]:
        """All of them, whether or not they exist."""
        return self.stage, self.undo, self.keys

    @property
    def rows(self) -> sql.Identifier:
        """The staged rows, for a statement."""
        return identifier(self.stage)


def claim(conn: Conn, places: Sequence[Places]) -> None:
    """Keep others from creating or dropping these tables until this transaction's end.

    Waits for the server's process of a client that was killed in the middle.
    """
    conn.execute(
        "SELECT count(pg_advisory_xact_lock(hashtextextended('seeknal ' || name, 0))::text)"
        " FROM unnest(%s::text[]) AS name",
        [sorted(str(each.stage) for each in places)],
    )


def portions(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield as many targets' tables at a time as may be dropped by one transaction."""
    for start in range(0, len(found), _AT_ONCE):
        yield found[start : start + _AT_ONCE]


def drop(conn: Conn, tables: Sequence[QualifiedName]) -> None:
    """Drop tables of the ledger's schema that are there."""
    rows = conn.execute(
        "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s) ORDER BY 1, 2",
        [[name.parts[0] for name in tables], [name.parts[1] for name in tables]],
    ).fetchall()
    if rows:
        listed = sql.SQL(", ").join(sql.Identifier(*row) for row in rows)
        conn.execute(sql.SQL("DROP TABLE {} RESTRICT").format(listed))
