"""Run a source's query over a table whose store runs none.

In an instance of its own that sees that table and nothing else: no file, no snapshot.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from seeknal_core.contract.errors import EngineError
from seeknal_core.contract.options import nearest
from seeknal_core.engine import parquet, quoting, statements
from seeknal_core.engine.columns import projection, stored_columns
from seeknal_core.engine.pushing import Pushed, pushed

if TYPE_CHECKING:
    from collections.abc import Callable

    from seeknal_core.contract.types import Scan

_BATCH_ROWS = 65_536


@contextlib.contextmanager
def query_over(
    node: str,
    sql: str,
    columns: Sequence[str] | None,
    scan: Scan,
    cursor: duckdb.DuckDBPyConnection,
    translated: Callable[..., contextlib.AbstractContextManager[None]],
) -> Iterator[pa.RecordBatchReader]:
    """Return a query's rows.

    Args:
        columns: those of the result that are wanted, in that order; None for all.
        cursor: of an instance that is locked and can reach no file.
        translated: turns DuckDB's errors into ours.

    Raises:
        EngineError: the query is wrong, does more than read, or reads something else.
    """
    text, name = named(sql, scan.names)
    checked = statements.check(node, [text], [name])
    if len(checked) != 1:
        raise EngineError(f"{node}: params.query has several statements", "write one SELECT")
    text = checked[0].text
    feed = _Feed(scan, name, cursor)
    with translated(node, wrapper_lines=1):
        _refuse_others(node, text, scan, name)
        feed.give_nothing(scan.schema)
        whole = _shape(parquet.bind(cursor, text))
        wanted = Pushed() if checked[0].many else pushed(text, name, scan.schema.names)
        if wanted.columns is not None:
            feed.give_nothing(pa.schema([scan.schema.field(each) for each in wanted.columns]))
            try:
                alike = _shape(parquet.bind(cursor, text)) == whole
            except duckdb.Error:
                alike = False
            wanted = wanted if alike else Pushed(where=wanted.where)
        streams = not checked[0].many and feed.is_read_once(text, scan.schema, wanted)
        try:
            feed.give(wanted, keeping=not streams)
            relation = parquet.bind(cursor, text)
            made = stored_columns(node, relation.columns, relation.types)
            cast = projection(made)
            relation = relation.project(cast) if cast else relation
            if columns is not None:
                relation = relation.project(_chosen(node, columns, relation.columns))
            reader = relation.to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error as error:
            raise feed.failure or error from None

    def batches() -> Iterator[pa.RecordBatch]:
        with translated(node):
            try:
                yield from reader
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise feed.failure or error from None

    yield pa.RecordBatchReader.from_batches(reader.schema, batches())


class _Feed:
    """Gives a query its table, and keeps what failed while the table was read."""

    def __init__(self, scan: Scan, name: str, cursor: duckdb.DuckDBPyConnection) -> None:
        self._scan = scan
        self._name = name
        self._cursor = cursor
        self.failure: Exception | None = None

    def give_nothing(self, schema: pa.Schema) -> None:
        """Put a table without rows in the place of the store's."""
        # Not schema.empty_table(), which imports pandas where it is installed.
        self._cursor.register(self._name, pa.Table.from_batches([], schema))

    def is_read_once(self, sql: str, schema: pa.Schema, wanted: Pushed) -> bool:
        """Return whether a query reads its table once, as a stream can be read."""
        names = wanted.columns if wanted.columns is not None else schema.names
        empty = pa.schema([schema.field(each) for each in names])
        self._cursor.register(self._name, pa.RecordBatchReader.from_batches(empty, iter(())))
        found = self._cursor.execute(f"EXPLAIN (FORMAT JSON)\n{sql}").fetchone()
        steps = [name for step in json.loads(found[1]) for name in _names(step)] if found else []
        recursive = any(name.startswith("REC") for name in steps)
        return not recursive and sum("ARROW_SCAN" in name for name in steps) == 1

    def give(self, wanted: Pushed, *, keeping: bool) -> None:
        """Register the query's rows: as a stream, or stored where they are read several times."""
        reader = self._scan.open(wanted.columns, wanted.where)
        stream = pa.RecordBatchReader.from_batches(reader.schema, self._watched(reader))
        self._cursor.unregister(self._name)
        if not keeping:
            self._cursor.register(self._name, stream)
            return
        view = f"{self._name} as it comes"
        self._cursor.register(view, stream)
        name, come = quoting.identifier(self._name), quoting.identifier(view)
        self._cursor.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM {come}")
        self._cursor.unregister(view)

    def _watched(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        # DuckDB reads in threads of its own, and keeps of an exception its text alone.
        try:
            yield from reader
        except Exception as error:
            self.failure = error
            raise


def named(sql: str, names: Sequence[Sequence[str]]) -> tuple[str, str]:
    """Write a table's name as the one view that there is, however the user wrote it.

    Args:
        names: as in `Scan`.

    Returns:
        The query, and the view's name.
    """
    name = names[0][-1]
    found = statements.tokens(sql)
    longest = sorted(names, key=len, reverse=True)
    pieces: list[str] = []
    position = index = 0
    while index < len(found):
        written = next((each for each in longest if _stands_at(found, index, each)), None)
        if written is None:
            index += 1
            continue
        last = found[index + 2 * len(written) - 2]
        end = last[2] + len(last[1])
        following = found[index + 2 * len(written) - 1 :][:1]
        is_qualifier = bool(following) and following[0][1] == "."
        # Not `name` alone, which a WITH may have taken.
        view = quoting.identifier(name)
        pieces += [sql[position : found[index][2]], view if is_qualifier else f"temp.{view}"]
        position, index = end, index + 2 * len(written) - 1
    return "".join(pieces) + sql[position:], name


def _stands_at(found: Sequence[tuple[Any, str, int]], index: int, parts: Sequence[str]) -> bool:
    """Return whether a name of several parts stands at a token."""
    if len(parts) < 2 or (index and found[index - 1][1] == "."):
        return False
    words = [word for _, word, _ in found[index : index + 2 * len(parts) - 1]]
    if len(words) < 2 * len(parts) - 1 or any(dot != "." for dot in words[1::2]):
        return False
    plain = [word.strip('"').replace('""', '"') for word in words[::2]]
    return [word.casefold() for word in plain] == [part.casefold() for part in parts]


def _refuse_others(node: str, sql: str, scan: Scan, name: str) -> None:
    others = sorted(
        each for each in statements.table_names(sql) if each.casefold() != name.casefold()
    )
    if not others:
        return
    shown = ".".join(sorted(scan.names, key=len)[-1])
    raise EngineError(
        f"{node}: params.query reads {others[0]}, and the store runs no queries: only {shown} "
        "can be read in it",
        nearest(others[0], [name]) or "make a source of each table, and join them in a transform",
    )


def _shape(relation: duckdb.DuckDBPyRelation) -> list[tuple[str, str]]:
    return [(name, str(type)) for name, type in zip(relation.columns, relation.types, strict=True)]


def _chosen(node: str, columns: Sequence[str], known: Sequence[str]) -> str:
    for column in columns:
        if column not in known:
            raise EngineError(
                f"{node}: the query gives no column {column!r}",
                nearest(column, known) or "it gives " + ", ".join(known),
            )
        if list(columns).count(column) > 1:
            raise EngineError(
                f"{node}: params.columns names {column!r} twice", "name each column once"
            )
    return ", ".join(quoting.identifier(column) for column in columns)


def _names(step: Mapping[str, Any]) -> Iterator[str]:
    yield str(step["name"]).strip()
    for child in step["children"]:
        yield from _names(child)
