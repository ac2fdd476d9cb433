"""Which queries give the same rows whenever they run over the same rows.

The order in which rows come is not fixed: a table that is computed again has the same rows
in another order. So a query that takes the first rows, numbers them or picks one of a group
may give other rows. Each part of a query is on a list here; what is on no list is doubtful,
as is a key that a later DuckDB adds to its tree. Values that compare as equal count as the
same, and so do sums of floating-point numbers, although their last digit depends on the order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import duckdb

from seeknal_core.engine.allowed_sql.functions import functions
from seeknal_core.engine.allowed_sql.tree import folded

#: A key whose value is walked, and one whose value doesn't matter. Of other keys the value that
#: they must have is listed.
_WALK, _ANY = object(), object()

_REFERENCE = {"alias": _ANY, "sample": None}
_QUERIES: dict[str, dict[str, object]] = {
    "SELECT_NODE": {
        "modifiers": _WALK,
        "cte_map": _WALK,
        "select_list": _WALK,
        "from_table": _WALK,
        "where_clause": _WALK,
        "group_expressions": _WALK,
        "group_sets": _ANY,
        "aggregate_handling": "STANDARD_HANDLING",
        "having": _WALK,
        "sample": None,
        "qualify": _WALK,
    },
    "SET_OPERATION_NODE": {
        "modifiers": _WALK,
        "cte_map": _WALK,
        "setop_type": ("UNION", "EXCEPT", "INTERSECT"),
        "left": None,
        "right": None,
        "setop_all": _ANY,
        "children": _WALK,
    },
    "BASE_TABLE": {
        **_REFERENCE,
        "schema_name": _ANY,
        "table_name": _ANY,
        "column_name_alias": _ANY,
        "catalog_name": _ANY,
        "at_clause": None,
        "qualified_name": _ANY,
    },
    "EMPTY": _REFERENCE,
    "EXPRESSION_LIST": {
        **_REFERENCE,
        "expected_names": _ANY,
        "expected_types": _ANY,
        "values": _WALK,
    },
    "JOIN": {
        "alias": "",
        "sample": None,
        "left": _WALK,
        "right": _WALK,
        "condition": _WALK,
        "join_type": ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"),
        "ref_type": ("REGULAR", "CROSS", "NATURAL"),
        "using_columns": _ANY,
        "delim_flipped": False,
        "duplicate_eliminated_columns": [],
        "is_implicit": _ANY,
        "ranking_expression": None,
        "nearest_count": _ANY,
        "nearest_order_type": _ANY,
        "nearest_approx": _ANY,
    },
    "SUBQUERY": {**_REFERENCE, "subquery": _WALK, "column_name_alias": _ANY},
    "TABLE_FUNCTION": {
        **_REFERENCE,
        "function": _WALK,
        "column_name_alias": _ANY,
        "with_ordinality": "WITHOUT_ORDINALITY",
    },
    "DISTINCT_MODIFIER": {"distinct_on_targets": []},
    "ORDER_MODIFIER": {"orders": _WALK},
}
_ORDER = {"null_order": _ANY, "expression": _WALK}
_QUERIES |= {"ORDER_DEFAULT": _ORDER, "ASCENDING": _ORDER, "DESCENDING": _ORDER}

_EXPRESSIONS: dict[str, dict[str, object]] = {
    "BETWEEN": {"input": _WALK, "lower": _WALK, "upper": _WALK},
    "CASE": {"case_checks": _WALK, "else_expr": _WALK},
    "CAST": {"child": _WALK, "try_cast": _ANY, "type_expr": _WALK},
    "COLUMN_REF": {"column_names": _ANY},
    "COMPARISON": {"left": _WALK, "right": _WALK},
    "CONJUNCTION": {"children": _WALK},
    "CONSTANT": {"literal": _WALK},
    "FUNCTION": {
        "function_name": _ANY,
        "schema": "",
        "filter": _WALK,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": _ANY,
        "is_operator": _ANY,
        "export_state": False,
        "catalog": "",
        "arguments": _WALK,
        "qualified_name": _ANY,
        "is_legacy_function_call": _ANY,
    },
    "LAMBDA": {"lhs": _WALK, "expr": _WALK, "syntax_type": _ANY},
    "OPERATOR": {"children": _WALK},
    "STAR": {
        "relation_name": _ANY,
        "exclude_list": _ANY,
        "qualified_exclude_list": _ANY,
        "replace_list": [],
        "rename_list": [],
        "columns": False,
        "expr": None,
    },
    "SUBQUERY": {"subquery_type": _ANY, "subquery": _WALK, "child": _WALK, "comparison_type": _ANY},
    "TYPE": {
        "catalog": "",
        "schema": "",
        "type_name": _ANY,
        "children": _WALK,
        "qualified_name": _ANY,
    },
    "WINDOW": {
        "function_name": _ANY,
        "schema": "",
        "catalog": "",
        "partitions": _WALK,
        "orders": _WALK,
        # Rows that the order leaves equal are in the frame together.
        "start": "UNBOUNDED_PRECEDING",
        "end": ("CURRENT_ROW_RANGE", "UNBOUNDED_FOLLOWING"),
        "start_expr": None,
        "end_expr": None,
        "offset_expr": None,
        "default_expr": None,
        "ignore_nulls": False,
        "has_ignore_nulls": False,
        "filter_expr": _WALK,
        "exclude_clause": "NO_OTHER",
        "distinct": _ANY,
        "arg_orders": [],
        "arguments": _WALK,
        "qualified_name": _ANY,
        "is_legacy_function_call": _ANY,
    },
}
#: Nodes without a type: of queries, of CTEs, of arguments, of CASE, of constants.
_UNTYPED: dict[str, object] = {
    "node": _WALK,
    "named_param_map": [],
    "map": _WALK,
    "key": _ANY,
    "value": _WALK,
    "aliases": _ANY,
    "query_node": _WALK,
    "materialized": _ANY,
    "key_targets": [],
    "payload_aggregates": [],
    "name": _ANY,
    "expression": _WALK,
    "when_expr": _WALK,
    "then_expr": _WALK,
    "kind": _ANY,
    "text": _ANY,
}
_OPERATORS = frozenset({
    "ARRAY_CONSTRUCTOR", "ARRAY_EXTRACT", "ARRAY_SLICE", "COMPARE_IN", "COMPARE_NOT_IN",
    "GROUPING_FUNCTION", "OPERATOR_COALESCE", "OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL",
    "OPERATOR_NOT", "OPERATOR_NULLIF", "OPERATOR_TRY", "STRUCT_EXTRACT",
})  # fmt: skip
#: Windows in which rows that the order leaves equal get equal values.
_RANKS = frozenset({
    "WINDOW_CUME_DIST", "WINDOW_PERCENT_RANK", "WINDOW_RANK", "WINDOW_RANK_DENSE",
})  # fmt: skip
_ORDER_FREE = """
approx_count_distinct avg bit_and bit_or bit_xor bool_and bool_or corr count count_if count_star
countif covar_pop covar_samp entropy favg fsum kahan_sum kurtosis kurtosis_pop mad max mean median
min product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept
regr_r2 regr_slope regr_sxx regr_sxy regr_syy sem skewness stddev stddev_pop stddev_samp sum
sum_no_overflow sumkahan var_pop var_samp variance
"""
_AGGREGATES = frozenset(_ORDER_FREE.split())
#: DuckDB's own macros that compute values of their arguments.
_OF_ARGUMENTS = """
array_append array_pop_back array_pop_front array_prepend array_push_back array_push_front
array_reverse array_to_string date_add days_in_month fdiv if list_any_value list_append list_avg
list_bit_and list_bit_or list_bit_xor list_bool_and list_bool_or list_count list_first list_last
list_max list_median list_min list_prepend list_product list_reverse list_stddev_pop
list_stddev_samp list_sum list_var_pop list_var_samp md5_number_lower md5_number_upper nullif
split_part
"""
_MACROS = frozenset(_OF_ARGUMENTS.split())
#: A function of time if it has one argument.
_DOUBTFUL = frozenset({"age"})
#: Functions of time that are called without brackets: DuckDB parses them as columns.
_TIMES = frozenset({
    "current_date", "current_localtime", "current_localtimestamp", "current_time",
    "current_timestamp", "localtime", "localtimestamp",
})  # fmt: skip
_WORDS = {
    "DISTINCT_MODIFIER": "DISTINCT ON",
    "LIMIT_MODIFIER": "LIMIT",
    "LIMIT_PERCENT_MODIFIER": "LIMIT",
    "PIVOT": "PIVOT",
    "POSITIONAL_REFERENCE": "a reference by position",
    "RECURSIVE_CTE_NODE": "WITH RECURSIVE",
    "SHOW_REF": "DESCRIBE or SUMMARIZE",
    "TABLE_FUNCTION": "WITH ORDINALITY",
}


@functools.cache
def _scalars() -> frozenset[str]:
    """Return the functions that give one value for one row, the same whenever they are called."""
    with duckdb.connect(config={"threads": 1}) as own:
        found = own.execute(
            "SELECT lower(function_name) FROM duckdb_functions() GROUP BY ALL HAVING"
            " bool_or(function_type = 'scalar' AND stability = 'CONSISTENT')"
            " AND bool_and(function_type IN ('scalar', 'table')"
            " AND stability IS DISTINCT FROM 'VOLATILE')"
        ).fetchall()
    return (frozenset(name for (name,) in found) | _MACROS) & functions().scalar - _DOUBTFUL


def doubt(tree: Any, *, scalar: bool = False) -> str | None:
    """Return what makes the rows of a query doubtful, in the words of SQL; None for nothing.

    Args:
        tree: DuckDB's parse, without places.
        scalar: whether it is an expression that must give one value for one row.
    """
    # Not recursive: an expression may be a thousand deep.
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, Mapping):
            wrong = _doubt(value, scalar=scalar)
            if wrong is not None:
                return wrong
            form = _form(value) or {}
            pending += [each for key, each in value.items() if form.get(key) is _WALK]
    return None


def _form(node: Mapping[str, Any]) -> Mapping[str, object] | None:
    """Return the keys that a node may have; None for a node that is on no list."""
    if "class" in node:
        return _EXPRESSIONS.get(node["class"])
    return _QUERIES.get(node["type"]) if "type" in node else _UNTYPED


def _doubt(node: Mapping[str, Any], *, scalar: bool) -> str | None:
    kind = str(node.get("type"))
    form = _form(node)
    if form is None:
        return _WORDS.get(kind, kind)
    for key, value in node.items():
        wanted = _ANY if key in ("class", "type", "alias") else form.get(key)
        wanted = form["alias"] if key == "alias" and "alias" in form else wanted
        if key not in form and wanted is not _ANY:
            return f"{key} of {kind}"
        if wanted is _WALK or wanted is _ANY:
            continue
        if value != wanted and not (isinstance(wanted, tuple) and value in wanted):
            return _said(node, key, value)
    match node.get("class"):
        case "FUNCTION":
            return _doubt_of_call(node, scalar=scalar)
        case "WINDOW":
            return _doubt_of_window(node, scalar=scalar)
        case "OPERATOR" if kind not in _OPERATORS:
            return kind
        case "SUBQUERY" if scalar:
            return "a subquery"
        case "STAR" if scalar:
            return "*"
        case "COLUMN_REF" if folded(node["column_names"][-1]) in _TIMES:
            return str(node["column_names"][-1])
    return None


def _said(node: Mapping[str, Any], key: str, value: object) -> str:
    """Return the name of a part of a query whose value is not the one on the list."""
    match key:
        case "aggregate_handling":
            return "GROUP BY ALL"
        case "sample":
            return "SAMPLE"
        case "setop_type":
            return "UNION BY NAME" if value == "UNION_BY_NAME" else str(value)
        case "ref_type" | "join_type":
            return f"{value} JOIN"
        case "order_bys" | "start" | "end" | "exclude_clause" | "offset_expr" | "schema":
            name = ".".join(filter(None, (node.get("schema"), node.get("function_name"))))
            return f"{name}()" + (" with its order or frame" if key != "schema" else "")
        case "columns" | "expr" | "replace_list" | "rename_list":
            return "COLUMNS, REPLACE or RENAME"
    kind = str(node.get("type"))
    return _WORDS.get(kind, f"{key} of {kind}")


def _doubt_of_call(node: Mapping[str, Any], *, scalar: bool) -> str | None:
    name = folded(node["function_name"])
    known = name in _scalars() or (name in _AGGREGATES and not scalar)
    plain = node["qualified_name"] == {"path": [node["function_name"]]}
    return None if known and plain else f"{name}()"


def _doubt_of_window(node: Mapping[str, Any], *, scalar: bool) -> str | None:
    name = folded(node["function_name"])
    known = node["type"] in _RANKS or (node["type"] == "WINDOW_AGGREGATE" and name in _AGGREGATES)
    return None if known and not scalar else f"{name}() OVER"
