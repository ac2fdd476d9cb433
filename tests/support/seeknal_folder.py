"""A backend whose store is a folder of Parquet files: one per table.

Small enough to read, real enough for whole runs in tests of the core: it keeps
its rows between processes, replaces a table in one rename and has a ledger.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.hookspecs import hookimpl
from seeknal_core.structure import structure
from seeknal_core.types import (
    BackendOptions,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Mode,
    Owned,
    OwnedKind,
    Ownership,
    QualifiedName,
    Secret,
    Snapshot,
    Source,
    SourceStream,
    Target,
    TargetSpec,
    TargetState,
    WriteResult,
)


@attrs.frozen(kw_only=True)
class FolderOptions:
    """A connection's options. ``fail_on`` names a table whose writes fail."""

    path: str = attrs.field(metadata={"doc": "the folder that holds the tables"})
    password: Secret | None = attrs.field(default=None, metadata={"doc": "not used, kept secret"})
    fail_on: str | None = None


@attrs.frozen(kw_only=True)
class FolderSource:
    """A source's options.

    ``only`` keeps the rows whose column ``env`` is that; ``exact`` gives the
    store's version, the digest of the file; ``breaks`` is a store that fails
    half-way, as a driver does, not as a backend should.
    """

    only: str | None = None
    exact: bool = False
    breaks: bool = False


@attrs.frozen(kw_only=True)
class FolderConnection(Connection):
    """A resolved connection."""

    options: FolderOptions

    def bindings(self) -> dict[str, str]:
        return {"path": self.options.path}


@hookimpl
def describe_options() -> BackendOptions:
    return BackendOptions(connection=FolderOptions, source=FolderSource)


@hookimpl
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Connection:
    options = structure(connection.options, FolderOptions)
    return FolderConnection(name=connection.name, type=connection.type, options=options)


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    *outer, table = target.parts
    namespace = f"{context.environment.prefix}{outer[0] if outer else 'main'}"
    parts = (namespace, *outer[1:], table)
    return QualifiedName(parts=parts, quoted=".".join(parts))


@hookimpl
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    path = _path(context, target.name.parts)
    connection = context.connection
    assert isinstance(connection, FolderConnection)
    if connection.options.fail_on == target.name.parts[-1]:
        raise WriteRefused(f"{target.name} is told to fail", target=str(target.name))
    ledger = _ledger(path)
    if path.exists() and not context.adopt and not _ours(ledger, context):
        raise WriteRefused(
            f"{target.name} exists and is not this project's", "run again with --adopt"
        )
    rows = snapshot.reader().read_all()
    written = rows.num_rows
    if target.mode is Mode.APPEND and not context.full_refresh and path.exists():
        if snapshot.content_key in ledger.get("appended", []):
            written, rows = 0, pq.read_table(path)
        else:
            rows = pa.concat_tables([pq.read_table(path), rows], promote_options="permissive")
    path.parent.mkdir(parents=True, exist_ok=True)
    version = uuid.uuid4().hex
    entry = {
        "project": context.project,
        "environment": context.environment.name,
        "state_id": context.state_id,
        "content_key": snapshot.content_key,
        "run_id": context.run_id,
        "version": version,
        "appended": [*ledger.get("appended", []), snapshot.content_key],
    }
    # One file holds rows and ledger, so that one rename publishes both.
    table = rows.replace_schema_metadata({"ledger": json.dumps(entry)})
    temporary = path.with_suffix(f".{version}.tmp")
    pq.write_table(table, temporary)
    created = not path.exists()
    os.replace(temporary, path)
    return WriteResult(
        rows_written=written, rows_after=rows.num_rows, version=version, created=created
    )


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    path = _path(context, target.name.parts)
    if not path.exists():
        raise BackendError(f"{target.name} does not exist")
    count: int = pq.read_metadata(path).num_rows
    return count


@hookimpl
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    path = _path(context, target.name.parts)
    ledger = _ledger(path)
    fields = ("project", "environment", "state_id", "content_key", "run_id")
    owner = Ownership(**{key: ledger[key] for key in fields}) if ledger else None
    return TargetState(
        exists=path.exists(), identity=str(path), version=ledger.get("version"), owner=owner
    )


@hookimpl
def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    path = _path(context, source.parts)
    if not path.exists():
        raise BackendError(f"source table {'.'.join(source.parts)} does not exist")
    columns = list(source.columns) if source.columns else None
    options = source.options
    assert isinstance(options, FolderSource)

    def open_reader() -> pa.RecordBatchReader:
        filters = [("env", "=", options.only)] if options.only else None
        reader = pq.read_table(path, columns=columns, filters=filters).to_reader()
        return pa.RecordBatchReader.from_batches(reader.schema, batches(reader))

    def batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        yield from reader
        if options.breaks:
            raise ValueError("the driver is confused")

    version = hashlib.sha256(path.read_bytes()).hexdigest() if options.exact else None
    return SourceStream(identity=str(path), version=version, open=open_reader)


@hookimpl
def check_connection(context: ExecutionContext) -> str:
    assert isinstance(context.connection, FolderConnection)
    return f"folder {context.connection.options.path}"


def _path(context: ExecutionContext, parts: tuple[str, ...]) -> Path:
    assert isinstance(context.connection, FolderConnection)
    root = Path(context.project_root, context.connection.options.path)
    return root.joinpath(*parts[:-1], f"{parts[-1]}.parquet").resolve()


def _ledger(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    metadata = pq.read_schema(path).metadata or {}
    found: dict[str, Any] = json.loads(metadata.get(b"ledger", b"{}"))
    return found


def _ours(ledger: dict[str, Any], context: ExecutionContext) -> bool:
    return (ledger.get("project"), ledger.get("environment")) == (
        context.project,
        context.environment.name,
    )


@hookimpl
def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    assert isinstance(context.connection, FolderConnection)
    root = Path(context.project_root, context.connection.options.path).resolve()
    tables = [path for path in sorted(root.rglob("*.parquet")) if _ours(_ledger(path), context)]
    return tuple(
        Owned(
            kind=OwnedKind.TABLE,
            name=_name((*path.relative_to(root).parent.parts, path.stem)),
            identity=str(path),
        )
        for path in tables
    )


@hookimpl
def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    path = _path(context, owned.name.parts)
    if not path.exists():
        return False
    if not _ours(_ledger(path), context):
        raise WriteRefused(f"{owned.name} is not this environment's")
    if (path.with_suffix(".keep")).exists():
        raise WriteRefused(f"something hangs on {owned.name}")
    path.unlink()
    return True


def _name(parts: tuple[str, ...]) -> QualifiedName:
    return QualifiedName(parts=parts, quoted=".".join(parts))
