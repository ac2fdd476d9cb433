"""Reading a table or a query as record batches, in one consistent view.

A transaction of ours (repeatable read, read only) holds the view and describes
what is read. ADBC joins that view by its exported snapshot and streams
the rows, straight from binary COPY to Arrow.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pyarrow as pa
from psycopg import sql

from seeknal_core.errors import BackendError, Interrupted, Unreachable
from seeknal_core.structure import nearest
from seeknal_core.types import ExecutionContext, Source, SourceStream, redact
from seeknal_postgres import naming
from seeknal_postgres.errors import CHECK, said, translate
from seeknal_postgres.pool import Conn, connection_of, pool_of
from seeknal_postgres.projection import ReadColumn, columns_of, converter, select, settled
from seeknal_postgres.tables import store_identity

if TYPE_CHECKING:
    from seeknal_postgres.arrow import ArrowConnection, ArrowQuery

_READ_ONLY = "write one SELECT or WITH … SELECT"


@attrs.frozen(kw_only=True)
class View:
    """A source under an open transaction.

    ``what`` is what messages call it; ``relation`` stands in a FROM clause;
    ``search_path`` is empty where it is the session's own. ``ended`` is set when all
    rows are read.
    """

    context: ExecutionContext
    conn: Conn
    what: str
    relation: sql.Composed
    columns: tuple[ReadColumn, ...]
    search_path: str
    snapshot: str
    ended: threading.Event = attrs.field(factory=threading.Event, eq=False)


def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Carry out the hook of the same name."""
    stack = ExitStack()
    try:
        conn = stack.enter_context(pool_of(context).take(context))
        what, name = _named(context, source)
        try:
            view = _open_view(context, conn, source, what)
            identity = store_identity(context, conn) + f"/{name}"
            version = _version(view, source)
        except psycopg.Error as error:
            raise _refused(context, error, source, what) from error
    except BaseException:
        stack.close()
        raise
    return SourceStream(
        identity=identity,
        version=version,
        open=lambda: _stream(view, stack),
        close=stack.close,
    )


def _named(context: ExecutionContext, source: Source) -> tuple[str, str]:
    """Return what messages call the source, and its part of the identity."""
    if source.query is not None:
        digest = hashlib.sha256(source.query.encode()).hexdigest()[:16]
        return f"the query of {source.node}", f"query:{digest}"
    schema, table = _table(context, source)
    name = str(naming.qualified(schema, table))
    return name, name


def _table(context: ExecutionContext, source: Source) -> tuple[str, str]:
    if len(source.parts) == 2:
        return source.parts[0], source.parts[1]
    return connection_of(context).default_schema, source.parts[0]


def _open_view(context: ExecutionContext, conn: Conn, source: Source, what: str) -> View:
    connection = connection_of(context)
    search_path = ""
    if connection.schema_given:
        search_path = f"{naming.quote(connection.default_schema)}, public"
    snapshot = _begin_view(conn, search_path)
    if source.query is not None:
        relation = _wrapped(source.query)
    else:
        relation = sql.SQL("{}").format(sql.Identifier(*_table(context, source)))
    # The extended protocol takes one statement only, whatever the query's text holds.
    found = conn.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(relation), binary=True)
    columns = columns_of(conn, found.description or ())
    return View(
        context=context,
        conn=conn,
        what=what,
        relation=relation,
        columns=_projected(source, columns, what),
        search_path=search_path,
        snapshot=snapshot,
    )


def _local(search_path: str) -> list[sql.Composable]:
    """Return the statements that make a session read alike, for one transaction."""
    found: list[sql.Composable] = [sql.SQL("SET LOCAL timezone = 'UTC'")]
    if search_path:
        path = sql.Literal(search_path)
        found.append(sql.SQL("SELECT set_config('search_path', {}, true)").format(path))
    return found


def _begin_view(conn: Conn, search_path: str) -> str:
    """Begin to read in one view of the database; return the name that others join it by."""
    first = sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    last = sql.SQL("SELECT pg_export_snapshot()")
    cursor = conn.execute(sql.SQL("; ").join([first, *_local(search_path), last]))
    while cursor.nextset():
        pass
    row: Any = cursor.fetchone()
    return str(row[0])


def _wrapped(query: str) -> sql.Composed:
    """Return a user's query as a subquery, which can neither write nor be two."""
    text = query.strip().rstrip(";")
    # The query is the user's own SQL by design; the line ends a trailing comment.
    inner = sql.SQL(text.replace("{", "{{").replace("}", "}}"))
    return sql.SQL("(\n{}\n) AS _seeknal_query").format(inner.format())


def _projected(
    source: Source, columns: tuple[ReadColumn, ...], what: str
) -> tuple[ReadColumn, ...]:
    known = [column.name for column in columns]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise BackendError(
            f"{what} gives two columns the name {twice[0]!r}",
            "give each column a name of its own: SELECT a.id AS a_id, b.id AS b_id",
        )
    if not known:
        raise BackendError(f"{what} has no columns", "select at least one column")
    if source.columns is None:
        return columns
    for name in source.columns:
        if name not in known:
            hint = nearest(name, known) or f"its columns are {', '.join(known)}"
            raise BackendError(f"{what} has no column {name!r}", hint)
    return tuple(columns[known.index(name)] for name in source.columns)


def _version(view: View, source: Source) -> str | None:
    """Return the declared column's maximum and the row count, None where none is declared."""
    if source.watermark is None:
        return None
    row: Any = view.conn.execute(
        sql.SQL("SELECT max({})::text, count(*) FROM {}").format(
            sql.Identifier(source.watermark), view.relation
        )
    ).fetchone()
    return f"{source.watermark}={row[0]}:{row[1]}"


def _refused(
    context: ExecutionContext, error: psycopg.Error, source: Source, what: str
) -> BackendError | Interrupted:
    if context.cancellation.requested:
        return Interrupted("stopped by the user")
    if source.query is not None and error.sqlstate == "42601" and _selects(source.query):
        return BackendError(f"{what}: {said(error)}", "mend params.query, then run again")
    if source.query is not None and error.sqlstate in ("42601", "0A000", "25006"):
        return BackendError(
            f"{what} is not one statement that only reads: {said(error)}",
            _READ_ONLY,
        )
    return translate(error, what)


def _selects(query: str) -> bool:
    """Tell whether a query that the server cannot parse is meant to be one SELECT."""
    first = query.lstrip("( \n\t").split(None, 1)
    reads = bool(first) and first[0].lower() in ("select", "with", "values", "table")
    return reads and ";" not in query.rstrip("; \n\t")


def _stream(view: View, stack: ExitStack) -> pa.RecordBatchReader:
    try:
        columns = settled(view.conn, view.columns, view.relation)
        statement = select(columns, view.relation).as_string(view.conn)
    except psycopg.Error as error:
        raise translate(error, view.what) from error
    convert = converter(columns)
    reader = _joined(view, statement, stack)
    schema = pa.schema([pa.field(column.name, column.arrow) for column in columns])
    return pa.RecordBatchReader.from_batches(schema, _batches(view, reader, convert))


def _joined(view: View, statement: str, stack: ExitStack) -> pa.RecordBatchReader:
    """Open ADBC's connection on the view's snapshot and start the statement there."""
    from seeknal_postgres import arrow
    from seeknal_postgres.errors import connect_failure

    connection, pool = connection_of(view.context), pool_of(view.context)
    try:
        conn = pool.take_reader() or arrow.ArrowConnection(pool.conninfo)
    except arrow.Error as error:
        lost = psycopg.OperationalError(_driver_words(error))
        raise connect_failure(lost, connection) from error
    stack.callback(_release, view, conn)
    query = conn.query()
    stack.callback(query.close)
    stack.callback(view.context.cancellation.on_request(lambda: _cancel(query)))
    try:
        begin = (
            sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
            sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(view.snapshot)),
            *_local(view.search_path),
        )
        conn.execute(sql.SQL("; ").join(begin).as_string(view.conn))
        return query.start(statement)
    except (arrow.Error, pa.ArrowException, OSError) as error:
        raise _broken(view, error) from error


def _release(view: View, conn: ArrowConnection) -> None:
    """Give ADBC's connection back where it was read to the end: opening one takes 0.1 s."""
    from seeknal_postgres import arrow

    if view.ended.is_set():
        with contextlib.suppress(arrow.Error):
            conn.execute("ROLLBACK")
            pool_of(view.context).give_reader(conn)
            return
    conn.close()


def _cancel(query: ArrowQuery) -> None:
    """Cancel what is being read, without waiting for the server's answer."""
    from seeknal_postgres import arrow

    def send() -> None:
        # A read that ends meanwhile needs no cancelling.
        with contextlib.suppress(arrow.Error):
            query.cancel()

    threading.Thread(target=send, name="seeknal-cancel", daemon=True).start()


def _batches(
    view: View,
    reader: pa.RecordBatchReader,
    convert: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:
    from seeknal_postgres import arrow

    while True:
        view.context.cancellation.check()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            view.ended.set()
            return
        except (arrow.Error, pa.ArrowException, OSError) as error:
            raise _broken(view, error) from error
        try:
            yield convert(batch)
        except BackendError as error:
            raise BackendError(f"{view.what}: {error.message}", error.hint) from error


def _driver_words(error: BaseException) -> str:
    """Return the driver's message without the statement it repeats, nor a secret."""
    text = str(error).partition("\n\nQuery was")[0].partition("\nQuery was")[0]
    text = text.rpartition("ERROR: ")[2]
    return redact(" ".join(text.split()))


def _broken(view: View, error: BaseException) -> BackendError | Interrupted:
    if view.context.cancellation.requested:
        return Interrupted("stopped by the user")
    text = _driver_words(error)
    lost = any(
        word in text for word in ("server closed", "terminating connection", "no connection")
    )
    if lost:
        return Unreachable(f"{view.what}: the connection was lost: {text}", CHECK)
    hint = _READ_ONLY if "read-only transaction" in text else ""
    return BackendError(f"{view.what}: {text}", hint)
