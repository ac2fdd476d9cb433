"""The types that a column may be declared as, in any kind of node.

======================= ==================================================================
written                 what it promises of every value
======================= ==================================================================
``integer``             a whole number of 64 bits (also ``int``, ``bigint``, ``long``)
``float``               a double: no digit of the text is lost (also ``double``, ``real``)
``decimal(p, s)``       an exact number (also ``numeric``); ``decimal`` alone is (38, 9)
``string``              text (also ``str``, ``text``, ``varchar``)
``boolean``             true or false (also ``bool``)
``date``                a day, without a time
``timestamp``           a day and a time without a zone, to the microsecond (also ``datetime``)
``timestamptz``         a moment: the text says its offset from UTC
``time``                a time of day, to the microsecond
``uuid``                a UUID
``json``                a JSON document, as text
``T[]``                 a list of a type: ``varchar[]``
``struct(a T, b T)``    named members, each of a type: ``struct(id integer, "full name" varchar)``
======================= ==================================================================

`parse` reads what is written. `DeclaredType.text` is the one way to write each type, so that
``varchar`` and ``string`` are one definition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from seeknal_core.contract.options import Mistake, nearest

#: The words for types without arguments, as messages list them.
DECLARED_TYPES = (
    "integer", "float", "decimal(p, s)", "string", "boolean", "date", "timestamp", "timestamptz",
    "time", "uuid", "json", "T[]", "struct(name T, …)",
)  # fmt: skip

#: Every word and the canonical one. ``datetime`` stays itself: definitions hold the word.
_WORDS = {
    **{
        word: word
        for word in (
            "integer", "float", "decimal", "string", "boolean", "date", "datetime", "timestamp",
            "timestamptz", "time", "uuid", "json",
        )
    },
    **dict.fromkeys(("int", "bigint", "long"), "integer"),
    **dict.fromkeys(("double", "real"), "float"),
    **dict.fromkeys(("str", "text", "varchar"), "string"),
    "bool": "boolean",
    "numeric": "decimal",
}  # fmt: skip

#: The precision and scale of ``decimal`` without arguments.
PLAIN_DECIMAL = (38, 9)
_MAX_DIGITS = 38

_SQL = {
    "integer": "BIGINT",
    "float": "DOUBLE",
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "time": "TIME",
    "uuid": "UUID",
    "json": "JSON",
}

_TOKEN = re.compile(r'\s*(?:("(?:[^"]|"")+")|([^\W\d]\w*)|(\d+)|(\[\s*\])|([(),]))\s*', re.UNICODE)
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*")


@attrs.frozen(kw_only=True)
class DeclaredType:
    """A declared type.

    ``name`` is a canonical word, ``list`` or ``struct``. ``precision`` and ``scale`` are set
    for decimals, ``element`` for lists, ``members`` for structs.
    """

    name: str
    precision: int = 0
    scale: int = 0
    element: DeclaredType | None = None
    members: tuple[tuple[str, DeclaredType], ...] = ()

    @property
    def text(self) -> str:
        """The type as it is written, in one way for all its spellings."""
        match self.name:
            case "decimal" if (self.precision, self.scale) != PLAIN_DECIMAL:
                return f"decimal({self.precision},{self.scale})"
            case "list":
                assert self.element is not None
                return f"{self.element.text}[]"
            case "struct":
                inside = (f"{_quoted(name)} {kind.text}" for name, kind in self.members)
                return f"struct({', '.join(inside)})"
            case _:
                return self.name

    @property
    def sql(self) -> str:
        """The type in the words of DuckDB."""
        match self.name:
            case "decimal":
                return f"DECIMAL({self.precision},{self.scale})"
            case "list":
                assert self.element is not None
                return f"{self.element.sql}[]"
            case "struct":
                inside = (
                    '"' + name.replace('"', '""') + f'" {kind.sql}' for name, kind in self.members
                )
                return f"STRUCT({', '.join(inside)})"
            case _:
                return _SQL[self.name]

    @property
    def is_nested(self) -> bool:
        """Whether it is a list or a struct."""
        return self.name in ("list", "struct")


def decimal(precision: int, scale: int) -> DeclaredType:
    """Return a decimal type."""
    return DeclaredType(name="decimal", precision=precision, scale=scale)


def plain(name: str) -> DeclaredType:
    """Return a type without arguments by its canonical word."""
    return DeclaredType(name=name)


def parse(text: str) -> DeclaredType:
    """Read a type as the user writes it; letter case doesn't count.

    Raises:
        Mistake: it is none, with the nearest one.
    """
    parser = _Parser(text)
    result = parser.type()
    parser.end()
    return result


class _Parser:
    """Reads one type from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def type(self) -> DeclaredType:
        word = self._take().lower()
        if word == "struct":
            result = DeclaredType(name="struct", members=tuple(self._members()))
        elif _WORDS.get(word) == "decimal":
            result = decimal(*self._digits())
        elif word in _WORDS:
            result = plain(_WORDS[word])
        else:
            raise _unknown(word)
        while self._peek() == "[]":
            self._take()
            result = DeclaredType(name="list", element=result)
        return result

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise _unknown(self._tokens[self._at])

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _expect(self, wanted: str) -> None:
        if self._take() != wanted:
            raise _unknown("")

    def _digits(self) -> tuple[int, int]:
        if self._peek() != "(":
            return PLAIN_DECIMAL
        self._take()
        precision, scale = self._number(), 0
        if self._peek() == ",":
            self._take()
            scale = self._number()
        self._expect(")")
        if not 1 <= precision <= _MAX_DIGITS or scale > precision:
            message = f"has no precision from 1 to {_MAX_DIGITS} with a scale up to the precision"
            raise Mistake(message, "write e.g. decimal(12,2)")
        return precision, scale

    def _number(self) -> int:
        token = self._take()
        if not token.isdecimal():
            raise Mistake("has no number where its digits are counted", "write e.g. decimal(12,2)")
        return int(token)

    def _members(self) -> Iterator[tuple[str, DeclaredType]]:
        self._expect("(")
        seen: set[str] = set()
        while True:
            name = self._take()
            if name in ("", "(", ")", ",", "[]"):
                raise _unknown("")
            name = name[1:-1].replace('""', '"') if name.startswith('"') else name
            if name.casefold() in seen:
                raise Mistake(f"has two members named {name!r}")
            seen.add(name.casefold())
            yield name, self.type()
            token = self._take()
            if token == ")":
                return
            if token != ",":
                raise _unknown("")


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _unknown(text.strip())
        at = found.end()
        yield "[]" if found[4] else found[found.lastindex or 0]


def _unknown(word: str) -> Mistake:
    message = f"is not one of {', '.join(DECLARED_TYPES)}"
    return Mistake(message, nearest(word.lower(), _WORDS), value=word)


def _quoted(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    return '"' + name.replace('"', '""') + '"'
