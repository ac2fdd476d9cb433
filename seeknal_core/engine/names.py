"""How nodes are named in SQL that no graph has looked at: audits, queries, Python nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import duckdb

from seeknal_core.engine import quoting, statements


def short_names(ids: Iterable[str]) -> dict[str, str]:
    """Return bare name -> node id, for the names that only one id has."""
    pairs = [(id.partition(".")[2], id) for id in ids]
    counted = Counter(name.casefold() for name, _ in pairs)
    return {name: id for name, id in pairs if name and counted[name.casefold()] == 1}


def name_nodes(sql: str, ids: Iterable[str]) -> str:
    """Write node ids as the views they are: ``source.users`` and ``ref('source.users')``.

    Only ids among `ids` are touched, so that a column ``a.b`` stays one.
    """
    known = set(ids)
    try:
        found = statements.tokens(sql)
    except UnicodeEncodeError:
        return sql  # It is refused where it is checked.
    pieces: list[str] = []
    position = 0
    index = 0
    while index < len(found):
        id, count = _id_at(found, index)
        if id is None or id not in known:
            index += 1
            continue
        _, last, at = found[index + count - 1]
        pieces += [sql[position : found[index][2]], quoting.identifier(id)]
        position = at + len(last)
        index += count
    return "".join(pieces) + sql[position:]


def _id_at(found: list[tuple[duckdb.token_type, str, int]], index: int) -> tuple[str | None, int]:
    """Return the node id that may stand at a token, and how many tokens it takes."""
    words = [text for _, text, _ in found[index : index + 4]]
    before = found[index - 1][1] if index else ""
    if before == ".":
        return None, 0
    if len(words) == 4 and words[0].lower() == "ref" and words[1] == "(" and words[3] == ")":
        return words[2].strip("'\""), 4
    if len(words) >= 3 and words[1] == ".":
        return f"{_bare(words[0])}.{_bare(words[2])}", 3
    return None, 0


def _bare(word: str) -> str:
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        return word[1:-1].replace('""', '"')
    return word
