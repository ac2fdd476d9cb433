"""Reading a table or a query as record batches, in one consistent view.

A transaction (repeatable read, read only) holds the view and describes what is read. The
rows come by a binary COPY on the same connection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import attrs
import psycopg
import pyarrow as pa
from psycopg import errors as pg
from psycopg import sql

from seeknal_core.contract.errors import BackendError, Interrupted
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import ExecutionContext, Source, SourceStream
from seeknal_postgres import names
from seeknal_postgres.connection.errors import said, translate
from seeknal_postgres.connection.pool import Conn, connection_of, pool_of
from seeknal_postgres.connection.session import seen_by
from seeknal_postgres.connection.settings import formats
from seeknal_postgres.ledger.tables import store_identity
from seeknal_postgres.source.role_bound import role_of_query, role_of_table
from seeknal_postgres.types.projection import ReadColumn, columns_of, converter, select, settled

if TYPE_CHECKING:
    from seeknal_postgres.source.copyout import CopyOut
    from seeknal_postgres.types.wire import Chunk

_BYTES = "read it as bytes in params.query: convert_to(x::text, getdatabaseencoding()) AS x"
_READ_ONLY = "write one SELECT or WITH … SELECT"


@attrs.frozen(kw_only=True)
class View:
    """A source under an open transaction.

    ``what`` is what messages call it; ``relation`` stands in a FROM clause.
    """

    context: ExecutionContext
    conn: Conn
    what: str
    relation: sql.Composed
    columns: tuple[ReadColumn, ...]


def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Implement the hook of the same name."""
    stack = ExitStack()
    try:
        conn = stack.enter_context(pool_of(context).take(context))
        what, name = _named(context, source)
        try:
            view = _open_view(context, conn, source, what)
            identity = store_identity(context, conn) + f"/{name}"
            version = _version(view, source)
            sees = seen_by(conn, _reads(context, conn, source))
        except psycopg.Error as error:
            raise _refused(context, error, source, what) from error
    except BaseException:
        stack.close()
        raise
    return SourceStream(
        identity=f"{identity}?{sees}" if sees else identity,
        version=version,
        sees=sees,
        open=lambda: stream(view, stack),
        close=stack.close,
    )


def _reads(context: ExecutionContext, conn: Conn, source: Source) -> Mapping[str, str]:
    """Return what decides which rows the source gives, beside what the server keeps."""
    reads = dict(connection_of(context).reads())
    if source.query is not None:
        role = role_of_query(conn, source.query)
    else:
        role = role_of_table(conn, _table(context, source))
    return {**reads, "role of a view or query": role} if role else reads


def _named(context: ExecutionContext, source: Source) -> tuple[str, str]:
    """Return what messages call the source, and its part of the identity."""
    if source.query is not None:
        digest = hashlib.sha256(source.query.encode()).hexdigest()[:16]
        return f"the query of {source.node}", f"query:{digest}"
    schema, table = _table(context, source)
    name = str(names.qualified(schema, table))
    return name, name


def _table(context: ExecutionContext, source: Source) -> tuple[str, str]:
    if len(source.parts) == 2:
        return source.parts[0], source.parts[1]
    return connection_of(context).default_schema, source.parts[0]


def _open_view(context: ExecutionContext, conn: Conn, source: Source, what: str) -> View:
    connection = connection_of(context)
    search_path = ""
    if connection.schema_given:
        search_path = f"{names.quote(connection.default_schema)}, public"
    conn.execute(beginning(search_path, policies=connection.row_security))
    if source.query is not None:
        relation = _wrapped(source.query)
    else:
        relation = sql.SQL("{}").format(sql.Identifier(*_table(context, source)))
    found = _described(context, conn, source, relation, what)
    columns = columns_of(conn, found.description or (), source.declared)
    return View(
        context=context,
        conn=conn,
        what=what,
        relation=relation,
        columns=_projected(source, columns, what),
    )


def _described(
    context: ExecutionContext, conn: Conn, source: Source, relation: sql.Composed, what: str
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Return an empty result that has the columns of what is read.

    For a table only the wanted columns are named: the role may have no right to read
    another.
    """
    wanted: sql.Composable = sql.SQL("*")
    if source.columns and source.query is None:
        wanted_names = dict.fromkeys(source.columns)
        wanted = sql.SQL(", ").join(sql.Identifier(name) for name in wanted_names)
    try:
        # The extended protocol takes one statement only, no matter what the query's text contains.
        statement = sql.SQL("SELECT {} FROM {} LIMIT 0").format(wanted, relation)
        return conn.execute(statement, binary=True)
    except (pg.UndefinedColumn, pg.InsufficientPrivilege) as error:
        if source.query is not None:
            raise
        refused = _columns_refused(conn, source, _table(context, source), error, what)
        if refused is None:
            raise
        raise refused from error


def _columns_refused(
    conn: Conn, source: Source, table: tuple[str, str], error: psycopg.Error, what: str
) -> BackendError | None:
    """Return why these columns can't be read, None if the table's columns don't matter."""
    conn.execute("ROLLBACK")
    rows = conn.execute(
        "SELECT a.attname, has_column_privilege(c.oid, a.attnum, 'SELECT'),"
        " has_schema_privilege(n.oid, 'USAGE')"
        " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped"
        " ORDER BY a.attnum",
        list(table),
    ).fetchall()
    known = [str(name) for name, _, _ in rows]
    for name in source.columns or ():
        if known and name not in known:
            return _no_column(what, name, known)
    readable = [str(name) for name, may, _ in rows if may]
    if not readable or not all(usable for _, _, usable in rows):
        return None
    denied = [name for name in source.columns or known if name not in readable]
    if not denied:
        return None  # a policy forbids, not the columns' rights
    return BackendError(
        f"{what}: {said(error)}: the role may not read its columns {', '.join(denied)}",
        f"params: {{columns: {json.dumps(readable)}}} reads what it may;"
        f" or GRANT SELECT ({', '.join(map(names.quote, denied))}) ON {what} to it",
        target=what,
    )


def _no_column(what: str, name: str, known: list[str]) -> BackendError:
    hint = nearest(name, known) or f"its columns are {', '.join(known)}"
    return BackendError(f"{what} has no column {name!r}", hint)


def beginning(search_path: str, *, policies: bool) -> sql.Composed:
    """Return what begins to read in one view of the database, values in fixed formats.

    Args:
        search_path: empty for the session's own.
        policies: whether row-level security chooses the rows; else what it would hide is
            an error.
    """
    first = sql.SQL("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
    statements: list[sql.Composable] = [first, formats(row_security=policies)]
    if search_path:
        path = sql.Literal(search_path)
        statements.append(sql.SQL("SELECT set_config('search_path', {}, true)").format(path))
    return sql.SQL("; ").join(statements)


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
            raise _no_column(what, name, known)
    return tuple(columns[known.index(name)] for name in source.columns)


def _version(view: View, source: Source) -> str | None:
    """Return the declared column's maximum and the row count, None if none is declared."""
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
    hidden = _hidden(error, what)
    if hidden is not None:
        return hidden
    if source.query is not None and error.sqlstate == "42601" and _selects(source.query):
        return BackendError(f"{what}: {said(error)}", "fix params.query, then run again")
    if source.query is not None and error.sqlstate in ("42601", "0A000", "25006"):
        return BackendError(
            f"{what} is not one statement that only reads: {said(error)}",
            _READ_ONLY,
        )
    return translate(error, what)


def _hidden(error: psycopg.Error, what: str) -> BackendError | None:
    """Return the refusal of rows that a policy would hide, None for another failure."""
    message = error.diag.message_primary or ""
    if error.sqlstate != "42501" or "row-level security" not in message:
        return None
    return BackendError(
        f"{what}: row-level security hides rows from the role",
        "params: {row_security: true} reads only what its policies show; to read all rows,"
        " let the role be the table's owner or grant it BYPASSRLS",
        target=what,
    )


def _selects(query: str) -> bool:
    """Return whether a query that the server cannot parse is meant to be one SELECT."""
    first = query.lstrip("( \n\t").split(None, 1)
    reads = bool(first) and first[0].lower() in ("select", "with", "values", "table")
    return reads and ";" not in query.rstrip("; \n\t")


def stream(view: View, stack: ExitStack) -> pa.RecordBatchReader:
    """Return the rows of a view.

    Args:
        stack: is given what ends the reading.
    """
    from seeknal_postgres.source.copyout import CopyOut

    encoding = view.conn.info.parameter_status("server_encoding")
    try:
        columns = settled(view.conn, view.columns, view.relation)
        query = select(columns, view.relation)
        statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)
        rows = CopyOut(view.conn, statement.as_bytes(view.conn))
    except psycopg.Error as error:
        raise _broken(view, error) from error
    except BackendError as error:
        raise BackendError(f"{view.what}: {error.message}", error.hint) from error
    stack.callback(_leave, view.conn, rows)
    convert = converter(columns, unicode=encoding == "UTF8")
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    return pa.RecordBatchReader.from_batches(schema, _batches(view, rows, convert))


def _leave(conn: Conn, rows: CopyOut) -> None:
    """End a connection that the server still sends rows to: nobody takes them."""
    if not rows.ended:
        conn.close()


def _batches(
    view: View, rows: CopyOut, convert: Callable[[Chunk], pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    chunks = iter(rows)
    while True:
        view.context.cancellation.check()
        try:
            chunk = next(chunks)
        except StopIteration:
            return
        except psycopg.Error as error:
            raise _broken(view, error) from error
        try:
            yield convert(chunk)
        except BackendError as error:
            raise BackendError(f"{view.what}: {error.message}", error.hint) from error


def _broken(view: View, error: psycopg.Error) -> BackendError | Interrupted:
    if view.context.cancellation.requested:
        return Interrupted("stopped by the user")
    hidden = _hidden(error, view.what)
    if hidden is not None:
        return hidden
    found = translate(error, view.what)
    if isinstance(error, pg.CharacterNotInRepertoire | pg.UntranslatableCharacter):
        return BackendError(
            f"{found.message}: the text is not in the encoding of the database", _BYTES
        )
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return BackendError(found.message, _READ_ONLY)
    return found
