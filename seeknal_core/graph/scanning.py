"""Find references by tokens alone, for statements that sqlglot cannot parse.

A walk over the tokens that knows where a table is expected: after FROM and JOIN,
after a comma of a FROM clause, after DESCRIBE, PIVOT and their like. Scopes are
coarser than the parser's: one per pair of brackets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import attrs

from seeknal_core.graph.forms import ONE_PART, Found, chain, classify, takes_alias
from seeknal_core.graph.tokens import KEYWORDS, Kind, Token

#: Functions with a FROM of their own inside the brackets.
_FROM_FUNCTIONS = frozenset({"EXTRACT", "SUBSTRING", "TRIM", "OVERLAY", "POSITION"})
_TABLE_FOLLOWS = frozenset({"FROM", "JOIN"})
_TABLE_FOLLOWS_FIRST = frozenset(
    {"DESCRIBE", "SUMMARIZE", "PIVOT", "PIVOT_WIDER", "UNPIVOT", "PIVOT_LONGER", "TABLE"}
)
_ENDING = """
SELECT WHERE GROUP HAVING ORDER LIMIT OFFSET WINDOW QUALIFY UNION INTERSECT EXCEPT VALUES
RETURNING FETCH
"""

_ENDS_FROM = frozenset(_ENDING.split())
#: Words that follow a table and are no alias, besides the keywords.
_NO_ALIAS = frozenset({"SAMPLE", "VALUES", "SET", "USING", "AT"})
_NO_ALIASES = KEYWORDS | _NO_ALIAS
_OPENS, _CLOSES = frozenset("([{"), frozenset(")]}")


@attrs.define
class _Frame:
    """What is open between a pair of brackets."""

    in_from: bool = False
    from_is_argument: bool = False


def scan(tokens: Sequence[Token], created: set[str]) -> list[Found]:
    """Find the references of one statement.

    Args:
        created: names that earlier statements created, in lower case.
    """
    visible = _ctes(tokens)
    frames = [_Frame()]
    found: list[Found] = []
    expects = False
    index = 0
    while index < len(tokens):
        token, frame = tokens[index], frames[-1]
        word = token.upper
        if word in _OPENS:
            argument = index > 0 and tokens[index - 1].upper in _FROM_FUNCTIONS
            frames.append(_Frame(in_from=expects, from_is_argument=argument))
            expects = expects and word == "("
        elif word in _CLOSES:
            if len(frames) > 1:
                frames.pop()
            expects = False
        elif word == ",":
            expects = frame.in_from
        elif word == "LATERAL" and expects:
            pass
        elif _opens_from(tokens, index, frame):
            frame.in_from = frame.in_from or word in _TABLE_FOLLOWS
            expects = True
        elif expects and token.is_name and word not in KEYWORDS:
            index = _table(tokens, index, frame, visible, created, found)
            expects = False
            continue
        else:
            if word in _ENDS_FROM:
                frame.in_from = False
                frame.from_is_argument = frame.from_is_argument and word != "SELECT"
            expects = False
        index += 1
    _attach(tokens, found)
    return found


def _opens_from(tokens: Sequence[Token], index: int, frame: _Frame) -> bool:
    """Whether a table is expected after the word at `index`."""
    word = tokens[index].upper
    before = tokens[index - 1].upper if index else ""
    if before == "." or (before == "AS" and word != "FROM"):
        return False
    if word == "FROM":
        distinct = before == "DISTINCT" and index > 1 and tokens[index - 2].upper in ("IS", "NOT")
        return not frame.from_is_argument and not distinct
    if word in _TABLE_FOLLOWS:
        return True
    return word in _TABLE_FOLLOWS_FIRST and before in ("", "(", "FROM", ",")


def _table(
    tokens: Sequence[Token],
    index: int,
    frame: _Frame,
    visible: Mapping[str, int],
    created: set[str],
    found: list[Found],
) -> int:
    """Read the table at `index`, note it if it may be a node; return the index after it."""
    prefixed = index + 1 < len(tokens) and tokens[index + 1].text == ":"
    if prefixed:  # FROM alias : table
        index += 2
        if index >= len(tokens) or not tokens[index].is_name:
            return index
    named = classify(tokens, index)
    if named is None:
        return chain(tokens, index)[1]
    form, parts, after = named
    name = tokens[index].name.lower()
    hidden = name in created or visible.get(name, len(tokens)) <= index
    if form in ONE_PART and hidden:
        return after
    aliased = prefixed or _has_alias(tokens, after) or not takes_alias(tokens, index)
    start, end = tokens[index].start, tokens[after - 1].end
    found.append(Found(form=form, parts=parts, start=start, end=end, scope=frame, aliased=aliased))
    return after


def _has_alias(tokens: Sequence[Token], index: int) -> bool:
    if index >= len(tokens):
        return False
    word = tokens[index].upper
    if tokens[index].kind is Kind.QUOTED or word == "AS":
        return True
    return tokens[index].kind is Kind.WORD and word not in _NO_ALIASES


def _ctes(tokens: Sequence[Token]) -> dict[str, int]:
    """Return the statement's CTEs: name in lower case to the first index at which it is seen.

    One that isn't recursive is seen after its own closing bracket.
    """
    if not any(token.upper == "WITH" for token in tokens):
        return {}
    closing: dict[int, int] = {}
    stack: list[int] = []
    for index, token in enumerate(tokens):
        if token.upper == "(":
            stack.append(index)
        elif token.upper == ")" and stack:
            closing[stack.pop()] = index
    recursive = any(token.upper == "RECURSIVE" for token in tokens)
    result: dict[str, int] = {}
    for index, token in enumerate(tokens):
        before = tokens[index - 1].upper if index else ""
        if not token.is_name or before not in ("WITH", "RECURSIVE", ","):
            continue
        after = index + 1
        if after < len(tokens) and tokens[after].upper == "(":
            after = closing.get(after, after) + 1
        if after >= len(tokens) or tokens[after].upper != "AS":
            continue
        after += 1
        while after < len(tokens) and tokens[after].upper in ("NOT", "MATERIALIZED"):
            after += 1
        if after < len(tokens) and tokens[after].upper == "(":
            end = closing.get(after, len(tokens))
            name, seen = token.name.lower(), index if recursive else end
            result[name] = min(seen, result.get(name, seen))
    return result


def _attach(tokens: Sequence[Token], found: Sequence[Found]) -> None:
    """Find the column qualifiers that mean a reference without an alias."""
    starts = [each.start for each in found]  # ascending, and none inside another
    named: dict[tuple[str, ...], int] = {}
    for number, each in enumerate(found):
        if each.form in ("name", "ref") and not each.aliased:
            named.setdefault(tuple(part.lower() for part in each.parts), number)
    lengths = sorted({len(parts) for parts in named})
    index = 0
    while named and index < len(tokens):
        if not tokens[index].is_name or (index and tokens[index - 1].text == "."):
            index += 1
            continue
        names, after = chain(tokens, index)
        if tokens[after : after + 2] and tokens[after].text == ".":
            names = (*names, "*")
        start = tokens[index].start
        before = bisect_right(starts, start) - 1
        if before < 0 or start >= found[before].end:
            lower = tuple(name.lower() for name in names)
            numbers = [
                named[lower[:length]]
                for length in lengths
                if length < len(lower) and lower[:length] in named
            ]
            if numbers:
                each = found[min(numbers)]
                last = tokens[index + 2 * (len(each.parts) - 1)]
                each.qualifiers.append((start, last.end))
        index = after
