"""Whether a change of a node's SQL only adds columns, and whether a reader can see them.

Both answers come from DuckDB's own parse of the SQL. A form that is not known to be safe is
breaking, and a reader that is not known to be unaffected is affected.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs

from seeknal_core.engine.determined import doubt
from seeknal_core.engine.statements import query_tree

_CLAUSES = {
    "cte_map": "WITH",
    "from_table": "FROM",
    "where_clause": "WHERE",
    "group_expressions": "GROUP BY",
    "group_sets": "GROUP BY",
    "aggregate_handling": "GROUP BY",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "modifiers": "DISTINCT, ORDER BY or LIMIT",
    "sample": "SAMPLE",
}
#: Clauses that are bound before the list of columns, and see no alias of it.
_BEFORE_ALIASES = ("cte_map", "from_table", "select_list")

_Tree = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Change:
    """What a change of a node's statements does to its rows.

    ``additive`` means that the rows of the old columns stay as they are, and ``columns`` are
    new ones, none where the statements say the same. Otherwise ``columns`` are those that are
    known to be added, changed or removed: none where all may have other rows. ``reason``
    says why, in words for the user.
    """

    additive: bool
    columns: tuple[str, ...]
    reason: str


def classify(old: Sequence[str], new: Sequence[str], columns: Collection[str] = ()) -> Change:
    """Compare two versions of a node's statements, over inputs with the same rows.

    Args:
        old, new: rendered statements; none for a node that has no SQL.
        columns: the columns that the old statements gave, none where they are not known.
    """
    try:
        return _classify(old, new, columns)
    except RecursionError:
        return _breaking("the SQL is nested too deeply to compare")


def unaffected(
    statements: Sequence[str], parent: str, added: Sequence[str], columns: Collection[str] = ()
) -> str | None:
    """Return why a reader cannot see columns that were added to a node, or None.

    Args:
        statements: the reader's rendered statements, in which the node is called by its id.
        parent: the id of the node that changed.
        added: the names of the new columns; none where only the order of the rows may differ.
        columns: the columns that the node had before, as far as they are known.
    """
    tree = query_tree(statements[0]) if len(statements) == 1 else None
    if tree is None:
        return None
    try:
        if doubt(tree) is not None or not _is_blind(tree, parent, added, columns):
            return None
    except RecursionError:
        return None
    if not added:
        return f"{parent} gives the same rows"
    return f"{parent} only adds {', '.join(added)}, which this SQL does not read"


def _breaking(reason: str, columns: Sequence[str] = ()) -> Change:
    return Change(additive=False, columns=tuple(dict.fromkeys(columns)), reason=reason)


def _classify(old: Sequence[str], new: Sequence[str], columns: Collection[str]) -> Change:
    if not old or not new:
        return _breaking("only SQL is compared")
    if len(old) > 1 or len(new) > 1:
        return _breaking("several statements are not compared")
    before, after = query_tree(old[0]), query_tree(new[0])
    if before is None or after is None:
        return _breaking("the SQL cannot be compared")
    found = doubt(before)
    doubtful = f"with {found} the rows may be others when they are computed again" if found else ""
    if before == after:
        if doubtful:
            return _breaking(doubtful)
        return Change(additive=True, columns=(), reason="the SQL says the same")
    if before["type"] != "SELECT_NODE" or after["type"] != "SELECT_NODE":
        return _breaking("UNION, INTERSECT and EXCEPT use all columns")
    items, added = _match(before["select_list"], after["select_list"])
    for key, clause in _CLAUSES.items():
        if before.get(key) != after.get(key):
            return _breaking(f"{clause} changed")
    if {**before, "select_list": None} != {**after, "select_list": None}:
        return _breaking("the query changed")
    named = [_name(after["select_list"][place]) for place in added]
    if items is not None:
        touched = [name for name in (*map(_name, items), *named) if name]
        what = "columns were changed or removed" if items else "the order of its columns changed"
        return _breaking(what, touched)
    names = [name for name in named if name is not None]
    if len(names) < len(named):
        return _breaking("an added column has no name: write AS", names)
    reason = (
        doubtful
        or _rows_change(before)
        or _no_scalar(after, added)
        or _clash(before, names, columns)
        or _capture(before, after, added)
        or _moved(before, added)
    )
    if reason:
        return _breaking(reason, names)
    return Change(additive=True, columns=tuple(names), reason="it only adds columns")


def _match(old: list[_Tree], new: list[_Tree]) -> tuple[list[_Tree] | None, list[int]]:
    """Find the old columns among the new ones, in their order.

    Returns:
        The old columns from the first on that is not found, None where all are; and the
        places of new columns that are no old ones.
    """
    added: list[int] = []
    found = 0
    for place, item in enumerate(new):
        if found < len(old) and item == old[found]:
            found += 1
        else:
            added.append(place)
    if found == len(old):
        return None, added
    changed = [item for item in old if item not in new]
    return changed, [place for place, item in enumerate(new) if item not in old]


def _name(item: _Tree) -> str | None:
    """Return a column's name; None where DuckDB makes one up, or there are several columns."""
    if item["alias"]:
        return str(item["alias"])
    return str(item["column_names"][-1]) if item["class"] == "COLUMN_REF" else None


def _rows_change(query: _Tree) -> str | None:
    """Return why one more column gives other rows."""
    if any(modifier["type"] == "DISTINCT_MODIFIER" for modifier in query["modifiers"]):
        return "with DISTINCT, one more column gives other rows"
    if len(query["group_sets"]) > 1:
        return "GROUPING SETS are not compared"
    return None


def _no_scalar(query: _Tree, added: Sequence[int]) -> str | None:
    for place in added:
        item = query["select_list"][place]
        found = doubt(item, scalar=True)
        if found is not None:
            return f"{_name(item)} is not a plain expression: it uses {found}"
    return None


def _clash(query: _Tree, added: Sequence[str], columns: Collection[str]) -> str | None:
    """Return which added column has the name of another one, as far as the names are known."""
    known = [_name(item) for item in query["select_list"]]
    if None in known and not columns:
        return "the names of the columns are not all known"
    taken = {name.casefold() for name in (*known, *columns) if name is not None}
    for name in added:
        if name.casefold() in taken:
            return f"there already is a column {name}"
        taken.add(name.casefold())
    return None


def _capture(before: _Tree, after: _Tree, added: Sequence[int]) -> str | None:
    """Return which added name the rest of the query uses already.

    DuckDB lets WHERE, GROUP BY and other columns use the name of a column.
    """
    bound = [before["select_list"]]
    bound += [value for key, value in before.items() if key not in _BEFORE_ALIASES]
    used = {names[0].casefold() for names in _column_names(bound)}
    for place in added:
        item = after["select_list"][place]
        name = str(_name(item))
        itself = item["class"] == "COLUMN_REF" and len(item["column_names"]) == 1
        if itself and item["column_names"][0].casefold() == name.casefold():
            continue  # Whoever uses the name means this very column.
        if name.casefold() in used:
            return f"the query already uses the name {name}, which may now mean the new column"
    return None


def _moved(query: _Tree, added: Sequence[int]) -> str | None:
    """Return where the query counts columns that have another number now."""
    ordered = [order for modifier in query["modifiers"] for order in modifier.get("orders", ())]
    for item in (*query["group_expressions"], *(order["expression"] for order in ordered)):
        if item["class"] == "CONSTANT" and added[0] < len(query["select_list"]):
            return "GROUP BY or ORDER BY counts columns, which have other numbers now"
    return None


def _is_blind(tree: _Tree, parent: str, added: Sequence[str], columns: Collection[str]) -> bool:
    """Return whether no part of a query can see the added columns of a table."""
    if not added:
        return True
    called: set[str] = set()
    for node in _nodes(tree):
        if _is_table(node, parent):
            if node["column_name_alias"]:
                return False  # It counts the columns.
            called |= {parent.casefold(), str(node["alias"] or node["table_name"]).casefold()}
    names = {name.casefold() for name in added}
    # A column goes before a whole row where both have the name.
    rows = called - {name.casefold() for name in columns}
    for names_of_one in _column_names(tree):
        first, *rest = (name.casefold() for name in names_of_one)
        if first in names or (first in called and not names.isdisjoint(rest)):
            return False
        if first in rows and not rest:
            return False
        # Behind the names of a catalog or a schema, the table's name is the second or third.
        if len(rest) > 1 and not names.isdisjoint(rest) and not called.isdisjoint(rest):
            return False
    return bool(called) and all(
        _names_its_columns(node, parent, called)
        for node in _nodes(tree)
        if node.get("type") in ("SELECT_NODE", "SET_OPERATION_NODE")
    )


def _names_its_columns(query: _Tree, parent: str, called: set[str]) -> bool:
    """Return whether one SELECT has no ``*``, NATURAL or USING that reaches a table."""
    reads = False
    pending = [query.get("from_table")]
    while pending:
        table = pending.pop()
        if table is None:
            continue
        if table["type"] == "JOIN":
            pending += [table["left"], table["right"]]
        reads = reads or _is_table(table, parent)
    stars = [
        node for node in _nodes({**query, "from_table": None}, deep=False) if _is(node, "STAR")
    ]
    stars += [node for node in _nodes(query.get("from_table"), deep=False) if _is(node, "STAR")]
    for star in stars:
        of = str(star["relation_name"]).casefold()
        if of in called or (not of and reads):
            return False
    joins = [node for node in _nodes(query.get("from_table"), deep=False) if _is(node, "JOIN")]
    return not reads or all(
        join["ref_type"] != "NATURAL" and not join["using_columns"] for join in joins
    )


def _is(node: _Tree, kind: str) -> bool:
    return node.get("type") == kind


def _is_table(node: _Tree, name: str) -> bool:
    return _is(node, "BASE_TABLE") and str(node["table_name"]).casefold() == name.casefold()


def _column_names(tree: Any) -> Iterator[list[str]]:
    for node in _nodes(tree):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"]


def _nodes(tree: Any, *, deep: bool = True) -> Iterator[_Tree]:
    """Yield the nodes of a tree, without those of queries inside it unless `deep`."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, Mapping):
            yield value
            queries = () if deep else ("cte_map", "subquery")
            pending += [
                each
                for key, each in value.items()
                if key not in queries and isinstance(each, list | Mapping)
            ]
