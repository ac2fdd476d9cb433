"""The hooks; `seeknal_core.hookspecs` says what each must do."""

from __future__ import annotations

import os

import duckdb
import pyarrow as pa

from seeknal_core import types
from seeknal_core.checksums import checksum_of
from seeknal_core.errors import BackendError, OptionError, Problem, WriteRefused
from seeknal_core.hookspecs import hookimpl
from seeknal_core.structure import structure
from seeknal_core.types import Batch, QualifiedName, Snapshot, Source, Staged, Target
from seeknal_core.types import ExecutionContext as Context
from seeknal_duckdb import arrow, promotions
from seeknal_duckdb.connection import DuckDBConnection, DuckDBOptions, connection_of
from seeknal_duckdb.store import ARRIVED, OWN, Store, opened, quote

SEEKNAL_HOOK_API = 1


@hookimpl
def describe_options() -> types.BackendOptions:
    return types.BackendOptions(connection=DuckDBOptions)


@hookimpl
def resolve_profile(context: Context, connection: types.ConnectionSpec) -> types.Connection:
    options = structure(connection.options, DuckDBOptions)
    path = os.path.join(context.project_root, options.path)
    return DuckDBConnection(
        name=connection.name, type=connection.type, path=path, wait=options.wait
    )


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
    return _named(parts)


def _named(parts: tuple[str, ...]) -> QualifiedName:
    return QualifiedName(parts=parts, quoted=quote(*parts))


@hookimpl
def check_connection(context: Context) -> str:
    path = connection_of(context).path
    with opened(context) as store:
        count = store.count("duckdb_tables()")
    found = f"{count} tables in {path}" if os.path.exists(path) else f"no file yet at {path}"
    return f"DuckDB {duckdb.__version__}, {found}"


@hookimpl
def materialize(context: Context, target: Target, snapshot: Snapshot) -> types.WriteResult:
    with opened(context, writes=True) as store:
        store.take(target, snapshot, ARRIVED)
        key, refresh = snapshot.content_key, context.full_refresh
        done = store.write(target, ARRIVED, key, refresh=refresh)
        return types.WriteResult(rows_written=store.count(ARRIVED), **done)


def _rows(store: Store, target: Target) -> str:
    """Return the table of a target's rows, or of those that are staged for it."""
    if target.staged is not None:
        promotions.entry_of(store, target.staged.promotion, target)
        return promotions.kept("rows", target.staged.promotion, target)
    if not store.exists(*target.name.parts):
        raise BackendError(f"{target.name} does not exist", target=str(target.name))
    return str(target.name)


@hookimpl
def count_rows(context: Context, target: Target) -> int:
    with opened(context) as store:
        return store.count(_rows(store, target))


@hookimpl
def checksum(context: Context, target: Target) -> types.Checksum:
    with opened(context) as store:
        rows = store.database.sql(f"FROM {_rows(store, target)}")
        return checksum_of(arrow.plain(rows.to_arrow_reader(65_536)))


@hookimpl
def inspect_target(context: Context, target: Target) -> types.TargetState:
    with opened(context) as store:
        there = target.staged is not None or store.exists(*target.name.parts)
        columns = store.columns(_rows(store, target)) if there else {}
        entry = store.entries("table").get(target.name.parts) if there else None
        owner = types.Ownership(**entry["owner"]) if entry else None
        return types.TargetState(
            exists=there,
            identity=_identity(context, *target.name.parts),
            columns=tuple(types.TargetColumn(name=name, type=columns[name]) for name in columns),
            version=store.version(target),
            owner=owner,
            generation=store.entries("generation").get(store.place, 0),
        )


def _identity(context: Context, *what: str) -> str:
    return f"duckdb:{os.path.realpath(connection_of(context).path)}:{quote(*what).lower()}"


@hookimpl
def stage(context: Context, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    with opened(context, writes=True) as store:
        return promotions.stage(store, target, snapshot, promotion)


def _prepared(context: Context, batch: Batch) -> list[Store]:
    """Return the open transaction of a batch, in a list that is empty where there is none."""
    key = ("duckdb", connection_of(context).path, batch.promotion)
    return context.resources.get(key, list[Store], _close)


def _close(prepared: list[Store]) -> None:
    while prepared:
        prepared.pop().close()


@hookimpl
def prepare_publish(context: Context, batch: Batch) -> bool:
    prepared, done = _prepared(context, batch), False
    if prepared:
        return True
    prepared.append(Store(context, writes=True))
    try:
        with prepared[0].failures():
            done = promotions.publish(prepared[0], batch)
    finally:
        if not done:
            _close(prepared)
    return done


@hookimpl
def publish(context: Context, batch: Batch) -> types.Published:
    prepare_publish(context, batch)
    prepared = _prepared(context, batch)
    try:
        for store in prepared:
            with store.failures():
                store.rows("COMMIT")
    finally:
        _close(prepared)
    with opened(context) as store:
        return promotions.published(store, batch)


@hookimpl
def revert(context: Context, batch: Batch, overwrite: bool) -> bool:
    _close(_prepared(context, batch))
    with opened(context, writes=True) as store:
        return promotions.revert(store, batch, overwrite)


@hookimpl
def discard(context: Context, batch: Batch) -> None:
    _close(_prepared(context, batch))
    with opened(context, writes=True) as store:
        promotions.discard(store, batch)


@hookimpl
def read_source(context: Context, source: Source) -> types.SourceStream:
    store = Store(context, writes=False)
    try:
        with store.failures():
            rows, version = _source(store, source)
            kinds = store.columns(f"SELECT * FROM {rows}")
        wanted = source.columns or tuple(kinds)
        if missing := [name for name in wanted if name not in kinds]:
            raise BackendError(f"source {source.node} has no column {missing[0]!r}")
    except BaseException:
        store.close()
        raise
    # Arrow has no integer as wide as DuckDB's widest; one that does not fit is told.
    wide = {name: f"::DECIMAL(38, 0) AS {quote(name)}" for name in kinds if "HUGE" in kinds[name]}
    selected = ", ".join(quote(name) + wide.get(name, "") for name in wanted)

    def open_reader() -> pa.RecordBatchReader:
        with store.failures():
            found = store.database.sql(f"SELECT {selected} FROM {rows}")
            return arrow.plain(found.to_arrow_reader(65_536))

    where = _identity(context, *([source.query] if source.query else source.parts))
    return types.SourceStream(identity=where, version=version, open=open_reader, close=store.close)


def _source(store: Store, source: Source) -> tuple[str, str | None]:
    """Return what stands behind FROM, and its version; a query has none."""
    if source.query:
        kinds = [one.type for one in store.database.extract_statements(source.query)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise BackendError("a source's query is one SELECT")
        return f"({source.query.rstrip().rstrip(';')}\n)", None
    parts = source.parts if len(source.parts) > 1 else ("main", *source.parts)
    if len(parts) != 2 or not store.exists(*parts):
        raise BackendError(f"source table {'.'.join(source.parts)} does not exist")
    return quote(*parts), store.digest(quote(*parts))


@hookimpl
def list_owned(context: Context) -> tuple[types.Owned, ...]:
    found: list[types.Owned] = []
    with opened(context) as store:
        for word, kind in (("table", types.OwnedKind.TABLE), ("schema", types.OwnedKind.NAMESPACE)):
            for name, entry in store.entries(word).items():
                if store.is_ours(entry) and entry["made"] and store.exists(*name):
                    identity = _identity(context, *name) if word == "table" else ""
                    found.append(types.Owned(kind=kind, name=_named(name), identity=identity))
    return tuple(found)


@hookimpl
def drop_target(context: Context, owned: types.Owned) -> bool:
    parts, table = owned.name.parts, owned.kind is types.OwnedKind.TABLE
    kind = "table" if table else "schema"
    with opened(context, writes=True) as store:
        there, entry = store.exists(*parts), store.entries(kind).get(parts)
        if there and not (entry and store.is_ours(entry) and entry["made"]):
            raise WriteRefused(f"{owned.name} is not this environment's any more")
        if there and table:
            store.rows(f"DROP TABLE {owned.name}")
        elif there and not store.drop_schema(parts[0]):
            raise WriteRefused(f"{owned.name} holds what is not this environment's")
        store.put(kind, *parts, document=None)
        rest = [*store.entries("table").values(), *store.entries("schema").values()]
        if not any(map(store.is_ours, rest)):
            store.put("generation", *store.place, document=None)
        store.tidy()
        return there
