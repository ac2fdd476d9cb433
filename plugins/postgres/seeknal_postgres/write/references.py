"""Foreign keys that point at a table: in which order to write, and whose rows are in danger."""

from __future__ import annotations

import graphlib
from collections.abc import Collection, Mapping
from typing import Any

from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Target
from seeknal_postgres.connection.pool import Conn
from seeknal_postgres.ledger.tables import ForeignKey, Table, identifier, is_equal


def refuse_orphans(
    conn: Conn,
    target: Target,
    table: Table,
    doomed: sql.Composable,
    ours: Collection[int] = (),
) -> None:
    """Refuse to delete rows on which the server would delete or change somebody's own.

    A foreign key with ON DELETE CASCADE, SET NULL or SET DEFAULT does so, and no undoing
    brings those rows back.

    Args:
        doomed: the condition that chooses the table's rows (``t``) that go.
        ours: oids of tables whose rows are kept and brought back, too.

    Raises:
        WriteRefused: naming the table that refers to such rows.
    """
    for key in table.referenced_by:
        if key.acts and key.oid != table.oid and key.oid not in ours:
            _refuse(conn, target, key, _referring(target, table, key, doomed), doomed, "go")


def refuse_forgotten(
    conn: Conn, target: Target, table: Table, changed: sql.Composable, columns: Collection[str]
) -> None:
    """Refuse new values that make somebody's rows lose what they refer to.

    A foreign key with ON UPDATE SET NULL or SET DEFAULT does so; CASCADE keeps the reference.

    Args:
        changed: a FROM and WHERE clause for rows of the table (``t``) that change, beside
            their new values (``s``).
        columns: those that get new values.

    Raises:
        WriteRefused: naming the table that refers to such rows.
    """
    for key in table.referenced_by:
        given = [name for name in key.refers_to if name in columns]
        if not key.forgets or not given or key.oid == table.oid:
            continue
        differ = sql.SQL(" OR ").join(
            sql.SQL("t.{0} IS DISTINCT FROM s.{0}").format(sql.Identifier(name)) for name in given
        )
        query = sql.SQL(
            "SELECT EXISTS (SELECT {} AND ({}) AND EXISTS (SELECT FROM {} AS c WHERE {}))"
        )
        _refuse(
            conn,
            target,
            key,
            query.format(changed, differ, sql.Identifier(*key.parts), _refers(table, key)),
            sql.SQL("TRUE"),
            "get other values",
        )


def _referring(
    target: Target, table: Table, key: ForeignKey, doomed: sql.Composable
) -> sql.Composed:
    return sql.SQL("SELECT EXISTS (SELECT FROM {} AS t JOIN {} AS c ON {} WHERE {})").format(
        identifier(target.name), sql.Identifier(*key.parts), _refers(table, key), doomed
    )


def _refers(table: Table, key: ForeignKey) -> sql.Composed:
    """Return the condition that a row ``c`` refers to a row ``t``, by the table's own equality."""
    pairs = [
        is_equal(table.column(referred), sql.Identifier("c", held), sql.Identifier("t", referred))
        for held, referred in zip(key.columns, key.refers_to, strict=True)
    ]
    if key.part:
        pairs.append(
            sql.SQL("t.tableoid IN (SELECT relid FROM pg_catalog.pg_partition_tree({}))").format(
                sql.Literal(key.part)
            )
        )
    return sql.SQL(" AND ").join(pairs)


def _refuse(
    conn: Conn,
    target: Target,
    key: ForeignKey,
    query: sql.Composed,
    doomed: sql.Composable,
    what: str,
) -> None:
    name = str(target.name)
    try:
        with conn.transaction():
            row: Any = conn.execute(query).fetchone()
    except pg.InsufficientPrivilege as error:
        some: Any = conn.execute(
            sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE {})").format(
                identifier(target.name), doomed
            )
        ).fetchone()
        if not some[0]:
            return
        raise WriteRefused(
            f"{name}: rows would {what}, and whether {key.table} ({key.name}) refers to them "
            "cannot be seen: the role may not read it",
            f"grant the role SELECT on {key.table}, then run again",
            target=name,
        ) from error
    if row[0]:
        raise WriteRefused(
            f"{name}: rows that would {what} are referred to by {key.table} "
            f"({key.name}), which would lose or change rows of its own for good",
            f"keep those rows, or delete what refers to them in {key.table} first",
            target=name,
        )


def by_reference(tables: Mapping[str, Table]) -> list[str]:
    """Return the keys of tables, those that point at others of them before these.

    Where they point in a circle the order is that of the keys.
    """
    by_oid = {table.oid: key for key, table in tables.items()}
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(
        dict.fromkeys(sorted(tables), ())
    )
    for key, table in tables.items():
        for pointing in table.referenced_by:
            if pointing.oid in by_oid and pointing.oid != table.oid:
                sorter.add(key, by_oid[pointing.oid])
    try:
        return list(sorter.static_order())
    except graphlib.CycleError:
        return sorted(tables)
