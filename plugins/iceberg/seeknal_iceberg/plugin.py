"""The hooks of the ``iceberg`` backend.

The entry point of the distribution. Importing this module is cheap: pyiceberg
and pyarrow are imported by the hooks that talk to a catalog, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seeknal_core.hookspecs import hookimpl
from seeknal_core.types import (
    BackendOptions,
    Batch,
    Binding,
    Checksum,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Owned,
    Published,
    QualifiedName,
    Since,
    Snapshot,
    Source,
    SourceSpec,
    SourceStream,
    Staged,
    Swept,
    Target,
    TargetChange,
    TargetSpec,
    TargetState,
    WritePreview,
    WriteResult,
)
from seeknal_iceberg import connection as connections
from seeknal_iceberg import isolation, limits, naming, options

if TYPE_CHECKING:
    import pyarrow as pa

isolation.isolate()

#: The version of the hook contract that this plugin was written for.
SEEKNAL_HOOK_API = 1


@hookimpl
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Connection:
    """Make an `IcebergConnection` of a profile's mapping; see `connection.resolve`."""
    return connections.resolve(connection, context.project_root)


@hookimpl
def bind_target(context: ExecutionContext, target: TargetSpec) -> Binding:
    """Choose the catalog of a target; see `naming.bind`."""
    return naming.bind(context.profile, target.connection, target.table)


@hookimpl
def bind_source(context: ExecutionContext, source: SourceSpec) -> Binding:
    """Choose the catalog of a source; see `naming.bind_source`."""
    return naming.bind_source(context.profile, source)


@hookimpl
def describe_options() -> BackendOptions:
    """Name the classes of the options of connections, sources and targets."""
    return BackendOptions(
        connection=connections.IcebergOptions,
        source=connections.IcebergSourceOptions,
        target=options.IcebergTargetOptions,
        limits=limits.DEPENDS,
    )


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    """Give a target's final name; see `naming.final_name`."""
    return naming.final_name(target, context.environment.prefix)


@hookimpl
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Write a snapshot in one commit; see `write.materialize`."""
    from seeknal_iceberg import write

    return write.materialize(context, target, snapshot)


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    """Count a target's rows by its manifests; see `read.count_rows`."""
    from seeknal_iceberg import read

    return read.count_rows(context, target)


@hookimpl
def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Open a table at its current Iceberg snapshot; see `read.open_source`."""
    from seeknal_iceberg import read

    return read.open_source(context, source)


@hookimpl
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Tell what stands where a target is; see `read.inspect`."""
    from seeknal_iceberg import read

    return read.inspect(context, target)


@hookimpl
def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Compare columns with the table's; see `preview.preview_write`."""
    from seeknal_iceberg import preview

    return preview.preview_write(context, target, schema)


@hookimpl
def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Say what happened to tables since they were written; see `marks.changes_since`."""
    from seeknal_iceberg import marks

    return marks.changes_since(context, targets, since)


@hookimpl
def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Take a table over as it is; see `marks.adopt_target`."""
    from seeknal_iceberg import marks

    return marks.adopt_target(context, target, content_key)


@hookimpl
def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Place a snapshot's rows unseen under the table's location; see `staging.stage`."""
    from seeknal_iceberg import staging

    return staging.stage(context, target, snapshot, promotion)


@hookimpl
def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Commit what is staged by compare-and-set; see `publishing`."""
    from seeknal_iceberg import publishing

    return publishing.publish(context, batch)


@hookimpl
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Bring tables back to what they were before a publish; see `reverting`."""
    from seeknal_iceberg import reverting

    return reverting.revert(context, batch, overwrite)


@hookimpl
def discard(context: ExecutionContext, batch: Batch) -> None:
    """Delete what is kept for a promotion; see `discarding`."""
    from seeknal_iceberg import discarding

    discarding.discard(context, batch)


@hookimpl
def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Sum up a table's rows, or those that are staged; see `reading.checksum`."""
    from seeknal_iceberg import reading

    return reading.checksum(context, target)


@hookimpl
def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """List the tables and namespaces that bear this environment's mark; see `cleanup`."""
    from seeknal_iceberg import cleanup

    return cleanup.list_owned(context)


@hookimpl
def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Drop a table with its files, or an empty namespace; see `cleanup`."""
    from seeknal_iceberg import cleanup

    return cleanup.drop_target(context, owned)


@hookimpl
def sweep(
    context: ExecutionContext,
    promotions: tuple[str, ...],
    dry_run: bool,
    targets: tuple[Target, ...],
) -> Swept:
    """Delete what killed writes left, and expire old snapshots; see `sweeping`, `expiring`."""
    from seeknal_iceberg import expiring, sweeping

    swept = sweeping.sweep(context, promotions, dry_run)
    return expiring.expire_all(context, targets, swept, dry_run=dry_run)


@hookimpl
def check_connection(context: ExecutionContext, write: bool = False) -> str:
    """Walk a catalog and say what answered; see `checking.check`."""
    from seeknal_iceberg import checking

    return checking.check(context, write)
