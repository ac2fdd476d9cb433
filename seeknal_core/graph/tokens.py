"""Cut SQL into tokens, and give the canonical text that definitions are made of.

The lexical rules are those of DuckDB's manual ("Keywords and Identifiers",
"Literal Types") and of the server whose grammar DuckDB took over: nested
block comments, ``''`` inside strings, ``E'…'`` with backslashes, dollar quotes,
``"…"`` identifiers, runs of operator characters. Where a rule differs from one
version of the engine to the next, the rule here is the finer one: two texts that
mean different things never get one canonical text.

A change to anything in this module that changes a canonical text must raise
`TOKENIZER_VERSION`, which enters every definition.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Enters every definition. Raise it when a canonical text changes.
TOKENIZER_VERSION = 1

_KEYWORDS = """
ALL ANALYSE ANALYZE AND ANTI ANY ARRAY AS ASC ASOF ASYMMETRIC AUTHORIZATION BINARY BOTH BY
CASE CAST CHECK COLLATE COLLATION COLUMN CONCURRENTLY CONSTRAINT CREATE CROSS DEFAULT
DEFERRABLE DESC DESCRIBE DISTINCT DO ELSE END EXCEPT FALSE FETCH FOR FOREIGN FREEZE FROM FULL
GLOB GROUP HAVING ILIKE IN INITIALLY INNER INTERSECT INTO IS ISNULL JOIN LAMBDA LATERAL
LEADING LEFT LIKE LIMIT NATURAL NOT NOTNULL NULL OFFSET ON ONLY OR ORDER OUTER OVERLAPS PIVOT
PIVOT_LONGER PIVOT_WIDER PLACING POSITIONAL PRIMARY QUALIFY REFERENCES RETURNING RIGHT SELECT
SEMI SHOW SIMILAR SOME SUMMARIZE SYMMETRIC TABLE TABLESAMPLE THEN TO TRAILING TRUE UNION
UNIQUE UNPIVOT USING VARIADIC VERBOSE WHEN WHERE WINDOW WITH
"""

#: Words that are folded to upper case. They can name neither a table nor a column
#: without quotes (DuckDB 2.0, ``duckdb_keywords()``: the categories ``reserved``
#: and ``type_function`` without those listed under another category too), so that
#: folding cannot change a name in the output. Frozen: see `TOKENIZER_VERSION`.
KEYWORDS = frozenset(_KEYWORDS.split())

#: Characters that a template may have. Without a bound, each ``{{`` of a text that closes
#: none of them would be looked for to the text's end.
TEMPLATE_LIMIT = 1_000

# No possessive quantifier: Python 3.11.0 to 3.11.4 match those of groups wrongly (gh-106052).
# None is needed, for no two branches begin with the same character.
_TEMPLATE = re.compile(
    r"""\{\{(?:[^"'}]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\}(?!\}))*\}\}""", re.S
)


def template_at(text: str, at: int, end: int | None = None) -> re.Match[str] | None:
    """Return the template at a place of a text: ``{{ … }}``, with quoted text inside skipped.

    Args:
        end: where the text ends for this; the text's own end where None.
    """
    return _TEMPLATE.match(text, at, min(len(text) if end is None else end, at + TEMPLATE_LIMIT))


def templates_in(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield where the templates between two places of a text begin and end."""
    at = text.find("{{", start, end)
    while at >= 0:
        found = template_at(text, at, end)
        if found is not None:
            yield found.span()
        at = text.find("{{", found.end() if found is not None else at + 1, end)


class Kind(enum.Enum):
    """What a token is."""

    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    OPERATOR = "operator"
    TEMPLATE = "template"


class Token(NamedTuple):
    """A token: ``text`` is ``sql[start:end]``, counted in characters."""

    kind: Kind
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The text in upper case for a bare word or an operator, else empty."""
        return self.text.upper() if self.kind in (Kind.WORD, Kind.OPERATOR) else ""

    @property
    def is_name(self) -> bool:
        """Whether this can be an identifier."""
        return self.kind in (Kind.WORD, Kind.QUOTED)

    @property
    def name(self) -> str:
        """The identifier's own name, without quotes."""
        if self.kind is Kind.QUOTED:
            return self.text[1:-1].replace('""', '"')
        return self.text


# What DuckDB takes for a blank (2.0, tried for every character). Python's \s has others,
# which set no names apart: to take them for blanks would make two queries one definition.
_BLANKS = r"\t-\r \xa0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff"
_NON_ASCII = rf"[^\x00-\x7f{_BLANKS}]"
_SPACE = re.compile(rf"[{_BLANKS}]+")
_LINE_COMMENT = re.compile(r"--[^\n\r]*")
_BLOCK_MARK = re.compile(r"/\*|\*/")
_WORD = re.compile(rf"(?:[A-Za-z_]|{_NON_ASCII})(?:[A-Za-z0-9_$]|{_NON_ASCII})*")
# Greedy: 1_000, 0x1F, 1e-5 and 1a are one token each, whatever a version makes of them.
_NUMBER = re.compile(r"(?:[0-9]|\.[0-9])(?:[eE][+-](?=[0-9])|[A-Za-z0-9_.])*")
_DOLLAR = re.compile(rf"\$(?:(?:[A-Za-z_]|{_NON_ASCII})(?:[A-Za-z0-9_]|{_NON_ASCII})*)?\$")
_OPERATOR = re.compile(r"(?:(?!--|/\*)[-+*/<>=~!@#%^&|`?:])+")
# The grammar that DuckDB took over: an operator ends in + or - only if it holds one of these.
_KEEPS_SIGN = re.compile(r"[~!@#%^&|`?]")
_STRING_PREFIXES = frozenset("eExXbBnN")


def tokenize(sql: str, *, templates: bool = False) -> tuple[Token, ...]:
    """Cut `sql` into tokens, without comments and white space.

    Args:
        templates: whether ``{{ … }}`` is a token, and is opaque inside strings and
            quoted names (it may hold quotes of its own). False for expanded text.

    Returns:
        The tokens in order. A string or comment that is never closed reaches to
        the end of the text: the engine is the one to complain.
    """
    return tuple(_cut(sql, templates))


def _cut(sql: str, templates: bool) -> Iterator[Token]:
    at, size = 0, len(sql)
    while at < size:
        character = sql[at]
        if blank := _SPACE.match(sql, at) or _LINE_COMMENT.match(sql, at):
            at = blank.end()
            continue
        if sql.startswith("/*", at):
            at = _after_comment(sql, at)
            continue
        kind, end = _token_at(sql, at, character, templates)
        yield Token(kind, sql[at:end], at, end)
        at = end


def _token_at(sql: str, at: int, character: str, templates: bool) -> tuple[Kind, int]:
    if character == "'":
        return Kind.STRING, _after_quote(sql, at, "'", templates)
    if character in _STRING_PREFIXES and sql.startswith("'", at + 1):
        escapes = character in "eE"
        return Kind.STRING, _after_quote(sql, at + 1, "'", templates, escapes=escapes)
    if character == '"':
        return Kind.QUOTED, _after_quote(sql, at, '"', templates)
    if templates and (found := template_at(sql, at)):
        return Kind.TEMPLATE, found.end()
    if character == "$" and (tag := _DOLLAR.match(sql, at)):
        closing = sql.find(tag.group(), tag.end())
        return Kind.STRING, len(sql) if closing < 0 else closing + len(tag.group())
    if word := _WORD.match(sql, at):
        return Kind.WORD, word.end()
    if number := _NUMBER.match(sql, at):
        return Kind.NUMBER, number.end()
    if run := _OPERATOR.match(sql, at):
        text = run.group()
        if len(text) > 1 and not _KEEPS_SIGN.search(text):
            text = text.rstrip("+-") or text[0]
        return Kind.OPERATOR, at + len(text)
    return Kind.OPERATOR, at + 1


def _after_comment(sql: str, at: int) -> int:
    depth = 0
    for mark in _BLOCK_MARK.finditer(sql, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)


def _after_quote(sql: str, at: int, quote: str, templates: bool, *, escapes: bool = False) -> int:
    at += 1
    while at < len(sql):
        character = sql[at]
        if escapes and character == "\\":
            at += 2
        elif templates and character == "{" and (found := template_at(sql, at)):
            at = found.end()
        elif character != quote:
            at += 1
        elif sql.startswith(quote, at + 1):
            at += 2
        else:
            return at + 1
    return len(sql)


def canonical(tokens: Sequence[Token]) -> str:
    """Return the text that stands for `tokens` in definitions and content keys.

    Keywords are upper-cased, everything else is as written, tokens are set apart by
    one space. Empty statements and the closing semicolon are left out. Cutting the
    result again gives the same text.
    """
    parts: list[str] = []
    last: Token | None = None
    closed = False
    # CREATE … AS SELECT: the first AS of a CREATE is no alias, so SELECT is folded there.
    awaiting_as = after_create_as = False
    for index, token in enumerate(tokens):
        if token.text == ";" and token.kind is Kind.OPERATOR:
            closed, last = bool(parts), None
            continue
        if last is None:
            awaiting_as, after_create_as = token.upper == "CREATE", False
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if closed:
            parts.append(" ; ")
        elif last is not None and not _touching(last, token):
            parts.append(" ")
        parts.append(_folded(token, last, following, after_create_as=after_create_as))
        after_create_as = awaiting_as and token.upper == "AS"
        awaiting_as = awaiting_as and not after_create_as
        closed, last = False, token
    return "".join(parts)


def _folded(
    token: Token, last: Token | None, following: Token | None, *, after_create_as: bool
) -> str:
    """Return a token's canonical text; a keyword that serves as a name stays as written."""
    if token.kind is not Kind.WORD:
        return token.text
    upper = token.text.upper()
    before = last.upper if last is not None else ""
    after = following.upper if following is not None else ""
    if before == "." or (before == "AS" and not after_create_as) or after in (":", ":=", "=>"):
        return token.text
    if upper in KEYWORDS:
        return upper
    if upper == "PARTITION" and after == "BY":
        return upper
    if upper in ("OVER", "FILTER") and before == ")" and after == "(":
        return upper
    return token.text


def _touching(last: Token, token: Token) -> bool:
    """Whether a template is glued to its neighbour: ``orders_{{ env_name }}`` is one name."""
    glued = (Kind.WORD, Kind.NUMBER, Kind.TEMPLATE)
    return (
        last.end == token.start
        and Kind.TEMPLATE in (last.kind, token.kind)
        and last.kind in glued
        and token.kind in glued
    )


def split(tokens: Sequence[Token]) -> tuple[tuple[Token, ...], ...]:
    """Split `tokens` into statements at the semicolons; empty ones are left out."""
    statements: list[tuple[Token, ...]] = []
    current: list[Token] = []
    for token in tokens:
        if token.text == ";" and token.kind is Kind.OPERATOR:
            if current:
                statements.append(tuple(current))
            current = []
        else:
            current.append(token)
    if current:
        statements.append(tuple(current))
    return tuple(statements)
