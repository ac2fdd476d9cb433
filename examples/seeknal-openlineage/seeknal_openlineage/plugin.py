"""The hooks: what is written becomes events, what is read becomes their inputs."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime

from seeknal_core.contract.errors import Interrupted
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Published,
    Snapshot,
    Source,
    SourceStream,
    Staged,
    Target,
    WriteResult,
    redact,
)
from seeknal_openlineage.command import Command, command_of
from seeknal_openlineage.datasets import columns_of, source_dataset, target_dataset
from seeknal_openlineage.facts import Outcome, Write


@hookimpl(wrapper=True)
def read_source(
    context: ExecutionContext, source: Source
) -> Generator[None, SourceStream, SourceStream]:
    """Remember what a source node reads: an input of all that is made of it."""
    stream = yield
    if command := command_of(context):
        command.read[source.node] = source_dataset(context, source)
    return stream


@hookimpl(wrapper=True)
def materialize(
    context: ExecutionContext, target: Target, snapshot: Snapshot
) -> Generator[None, WriteResult, WriteResult]:
    """Say that a target's table is written, and how that ended."""
    command = command_of(context)
    if command is None:
        return (yield)
    command.columns[target.key] = columns_of(snapshot)
    write = _started(command, context, target, "materialize")
    try:
        result = yield
    except BaseException as error:
        command.ended(write, _failure(error))
        raise
    command.ended(write, _complete(result))
    return result


@hookimpl(wrapper=True)
def materialize_targets(
    context: ExecutionContext, targets: tuple[Target, ...], snapshots: tuple[Snapshot, ...]
) -> Generator[None, tuple[WriteResult, ...], tuple[WriteResult, ...]]:
    """Report each target as written.

    Nothing is said of a call that fails: `materialize` follows for each target.
    """
    began = datetime.now(UTC)
    results = yield
    if command := command_of(context):
        for target, snapshot, result in zip(targets, snapshots, results, strict=True):
            command.columns[target.key] = columns_of(snapshot)
            write = _started(command, context, target, "materialize", began)
            command.ended(write, _complete(result))
    return results


def _complete(result: WriteResult) -> Outcome:
    return Outcome(
        state="COMPLETE",
        rows=result.rows_written,
        rows_after=result.rows_after,
        version=result.version,
    )


@hookimpl(wrapper=True)
def stage_targets(
    context: ExecutionContext,
    targets: tuple[Target, ...],
    snapshots: tuple[Snapshot, ...],
    promotion: str,
) -> Generator[None, tuple[Staged, ...], tuple[Staged, ...]]:
    """Remember the columns of what will be published; nobody sees them yet."""
    if command := command_of(context):
        for target, snapshot in zip(targets, snapshots, strict=True):
            command.columns[target.key] = columns_of(snapshot)
    return (yield)


@hookimpl(wrapper=True)
def stage(
    context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
) -> Generator[None, Staged, Staged]:
    """Remember the columns of what will be published; nobody sees them yet."""
    if command := command_of(context):
        command.columns[target.key] = columns_of(snapshot)
    return (yield)


@hookimpl(wrapper=True)
def publish(context: ExecutionContext, batch: Batch) -> Generator[None, Published, Published]:
    """Say that each table of a promotion is replaced, and how that ended."""
    command = command_of(context)
    if command is None:
        return (yield)
    writes = {target.key: _started(command, context, target, "publish") for target in batch.targets}
    try:
        published = yield
    except BaseException as error:
        for write in writes.values():
            command.ended(write, _failure(error))
        raise
    staged = {target.key: target.staged for target in batch.targets}
    for done in published.targets:
        waiting = staged.get(done.key)
        if done.key in writes:
            outcome = Outcome(
                state="COMPLETE",
                rows=waiting.rows if waiting else done.rows_after,
                rows_after=done.rows_after,
                version=done.version,
            )
            command.ended(writes.pop(done.key), outcome)
    for write in writes.values():  # a backend that forgot one: the core complains of it
        command.ended(write, Outcome(state="ABORT"))
    return published


def _started(
    command: Command,
    context: ExecutionContext,
    target: Target,
    operation: str,
    began: datetime | None = None,
) -> Write:
    environment, connection = context.environment, context.connection
    write = Write(
        started_at=began or datetime.now(UTC),
        project=context.project,
        environment=environment.name,
        production=environment.is_production,
        command_run=context.run_id,
        node=target.node,
        key=target.key,
        target=str(target.name),
        mode=target.mode.value,
        connection=connection.name if connection else "",
        connection_type=connection.type if connection else target.type,
        operation=operation,
        output=target_dataset(context, target),
        columns=command.columns.get(target.key, ()),
        inputs=command.inputs_of(context, target.node),
    )
    command.started(write)
    return write


def _failure(error: BaseException) -> Outcome:
    stopped = isinstance(error, Interrupted | KeyboardInterrupt)
    return Outcome(
        state="ABORT" if stopped else "FAIL", error=redact(f"{type(error).__name__}: {error}")
    )
