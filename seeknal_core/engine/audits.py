"""Audits, each as one query over the node's snapshot.

NULLs are as in dbt: ``unique``, ``accepted_values`` and ``relationships`` pass them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import Snapshot
from seeknal_core.engine import quoting, statements
from seeknal_core.engine.names import name_nodes, short_names
from seeknal_core.engine.protocol import AuditOutcome
from seeknal_core.project.specs import AnyNode, Audit

Translated = Callable[..., AbstractContextManager[None]]


def run(
    node: AnyNode,
    audit: Audit,
    snapshot: Snapshot,
    snapshots: Mapping[str, Snapshot],
    cursor: duckdb.DuckDBPyConnection,
    translated: Translated,
) -> AuditOutcome:
    """Run one audit. `cursor` has a view for each of `snapshots`, and ``__THIS__``.

    Raises:
        EngineError: the audit names a column or node that isn't there, or its SQL is wrong.
    """
    where = f"{node.id}: audit {audit.type}"
    columns = [*audit.columns] + ([audit.column] if audit.column else [])
    for column in columns:
        _check_column(where, column, snapshot)
    if audit.type == "row_count":
        return _row_count(audit, snapshot)
    with translated(where, wrapper_lines=1):
        failing = _failing(where, audit, columns, snapshots, cursor)
    return AuditOutcome(
        audit=audit,
        passed=failing == 0,
        failing_rows=failing,
        message=_message(audit, columns, failing),
    )


def _failing(
    where: str,
    audit: Audit,
    columns: list[str],
    snapshots: Mapping[str, Snapshot],
    cursor: duckdb.DuckDBPyConnection,
) -> int:
    names = [quoting.identifier(name) for name in columns]
    match audit.type:
        case "not_null":
            return _count(cursor, f"FROM __THIS__ WHERE {_any(names, '{} IS NULL')}")
        case "unique":
            given = " AND ".join(f"{name} IS NOT NULL" for name in names)
            grouped = f"SELECT 1 FROM __THIS__ WHERE {given} GROUP BY {', '.join(names)}"
            return _count(cursor, f"FROM ({grouped} HAVING count(*) > 1)")
        case "accepted_values":
            values = ", ".join(_values(where, audit))
            return _count(
                cursor, f"FROM __THIS__ WHERE {_any(names, '{} NOT IN (' + values + ')')}"
            )
        case "relationships":
            return _relationships(where, audit, names[0], snapshots, cursor)
        case "custom_sql":
            checked = statements.check(
                where,
                [name_nodes(audit.sql or "", snapshots)],
                [*snapshots, *short_names(snapshots), "__THIS__"],
            )
            for statement in checked[:-1]:
                cursor.execute(statement.text).complete()
            return _count(cursor, f"FROM (\n{checked[-1].text}\n)")
        case _:
            raise EngineError(f"{where}: there is no such audit", "run: seeknal check")


def _relationships(
    where: str,
    audit: Audit,
    column: str,
    snapshots: Mapping[str, Snapshot],
    cursor: duckdb.DuckDBPyConnection,
) -> int:
    other = snapshots.get(audit.to or "")
    if other is None:
        raise EngineError(f"{where}: {audit.to} has no stored output", f"run {audit.to} first")
    field = audit.field or audit.column or ""
    _check_column(f"{where}: {audit.to}", field, other)
    name = quoting.identifier(field)
    return _count(
        cursor,
        f"FROM __THIS__ AS t WHERE t.{column} IS NOT NULL AND NOT EXISTS"
        f" (FROM {quoting.identifier(audit.to or '')} AS o WHERE o.{name} = t.{column})",
    )


def _row_count(audit: Audit, snapshot: Snapshot) -> AuditOutcome:
    rows = snapshot.row_count
    failing = 0
    message = f"row_count: {rows:,} rows"
    if audit.min is not None and rows < audit.min:
        failing, message = audit.min - rows, f"{message}, fewer than min {audit.min:,}"
    if audit.max is not None and rows > audit.max:
        failing, message = rows - audit.max, f"{message}, more than max {audit.max:,}"
    return AuditOutcome(audit=audit, passed=not failing, failing_rows=failing, message=message)


def _message(audit: Audit, columns: list[str], failing: int) -> str:
    on = f" ({', '.join(columns)})" if columns else ""
    if not failing:
        return f"{audit.type}{on}: passed"
    rows = "row" if failing == 1 else "rows"
    match audit.type:
        case "not_null":
            what = f"{failing:,} {rows} with NULL"
        case "unique":
            what = f"{failing:,} {'value' if failing == 1 else 'values'} more than once"
        case "accepted_values":
            what = f"{failing:,} {rows} with another value"
        case "relationships":
            what = f"{failing:,} {rows} without a match in {audit.to} ({audit.field})"
        case _:
            what = f"{failing:,} failing {rows}"
    return f"{audit.type}{on}: {what}"


def _values(where: str, audit: Audit) -> list[str]:
    try:
        return [quoting.literal(value) for value in audit.values if value is not None] or ["NULL"]
    except ValueError as error:
        raise EngineError(f"{where}: {error}", "list plain values") from None


def _any(names: list[str], condition: str) -> str:
    return " OR ".join(condition.replace("{}", name) for name in names)


def _count(cursor: duckdb.DuckDBPyConnection, rest: str) -> int:
    found = cursor.execute(f"SELECT count(*) {rest}").fetchone()
    assert found is not None
    return int(found[0])


def _check_column(where: str, name: str, snapshot: Snapshot) -> None:
    if name.casefold() not in {column.casefold() for column in snapshot.schema.names}:
        guess = nearest(name, snapshot.schema.names)
        raise EngineError(f"{where}: there is no column {name!r}", guess or "name a column of it")
