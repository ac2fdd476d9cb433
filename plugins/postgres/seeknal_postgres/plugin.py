"""The hooks of the PostgreSQL backend. The other modules implement them.

psycopg, pyarrow and the rest are loaded by the hooks that reach a server, not by
listing plugins or printing a plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.options import nearest
from seeknal_core.contract.types import BackendOptions, Binding
from seeknal_postgres import names
from seeknal_postgres.connection.profile import TYPE, PostgresConnection, PostgresOptions, resolve

if TYPE_CHECKING:
    import pyarrow as pa

    from seeknal_core.contract.types import (
        Batch,
        Checksum,
        ConnectionSpec,
        ExecutionContext,
        Linked,
        Origin,
        Owned,
        PromotionNote,
        Published,
        QualifiedName,
        Since,
        Snapshot,
        Source,
        SourceSpec,
        SourceStream,
        Staged,
        Target,
        TargetChange,
        TargetSpec,
        TargetState,
        WritePreview,
        WriteResult,
    )

#: The hook contract that this plugin was written for.
SEEKNAL_HOOK_API = 1


@hookimpl
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> PostgresConnection:
    """Turn a profile's mapping into a typed connection."""
    return resolve(connection)


@hookimpl
def describe_options() -> BackendOptions:
    """Name the class of a connection's options; sources and targets have none of their own."""
    return BackendOptions(connection=PostgresOptions)


@hookimpl
def bind_target(context: ExecutionContext, target: TargetSpec) -> Binding:
    """Find a target's connection and split its table."""
    if target.partition_by:
        raise OptionError(
            [
                Problem(
                    "a PostgreSQL target takes no partitioning",
                    path="partition_by",
                    hint="remove it, or partition the table yourself and write to it",
                )
            ]
        )
    return Binding(
        connection=_connection(context, target.connection), parts=names.split(target.table)
    )


@hookimpl
def bind_source(context: ExecutionContext, source: SourceSpec) -> Binding:
    """Find a source's connection and split its table, where it has one."""
    parts = names.split(source.table) if source.table else ()
    if not parts and not source.params.get("query"):
        raise OptionError(
            [Problem("a source needs a table or a query", path="table", hint="table: schema.table")]
        )
    inline = {"host", "url", "embedded", "database", "dbname"} & set(source.params)
    if source.connection is None and inline:
        return Binding(connection="", parts=parts)
    return Binding(connection=_connection(context, source.connection), parts=parts)


def _connection(context: ExecutionContext, name: str | None) -> str:
    """Return the connection that is named, or the only one there is.

    Raises:
        OptionError: none or several could be meant, or the name is another type's.
    """
    known = context.profile.of_type(TYPE)
    if name is None:
        if len(known) == 1:
            return known[0]
        what = f"several could be meant: {', '.join(known)}" if known else "the profile has none"
        raise OptionError(
            [
                Problem(
                    f"no connection of type {TYPE} is named, and {what}",
                    path="connection",
                    hint="name one: connection: warehouse",
                )
            ]
        )
    if name not in known:
        hint = nearest(name, known) or (f"known: {', '.join(known)}" if known else "")
        other = context.profile.connections.get(name)
        what = (
            f"connection {name!r} is of type {other.type!r}, not {TYPE}"
            if other is not None
            else f"the profile has no connection {name!r}"
        )
        raise OptionError([Problem(what, path="connection", hint=hint)])
    return name


@hookimpl
def namespace_for(context: ExecutionContext, target: TargetSpec) -> QualifiedName:
    """Put the environment's prefix before the schema."""
    connection = context.connection
    schema, stem = "public", names.STATE_SCHEMA
    if isinstance(connection, PostgresConnection):
        schema, stem = connection.default_schema, connection.state_schema
    parts = target.parts or names.split(target.table)
    own = names.ledger_schema(stem, context.environment.name)
    return names.final_name(parts, schema, context.environment.prefix, own)


@hookimpl
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> WriteResult:
    """Make the table hold the snapshot, in one transaction."""
    from seeknal_postgres.write import materialize as writing

    return writing.materialize(context, target, snapshot)


@hookimpl
def materialize_targets(
    context: ExecutionContext, targets: tuple[Target, ...], snapshots: tuple[Snapshot, ...]
) -> tuple[WriteResult, ...]:
    """Make tables hold their snapshots, those that can in one transaction."""
    from seeknal_postgres.write import materialize as writing

    return writing.materialize_targets(context, targets, snapshots)


@hookimpl
def count_rows(context: ExecutionContext, target: Target) -> int:
    """Count the table's rows, by the server."""
    from seeknal_postgres.ledger import inspecting

    return inspecting.count_rows(context, target)


@hookimpl
def inspect_target(context: ExecutionContext, target: Target) -> TargetState:
    """Return what stands where the target is; reads the table once for its version."""
    from seeknal_postgres.ledger import inspecting

    return inspecting.inspect_target(context, target)


@hookimpl
def inspect_targets(
    context: ExecutionContext, targets: tuple[Target, ...], versions: bool
) -> tuple[TargetState, ...]:
    """Return what stands where many targets are, in a few statements for all of them."""
    from seeknal_postgres.ledger import inspecting

    return inspecting.inspect_targets(context, targets, versions=versions)


@hookimpl
def preview_write(context: ExecutionContext, target: Target, schema: pa.Schema) -> WritePreview:
    """Compare columns with the table's, and check what depends on those that change."""
    from seeknal_postgres.write import preview

    return preview.preview_write(context, target, schema)


@hookimpl
def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> tuple[TargetChange, ...]:
    """Look at tables' rows, and say what happened to them since they were written."""
    from seeknal_postgres.ledger import inspecting

    return inspecting.changes_since(context, targets, since)


@hookimpl
def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> WriteResult:
    """Write into the ledger that a table, as it is, is the target's."""
    from seeknal_postgres.write import adopt

    return adopt.adopt_target(context, target, content_key)


@hookimpl
def stage(context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Write the snapshot into a table of the ledger's schema."""
    from seeknal_postgres.promotion import staging

    return staging.stage(context, target, snapshot, promotion)


@hookimpl
def stage_targets(
    context: ExecutionContext,
    targets: tuple[Target, ...],
    snapshots: tuple[Snapshot, ...],
    promotion: str,
) -> tuple[Staged, ...]:
    """Write snapshots into tables of the ledger's schema, those that can in one transaction."""
    from seeknal_postgres.promotion import staging

    return staging.stage_targets(context, targets, snapshots, promotion)


@hookimpl
def preview_publish(context: ExecutionContext, targets: tuple[Target, ...]) -> tuple[str, ...]:
    """Compare the locks that a publish takes with the server's capacity for them."""
    from seeknal_postgres.promotion import room

    return room.preview_publish(context, targets)


@hookimpl
def prepare_publish(context: ExecutionContext, batch: Batch) -> bool:
    """Do everything of a publish except its commit, in one transaction that stays open."""
    from seeknal_postgres.promotion import publishing

    return publishing.prepare_publish(context, batch)


@hookimpl
def publish(context: ExecutionContext, batch: Batch) -> Published:
    """Publish the staged rows of all tables of the batch, in one transaction."""
    from seeknal_postgres.promotion import publishing

    return publishing.publish(context, batch)


@hookimpl
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
    """Undo the publish of all tables of the batch, in one transaction."""
    from seeknal_postgres.promotion import reverting

    return reverting.revert(context, batch, overwrite)


@hookimpl
def discard(context: ExecutionContext, batch: Batch) -> None:
    """Drop the tables that hold what is staged, and what undoes the publish."""
    from seeknal_postgres.promotion import reverting

    reverting.discard(context, batch)


@hookimpl
def note_promotion(context: ExecutionContext, note: PromotionNote) -> bool:
    """Keep a promotion's document in the ledger's schema."""
    from seeknal_postgres.ledger import notes

    return notes.note_promotion(context, note)


@hookimpl
def list_promotions(context: ExecutionContext) -> tuple[PromotionNote, ...]:
    """List the documents that the ledger's schema keeps."""
    from seeknal_postgres.ledger import notes

    return notes.list_promotions(context)


@hookimpl
def forget_promotion(context: ExecutionContext, promotion: str) -> bool:
    """Forget a promotion's document."""
    from seeknal_postgres.ledger import notes

    return notes.forget_promotion(context, promotion)


@hookimpl
def checksum(context: ExecutionContext, target: Target) -> Checksum:
    """Compute checksums of the table's rows, or what is staged, read from the server."""
    from seeknal_postgres.source import sums

    return sums.checksum(context, target)


@hookimpl
def checksum_targets(
    context: ExecutionContext, targets: tuple[Target, ...]
) -> tuple[Checksum, ...]:
    """Compute checksums of what is staged for several targets, in one transaction."""
    from seeknal_postgres.source import sums

    return sums.checksum_targets(context, targets)


@hookimpl
def list_owned(context: ExecutionContext) -> tuple[Owned, ...]:
    """List the tables and schemas that the environment's ledger says were made here."""
    from seeknal_postgres.ledger import cleanup

    return cleanup.list_owned(context)


@hookimpl
def drop_target(context: ExecutionContext, owned: Owned) -> bool:
    """Drop a table or schema that is still this environment's, without CASCADE."""
    from seeknal_postgres.ledger import cleanup

    return cleanup.drop_target(context, owned)


@hookimpl
def drop_targets(context: ExecutionContext, owned: tuple[Owned, ...]) -> tuple[bool, ...]:
    """Drop many tables and links in one transaction."""
    from seeknal_postgres.ledger import cleanup

    return cleanup.drop_targets(context, owned)


@hookimpl
def can_link(context: ExecutionContext, target: Target, origin: Origin) -> str:
    """Return why a target can't be a view of another environment's table."""
    from seeknal_postgres.ledger import linking

    return linking.can_link_targets(context, (target,), (origin,))[0]


@hookimpl
def can_link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> tuple[str, ...]:
    """Return why targets can't be views, by one query."""
    from seeknal_postgres.ledger import linking

    return linking.can_link_targets(context, targets, origins)


@hookimpl
def link_target(context: ExecutionContext, target: Target, origin: Origin) -> Linked:
    """Make a view of another environment's table."""
    from seeknal_postgres.ledger import linking

    return linking.link_targets(context, (target,), (origin,))[0]


@hookimpl
def link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> tuple[Linked, ...]:
    """Make many views in one transaction."""
    from seeknal_postgres.ledger import linking

    return linking.link_targets(context, targets, origins)


@hookimpl
def unlink_target(context: ExecutionContext, target: Target) -> bool:
    """Drop a view that is a link."""
    from seeknal_postgres.ledger import linking

    return linking.unlink_target(context, target)


@hookimpl
def check_connection(context: ExecutionContext, write: bool = False) -> str:
    """Log in and report what answered; with `write`, also create a table and drop it."""
    from seeknal_postgres.ledger import inspecting

    found = inspecting.check_connection(context)
    if not write:
        return found
    from seeknal_postgres.connection import trial

    return f"{found}\n{trial.write(context)}"


@hookimpl
def read_source(context: ExecutionContext, source: Source) -> SourceStream:
    """Open one consistent view of a table or query."""
    from seeknal_postgres.source import read

    return read.read_source(context, source)
