"""The hooks: each call is a span below the command's."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

from opentelemetry.trace import Span

from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    Batch,
    Binding,
    Checksum,
    Connection,
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
    Swept,
    Target,
    TargetChange,
    TargetSpec,
    TargetState,
    WritePreview,
    WriteResult,
)
from seeknal_opentelemetry.spans import hook_span, put, put_batch, put_target

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Call = Generator[None, T, T]


@hookimpl(wrapper=True)
def resolve_profile(context: ExecutionContext, connection: ConnectionSpec) -> Call[Connection]:
    """Trace the resolving of a connection; of its options, which hold secrets, nothing."""
    with hook_span("resolve_profile", context) as span:
        put(span, connection__name=connection.name, connection__type=connection.type)
        return (yield)


@hookimpl(wrapper=True)
def bind_target(context: ExecutionContext, target: TargetSpec) -> Call[Binding]:
    """Trace it."""
    with hook_span("bind_target", context) as span:
        put_written(span, target)
        return (yield)


@hookimpl(wrapper=True)
def bind_source(context: ExecutionContext, source: SourceSpec) -> Call[Binding]:
    """Trace it."""
    with hook_span("bind_source", context) as span:
        put_written(span, source)
        return (yield)


@hookimpl(wrapper=True)
def namespace_for(context: ExecutionContext, target: TargetSpec) -> Call[QualifiedName]:
    """Trace it, with the final name."""
    with hook_span("namespace_for", context) as span:
        put_written(span, target)
        name = yield
        put(span, target=str(name))
        return name


@hookimpl(wrapper=True)
def materialize(context: ExecutionContext, target: Target, snapshot: Snapshot) -> Call[WriteResult]:
    """Trace it, with the rows of the snapshot, those written and those there afterwards."""
    with hook_span("materialize", context) as span:
        put_target(span, target)
        put(span, rows=snapshot.row_count)
        result = yield
        put(span, rows_written=result.rows_written, rows_after=result.rows_after)
        return result


@hookimpl(wrapper=True)
def materialize_targets(
    context: ExecutionContext, targets: tuple[Target, ...], snapshots: tuple[Snapshot, ...]
) -> Call[tuple[WriteResult, ...]]:
    """Trace it, with all names, the rows of the snapshots and those written."""
    with hook_span("materialize_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        put(span, rows=sum(snapshot.row_count for snapshot in snapshots))
        results = yield
        put(span, rows_written=sum(result.rows_written for result in results))
        return results


@hookimpl(wrapper=True)
def count_rows(context: ExecutionContext, target: Target) -> Call[int]:
    """Trace it, with the count."""
    with hook_span("count_rows", context) as span:
        put_target(span, target)
        count = yield
        put(span, rows=count)
        return count


@hookimpl(wrapper=True)
def read_source(context: ExecutionContext, source: Source) -> Call[SourceStream]:
    """Trace the opening of a view; its rows come after the call."""
    with hook_span("read_source", context) as span:
        # A query is the user's text, in which anything may stand: it is left out.
        put(span, node=source.node, source=".".join(source.parts) or "query")
        return (yield)


@hookimpl(wrapper=True)
def inspect_target(context: ExecutionContext, target: Target) -> Call[TargetState]:
    """Trace it."""
    with hook_span("inspect_target", context) as span:
        put_target(span, target)
        return (yield)


@hookimpl(wrapper=True)
def inspect_targets(
    context: ExecutionContext, targets: tuple[Target, ...], versions: bool
) -> Call[tuple[TargetState, ...]]:
    """Trace it, with all their names."""
    with hook_span("inspect_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        return (yield)


@hookimpl(wrapper=True)
def stage(
    context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
) -> Call[Staged]:
    """Trace it, with the rows of the snapshot."""
    with hook_span("stage", context) as span:
        put_target(span, target)
        put(span, rows=snapshot.row_count, promotion=promotion)
        return (yield)


@hookimpl(wrapper=True)
def stage_targets(
    context: ExecutionContext,
    targets: tuple[Target, ...],
    snapshots: tuple[Snapshot, ...],
    promotion: str,
) -> Call[tuple[Staged, ...]]:
    """Trace it, with all names and the rows of the snapshots."""
    with hook_span("stage_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        put(span, rows=sum(snapshot.row_count for snapshot in snapshots), promotion=promotion)
        return (yield)


@hookimpl(wrapper=True)
def prepare_publish(context: ExecutionContext, batch: Batch) -> Call[bool]:
    """Trace it."""
    with hook_span("prepare_publish", context) as span:
        put_batch(span, batch)
        return (yield)


@hookimpl(wrapper=True)
def publish(context: ExecutionContext, batch: Batch) -> Call[Published]:
    """Trace it, with the rows of all its tables together."""
    with hook_span("publish", context) as span:
        put_batch(span, batch)
        published = yield
        put(span, rows_after=sum(target.rows_after for target in published.targets))
        return published


@hookimpl(wrapper=True)
def revert(context: ExecutionContext, batch: Batch, overwrite: bool) -> Call[bool]:
    """Trace it."""
    with hook_span("revert", context) as span:
        put_batch(span, batch)
        return (yield)


@hookimpl(wrapper=True)
def discard(context: ExecutionContext, batch: Batch) -> Call[None]:
    """Trace it."""
    with hook_span("discard", context) as span:
        put_batch(span, batch)
        return (yield)


@hookimpl(wrapper=True)
def checksum(context: ExecutionContext, target: Target) -> Call[Checksum]:
    """Trace it, with the rows that were read."""
    with hook_span("checksum", context) as span:
        put_target(span, target)
        found = yield
        put(span, rows=found.rows)
        return found


@hookimpl(wrapper=True)
def checksum_targets(
    context: ExecutionContext, targets: tuple[Target, ...]
) -> Call[tuple[Checksum, ...]]:
    """Trace it, with all names and the rows that were read."""
    with hook_span("checksum_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        found = yield
        put(span, rows=sum(one.rows for one in found))
        return found


@hookimpl(wrapper=True)
def list_owned(context: ExecutionContext) -> Call[tuple[Owned, ...]]:
    """Trace it."""
    with hook_span("list_owned", context):
        return (yield)


@hookimpl(wrapper=True)
def drop_target(context: ExecutionContext, owned: Owned) -> Call[bool]:
    """Trace it."""
    with hook_span("drop_target", context) as span:
        put(span, target=str(owned.name))
        return (yield)


@hookimpl(wrapper=True)
def drop_targets(context: ExecutionContext, owned: tuple[Owned, ...]) -> Call[tuple[bool, ...]]:
    """Trace it, with all names."""
    with hook_span("drop_targets", context) as span:
        put(span, targets=[str(one.name) for one in owned])
        return (yield)


@hookimpl(wrapper=True)
def preview_publish(
    context: ExecutionContext, targets: tuple[Target, ...]
) -> Call[tuple[str, ...]]:
    """Trace it, with the number of targets."""
    with hook_span("preview_publish", context) as span:
        put(span, count=len(targets))
        return (yield)


@hookimpl(wrapper=True)
def preview_write(
    context: ExecutionContext, target: Target, schema: pa.Schema
) -> Call[WritePreview]:
    """Trace it, with the number of columns."""
    with hook_span("preview_write", context) as span:
        put_target(span, target)
        put(span, columns=len(schema))
        return (yield)


@hookimpl(wrapper=True)
def changes_since(
    context: ExecutionContext, targets: tuple[Target, ...], since: tuple[Since, ...]
) -> Call[tuple[TargetChange, ...]]:
    """Trace it, with all names."""
    with hook_span("changes_since", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        return (yield)


@hookimpl(wrapper=True)
def adopt_target(context: ExecutionContext, target: Target, content_key: str) -> Call[WriteResult]:
    """Trace it, with the rows of the table."""
    with hook_span("adopt_target", context) as span:
        put_target(span, target)
        result = yield
        put(span, rows_after=result.rows_after)
        return result


@hookimpl(wrapper=True)
def can_link(context: ExecutionContext, target: Target, origin: Origin) -> Call[str]:
    """Trace it, with the table that the link would read."""
    with hook_span("can_link", context) as span:
        put_target(span, target)
        put(span, origin=str(origin.name))
        return (yield)


@hookimpl(wrapper=True)
def can_link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> Call[tuple[str, ...]]:
    """Trace it, with all names."""
    with hook_span("can_link_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        return (yield)


@hookimpl(wrapper=True)
def link_target(context: ExecutionContext, target: Target, origin: Origin) -> Call[Linked]:
    """Trace it, with the table that the link reads."""
    with hook_span("link_target", context) as span:
        put_target(span, target)
        put(span, origin=str(origin.name))
        return (yield)


@hookimpl(wrapper=True)
def link_targets(
    context: ExecutionContext, targets: tuple[Target, ...], origins: tuple[Origin, ...]
) -> Call[tuple[Linked, ...]]:
    """Trace it, with all names."""
    with hook_span("link_targets", context) as span:
        put(span, targets=[str(target.name) for target in targets])
        return (yield)


@hookimpl(wrapper=True)
def unlink_target(context: ExecutionContext, target: Target) -> Call[bool]:
    """Trace it."""
    with hook_span("unlink_target", context) as span:
        put_target(span, target)
        return (yield)


@hookimpl(wrapper=True)
def sweep(context: ExecutionContext, promotions: tuple[str, ...], dry_run: bool) -> Call[Swept]:
    """Trace it, with how many leftovers were removed."""
    with hook_span("sweep", context) as span:
        found = yield
        put(span, removed=found.removed)
        return found


@hookimpl(wrapper=True)
def note_promotion(context: ExecutionContext, note: PromotionNote) -> Call[bool]:
    """Trace it, with the promotion."""
    with hook_span("note_promotion", context) as span:
        put(span, promotion=note.promotion)
        return (yield)


@hookimpl(wrapper=True)
def list_promotions(context: ExecutionContext) -> Call[tuple[PromotionNote, ...]]:
    """Trace it."""
    with hook_span("list_promotions", context):
        return (yield)


@hookimpl(wrapper=True)
def forget_promotion(context: ExecutionContext, promotion: str) -> Call[bool]:
    """Trace it, with the promotion."""
    with hook_span("forget_promotion", context) as span:
        put(span, promotion=promotion)
        return (yield)


@hookimpl(wrapper=True)
def check_connection(context: ExecutionContext) -> Call[str]:
    """Trace it."""
    with hook_span("check_connection", context):
        return (yield)


def put_written(span: Span, spec: TargetSpec | SourceSpec) -> None:
    """Set what is known of a target or source before it has a connection and a name."""
    put(span, node=spec.node, connection__type=spec.type, table=spec.table or "query")
