"""Which SQL a node may hold: it reads its inputs and gives rows, nothing else.

This keeps the graph true (what a node reads is what it declares) and a store's
tables out of reach of a slip; it is no fence against the project's own author,
who can run Python as well. Files outside the snapshot store are closed by the
instance's settings, so what is left to refuse here are statements by their
kind, and functions that read files of the store itself.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator, Sequence

import attrs
import duckdb

from seeknal_core.engine import failures
from seeknal_core.errors import EngineError

#: Table functions that read files or other databases.
FILE_FUNCTIONS = frozenset(
    {
        "duckdb_external_file_cache",
        "duckdb_logs",
        "duckdb_logs_parsed",
        "duckdb_temporary_files",
        "glob",
        "parquet_bloom_probe",
        "parquet_file_metadata",
        "parquet_full_metadata",
        "parquet_kv_metadata",
        "parquet_metadata",
        "parquet_schema",
        "read_blob",
        "read_csv",
        "read_csv_auto",
        "read_duckdb",
        "read_json",
        "read_json_auto",
        "read_json_objects",
        "read_json_objects_auto",
        "read_ndjson",
        "read_ndjson_auto",
        "read_ndjson_objects",
        "read_parquet",
        "read_single_csv_file",
        "read_single_json_file",
        "read_single_parquet_file",
        "read_text",
        "sniff_csv",
    }
)

#: Table functions that run or change what no check has seen.
HIDING_FUNCTIONS = frozenset(
    {
        "checkpoint",
        "force_checkpoint",
        "json_execute_serialized_sql",
        "query",
        "query_table",
        "truncate_duckdb_logs",
        "write_log",
    }
)

_SOURCE_HINT = "declare the data as a source and name it with ref('source.…')"

_HINTS = {
    "COPY": "give the node a target (materialization:) instead",
    "EXPORT": "give the node a target (materialization:) instead",
    "ATTACH": _SOURCE_HINT,
    "INSTALL": _SOURCE_HINT,
    "LOAD": _SOURCE_HINT,
    "IMPORT": _SOURCE_HINT,
    "SET": "limits go under engine: in seeknal_project.yml",
    "RESET": "limits go under engine: in seeknal_project.yml",
    "PRAGMA": "limits go under engine: in seeknal_project.yml",
    "INSERT": "write CREATE TEMP TABLE name AS SELECT …",
    "UPDATE": "write CREATE TEMP TABLE name AS SELECT …",
    "DELETE": "write CREATE TEMP TABLE name AS SELECT …",
    "MERGE": "write CREATE TEMP TABLE name AS SELECT …",
}
_DEFAULT_HINT = "a node holds SELECT and CREATE TEMP TABLE, VIEW or MACRO only"

#: What `_check_functions` refuses, wherever it is written: most SQL has none of it.
_REFUSED_NAMES = re.compile("|".join([*FILE_FUNCTIONS, *HIDING_FUNCTIONS, "_scan"]), re.IGNORECASE)

#: Characters from which an instance of its own parses a text, and is closed at once:
#: an instance keeps what parsing took, 130 MB for a text of 1 MB.
_LARGE = 100_000

_parser_lock = threading.Lock()
_parser: duckdb.DuckDBPyConnection | None = None


@attrs.frozen(kw_only=True)
class Statement:
    """One checked statement.

    ``text`` is the user's own, without the closing semicolon. ``number`` counts
    from 1 of ``total``; ``lines_before`` are the lines of the SQL above it.
    ``many`` tells that DuckDB runs it as several (a PIVOT that looks for its columns).
    """

    text: str
    number: int
    total: int
    lines_before: int
    many: bool


def check(node: str, statements: Sequence[str]) -> tuple[Statement, ...]:
    """Parse `statements`, refuse what a node may not hold, and take them apart.

    Raises:
        EngineError: see the module's text.
    """
    found: list[tuple[str, str, int]] = []
    for sql in statements:
        found += _split(node, sql)
    if not found:
        raise EngineError(f"{node}: there is no SQL", "end the node's SQL with a SELECT")
    result = tuple(
        Statement(
            text=text,
            number=number,
            total=len(found),
            lines_before=before,
            many=kind == "MULTI",
        )
        for number, (text, kind, before) in enumerate(found, 1)
    )
    for statement, (_, kind, _) in zip(result, found, strict=True):
        _check_kind(node, statement, kind)
        _check_functions(node, statement)
    return result


def table_names(sql: str) -> set[str]:
    """Return the names that a SELECT takes for tables; empty for another statement."""
    try:
        with _parsing(large=len(sql) >= _LARGE) as parser:
            return parser.get_table_names(sql)
    except duckdb.Error:
        return set()


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
    """Give an empty instance that parses, one thread at a time."""
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
        with _parsing(large=len(sql) >= _LARGE) as parser:
            found = [
                (statement.query.strip(), statement.type.name)
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


def tokens(sql: str) -> list[tuple[duckdb.token_type, str, int]]:
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


def _check_kind(node: str, statement: Statement, kind: str) -> None:
    words = _first_words(statement.text, 8)
    first = words[0].lstrip("(") if words else ""
    if first == "CREATE" and kind in ("CREATE", "MULTI"):
        _check_create(node, statement, words)
        is_query = False
    else:
        is_query = kind in ("SELECT", "MULTI")
        if not is_query:
            name = first or kind
            raise EngineError(
                f"{node}: {_which(statement)}{name} is not allowed",
                _HINTS.get(name, _DEFAULT_HINT),
            )
    if statement.number == statement.total and not is_query:
        raise EngineError(
            f"{node}: the last statement is {first}, so the node gives no rows",
            "end the node's SQL with a SELECT",
        )


def _check_create(node: str, statement: Statement, words: list[str]) -> None:
    rest = words[1:]
    if rest[:2] == ["OR", "REPLACE"]:
        rest = rest[2:]
    temporary = rest[:1] in (["TEMP"], ["TEMPORARY"])
    rest = rest[1:] if temporary else rest
    if rest[:1] == ["RECURSIVE"]:
        rest = rest[1:]
    what = rest[0] if rest else ""
    if what not in ("TABLE", "VIEW", "MACRO", "FUNCTION"):
        raise EngineError(f"{node}: {_which(statement)}CREATE {what} is not allowed", _DEFAULT_HINT)
    if not temporary:
        raise EngineError(
            f"{node}: {_which(statement)}CREATE {what} would be seen by other nodes",
            f"write CREATE TEMP {what}",
        )


def _check_functions(node: str, statement: Statement) -> None:
    if not _REFUSED_NAMES.search(statement.text):
        return
    found = tokens(statement.text)
    for (_, word, _), (_, following, _) in itertools.pairwise(found):
        name = word.strip('"').lower()
        if not following.startswith("("):
            continue
        # Every *_scan function of an extension reads another store's files or tables.
        if name in FILE_FUNCTIONS or name.endswith("_scan"):
            raise EngineError(
                f"{node}: {_which(statement)}{name}() reads files itself", _SOURCE_HINT
            )
        if name in HIDING_FUNCTIONS:
            raise EngineError(f"{node}: {_which(statement)}{name}() is not allowed", _DEFAULT_HINT)


def _which(statement: Statement) -> str:
    return f"statement {statement.number}: " if statement.total > 1 else ""
