"""Which parts of SQL give another answer the next time they are asked.

From DuckDB 2.0's ``duckdb_functions()``: functions of stability ``VOLATILE`` and
``CONSISTENT_WITHIN_QUERY`` whose answer is a matter of time, chance or the
session; and sampling without a seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from seeknal_core.graph.tokens import Kind, Token

_FUNCTIONS = """
current_connection_id current_date current_localtime current_localtimestamp current_query
current_query_id current_time current_timestamp current_transaction_id currval
gen_random_uuid get_current_time get_current_timestamp localtime localtimestamp nextval now
random setseed setval today transaction_timestamp txid_current uuid uuidv4 uuidv7
"""

FUNCTIONS = frozenset(_FUNCTIONS.split())

#: Those that are called without brackets.
_BARE = frozenset({"CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME",
                   "LOCALTIMESTAMP"})  # fmt: skip
_SAMPLE_CLAUSE_TOKENS = 12


def volatile_parts(tokens: Sequence[Token]) -> tuple[str, ...]:
    """List the volatile functions that `tokens` use, each once, in order of first use.

    A column or an alias of such a name is none. ``age(x)`` counts when it has one
    argument (it then measures from today); sampling counts as ``sample``.
    """
    found: dict[str, None] = {}
    for index, token in enumerate(tokens):
        if not token.is_name:
            continue
        before = tokens[index - 1].upper if index else ""
        following = tokens[index + 1].text if index + 1 < len(tokens) else ""
        name = token.name.lower()
        if following == "(":
            if name in FUNCTIONS or (name == "age" and _arguments(tokens, index + 1) == 1):
                found[name] = None
        elif token.upper in _BARE and before not in (".", "AS") and following != ".":
            found[name] = None
        sampled = token.upper == "TABLESAMPLE" or (token.upper == "SAMPLE" and before == "USING")
        if sampled and not _seeded(tokens[index + 1 : index + 1 + _SAMPLE_CLAUSE_TOKENS]):
            found["sample"] = None
    return tuple(found)


def _arguments(tokens: Sequence[Token], opening: int) -> int:
    """Count the arguments between the bracket at `opening` and its closing one."""
    depth = count = 0
    for index in range(opening, len(tokens)):
        text = tokens[index].text if tokens[index].kind is Kind.OPERATOR else ""
        if text in ("(", "[", "{"):
            depth += 1
        elif text in (")", "]", "}"):
            depth -= 1
            if depth == 0:
                return count + 1 if index > opening + 1 else 0
        elif text == "," and depth == 1:
            count += 1
    return count + 1


def _seeded(clause: Sequence[Token]) -> bool:
    """Whether a sample clause names its seed: ``REPEATABLE (7)`` or ``10% (bernoulli, 7)``."""
    for index, token in enumerate(clause):
        if token.upper == "REPEATABLE":
            return True
        if token.text == "," and clause[index + 1 : index + 2]:
            return clause[index + 1].kind is Kind.NUMBER
        if token.upper in ("SELECT", "WHERE", "JOIN", ";"):
            return False
    return False
