"""Find where a node's SQL names other nodes.

`analyze` is a pure function of the text: sqlglot finds the tables and the scopes,
our own tokens the exact places. Nothing that a parser writes is ever executed: the
places serve to replace names in the user's own text. Where sqlglot cannot parse a
statement, `seeknal_core.graph.scanning` finds the references from the tokens alone.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.graph.forms import (
    ONE_PART,
    Found,
    Reference,
    chain,
    classify,
    qualifies,
    takes_alias,
)
from seeknal_core.graph.tokens import Token, split, tokenize

if TYPE_CHECKING:
    from sqlglot import exp


#: Tokens above which a statement is not given to the parser, whose tree takes 1 kB for each.
_PARSED_TOKENS = 20_000


@attrs.frozen(kw_only=True)
class Analysis:
    """The references of a text in order of place, and how many statements had no parse by sqlglot."""

    references: tuple[Reference, ...]
    unparsed: int = 0


@functools.lru_cache(maxsize=4096)
def analyze(sql: str, dialect: str = "duckdb") -> Analysis:
    """Find the references of `sql`, templates expanded; see `analyze_tokens`."""
    return analyze_tokens(sql, split(tokenize(sql)), dialect)


def analyze_tokens(
    sql: str, statements: Sequence[Sequence[Token]], dialect: str = "duckdb"
) -> Analysis:
    """Find the references of `sql`, whose tokens are known, statement by statement.

    Returns:
        What was found, whether or not such nodes exist. What stands in strings and
        comments, names that a CTE or an earlier ``CREATE`` of the same text defines,
        columns, aliases and functions are not among it.
    """
    from seeknal_core.graph.scanning import scan

    references: list[Reference] = []
    created: set[str] = set()
    unparsed = 0
    for tokens in statements:
        large = len(tokens) > _PARSED_TOKENS
        found = None if large else _parse_and_find(sql, tokens, created, dialect)
        if found is None:
            unparsed += 1
            found = scan(tokens, created)
        references += _with_aliases(found)
        created |= _created(tokens)
    references.sort(key=lambda reference: reference.start)
    return Analysis(references=tuple(references), unparsed=unparsed)


def _with_aliases(found: Sequence[Found]) -> list[Reference]:
    """Choose the aliases: the bare name, unless two tables of one FROM would share it."""
    taken: dict[tuple[int, str], set[tuple[str, ...]]] = {}
    for each in found:
        if not each.aliased:
            own = tuple(part.lower() for part in each.parts)
            taken.setdefault((id(each.scope), _bare(each.parts).lower()), set()).add(own)
    result = []
    for each in found:
        shared = len(taken.get((id(each.scope), _bare(each.parts).lower()), ())) > 1
        free = each.aliased or shared or each.form == "whole"
        result.append(
            Reference(
                form=each.form,
                parts=each.parts,
                start=each.start,
                end=each.end,
                alias=None if free else _bare(each.parts),
                qualifiers=tuple(each.qualifiers),
            )
        )
    return result


def _bare(parts: Sequence[str]) -> str:
    return parts[-1].rsplit(".", 1)[-1] or parts[-1]


def _created(tokens: Sequence[Token]) -> set[str]:
    """The name that a ``CREATE`` statement gives, in lower case, if it has one part."""
    if not tokens or tokens[0].upper != "CREATE":
        return set()
    skipped = {"OR", "REPLACE", "TEMP", "TEMPORARY", "RECURSIVE", "IF", "NOT", "EXISTS"}
    skipped |= {"TABLE", "VIEW", "MACRO", "FUNCTION"}
    for index, token in enumerate(tokens[1:], 1):
        if token.upper not in skipped:
            parts, _ = chain(tokens, index) if token.is_name else ((), 0)
            return {parts[0].lower()} if len(parts) == 1 else set()
    return set()


class _Lost(Exception):
    """The parser's places are not ours."""


def _parse_and_find(
    sql: str, tokens: Sequence[Token], created: set[str], dialect: str
) -> list[Found] | None:
    """Find the references of one statement by sqlglot; None where it cannot parse it."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    offset = tokens[0].start
    try:
        tree = sqlglot.parse_one(sql[offset : tokens[-1].end], read=dialect)
        if any(True for _ in tree.find_all(exp.Command)):
            return None
        return _Finder(tokens, offset, created).find(tree)
    except (SqlglotError, RecursionError, _Lost):
        return None
    except (AttributeError, TypeError, ValueError, LookupError):
        # A defect of the parser: the tokens still tell what is needed.
        return None


class _Finder:
    """Finds the references in one parsed statement."""

    def __init__(self, tokens: Sequence[Token], offset: int, created: set[str]) -> None:
        self._tokens = tokens
        self._at = {token.start - offset: index for index, token in enumerate(tokens)}
        self._created = created

    def find(self, tree: exp.Expr) -> list[Found]:
        from sqlglot import exp

        tables: list[exp.Table] = []
        columns: list[exp.Column] = []
        aliases: dict[int, set[str]] = {}
        for node in tree.walk():
            if isinstance(node, exp.Table):
                tables.append(node)
            elif isinstance(node, exp.Column) and len(node.parts) > 2:
                columns.append(node)
            name = _called(node)
            if name:
                aliases.setdefault(id(_scope(node) or tree), set()).add(name.lower())
        found: list[Found] = []
        for table in tables:
            scope = _scope(table) or tree
            if (reference := self._reference(table, scope)) is not None:
                found.append(reference)
        if found:
            for column in columns:
                self._attach(column, found, aliases)
        return found

    def _reference(self, table: exp.Table, scope: exp.Expr) -> Found | None:
        from sqlglot import exp

        if _is_definition(table):
            return None
        index = self._index(table.parts[0])
        if index is None:
            if isinstance(table.parts[0], (exp.Identifier, exp.Anonymous)):
                raise _Lost
            return None
        named = classify(self._tokens, index)
        if named is None:
            return None
        form, parts, after = named
        if form in ONE_PART and len(table.parts) == 1:
            name = self._tokens[index].name.lower()
            if name in self._created or _is_cte(table, name):
                return None
        aliased = bool(table.alias) or not takes_alias(self._tokens, index)
        start, end = self._tokens[index].start, self._tokens[after - 1].end
        return Found(form=form, parts=parts, start=start, end=end, scope=scope, aliased=aliased)

    def _attach(
        self, column: exp.Column, found: Sequence[Found], aliases: Mapping[int, set[str]]
    ) -> None:
        """Find the table that a column's qualifier means, from the inside out."""
        index = self._index(column.parts[0])
        if index is None:
            return
        names, _ = chain(self._tokens, index)
        if len(names) < len(column.parts):  # the last part is a star
            names = (*names, "*")
        scope = _scope(column)
        while scope is not None:
            if names[0].lower() in aliases.get(id(scope), ()):
                return
            for each in found:
                if each.scope is scope and qualifies(names, each):
                    last = self._tokens[index + 2 * (len(each.parts) - 1)]
                    each.qualifiers.append((self._tokens[index].start, last.end))
                    return
            scope = _scope(scope)

    def _index(self, part: exp.Expr) -> int | None:
        start = part.meta.get("start")
        return None if start is None else self._at.get(start)


def _scope(node: exp.Expr) -> exp.Expr | None:
    """Return the query that a node stands in."""
    from sqlglot import exp

    return node.find_ancestor(exp.Select)


def _called(node: exp.Expr) -> str:
    """Return the name of one part that a table or a sub-query has in its FROM, if any."""
    from sqlglot import exp

    if isinstance(node.args.get("alias"), exp.TableAlias) and not isinstance(node, exp.CTE):
        return str(node.alias)
    return str(node.name) if isinstance(node, exp.Table) and len(node.parts) == 1 else ""


def _is_definition(table: exp.Table) -> bool:
    """Whether a table is what a CREATE makes."""
    from sqlglot import exp

    parent = table.parent
    if isinstance(parent, exp.Schema):
        parent, table = parent.parent, parent  # type: ignore[assignment]  # sqlglot types no parent
    return isinstance(parent, exp.Create) and parent.this is table


def _is_cte(table: exp.Table, name: str) -> bool:
    """Whether a CTE of that name can be seen where a table stands."""
    from sqlglot import exp

    inside: exp.Expr = table
    node = table.parent
    within: exp.Expr | None = None
    while node is not None:
        if isinstance(node, exp.With):
            within = inside
        else:
            clause = node.args.get("with_") or node.args.get("with")
            if isinstance(clause, exp.With):
                for cte in clause.expressions:
                    if cte is within and not clause.args.get("recursive"):
                        break
                    if cte.alias.lower() == name:
                        return True
                    if cte is within:
                        break
            within = None
        inside, node = node, node.parent
    return False
