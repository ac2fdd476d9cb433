"""DuckDB's parse of a query, as a tree of plain values."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb

#: Characters of SQL above which constants and columns, which say nothing, are taken out before
#: the tree is built: of a list of a million values it would take gigabytes.
_LARGE = 20_000

_TEXT = r'"(?:[^"\\]|\\.)*"'
_HEAD = rf'"alias":{_TEXT},"query_location":\d+,"query_location_length":\d+,'
#: A quote inside a text has a backslash before it, so this matches no text's inside.
#: DuckDB replaces it, so that the whole text is never here.
_LEAVES = (
    rf'\{{"class":"CONSTANT","type":"VALUE_CONSTANT",{_HEAD}'
    rf'"literal":\{{"kind":"\w+","text":{_TEXT}\}}\}}'
    rf'|\{{"class":"COLUMN_REF","type":"COLUMN_REF",{_HEAD}'
    rf'"column_names":\[{_TEXT}(?:,{_TEXT})*\]\}}'
)
_TOKEN = re.compile(rf"[\[\]{{}}:,]|{_TEXT}|[^\s\[\]{{}}:,\"]+")


def serialized(
    parser: duckdb.DuckDBPyConnection, sql: str, *, places: bool = True
) -> list[Any] | None:
    """Return the tree of each statement of `sql`; None where DuckDB gives none.

    DuckDB gives trees of queries alone. Some queries write, in their CTEs.

    Args:
        places: whether nodes have their places in the text, and a large text's tree lacks
            constants and columns. Without places, the trees of two texts can be compared.
    """
    try:
        if len(sql) > _LARGE and places:
            query = "SELECT regexp_replace(json_serialize_sql($1), $2, 'null', 'g')"
            rows = parser.execute(query, [sql, _LEAVES]).fetchall()
        else:
            rows = parser.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    except duckdb.Error:
        return None
    if len(rows) != 1 or not isinstance(rows[0][0], str):
        return None
    text = rows.pop()[0]
    try:
        found = json.loads(text, object_hook=None if places else _without_place)
    except RecursionError:
        if not places:
            return None
        found = _loads(text)
    if found.get("error") is not False:
        return None
    return [statement["node"] for statement in found["statements"]]


def _without_place(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("query_location")}


def _loads(text: str) -> Any:
    """Read JSON of any depth, which `json` does not."""
    root: list[Any] = []
    stack: list[list[Any]] = [root]  # An object is the list of its keys and values, until it ends.
    for token in _TOKEN.findall(text):
        if token in "[{":
            stack.append([])
        elif token == "]":
            ended = stack.pop()
            stack[-1].append(ended)
        elif token == "}":
            ended = stack.pop()
            stack[-1].append(dict(zip(ended[::2], ended[1::2], strict=True)))
        elif token not in ":,":
            stack[-1].append(json.loads(token))
    return root[0]
