"""The check of a query's tree: each node, table and function of it is on a list.

What is on no list is refused, so that what a later DuckDB adds is refused until
somebody has looked at it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from seeknal_core.contract.options import nearest
from seeknal_core.engine.allowed_sql.cut import REPLACED_BLANK
from seeknal_core.engine.allowed_sql.functions import SOURCE_HINT, functions, why_refused

#: Nodes of queries, tables and what follows them, which hold only what is walked too.
_NODES = frozenset({
    "SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE",
    "BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY",
    "TABLE_FUNCTION",
    "DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER",
    "ORDER_DEFAULT", "ASCENDING", "DESCENDING",
})  # fmt: skip
_EXPRESSIONS = frozenset({
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT",
    "DEFAULT", "FUNCTION", "LAMBDA", "LAMBDA_REF", "OPERATOR", "PARAMETER",
    "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW",
})  # fmt: skip
_STATEMENTS = {"COPY": "COPY", "INSERT": "INSERT", "UPDATE": "UPDATE", "DELETE": "DELETE"}
_WRITES_HINT = "a node reads its inputs and gives rows: write SELECT in its place"
#: Of these the first argument is a table's name.
_OF_TABLES = ("histogram", "histogram_values")
#: Views of the catalog that tell names of tables and columns, and no text of a view.
_CATALOG = (("information_schema", "tables"), ("information_schema", "columns"))
#: Names that stand for no file, whatever reads them.
_PLAIN = re.compile(r"[\w $-]+")


#: A value to walk, the CTEs that it sees, and the byte of the text where it is.
_Pending = tuple[Any, frozenset[str], int | None]


class Refused(Exception):
    """Something that SQL may not do, with the byte of the text where it is, or None."""

    def __init__(self, what: str, hint: str, at: int | None = None) -> None:
        super().__init__(what)
        self.what, self.hint, self.at = what, hint, at


@attrs.define(kw_only=True)
class Names:
    """What the SQL may name beside DuckDB's own, in lower case. Statements add to it.

    ``tables`` are inputs and what was created. ``in_macro`` tells that a macro's body is
    checked: names in it may be the macro's parameters.
    """

    tables: set[str] = attrs.field(factory=set)
    scalar_macros: set[str] = attrs.field(factory=set)
    table_macros: set[str] = attrs.field(factory=set)
    in_macro: bool = False


class Walk:
    """One walk over a tree."""

    def __init__(self, names: Names, hidden: frozenset[str]) -> None:
        self._names = names
        self._hidden = hidden
        self._at: int | None = None

    def check(self, tree: Any) -> None:
        """Refuse what is on no list.

        Raises:
            Refused: see above.
        """
        # Not recursive: an expression may be a thousand deep.
        pending: list[_Pending] = [(tree, frozenset(), None)]
        while pending:
            value, ctes, at = pending.pop()
            if isinstance(value, list):
                pending += [(one, ctes, at) for one in value if isinstance(one, dict | list)]
                continue
            place = value.get("query_location")
            # Nodes that were not written have the largest number there is.
            if isinstance(place, int) and place < 2**40:
                at = place
            self._at = at
            self._check_node(value, ctes)
            pending += self._children(value, ctes, at)

    def _children(
        self, node: Mapping[str, Any], ctes: frozenset[str], at: int | None
    ) -> list[_Pending]:
        """Return the values of a node that are walked, each with the CTEs that it sees."""
        found: list[_Pending] = []
        kind = node.get("type")
        if "cte_map" in node:
            for entry in node["cte_map"]["map"]:
                found.append((entry["value"], ctes, at))
                ctes |= {folded(entry["key"])}
        inside = ctes
        if kind == "RECURSIVE_CTE_NODE":  # The first part sees no CTE of the name yet.
            inside = ctes | {folded(node["cte_name"])}
        for key, value in node.items():
            if not value or not isinstance(value, dict | list) or key == "cte_map":
                continue
            if kind == "TABLE_FUNCTION" and isinstance(value, dict) and key == "function":
                found += [(one, ctes, at) for one in value.values() if isinstance(one, dict | list)]
            else:
                found.append((value, ctes if key == "left" else inside, at))
        return found

    def _check_node(self, node: Mapping[str, Any], ctes: frozenset[str]) -> None:
        kind = node.get("type")
        if "class" in node:
            if node["class"] not in _EXPRESSIONS:
                raise self._refused(f"{node['class']} is not allowed", _WRITES_HINT)
        elif isinstance(kind, str) and kind not in _NODES and not kind.endswith("_TYPE_INFO"):
            name = _STATEMENTS.get(kind.partition("_")[0], kind)
            raise self._refused(f"{name} is not allowed", _WRITES_HINT)
        if kind == "BASE_TABLE":
            self._check_table(node, ctes)
        elif kind == "SHOW_REF":
            shown = node["show_type"] in ("DESCRIBE", "SUMMARY")
            if not shown or node["query"] is None or node["table_name"]:
                raise self._refused("SHOW is not allowed", "write DESCRIBE name")
        elif kind == "TABLE_FUNCTION":
            self._check_table_function(node["function"])
        elif "function_name" in node:
            name = _function(node)
            if name not in functions().scalar and name not in self._names.scalar_macros:
                raise self._refused(*why_refused(name, table=False))
        elif "info_type" in node or "file_path" in node:  # Of a statement, whatever holds it.
            raise self._refused("COPY is not allowed", _WRITES_HINT)

    def _check_table(self, node: Mapping[str, Any], ctes: frozenset[str]) -> None:
        written = [node["catalog_name"], node["schema_name"], node["table_name"]]
        path = [part for part in written if part]
        name = folded(path[-1]) if path else ""
        known = name in self._names.tables
        plain = _PLAIN.fullmatch(name) is not None
        if path != node["qualified_name"]["path"] or REPLACED_BLANK.search(name):
            fine = False
        elif len(path) == 1:
            fine = known or (plain and name not in self._hidden) or name in ctes
        else:
            above = [folded(part) for part in path[:-1]]
            fine = (*above, name) in _CATALOG or (
                known and above in (["temp"], ["main"], ["temp", "main"])
            )
            # Of a table that is no such CTE, ``recurring./../x.parquet`` is a file's path.
            fine = fine or (above == ["recurring"] and plain and name in ctes)
        if not fine:
            shown = ".".join(path)
            hint = nearest(shown, self._names.tables) or SOURCE_HINT
            raise self._refused(f"{shown!r} is not an input", hint)

    def _check_table_function(self, call: Mapping[str, Any]) -> None:
        if call.get("class") != "FUNCTION":
            raise self._refused("this table function is not allowed", _WRITES_HINT)
        name = _function(call)
        # A macro of such a name changes nothing: system.main.histogram() is DuckDB's own.
        if name in _OF_TABLES:
            self._check_named_table(name, call["arguments"])
        elif name not in functions().table and name not in self._names.table_macros:
            raise self._refused(*why_refused(name, table=True))

    def _check_named_table(self, function: str, arguments: list[Any]) -> None:
        """Refuse a file where a table's name is an argument."""
        inside = arguments[0].get("expression") if arguments else None
        names: Any = None
        if isinstance(inside, dict):
            names = inside.get("column_names") or [(inside.get("literal") or {}).get("text")]
        by_place = not any(each.get("name") for each in arguments)
        if not by_place or not isinstance(names, list) or len(names) != 1 or not names[0]:
            raise self._refused(
                f"{function}() must have a table's name first", "write its arguments by place"
            )
        if self._names.in_macro and "column_names" in (inside or {}):
            raise self._refused(
                f"{names[0]!r} may be a parameter of the macro, which is whatever the caller says",
                f"write the table's name as text: {function}('{names[0]}', …)",
            )
        # DuckDB takes the text apart at its dots, whatever has that name.
        if not _PLAIN.fullmatch(names[0]) or folded(names[0]) in self._hidden:
            raise self._refused(f"{names[0]!r} is not an input", SOURCE_HINT)

    def _refused(self, what: str, hint: str) -> Refused:
        return Refused(what, hint, self._at)


def _function(call: Mapping[str, Any]) -> str:
    name = folded(call["function_name"])
    path = call.get("qualified_name", {}).get("path")
    return name if path is None or (path and folded(path[-1]) == name) else "?"


def folded(name: str) -> str:
    """Fold as DuckDB folds names: ASCII letters alone."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)
