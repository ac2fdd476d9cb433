"""PIVOT statements written so that DuckDB parses them as one query.

``PIVOT t ON k`` takes its columns from the rows. DuckDB makes several statements of
it and shows no tree of them. ``PIVOT t ON x IN ('x')`` is a query that has one. So what
stands after ON is cut out here, to be checked as expressions, and the rest is checked
as a query. What is run is the text as it was written.
"""

from __future__ import annotations

from seeknal_core.engine.allowed_sql.cut import Token, depths, end_of, tokens, word

_PIVOT = ("PIVOT", "PIVOT_WIDER")
_AFTER = ("USING", "GROUP", "ORDER", "LIMIT", "OFFSET", "UNION", "EXCEPT", "INTERSECT")
_QUERY = ("SELECT", "FROM", "WITH", "VALUES", "TABLE", "(")


def spelled(sql: str) -> tuple[str, list[str]]:
    """Return `sql` with a column for what each PIVOT has after ON, and those expressions.

    The lines of `sql` stay as they are.
    """
    found = tokens(sql)
    deep = depths(found)
    pieces: list[str] = []
    expressions: list[str] = []
    position = 0
    entries = [
        (found[start][2], end_of(found[end - 1]))
        for first, last in _lists(found, deep)
        for start, end in _entries(found, deep, first, last)
        if not _has_values(found, deep, start, end)
    ]
    for begin, behind in sorted(entries):
        if begin < position:
            continue  # Inside what was cut out already.
        expressions.append(sql[begin:behind])
        lines = "\n" * sql.count("\n", begin, behind)
        pieces += [sql[position:begin], "x IN ('x')", lines]
        position = behind
    return "".join(pieces) + sql[position:], expressions


def _lists(found: list[Token], deep: list[int]) -> list[tuple[int, int]]:
    """Return where the list after ON of each PIVOT begins and ends."""
    result = []
    for index, token in enumerate(found):
        if word(token) not in _PIVOT:
            continue
        on = None
        end = index + 1
        while end < len(found) and deep[end] >= deep[index]:
            text = word(found[end])
            if deep[end] == deep[index]:
                if text == "ON":
                    on = end  # The last one: a join may have one before.
                elif text in _PIVOT or (on is not None and text in _AFTER and _ends(found, end)):
                    break
            end += 1
        if on is not None:
            result.append((on + 1, end))
    return result


def _ends(found: list[Token], index: int) -> bool:
    """Return whether a word ends the list: ``JOIN … ON … JOIN … USING (k) ON`` goes on."""
    if word(found[index]) != "USING" or index + 1 >= len(found):
        return True
    return found[index + 1][1] != "("


def _entries(found: list[Token], deep: list[int], first: int, last: int) -> list[tuple[int, int]]:
    result = []
    start = first
    for index in range(first, last + 1):
        if index == last or (found[index][1] == "," and deep[index] == deep[first - 1]):
            if index > start:
                result.append((start, index))
            start = index + 1
    return result


def _has_values(found: list[Token], deep: list[int], start: int, end: int) -> bool:
    """Return whether an entry lists its values, so that DuckDB need not look for them."""
    for index in range(start, end - 1):
        if word(found[index]) == "IN" and deep[index] == deep[start]:
            return found[index + 1][1] == "(" and word(found[index + 2]) not in _QUERY
    return False
