"""How many rows tables have, and the versions that change with every write of anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from seeknal_core.contract.types import QualifiedName
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import identifier

# Every write of a row leaves the number of its transaction in xmin, and a deletion
# takes a row away, so that the rows by transaction change with every write of
# anybody. VACUUM, CLUSTER and freezing leave xmin as it is (PostgreSQL 9.4+).
_VERSION = """
SELECT coalesce(sum(n), 0)::bigint,
       coalesce(sum(hashint8extended(x::text::bigint, n)), 0)::text
FROM (SELECT xmin AS x, count(*) AS n FROM {table} GROUP BY xmin) AS by_transaction
"""


#: Tables asked about by one statement: planning takes time by the square of their number.
_AT_ONCE = 50


def versions_of(
    conn: Conn, oids: Mapping[QualifiedName, int]
) -> dict[QualifiedName, tuple[int, str]]:
    """Return the row counts and version tokens of tables, in one pass over each."""
    listed = list(oids)
    asked = [
        sql.SQL("SELECT {}, v.* FROM ({}) AS v").format(
            sql.Literal(place), sql.SQL(_VERSION).format(table=identifier(name))
        )
        for place, name in enumerate(listed)
    ]
    found = {}
    for start in range(0, len(asked), _AT_ONCE):
        some = sql.SQL(" UNION ALL ").join(asked[start : start + _AT_ONCE])
        for place, rows, token in conn.execute(some):
            name = listed[place]
            found[name] = (int(rows), f"{oids[name]}:{rows}:{token}")
    return found


def fresh_versions(
    conn: Conn, made: Mapping[QualifiedName, tuple[int, int]]
) -> dict[QualifiedName, tuple[int, str]]:
    """Return what `versions_of` would find where all rows are this transaction's.

    Args:
        made: the oid of each table, and how many rows it has.
    """
    if not made:
        return {}
    listed = list(made)
    rows = conn.execute(
        "SELECT w.place, CASE WHEN w.n > 0 THEN"
        " hashint8extended(pg_current_xact_id()::xid::text::bigint, w.n) ELSE 0 END::text"
        " FROM unnest(%s::bigint[]) WITH ORDINALITY AS w(n, place)",
        [[made[name][1] for name in listed]],
    )
    found = {}
    for place, token in rows:
        oid, count = made[listed[place - 1]]
        found[listed[place - 1]] = (count, f"{oid}:{count}:{token}")
    return found


def count(conn: Conn, name: QualifiedName) -> int:
    """Count a table's rows as a reader sees them."""
    row: Any = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(identifier(name))).fetchone()
    return int(row[0])


def counts_of(conn: Conn, wanted: Sequence[QualifiedName]) -> dict[QualifiedName, int]:
    """Count the rows of tables as a reader sees them, by one statement."""
    if not wanted:
        return {}
    asked = [
        sql.SQL("SELECT {}, count(*) FROM {}").format(sql.Literal(place), identifier(name))
        for place, name in enumerate(wanted)
    ]
    rows = conn.execute(sql.SQL(" UNION ALL ").join(asked))
    return {wanted[place]: int(count) for place, count in rows}
