"""The hooks; `seeknal_core.contract.hooks` says what each must do."""

from __future__ import annotations

import functools
import os

import duckdb

from seeknal_core.contract import rules, types
from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import BackendError, OptionError, Problem
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.options import structure
from seeknal_core.contract.types import Batch, QualifiedName, Snapshot, Source, Staged, Target
from seeknal_core.contract.types import ExecutionContext as Context
from seeknal_duckdb.connection import DuckDBConnection, DuckDBOptions, connection_of
from seeknal_duckdb.store import OWN, Store, kept, named, quote

SEEKNAL_HOOK_API = 1
_writing = functools.partial(Store, writes=True)


@hookimpl
def describe_options() -> types.BackendOptions:
    return types.BackendOptions(connection=DuckDBOptions)


@hookimpl
def resolve_profile(context: Context, connection: types.ConnectionSpec) -> types.Connection:
    said = structure(connection.options, DuckDBOptions)
    path = os.path.join(context.project_root, said.path)
    return DuckDBConnection(name=connection.name, type=connection.type, path=path, wait=said.wait)


@hookimpl
def namespace_for(context: Context, target: types.TargetSpec) -> QualifiedName:
    *schema, table = target.parts
    parts = (context.environment.prefix + ".".join(schema or ["main"]), table)
    # DuckDB names a database by its file, and takes "x.t" for a table of database x, too.
    reserved = {OWN, "temp", "system", os.path.basename(connection_of(context).path).split(".")[0]}
    problem = ""
    if len(schema) > 1 or not all(target.parts):
        problem = "is not written as schema.table"
    elif any(part != part.lower() for part in parts):
        problem = "has capital letters, which DuckDB does not tell from small ones"
    elif parts[0] in {name.lower() for name in reserved}:
        problem = f"is in a schema {parts[0]}, which is the name of a database or Seeknal's own"
    if problem:
        raise OptionError([Problem(problem, path="table", hint="write it as in analytics.orders")])
    return named(*parts)


@hookimpl
def check_connection(context: Context) -> str:
    path = connection_of(context).path
    with Store(context) as store:
        count = store.count("duckdb_tables()")
    found = f"{count} tables in {path}" if os.path.exists(path) else f"no file yet at {path}"
    return f"DuckDB {duckdb.__version__}, {found}"


@hookimpl
def materialize(context: Context, target: Target, snapshot: Snapshot) -> types.WriteResult:
    return rules.materialize(context, target, snapshot, _writing)


def _undoing(context: Context) -> Store:
    """Open the file to write; one that is not there has nothing to undo, and is not made."""
    return Store(context, writes=os.path.exists(connection_of(context).path))


def _seen(store: Store, target: Target) -> QualifiedName:
    """Return the table of a target's rows, or of those that are staged for it."""
    name = kept("rows", target.staged.promotion, target) if target.staged else target.name
    if not store.exists(*name.parts):
        raise rules.absent(target)
    return name


@hookimpl
def count_rows(context: Context, target: Target) -> int:
    with Store(context) as store:
        return store.count(_seen(store, target))


@hookimpl
def checksum(context: Context, target: Target) -> types.Checksum:
    with Store(context) as store:
        return checksum_of(store.stream(f"FROM {_seen(store, target)}"))


@hookimpl
def inspect_target(context: Context, target: Target) -> types.TargetState:
    with Store(context) as store:
        there = target.staged is not None or store.exists(*target.name.parts)
        columns = store.columns(_seen(store, target)) if there else None
        return store.state(target, columns, _identity(context, *target.name.parts))


def _identity(context: Context, *what: str) -> str:
    return f"duckdb:{os.path.realpath(connection_of(context).path)}:{quote(*what).lower()}"


@hookimpl
def stage(context: Context, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    return rules.stage(context, target, snapshot, promotion, _writing)


@hookimpl
def prepare_publish(context: Context, batch: Batch) -> bool:
    return rules.prepare_publish(context, batch, _writing)


@hookimpl
def publish(context: Context, batch: Batch) -> types.Published:
    return rules.publish(context, batch, _writing)


@hookimpl
def revert(context: Context, batch: Batch, overwrite: bool) -> bool:
    return rules.revert(context, batch, overwrite, _undoing)


@hookimpl
def discard(context: Context, batch: Batch) -> None:
    rules.discard(context, batch, _undoing)


@hookimpl
def read_source(context: Context, source: Source) -> types.SourceStream:
    store = Store(context)
    try:
        rows, version = _source(store, source)
        kinds = store.columns(f"SELECT * FROM {rows}")
        wanted = rules.projection(source, tuple(kinds))
    except BaseException:
        store.close()
        raise
    # Arrow has no integer as wide as DuckDB's widest; one that does not fit is told.
    wide = {name: f"::DECIMAL(38, 0) AS {quote(name)}" for name in kinds if "HUGE" in kinds[name]}
    selected = ", ".join(quote(name) + wide.get(name, "") for name in wanted)
    return types.SourceStream(
        identity=_identity(context, *([source.query] if source.query else source.parts)),
        version=version,
        open=lambda: store.stream(f"SELECT {selected} FROM {rows}"),
        close=store.close,
    )


def _source(store: Store, source: Source) -> tuple[str, str | None]:
    """Return what stands behind FROM, and its version; a query has none."""
    if query := source.query:
        kinds = store.safely(lambda: [one.type for one in store.database.extract_statements(query)])
        if kinds != [duckdb.StatementType.SELECT]:
            raise BackendError("a source's query is one SELECT")
        return f"({query.rstrip().rstrip(';')}\n)", None
    parts = source.parts if len(source.parts) > 1 else ("main", *source.parts)
    if len(parts) != 2 or not store.exists(*parts):
        raise BackendError(f"source table {'.'.join(source.parts)} does not exist")
    return quote(*parts), store.digest(quote(*parts))


@hookimpl
def list_owned(context: Context) -> tuple[types.Owned, ...]:
    with Store(context) as store:
        return store.owned(named, lambda name: _identity(context, *name))


@hookimpl
def drop_target(context: Context, owned: types.Owned) -> bool:
    return rules.drop_target(context, owned, _undoing)
