"""A backend whose store is a folder of Parquet files: one per table.

Small enough to read, real enough for whole runs in tests of the core: it keeps
its rows between processes, replaces a table in one rename, has a ledger, and
stages what is to be promoted beside its tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import BackendError, StaleStage, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.options import structure
from seeknal_core.contract.types import (
    BackendOptions,
    Batch,
    Checksum,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Mode,
    Owned,
    OwnedKind,
    Ownership,
    Published,
    PublishedTarget,
    QualifiedName,
    Secret,
    Snapshot,
    Source,
    SourceStream,
    Staged,
    Target,
    TargetColumn,
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
    _check(context, target, path)
    version = uuid.uuid4().hex
    table = _table(context, target, snapshot, version, generation=_generation(path))
    created = not path.exists()
    _put(table, path)
    return WriteResult(
        rows_written=0 if _appended(context, target, snapshot, path) else snapshot.row_count,
        rows_after=table.num_rows,
        version=version,
        created=created,
    )


def _check(context: ExecutionContext, target: Target, path: Path) -> None:
    connection = context.connection
    assert isinstance(connection, FolderConnection)
    if connection.options.fail_on == target.name.parts[-1]:
        hint = "seeknal check --connections"
        raise WriteRefused(f"{target.name} is told to fail", hint, target=str(target.name))
    if path.exists() and not context.adopt and not _ours(_ledger(path), context):
        raise WriteRefused(
            f"{target.name} exists and is not this project's", "run again with --adopt"
        )


def _appended(context: ExecutionContext, target: Target, snapshot: Snapshot, path: Path) -> bool:
    appends = target.mode is Mode.APPEND and not context.full_refresh and path.exists()
    return appends and snapshot.content_key in _ledger(path).get("before", [])


def _table(
    context: ExecutionContext, target: Target, snapshot: Snapshot, version: str, *, generation: int
) -> pa.Table:
    """Return the whole file as it will be: rows, and the ledger in its metadata."""
    path = _path(context, target.name.parts)
    rows, before = snapshot.reader().read_all(), _ledger(path).get("appended", [])
    if target.mode is Mode.APPEND and not context.full_refresh and path.exists():
        there = pq.read_table(path)
        again = snapshot.content_key in before
        rows = there if again else pa.concat_tables([there, rows], promote_options="permissive")
    entry = {
        "project": context.project,
        "environment": context.environment.name,
        "state_id": context.state_id,
        "content_key": snapshot.content_key,
        "run_id": context.run_id,
        "version": version,
        "generation": generation,
        "before": before,
        "appended": [*before, snapshot.content_key],
    }
    # One file holds rows and ledger, so that one rename publishes both.
    return rows.replace_schema_metadata({"ledger": json.dumps(entry)})


def _put(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    pq.write_table(table, temporary)
    os.replace(temporary, path)


def _generation(path: Path) -> int:
    return int(_ledger(path).get("generation", 0))


@hookimpl
def materialize_targets(
    context: ExecutionContext, targets: tuple[Target, ...], snapshots: tuple[Snapshot, ...]
) -> tuple[WriteResult, ...]:
    pairs = zip(targets, snapshots, strict=True)
    return tuple(materialize(context, target, snapshot) for target, snapshot in pairs)


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    path = _readable(context, target)
    if not path.exists():
        raise BackendError(f"{target.name} does not exist")
    count: int = pq.read_metadata(path).num_rows
    return count


@hookimpl
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    path = _readable(context, target)
    ledger = _ledger(path)
    fields = ("project", "environment", "state_id", "content_key", "run_id")
    owner = Ownership(**{key: ledger[key] for key in fields}) if ledger else None
    columns = pq.read_schema(path) if path.exists() else ()
    return TargetState(
        exists=path.exists(),
        identity=str(path),
        columns=tuple(TargetColumn(name=one.name, type=str(one.type)) for one in columns),
        version=ledger.get("version"),
        owner=owner,
        generation=_generation(path),
    )


@hookimpl
def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Keep the rows as they arrived, and beside them the file as it will be."""
    path = _path(context, target.name.parts)
    _check(context, target, path)
    folder = _stage(context, target, promotion)
    _put(snapshot.reader().read_all(), folder / "rows.parquet")
    table = _table(context, target, snapshot, uuid.uuid4().hex, generation=_generation(path) + 1)
    _put(table, folder / "new.parquet")
    base = _ledger(path).get("version")
    return Staged(promotion=promotion, base=base, rows=snapshot.row_count)


@hookimpl
def publish(context: ExecutionContext, batch: Batch) -> Published:
    for target in batch.targets:
        path, folder = _path(context, target.name.parts), _stage(context, target, batch.promotion)
        new = _ledger(folder / "new.parquet")["version"]
        found = _ledger(path).get("version")
        assert target.staged is not None
        if found not in (new, target.staged.base):
            raise StaleStage(f"{target.name} was {target.staged.base} and is {found}")
    done = []
    for target in batch.targets:
        path, folder = _path(context, target.name.parts), _stage(context, target, batch.promotion)
        table = pq.read_table(folder / "new.parquet")
        version = _ledger(folder / "new.parquet")["version"]
        if _ledger(path).get("version") != version:
            if path.exists():
                _put(pq.read_table(path), folder / "old.parquet")
            _put(table, path)
        created = not (folder / "old.parquet").exists()
        done.append(
            PublishedTarget(
                key=target.key, version=version, rows_after=table.num_rows, created=created
            )
        )
    return Published(targets=tuple(done))


@hookimpl
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    undone = False
    for target in batch.targets:
        path, folder = _path(context, target.name.parts), _stage(context, target, batch.promotion)
        new, old = folder / "new.parquet", folder / "old.parquet"
        found = _ledger(path).get("version")
        if not new.exists() or found != _ledger(new)["version"]:
            if old.exists() and not overwrite and found != _ledger(old).get("version"):
                raise StaleStage(f"{target.name} is {found}")
            continue
        undone = True
        if old.exists():
            _put(pq.read_table(old), path)
        else:
            path.unlink()
    return undone


@hookimpl
def discard(context: ExecutionContext, batch: Batch) -> None:
    if os.environ.get("FOLDER_KEEPS_ALL"):
        raise BackendError("the folder is told to let go of nothing", "tell it otherwise")
    for target in batch.targets:
        shutil.rmtree(_stage(context, target, batch.promotion), ignore_errors=True)
    with contextlib.suppress(OSError):
        _stages(context).rmdir()


@hookimpl
def checksum(context: ExecutionContext, target: Target) -> Checksum:
    return checksum_of(pq.read_table(_readable(context, target)).to_reader())


def _stages(context: ExecutionContext) -> Path:
    return _path(context, ("stage",)).parent / ".staged"


def _stage(context: ExecutionContext, target: Target, promotion: str) -> Path:
    place = hashlib.sha256(f"{promotion} {target.key}".encode()).hexdigest()[:16]
    return _stages(context) / place


def _readable(context: ExecutionContext, target: Target) -> Path:
    """Return the file that a call is about: the table's, or what is staged for it."""
    if target.staged is None:
        return _path(context, target.name.parts)
    return _stage(context, target, target.staged.promotion) / "rows.parquet"


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
    files = (path for path in sorted(root.rglob("*.parquet")) if ".staged" not in path.parts)
    tables = [path for path in files if _ours(_ledger(path), context)]
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
