"""The forms in which SQL names a node, read from tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from seeknal_core.graph.tokens import Kind, Token

if TYPE_CHECKING:
    pass


#: The kinds of nodes that SQL can read.
KINDS = ("source", "transform")


#: Forms that a CTE or an earlier statement's table may hide.
ONE_PART = ("input", "this", "whole", "bare")


_INPUT = re.compile(r"input_(\d+)", re.IGNORECASE)


#: What comes before a table that can have no alias (``DESCRIBE t``, ``TABLE t``).
_NO_ALIAS_AFTER = frozenset({"DESCRIBE", "DESC", "SUMMARIZE", "SHOW", "TABLE"})


@attrs.frozen(kw_only=True)
class Reference:
    """One place where SQL names a table that may be a node.

    ``form`` is ``ref`` (``ref('source.x')``), ``name`` (``source.x``), ``soft``
    (``any.x``, no kind of node that is run here), ``whole`` (``"source.x"``), ``bare``
    (``x``, which may be a node's name without its kind), ``input`` (``input_0``) or ``this``. ``parts`` is the name, kind first; for
    ``input`` and ``this`` the word itself. ``sql[start:end]`` is the whole reference.
    ``alias`` is what it must be called where it is replaced, None where the user has
    given an alias, none is possible or none is needed. ``qualifiers`` are the places
    of column qualifiers (``source.x`` in ``source.x.amount``) that mean it.
    """

    form: str
    parts: tuple[str, ...]
    start: int
    end: int
    alias: str | None = None
    qualifiers: tuple[tuple[int, int], ...] = ()

    @property
    def position(self) -> int | None:
        """The number in ``input_N``, 0 for ``__THIS__``, None for other forms."""
        if self.form == "this":
            return 0
        found = _INPUT.fullmatch(self.parts[0]) if self.form == "input" else None
        return int(found.group(1)) if found else None


@attrs.define(kw_only=True)
class Found:
    """A table that may be a node, while it is being looked at.

    ``scope`` is anything that is the same object for the tables of one FROM.
    """

    form: str
    parts: tuple[str, ...]
    start: int
    end: int
    scope: object
    aliased: bool
    qualifiers: list[tuple[int, int]] = attrs.field(factory=list)


def classify(tokens: Sequence[Token], index: int) -> tuple[str, tuple[str, ...], int] | None:
    """Read the table name at ``tokens[index]``.

    Returns:
        Form, parts and the index after it; None where it can be no reference.
    """
    first = tokens[index]
    if not first.is_name:
        return None
    if first.upper == "REF" and _texts(tokens, index + 1, 1) == ("(",):
        argument = tokens[index + 2] if index + 2 < len(tokens) else None
        if argument is None or _texts(tokens, index + 3, 1) != (")",):
            return None
        if argument.kind is Kind.STRING and argument.text.startswith("'"):
            text = argument.text[1:-1].replace("''", "'")
        elif argument.kind is Kind.QUOTED:
            text = argument.name
        else:
            return None
        return "ref", tuple(text.strip().split(".", 1)), index + 4
    parts, after = chain(tokens, index)
    if _texts(tokens, after, 1) == ("(",):
        return None
    if len(parts) == 1:
        if first.upper == "__THIS__":
            return "this", parts, after
        if first.kind is Kind.WORD and _INPUT.fullmatch(first.text):
            return "input", parts, after
        if first.kind is Kind.QUOTED and parts[0].split(".", 1)[0].lower() in KINDS:
            whole = tuple(parts[0].split(".", 1))
            return ("whole", whole, after) if len(whole) == 2 else None
        return "bare", parts, after
    form = "name" if parts[0].lower() in KINDS else "soft"
    return form, parts, after


def chain(tokens: Sequence[Token], index: int) -> tuple[tuple[str, ...], int]:
    """Read ``a.b.c`` at `index`: its names, and the index after it."""
    parts = [tokens[index].name]
    index += 1
    while index + 1 < len(tokens) and tokens[index].text == "." and tokens[index + 1].is_name:
        parts.append(tokens[index + 1].name)
        index += 2
    return tuple(parts), index


def takes_alias(tokens: Sequence[Token], index: int) -> bool:
    """Whether the table at `index` stands where a table can have an alias."""
    return index == 0 or tokens[index - 1].upper not in _NO_ALIAS_AFTER


def qualifies(parts: Sequence[str], found: Found) -> bool:
    """Whether a column's `parts` begin with the name of `found`, which has no alias."""
    named = found.form in ("name", "ref") and not found.aliased
    own = [part.lower() for part in found.parts]
    return named and len(parts) > len(own) and [p.lower() for p in parts[: len(own)]] == own


def _texts(tokens: Sequence[Token], index: int, count: int) -> tuple[str, ...]:
    return tuple(token.text for token in tokens[index : index + count])
