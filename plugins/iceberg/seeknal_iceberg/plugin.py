"""The hooks of the ``iceberg`` backend.

The entry point of the distribution. Importing this module is cheap: pyiceberg
and pyarrow are imported by the hooks that talk to a catalog, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
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
from seeknal_iceberg import names
from seeknal_iceberg.connection import isolation, limits, profile
from seeknal_iceberg.source import options as source_options
from seeknal_iceberg.write import options as target_options

if TYPE_CHECKING:
    import pyarrow as pa

isolation.isolate()

#: The version of the hook contract that this plugin was written for.
SEEKNAL_HOOK_API = 1

# Naming


@hookimpl
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Connection:
    """Turn a profile's mapping into an `IcebergConnection`; see `profile.resolve`."""
    return profile.resolve(connection, context.project_root)


@hookimpl
def bind_target(context: ExecutionContext, target: TargetSpec) -> Binding:
    """Choose the catalog of a target; see `names.bind`."""
    return names.bind(context.profile, target.connection, target.table)


@hookimpl
def bind_source(context: ExecutionContext, source: SourceSpec) -> Binding:
    """Choose the catalog of a source; see `names.bind_source`."""
    return names.bind_source(context.profile, source)


@hookimpl
def describe_options() -> BackendOptions:
    """Return the classes of the options of connections, sources and targets."""
    return BackendOptions(
        connection=profile.IcebergOptions,
        source=source_options.IcebergSourceOptions,
        target=target_options.IcebergTargetOptions,
        limits=limits.DEPENDS,
    )


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    """Return a target's final name; see `names.final_name`."""
    return names.final_name(target, context.environment.prefix)


# Writing


@hookimpl
def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Compare columns with the table's; see `write.preview`."""
    from seeknal_iceberg.write import preview

    return preview.preview_write(context, target, schema)


@hookimpl
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Write a snapshot in one commit; see `write.materialize`."""
    from seeknal_iceberg.write.materialize import materialize as write

    return write(context, target, snapshot)


@hookimpl
def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Take over a table as it is; see `write.adopt`."""
    from seeknal_iceberg.write import adopt

    return adopt.adopt_target(context, target, content_key)


# Reading


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    """Count a target's rows by its manifests; see `source.rows`."""
    from seeknal_iceberg.source import rows

    return rows.count_rows(context, target)


@hookimpl
def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Open a table at its current Iceberg snapshot; see `source.read`."""
    from seeknal_iceberg.source import read

    return read.open_source(context, source)


@hookimpl
def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Checksum a table's rows, or those that are staged; see `source.staged_rows`."""
    from seeknal_iceberg.source import staged_rows

    return staged_rows.checksum(context, target)


# Inspecting


@hookimpl
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Return what is at a target's place; see `source.inspect`."""
    from seeknal_iceberg.source import inspect

    return inspect.inspect(context, target)


@hookimpl
def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Report what happened to tables since they were written; see `source.changes`."""
    from seeknal_iceberg.source import changes

    return changes.changes_since(context, targets, since)


@hookimpl
def check_connection(context: ExecutionContext, write: bool = False) -> str:
    """Try a catalog step by step and report what answered; see `check`."""
    from seeknal_iceberg import check

    return check.check(context, write)


# Promotion


@hookimpl
def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Place a snapshot's rows unseen under the table's location; see `promotion.stage`."""
    from seeknal_iceberg.promotion.stage import stage as stage_target

    return stage_target(context, target, snapshot, promotion)


@hookimpl
def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Commit what is staged by compare-and-set; see `promotion.publish`."""
    from seeknal_iceberg.promotion.publish import publish as publish_batch

    return publish_batch(context, batch)


@hookimpl
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Restore tables to what they were before a publish; see `promotion.revert`."""
    from seeknal_iceberg.promotion.revert import revert as revert_batch

    return revert_batch(context, batch, overwrite)


@hookimpl
def discard(context: ExecutionContext, batch: Batch) -> None:
    """Delete what is kept for a promotion; see `promotion.discard`."""
    from seeknal_iceberg.promotion.discard import discard as discard_batch

    discard_batch(context, batch)


# Cleanup


@hookimpl
def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """List the tables and namespaces that this environment made; see `cleanup.owned_tables`."""
    from seeknal_iceberg.cleanup import owned_tables

    return owned_tables.list_owned(context)


@hookimpl
def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Drop a table with its files, or an empty namespace; see `cleanup.owned_tables`."""
    from seeknal_iceberg.cleanup import owned_tables

    return owned_tables.drop_target(context, owned)


@hookimpl
def sweep(
    context: ExecutionContext,
    promotions: tuple[str, ...],
    dry_run: bool,
    targets: tuple[Target, ...],
) -> Swept:
    """Delete what killed writes left, and expire old snapshots; see `cleanup`."""
    from seeknal_iceberg.cleanup import expire
    from seeknal_iceberg.cleanup.sweep import sweep as sweep_leftovers

    swept = sweep_leftovers(context, promotions, dry_run)
    return expire.expire_all(context, targets, swept, dry_run=dry_run)
