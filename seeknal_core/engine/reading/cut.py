"""SQL cut into tokens by DuckDB."""

from __future__ import annotations

import duckdb

Token = tuple[duckdb.token_type, str, int]

_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")


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
            result.append((kind, encoded[start:end].decode().strip(), characters))
    return result


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
