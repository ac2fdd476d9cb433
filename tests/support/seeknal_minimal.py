"""A backend with the four required hooks and nothing else: one Parquet file per table."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.options import structure
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Mode,
    QualifiedName,
    SchemaChange,
    Snapshot,
    Target,
    TargetSpec,
    WriteResult,
)


@attrs.frozen(kw_only=True)
class Options:
    path: str


@attrs.frozen(kw_only=True)
class MinimalConnection(Connection):
    path: str

    def bindings(self) -> Mapping[str, str]:
        return {"type": self.type, "path": self.path}


@hookimpl
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Connection:
    options = structure(connection.options, Options)
    path = str(Path(context.project_root, options.path))
    return MinimalConnection(name=connection.name, type=connection.type, path=path)


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    *outer, table = target.parts
    first, *rest = outer or ["main"]
    parts = (f"{context.environment.prefix}{first}", *rest, table)
    return QualifiedName(parts=parts, quoted=".".join(parts))


@hookimpl
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    if target.mode is not Mode.FULL or target.on_schema_change is not SchemaChange.EVOLVE:
        raise WriteRefused(f"{target.name}: this store takes mode full alone", "mode: full")
    for field in snapshot.schema:
        if pa.types.is_null(field.type):
            raise WriteRefused(f"{target.name}: column {field.name!r} has no type")
    if not snapshot.schema.names:
        raise refusals.no_columns(target.name)
    if any(len(part.encode()) > 200 for part in target.name.parts):
        raise WriteRefused(f"{target.name} is too long a name")
    path = _path(context, target)
    created = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        waiting = path.with_name(f".{uuid.uuid4().hex}")
        pq.write_table(snapshot.reader().read_all(), waiting)
        os.replace(waiting, path)
    except OSError as error:
        raise BackendError(f"{path}: {error.strerror}", "fix the path of the connection") from error
    rows = snapshot.row_count
    return WriteResult(rows_written=rows, rows_after=rows, version=waiting.name, created=created)


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    path = _path(context, target)
    if not path.exists():
        raise BackendError(f"{target.name} does not exist", f"look for {path}")
    count: int = pq.read_metadata(path).num_rows
    return count


def _path(context: ExecutionContext, target: Target) -> Path:
    assert isinstance(context.connection, MinimalConnection)
    *outer, table = target.name.parts
    return Path(context.connection.path, *outer, f"{table}.parquet")
