"""The check of one query."""

from __future__ import annotations

import functools

import duckdb

from seeknal_core.engine.allowed_sql import pivots
from seeknal_core.engine.allowed_sql.serialized import serialized
from seeknal_core.engine.allowed_sql.tree import Names, Refused, Walk

_HINT = "a node holds SELECT and CREATE TEMP TABLE, VIEW or MACRO only"


def check_query(parser: duckdb.DuckDBPyConnection, sql: str, names: Names, kind: str = "") -> None:
    """Refuse a text that is not one query, and a query that does more than read `names`.

    Args:
        parser: an instance that has no table of its own.
        kind: DuckDB's name for the kind of the one statement of `sql`, if it is known.

    Raises:
        Refused: see above; its place is a byte of `sql`.
    """
    kind = kind or _kind(parser, sql)
    if kind == "MULTI":
        # A PIVOT whose columns DuckDB finds in the rows: it has no tree as it is written.
        spelled, expressions = pivots.spelled(sql)
        for each in expressions:
            _check_expression(parser, each, names)
        sql, kind = spelled, _kind(parser, spelled)
        if kind in ("MULTI", ""):
            raise Refused(
                "this statement cannot be checked",
                "write the values of PIVOT … ON column IN (…), or SELECT in place of others",
            )
    if kind != "SELECT":
        raise Refused(f"{kind.replace('_', ' ') or 'this'} is not allowed", _HINT)
    trees = serialized(parser, sql)
    if trees is None or len(trees) != 1:
        raise Refused("this query cannot be checked", "write it with SELECT")
    Walk(names, _hidden_views()).check(trees[0])


def check_expression(parser: duckdb.DuckDBPyConnection, sql: str, names: Names) -> None:
    """Refuse a text that is not one expression, and one that does more than compute.

    Raises:
        Refused: without a place.
    """
    _check_expression(parser, sql, names)


def _check_expression(parser: duckdb.DuckDBPyConnection, sql: str, names: Names) -> None:
    try:
        check_query(parser, f"SELECT (\n{sql}\n)", names)
    except Refused as refused:
        raise Refused(refused.what, refused.hint) from None


def _kind(parser: duckdb.DuckDBPyConnection, sql: str) -> str:
    """Return the kind of the one statement of a text, as DuckDB names it; empty for none."""
    try:
        found = parser.extract_statements(sql)
    except duckdb.Error:
        return ""
    return kind_of(found[0]) if len(found) == 1 else "more than one statement"


def kind_of(statement: duckdb.Statement) -> str:
    """Return the kind of a statement as DuckDB names it."""
    try:
        return str(statement.type.name)
    except ValueError:  # DuckDB's Python package knows no CONNECT.
        return "this kind of statement"


@functools.cache
def _hidden_views() -> frozenset[str]:
    """Return the names of the views of DuckDB's own catalog, in lower case."""
    with duckdb.connect(config={"threads": 1}) as own:
        found = own.execute("SELECT lower(view_name) FROM duckdb_views()").fetchall()
    return frozenset(name for (name,) in found)


@functools.cache
def function_names() -> frozenset[str]:
    """Return the names of all functions of the installed DuckDB, in lower case."""
    with duckdb.connect(config={"threads": 1}) as own:
        found = own.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()")
        return frozenset(name for (name,) in found.fetchall())
