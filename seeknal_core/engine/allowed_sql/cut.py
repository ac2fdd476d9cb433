"""SQL cut into tokens by DuckDB."""

from __future__ import annotations

import re

import duckdb

Token = tuple[duckdb.token_type, str, int]

_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")
#: The blanks that DuckDB's tokenizer knows. `str.strip` takes others from names.
_BLANKS = " \t\n\r\f\v"
#: Blanks that DuckDB's parser replaces by spaces before it cuts a text into tokens, outside
#: of what it takes for quotes there. In an unquoted name they are letters to the tokenizer.
REPLACED_BLANK = re.compile("[\u00a0\u2000-\u200b\u202f\u205f\u2060\u3000\ufeff]")


def tokens(sql: str) -> list[Token]:
    """Cut `sql` into tokens without comments: kind, text, and position in `sql`."""
    encoded = sql.encode()
    cuts = duckdb.tokenize(sql)
    result = []
    characters = 0
    last = 0
    for index, (start, kind) in enumerate(cuts):
        end = cuts[index + 1][0] if index + 1 < len(cuts) else len(encoded)
        characters += len(encoded[last:start].decode())
        last = start
        if kind != duckdb.token_type.comment:
            result.append((kind, encoded[start:end].decode().strip(_BLANKS), characters))
    return result


def ambiguous_blank(sql: str) -> int | None:
    """Return where an unquoted name holds a blank of Unicode, None where none does.

    DuckDB replaces such blanks by spaces, but it loses count of quotes at ``E'\\''`` and at
    quotes in ``/* */``. Behind them a blank stays, and it goes once the text before it is
    another one. So the same text could be checked as one query and run as another.
    """
    if not REPLACED_BLANK.search(sql):
        return None
    quoted = (duckdb.token_type.string_const, duckdb.token_type.comment)
    for kind, text, place in tokens(sql):
        blank = REPLACED_BLANK.search(text)
        if blank and kind not in quoted and not text.startswith('"'):
            return place + blank.start()
    return None


def word(token: Token) -> str:
    """Return a keyword or an operator in upper case, empty for names, texts and numbers."""
    kind, text, _ = token
    if kind in (duckdb.token_type.keyword, duckdb.token_type.operator):
        return text.upper()
    return ""


def depths(found: list[Token]) -> list[int]:
    """Return how many brackets each token stands in; a bracket itself counts as outside."""
    result = []
    depth = 0
    for _, text, _ in found:
        if text in _CLOSING:
            depth -= 1
        result.append(depth)
        if text in _OPENING:
            depth += 1
    return result


def end_of(token: Token) -> int:
    """Return the position behind a token."""
    return token[2] + len(token[1])
