"""What of a query over one table its store can do already: leave out columns and rows.

Both are only hints, which may never change what the query gives. So whatever is not
understood for sure asks for more, not less.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.types import Condition
from seeknal_core.engine import statements

if TYPE_CHECKING:
    from sqlglot import exp

_OPERATORS = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
#: Clauses that rows meet only after WHERE; with any other one nothing is pushed.
_AFTER = frozenset({
    "distinct", "expressions", "from", "from_", "group", "having", "kind", "limit", "offset",
    "order", "qualify", "where", "windows",
})  # fmt: skip
_DECIMAL = re.compile(r"\d+\.\d+")


@attrs.frozen(kw_only=True)
class Pushed:
    """The columns that a query needs, None for all, and conditions that its rows meet."""

    columns: tuple[str, ...] | None = None
    where: tuple[Condition, ...] = ()


def pushed(sql: str, table: str, columns: Sequence[str]) -> Pushed:
    """Find what a query needs of its only table.

    Args:
        sql: one SELECT, in DuckDB's words.
        table: the table's name in it.
        columns: those of the table.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    known = {name.casefold(): name for name in columns}
    if len(known) < len(columns):
        return Pushed()
    try:
        parsed = sqlglot.parse(sql, read="duckdb")
    except SqlglotError:
        return Pushed()
    if len(parsed) != 1 or parsed[0] is None:
        return Pushed()
    tree = parsed[0]
    return Pushed(
        columns=_columns(sql, tree, table, known),
        where=tuple(_conditions(tree, table, known)),
    )


def _columns(
    sql: str, tree: exp.Expr, table: str, known: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Return the table's columns of which the text has the name, in the table's order."""
    from sqlglot import exp

    for star in tree.find_all(exp.Star):
        if not isinstance(star.parent, exp.Count):
            return None
    if next(tree.find_all(exp.Columns, exp.Pivot), None) is not None:
        return None
    if any(join.method or join.args.get("using") for join in tree.find_all(exp.Join)):
        return None
    # The table's name, or an alias, stands for a whole row where it isn't followed by a dot.
    rows = {table.casefold()}
    for each in (*tree.find_all(exp.Table), *tree.find_all(exp.Subquery)):
        rows.add(each.alias_or_name.casefold())
    if any(not each.table and each.name.casefold() in rows for each in tree.find_all(exp.Column)):
        return None
    words = {word.strip('"').replace('""', '"').casefold() for _, word, _ in statements.tokens(sql)}
    used = tuple(name for folded, name in known.items() if folded in words)
    # A count of rows needs a column, any one.
    return used or tuple(known.values())[:1]


def _conditions(tree: exp.Expr, table: str, known: Mapping[str, str]) -> Iterator[Condition]:
    from sqlglot import exp

    if not isinstance(tree, exp.Select):
        return
    if any(value and name not in _AFTER for name, value in tree.args.items()):
        return
    tables = list(tree.find_all(exp.Table))
    given = tree.args.get("from") or tree.args.get("from_")
    where = tree.args.get("where")
    if where is None or given is None or len(tables) != 1 or given.this is not tables[0]:
        return
    source = tables[0]
    if source.name.casefold() != table.casefold() or any(
        value and name not in ("this", "db", "catalog", "alias")
        for name, value in source.args.items()
    ):
        return
    if source.args.get("alias") and source.args["alias"].args.get("columns"):
        return
    # What SELECT names may be meant in WHERE, too.
    aliases = {each.alias.casefold() for each in tree.expressions if isinstance(each, exp.Alias)}
    names = {folded: name for folded, name in known.items() if folded not in aliases}
    rows = {"", source.alias_or_name.casefold()}
    for conjunct in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        found = _condition(conjunct.unnest(), names, rows)
        if found is not None:
            yield from found


def _condition(
    node: exp.Expr, names: Mapping[str, str], rows: set[str]
) -> tuple[Condition, ...] | None:
    from sqlglot import exp

    def column_of(part: exp.Expr | None) -> str | None:
        if not isinstance(part, exp.Column) or part.args.get("db"):
            return None
        return names.get(part.name.casefold()) if part.table.casefold() in rows else None

    operator = _OPERATORS.get(type(node).__name__)
    if operator is not None:
        column, value = column_of(node.this), _value(node.expression)
        if column is None:
            column, value = column_of(node.expression), _value(node.this)
            operator = _TURNED.get(operator, operator)
        if column is None or value is None:
            return None
        return (Condition(column=column, operator=operator, value=value),)
    column = column_of(node.this.unnest()) if isinstance(node, exp.Not | exp.Is) else None
    if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
        return (Condition(column=column, operator="is null"),) if column else None
    if isinstance(node, exp.Not) and isinstance(node.this, exp.Is):
        column = column_of(node.this.this)
        if column and isinstance(node.this.expression, exp.Null):
            return (Condition(column=column, operator="is not null"),)
        return None
    if isinstance(node, exp.Between) and not node.args.get("symmetric"):
        column = column_of(node.this)
        low, high = _value(node.args["low"]), _value(node.args["high"])
        if column is None or low is None or high is None:
            return None
        return (
            Condition(column=column, operator=">=", value=low),
            Condition(column=column, operator="<=", value=high),
        )
    if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
        column = column_of(node.this)
        values = tuple(_value(each) for each in node.expressions)
        if column is None or None in values:
            return None
        return (Condition(column=column, operator="in", value=values),)
    return None


def _value(node: exp.Expr) -> object:
    """Return a literal's value, None for anything else."""
    from sqlglot import exp

    if isinstance(node, exp.Boolean):
        return bool(node.this)
    if isinstance(node, exp.Literal):
        text = str(node.this)
        if node.is_string:
            return text
        if text.isdecimal() and text.isascii():
            return int(text)
        return Decimal(text) if _DECIMAL.fullmatch(text) else None
    if isinstance(node, exp.Neg):
        value = _value(node.this)
        is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
        return -value if is_number else None  # type: ignore[operator]
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string:
        kind = node.to.this
        try:
            if kind == exp.DataType.Type.DATE:
                return date.fromisoformat(str(node.this.this))
            if kind == exp.DataType.Type.TIMESTAMP:
                moment = datetime.fromisoformat(str(node.this.this))
                return moment if moment.tzinfo is None else None
        except ValueError:
            return None
    return None
