"""The check of CREATE TEMP TABLE, VIEW and MACRO.

DuckDB shows no tree of them. Their queries are cut out and checked, and what is
run is written anew: the words that this module knows, and the queries as they
were checked. What it doesn't know is refused.
"""

from __future__ import annotations

import attrs
import duckdb

from seeknal_core.engine import quoting
from seeknal_core.engine.allowed_sql.cut import Token, depths, end_of, tokens, word
from seeknal_core.engine.allowed_sql.functions import functions
from seeknal_core.engine.allowed_sql.queries import check_expression, check_query, function_names
from seeknal_core.engine.allowed_sql.tree import Names, Refused, folded

_HINT = "write CREATE TEMP TABLE, VIEW or MACRO name AS …"
#: What makes an expression of a column's definition.
_EXPRESSING = frozenset({
    "AS", "CHECK", "COLLATE", "DEFAULT", "FOREIGN", "GENERATED", "REFERENCES", "USING", "WITH",
})  # fmt: skip


def checked(parser: duckdb.DuckDBPyConnection, sql: str, names: Names) -> str:
    """Check a CREATE TEMP statement; return the text to run, on the same lines.

    The name that it gives is added to `names`.

    Raises:
        Refused: it does more than define something of the node's inputs.
    """
    definition = _Definition(parser=parser, sql=sql, names=names, found=tokens(sql))
    return definition.check()


@attrs.define(kw_only=True)
class _Definition:
    parser: duckdb.DuckDBPyConnection
    sql: str
    names: Names
    found: list[Token]
    deep: list[int] = attrs.field(factory=list)
    at: int = 0
    out: str = ""

    def check(self) -> str:
        self.deep = depths(self.found)
        self._take("CREATE")
        if self._takes("OR"):
            self._take("REPLACE")
        if not self._takes("TEMP"):
            self._take("TEMPORARY")
        recursive = self._takes("RECURSIVE")
        kind = self._word()
        if kind not in ("TABLE", "VIEW", "MACRO", "FUNCTION"):
            raise Refused("this CREATE is not allowed", _HINT)
        self._take(kind)
        if self._takes("IF"):
            self._take("NOT")
            self._take("EXISTS")
        name = self._name()
        if kind in ("MACRO", "FUNCTION"):
            self._macro(name)
        else:
            self._relation(name, recursive=recursive)
        return self.out.lstrip(" ")

    def _relation(self, name: str, *, recursive: bool) -> None:
        columns = ""
        if self._text() == "(":
            columns = self._columns()
        if self._ended():
            self.names.tables.add(name)
            return
        self._take("AS")
        end, data = self._end_of_query()
        start = self.found[self.at][2]
        body = self.sql[start : end_of(self.found[end - 1])]
        self._gap(start)
        if recursive:
            above = f"WITH RECURSIVE {quoting.identifier(name)}{columns} AS ("
            self._query(f"{above}\n{body}\n) SELECT 1", self._byte(start) - len(above.encode()) - 1)
        else:
            self._query(body, self._byte(start))
        self.out += body + data
        self.names.tables.add(name)

    def _columns(self) -> str:
        """Take ``(a, b)``, or definitions of columns that have types alone."""
        end = self._closing()
        inside = self.found[self.at + 1 : end]
        for token in inside:
            if token[1].upper() in _EXPRESSING and token[0] != duckdb.token_type.string_const:
                raise Refused(
                    f"{token[1].upper()} of a column is not allowed", _HINT, self._byte(token[2])
                )
        text = "(" + " ".join(text for _, text, _ in inside) + ")"
        plain = all(
            kind in (duckdb.token_type.identifier, duckdb.token_type.keyword) or text == ","
            for kind, text, _ in inside
        )
        if not plain:
            self._check_types(inside)
        self.at = end + 1
        self._gap(end_of(self.found[end]))
        self.out += text
        return text

    def _check_types(self, inside: list[Token]) -> None:
        """Refuse what may be more than types: they hold names, numbers and brackets."""
        for kind, text, place in inside:
            if kind == duckdb.token_type.operator and text not in ("(", ")", "[", "]", ",", "."):
                raise Refused("a column's type is not plain", _HINT, self._byte(place))

    def _end_of_query(self) -> tuple[int, str]:
        """Return where the query ends, and the WITH [NO] DATA behind it."""
        words = [word(token) or token[1].upper() for token in self.found[-3:]]
        if words[-3:] == ["WITH", "NO", "DATA"]:
            return len(self.found) - 3, " WITH NO DATA"
        if words[-2:] == ["WITH", "DATA"]:
            return len(self.found) - 2, " WITH DATA"
        return len(self.found), ""

    def _macro(self, name: str) -> None:
        self.names = attrs.evolve(self.names, in_macro=True)
        listed = functions()
        if name in function_names() and name not in listed.scalar | listed.table:
            raise Refused(f"a macro cannot be named {name}", "give the macro another name")
        scalar = table = False
        while True:
            self._parameters()
            self._take("AS")
            is_table = self._takes("TABLE")
            end = self._end_of_macro(is_table)
            start, stop = self.found[self.at][2], end_of(self.found[end - 1])
            body = self.sql[start:stop]
            self._gap(start)
            if is_table:
                self._query(body, self._byte(start))
                table = True
            else:
                self._expression(body, start)
                scalar = True
            self.out += f"({body})"
            self.at = end
            if self._ended():
                break
            self._take(",")
        self.names.scalar_macros |= {name} if scalar else set()
        self.names.table_macros |= {name} if table else set()

    def _end_of_macro(self, is_table: bool) -> int:
        """Return where a body ends: at the end, or before ``, (…) AS`` of the next one."""
        for index in range(self.at, len(self.found) - 1):
            if self.found[index][1] != "," or self.deep[index] or self.found[index + 1][1] != "(":
                continue
            closing = self._closing(index + 1)
            following = [word(token) for token in self.found[closing + 1 : closing + 3]]
            if following[:1] == ["AS"] and (not is_table or following[1:] == ["TABLE"]):
                return index
        return len(self.found)

    def _parameters(self) -> None:
        if self._text() != "(":
            raise Refused("a macro's parameters are missing", _HINT)
        end = self._closing()
        parts: list[str] = []
        start = self.at + 1
        for index in range(start, end + 1):
            if index == end or (self.found[index][1] == "," and self.deep[index] == self._level()):
                if index > start:
                    parts.append(self._parameter(start, index))
                start = index + 1
        self.at = end + 1
        self._gap(end_of(self.found[end]))
        self.out += "(" + ", ".join(parts) + ")"

    def _level(self) -> int:
        return self.deep[self.at] + 1

    def _parameter(self, start: int, end: int) -> str:
        """Check one parameter: a name, a type, and a default after ``:=`` or ``=>``."""
        marks = [i for i in range(start, end) if self.found[i][1] in (":=", "=>")]
        split = marks[0] if marks else end
        name = self.found[start][1]
        if not _is_name(self.found[start]):
            raise Refused("a macro's parameter has no plain name", _HINT)
        text = name
        if split > start + 1:
            kind = self._slice(start + 1, split)
            self._expression(f"CAST(NULL AS {kind})", self.found[start][2])
            text += f" {kind}"
        if split < end:
            if split + 1 == end:
                raise Refused("a macro's default is missing", _HINT)
            default = self._slice(split + 1, end)
            self._expression(default, self.found[split + 1][2])
            text += f" := {default}"
        return text

    def _slice(self, start: int, end: int) -> str:
        """Return some tokens as they are written, on one line."""
        return " ".join(text for _, text, _ in self.found[start:end])

    def _query(self, query: str, first: int) -> None:
        """Check a query whose first byte is the statement's byte `first`."""
        try:
            check_query(self.parser, query, self.names)
        except Refused as refused:
            at = max(first, 0) if refused.at is None else first + refused.at
            raise Refused(refused.what, refused.hint, at) from None

    def _expression(self, text: str, start: int) -> None:
        try:
            check_expression(self.parser, text, self.names)
        except Refused as refused:
            raise Refused(refused.what, refused.hint, self._byte(start)) from None

    def _closing(self, opening: int | None = None) -> int:
        at = self.at if opening is None else opening
        for index in range(at + 1, len(self.found)):
            if self.deep[index] == self.deep[at] and self.found[index][1] == ")":
                return index
        raise Refused("a bracket is not closed", _HINT)

    def _name(self) -> str:
        """Take a name, which may be ``temp.name``; return its last part, folded."""
        parts = []
        while True:
            if self._ended() or not _is_name(self.found[self.at]):
                raise Refused("the name is missing", _HINT)
            parts.append(self.found[self.at][1])
            self._take()
            if self._text() != ".":
                break
            self._take(".")
        bare = [part[1:-1].replace('""', '"') if part.startswith('"') else part for part in parts]
        if [folded(part) for part in bare[:-1]] not in ([], ["temp"], ["temp", "main"]):
            raise Refused("this would be seen by other nodes", "write the name alone")
        return folded(bare[-1])

    def _text(self) -> str:
        return "" if self._ended() else self.found[self.at][1]

    def _word(self) -> str:
        return self._text().upper()

    def _ended(self) -> bool:
        return self.at >= len(self.found)

    def _takes(self, text: str) -> bool:
        if self._word() != text:
            return False
        self._take(text)
        return True

    def _take(self, text: str | None = None) -> None:
        if self._ended() or (text is not None and self._word() != text):
            raise Refused(f"{text or 'the rest'} is missing", _HINT)
        token = self.found[self.at]
        self._gap(token[2])
        self.out += token[1] if text is None or text in ".,(" else token[1].upper()
        self.at += 1

    def _gap(self, until: int) -> None:
        """Write the line ends that stand before a place and are not written yet."""
        lines = self.sql.count("\n", 0, until) - self.out.count("\n")
        self.out += "\n" * lines if lines > 0 else " "

    def _byte(self, position: int) -> int:
        return len(self.sql[:position].encode())


def _is_name(token: Token) -> bool:
    return token[0] in (duckdb.token_type.identifier, duckdb.token_type.keyword)
