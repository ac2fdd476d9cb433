"""Which SQL a node may hold: it reads its inputs and gives rows, nothing else.

This keeps the graph true (what a node reads is what it declares), and a stranger's
SQL away from files, settings and other nodes' rows. `seeknal_core.engine.allowed_sql`
decides by the tree of DuckDB's own parser. The instance's settings close the files
outside the snapshot store once more.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs
import duckdb

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine import failures
from seeknal_core.engine.allowed_sql.cut import ambiguous_blank
from seeknal_core.engine.allowed_sql.cut import tokens as tokens
from seeknal_core.engine.allowed_sql.definitions import checked
from seeknal_core.engine.allowed_sql.functions import SOURCE_HINT
from seeknal_core.engine.allowed_sql.queries import check_query, kind_of
from seeknal_core.engine.allowed_sql.serialized import serialized
from seeknal_core.engine.allowed_sql.tree import Names, Refused, folded

_HINTS = {
    "COPY": "give the node a target (materialization:) instead",
    "EXPORT": "give the node a target (materialization:) instead",
    "ATTACH": SOURCE_HINT,
    "INSTALL": SOURCE_HINT,
    "LOAD": SOURCE_HINT,
    "IMPORT": SOURCE_HINT,
    "SET": "limits go under engine: in seeknal_project.yml",
    "RESET": "limits go under engine: in seeknal_project.yml",
    "PRAGMA": "limits go under engine: in seeknal_project.yml",
    "INSERT": "write CREATE TEMP TABLE name AS SELECT …",
    "UPDATE": "write CREATE TEMP TABLE name AS SELECT …",
    "DELETE": "write CREATE TEMP TABLE name AS SELECT …",
    "MERGE": "write CREATE TEMP TABLE name AS SELECT …",
}
_DEFAULT_HINT = "a node holds SELECT and CREATE TEMP TABLE, VIEW or MACRO only"

#: Characters from which an instance of its own parses a text, and is closed at once:
#: an instance keeps what parsing took, 130 MB for a text of 1 MB.
_LARGE = 100_000

#: Characters of a query up to which its tree is compared with another one's.
_COMPARED = 20_000

#: Characters up to which a text that was checked is remembered.
_REMEMBERED = 10_000

_parser_lock = threading.Lock()
_parser: duckdb.DuckDBPyConnection | None = None


@attrs.frozen(kw_only=True)
class Statement:
    """One checked statement.

    ``text`` is what to run, without the closing semicolon: of a query the user's own.
    ``number`` counts from 1 of ``total``; ``lines_before`` are the lines of the SQL above
    it. ``many`` tells that DuckDB runs it as several (a PIVOT that looks for its columns),
    ``selects`` that it gives rows.
    """

    text: str
    number: int
    total: int
    lines_before: int
    many: bool
    selects: bool


def check(
    node: str, statements: Sequence[str], tables: Iterable[str] = ()
) -> tuple[Statement, ...]:
    """Parse `statements`, refuse what a node may not hold, and take them apart.

    Args:
        tables: the names of the node's inputs, as its SQL has them.

    Raises:
        EngineError: see the module's text; with the line.
    """
    if sum(map(len, statements)) > _REMEMBERED:
        return _check(node, statements, tables)
    return _checked_once(node, tuple(statements), frozenset(tables))


@functools.lru_cache(maxsize=256)
def _checked_once(
    node: str, statements: tuple[str, ...], tables: frozenset[str]
) -> tuple[Statement, ...]:
    """Check what is short once: a command asks before it binds and before it runs."""
    return _check(node, statements, tables)


def _check(node: str, statements: Sequence[str], tables: Iterable[str]) -> tuple[Statement, ...]:
    found: list[tuple[str, str, int]] = []
    for sql in statements:
        found += _split(node, sql)
    if not found:
        raise EngineError(f"{node}: there is no SQL", "end the node's SQL with a SELECT")
    names = Names(tables={folded(name) for name in tables})
    result: list[Statement] = []
    for number, (text, kind, before) in enumerate(found, 1):
        statement = Statement(
            text=text,
            number=number,
            total=len(found),
            lines_before=before,
            many=kind == "MULTI",
            selects=kind in ("SELECT", "MULTI"),
        )
        try:
            text = _checked(statement, kind, names)
        except Refused as refused:
            line = before + 1 + text.encode()[: refused.at or 0].count(b"\n")
            which = f", statement {number}" if len(found) > 1 else ""
            message = f"{node}: line {line}{which}: {refused.what}"
            raise EngineError(message, refused.hint, line=line) from None
        result.append(attrs.evolve(statement, text=text))
    return tuple(result)


def table_names(sql: str) -> set[str]:
    """Return the names that a SELECT takes for tables; empty for another statement."""
    try:
        with _parsing(large=len(sql) >= _LARGE) as parser:
            return parser.get_table_names(sql)
    except duckdb.Error:
        return set()


def query_tree(sql: str) -> Any:
    """Return DuckDB's parse of one SELECT, without places in the text.

    Returns:
        None where DuckDB gives none, and for a text that is too large to keep its tree.
    """
    if len(sql) > _COMPARED:
        return None
    return _query_tree(sql)


@functools.lru_cache(maxsize=256)
def _query_tree(sql: str) -> Any:
    with _parsing() as parser:
        trees = serialized(parser, sql, places=False)
    return trees[0] if trees is not None and len(trees) == 1 else None


def parsed(sql: str) -> str | duckdb.Statement:
    """Return what to execute for one statement: the text, or, of a large one, its parse.

    Raises:
        duckdb.Error: the text is large and does not parse.
    """
    if len(sql) < _LARGE:
        return sql
    with _parsing(large=True) as parser:
        found = parser.extract_statements(sql)
    return found[0] if len(found) == 1 else sql


@contextlib.contextmanager
def _parsing(*, large: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Return an empty instance that parses, one thread at a time."""
    global _parser
    if large:
        with _parser_lock, duckdb.connect(config={"threads": 1}) as parser:
            yield parser
        return
    with _parser_lock:
        if _parser is None:
            _parser = duckdb.connect(config={"threads": 1})
        yield _parser


def _split(node: str, sql: str) -> Iterator[tuple[str, str, int]]:
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        line = sql.count("\n", 0, error.start) + 1
        raise EngineError(
            f"{node}: line {line}: there is half a character (U+{ord(sql[error.start]):04X})",
            "write the SQL as UTF-8",
            line=line,
        ) from None
    try:
        with _parsing(large=len(sql) >= _LARGE) as parser:
            found = [
                (statement.query.strip(), kind_of(statement))
                for statement in parser.extract_statements(sql)
            ]
    except duckdb.Error as error:
        raise failures.translate(error, node) from None
    position = 0
    for query, kind in found:
        text = query[:-1].rstrip() if query.endswith(";") else query
        at = sql.find(text, position)
        before = sql.count("\n", 0, at) if at >= 0 else 0
        position = max(at, position)
        yield text, kind, before


def _first_words(sql: str, count: int) -> list[str]:
    """Return the first tokens in upper case, cutting no more of the text than they need."""
    size = 2_000
    while size < len(sql):
        words = tokens(sql[:size])
        if len(words) > count:  # The last one may be cut short.
            break
        size *= 8
    else:
        words = tokens(sql)
    return [text.upper() for _, text, _ in words[:count]]


def _checked(statement: Statement, kind: str, names: Names) -> str:
    """Check one statement, and return the text to run."""
    blank = ambiguous_blank(statement.text)
    if blank is not None:
        raise Refused(
            f"a name holds the blank U+{ord(statement.text[blank]):04X}",
            "write a space in its place, or the name in double quotes",
            len(statement.text[:blank].encode()),
        )
    words = _first_words(statement.text, 8)
    first = words[0].lstrip("(") if words else ""
    with _parsing(large=len(statement.text) >= _LARGE) as parser:
        if first == "CREATE" and kind in ("CREATE", "MULTI"):
            _check_create(words)
            text = checked(parser, statement.text, names)
        else:
            if kind not in ("SELECT", "MULTI") or first in _HINTS:
                name = first if first not in ("WITH", "FROM", "") else kind.replace("_", " ")
                raise Refused(f"{name} is not allowed", _HINTS.get(name, _DEFAULT_HINT))
            check_query(parser, statement.text, names, kind)
            text = statement.text
    if statement.number == statement.total and first == "CREATE":
        raise Refused(
            f"the last statement is {first}, so the node gives no rows",
            "end the node's SQL with a SELECT",
        )
    return text


def _check_create(words: list[str]) -> None:
    rest = words[1:]
    if rest[:2] == ["OR", "REPLACE"]:
        rest = rest[2:]
    temporary = rest[:1] in (["TEMP"], ["TEMPORARY"])
    rest = rest[1:] if temporary else rest
    if rest[:1] == ["RECURSIVE"]:
        rest = rest[1:]
    what = rest[0] if rest else ""
    if what not in ("TABLE", "VIEW", "MACRO", "FUNCTION"):
        raise Refused(f"CREATE {what} is not allowed", _DEFAULT_HINT)
    if not temporary:
        raise Refused(f"CREATE {what} would be seen by other nodes", f"write CREATE TEMP {what}")
