"""A backend's hooks, called as the core calls them, in few words.

A `Bench` is one command: a plugin host, a dispatcher, one context, and the resources
that the command's hooks opened. `Bench.command` is another one, which shares nothing
with it but the store.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import (
    Batch,
    Cancellation,
    Checksum,
    Connection,
    ConnectionSpec,
    Environment,
    ExecutionContext,
    Mode,
    Owned,
    Profile,
    Published,
    QualifiedName,
    Resources,
    SchemaChange,
    Snapshot,
    SourceSpec,
    Staged,
    TargetSpec,
    TargetState,
    WriteResult,
)
from seeknal_core.plugins.dispatch import Dispatcher
from seeknal_core.plugins.resolve import resolve_source, resolve_target
from seeknal_core.plugins.resolved import ResolvedSource, ResolvedTarget
from seeknal_core.testing.backend import Backend

CONNECTION = "store"


@attrs.frozen(kw_only=True)
class Command:
    """Who calls the hooks: what a command's options and files decide."""

    environment: str = "prod"
    prefix: str = ""
    project: str = "shop"
    state_id: str = "state-1"
    run_id: str = "run-1"
    adopt: bool = False
    full_refresh: bool = False


class Bench:
    """One command of a project with one connection.

    Args:
        options: the connection's mapping, as in a profile.
        root: the project's folder.
        command: who calls.
    """

    def __init__(
        self, backend: Backend, options: Mapping[str, object], root: Path, command: Command
    ) -> None:
        self.backend = backend
        self.options = dict(options)
        self.root = root
        self.by = command
        self._others: list[Bench] = []
        self.dispatcher = Dispatcher(backend.host())
        self.spec = ConnectionSpec(name=CONNECTION, type=backend.type, options=self.options)
        self.context = ExecutionContext(
            project=command.project,
            project_root=str(root),
            target_dir=str(root / "target"),
            state_id=command.state_id,
            environment=Environment(
                name=command.environment,
                is_production=command.environment == "prod",
                prefix=command.prefix,
            ),
            run_id=command.run_id,
            started_at=datetime.now(UTC),
            profile=Profile(
                path=str(root / "profiles.yml"),
                reason="profiles.yml in the project",
                connections={CONNECTION: self.spec},
            ),
            resources=Resources(),
            cancellation=Cancellation(),
            adopt=command.adopt,
            full_refresh=command.full_refresh,
        )

    def command(self, options: Mapping[str, object] | None = None, **changes: Any) -> Bench:
        """Return another command on the same store; it is closed with this one.

        Args:
            options: another connection's mapping.
            changes: fields of `Command`.
        """
        by = attrs.evolve(self.by, **changes)
        other = Bench(self.backend, self.options if options is None else options, self.root, by)
        self._others.append(other)
        return other

    def development(self, **changes: Any) -> Bench:
        """Return a command in the environment ``dev``, with its prefix."""
        return self.command(environment="dev", prefix="dev_", **changes)

    def close(self) -> None:
        """Close what the hooks opened, as the end of a command does."""
        for other in reversed(self._others):
            other.close()
        self._others.clear()
        self.context.resources.close()

    @property
    def connection(self) -> Connection:
        """The resolved connection."""
        return self.dispatcher.resolve_profile(self.context, self.spec)

    def text(self, table: str = "orders", namespace: str = "sales") -> str:
        """Return a target's ``table`` as a user writes it."""
        return self.backend.table.format(namespace=namespace, table=table)

    def spec_of(
        self,
        table: str = "orders",
        mode: Mode = Mode.FULL,
        *,
        namespace: str = "sales",
        keys: tuple[str, ...] = (),
        time: str | None = None,
        lookback: timedelta = timedelta(0),
        partition_by: tuple[str, ...] = (),
        on_schema_change: SchemaChange = SchemaChange.EVOLVE,
        covers: tuple[str, str] | None = None,
    ) -> TargetSpec:
        """Return a target as its file has it."""
        return TargetSpec(
            node=f"transform.{table}",
            type=self.backend.type,
            table=self.text(table, namespace),
            mode=mode,
            unique_keys=keys,
            time_column=time,
            lookback=lookback,
            partition_by=partition_by,
            on_schema_change=on_schema_change,
            covers=covers,
        )

    def target(
        self, table: str = "orders", mode: Mode = Mode.FULL, **fields: Any
    ) -> ResolvedTarget:
        """Return a target as a hook receives it; see `spec_of`."""
        return resolve_target(self.dispatcher, self.context, self.spec_of(table, mode, **fields))

    def named(self, table: str) -> QualifiedName:
        """Return the final name of a ``table`` as a user writes it."""
        spec = TargetSpec(node="transform.t", type=self.backend.type, table=table)
        return resolve_target(self.dispatcher, self.context, spec).target.name

    def snapshot(
        self, rows: pa.Table | Mapping[str, Any], content_key: str = "", files: int = 1
    ) -> Snapshot:
        """Store rows as a snapshot; equal rows have one content key unless one is given."""
        table = rows if isinstance(rows, pa.Table) else pa.table(dict(rows))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        key = content_key or hashlib.sha256(sink.getvalue()).hexdigest()
        folder = self.root / "target" / "snapshots" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        paths = [folder / f"{number}.parquet" for number in range(files)]
        step = max(1, -(-table.num_rows // files))
        for number, path in enumerate(paths):
            part = table.slice(number * step, step)
            pq.write_table(
                part, path, store_decimal_as_integer=True, row_group_size=max(1, step // 2)
            )
        return Snapshot(
            node="transform.orders",
            content_key=key,
            schema=pq.read_schema(paths[0]).remove_metadata(),
            row_count=table.num_rows,
            files=tuple(str(path) for path in paths),
            bytes=sum(path.stat().st_size for path in paths),
        )

    def write(
        self,
        target: ResolvedTarget,
        rows: Snapshot | pa.Table | Mapping[str, Any],
        content_key: str = "",
    ) -> WriteResult:
        """Materialize rows into a target."""
        snapshot = rows if isinstance(rows, Snapshot) else self.snapshot(rows, content_key)
        return self.dispatcher.materialize(self.context, target, snapshot)

    def write_all(self, *writes: tuple[ResolvedTarget, Snapshot | pa.Table]) -> list[WriteResult]:
        """Materialize rows into several targets by one call."""
        snapshots = [
            rows if isinstance(rows, Snapshot) else self.snapshot(rows, "") for _, rows in writes
        ]
        targets = [target for target, _ in writes]
        return self.dispatcher.materialize_targets(self.context, targets, snapshots)

    def count(self, target: ResolvedTarget) -> int:
        """Count a target's rows."""
        return self.dispatcher.count_rows(self.context, target)

    def inspect(self, target: ResolvedTarget) -> TargetState:
        """Inspect a target."""
        state = self.dispatcher.inspect_target(self.context, target)
        assert state is not None, "the backend has no inspect_target"
        return state

    def inspect_all(
        self, *targets: ResolvedTarget, versions: bool = True
    ) -> list[TargetState | None]:
        """Inspect several targets in one call, where the backend can."""
        return self.dispatcher.inspect_targets(self.context, targets, versions=versions)

    def checksum(self, target: ResolvedTarget) -> Checksum:
        """Sum up a target's rows."""
        found = self.dispatcher.checksum(self.context, target)
        assert found is not None, "the backend has no checksum"
        return found

    def checksums(self, targets: Sequence[ResolvedTarget]) -> list[Checksum]:
        """Sum up the rows of several targets by one call."""
        return self.dispatcher.checksum_targets(self.context, targets)

    def owned(self) -> tuple[Owned, ...]:
        """List what the command's project made in its environment."""
        return self.dispatcher.list_owned(self.context, self.connection)

    def drop(self, owned: Owned) -> bool:
        """Drop one thing."""
        return self.dispatcher.drop_target(self.context, self.connection, owned)

    def drop_all(self, *owned: Owned) -> tuple[bool, ...]:
        """Drop several tables by one call."""
        return self.dispatcher.drop_targets(self.context, self.connection, owned)

    def source(
        self,
        target: ResolvedTarget | None = None,
        *,
        table: str | None = None,
        query: str | None = None,
        columns: tuple[str, ...] | None = None,
    ) -> ResolvedSource:
        """Return a source: a target's table, a table as a user writes it, or a query."""
        params: dict[str, object] = {"query": query} if query else {}
        if columns:
            params["columns"] = list(columns)
        spec = SourceSpec(
            node="source.orders",
            type=self.backend.type,
            table=table or (target.spec.table if target else None),
            params=params,
        )
        return resolve_source(self.dispatcher, self.context, spec)

    def read(self, source: ResolvedSource) -> pa.Table:
        """Read a source wholly."""
        with self.dispatcher.read_source(self.context, source) as stream:
            return stream.open().read_all()

    def promotion(self, name: str = "p-1") -> Promotion:
        """Begin a promotion."""
        return Promotion(self, name)


class Promotion:
    """The hooks of one promotion; what they return goes through JSON, as in its journal."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.name = name
        self.generation = 0
        self.targets: dict[str, ResolvedTarget] = {}
        self.content_keys: dict[str, str] = {}

    def by(self, bench: Bench) -> Promotion:
        """Return the same promotion, carried on by another command."""
        other = Promotion(bench, self.name)
        other.generation = self.generation
        other.targets = dict(self.targets)
        other.content_keys = dict(self.content_keys)
        return other

    def plan(self, target: ResolvedTarget, snapshot: Snapshot) -> None:
        """Note that a snapshot is going to be staged, as the core does before it begins."""
        self.generation = max(self.generation, self.bench.inspect(target).generation + 1)
        self.targets[target.target.key] = _with(target, None)
        self.content_keys[target.target.key] = snapshot.content_key

    def stage(
        self,
        target: ResolvedTarget,
        rows: Snapshot | pa.Table | Mapping[str, Any],
        content_key: str = "",
    ) -> ResolvedTarget:
        """Stage rows for a target, and return it as the other hooks receive it."""
        bench = self.bench
        snapshot = rows if isinstance(rows, Snapshot) else bench.snapshot(rows, content_key)
        self.plan(target, snapshot)
        staged = bench.dispatcher.stage(bench.context, _with(target, None), snapshot, self.name)
        return self._waiting(target, staged)

    def stage_all(self, *writes: tuple[ResolvedTarget, pa.Table]) -> list[ResolvedTarget]:
        """Stage rows for several targets by one call."""
        bench, targets = self.bench, [_with(target, None) for target, _ in writes]
        snapshots = [bench.snapshot(rows, "") for _, rows in writes]
        for target, snapshot in zip(targets, snapshots, strict=True):
            self.plan(target, snapshot)
        found = bench.dispatcher.stage_targets(bench.context, targets, snapshots, self.name)
        return [self._waiting(target, one) for target, one in zip(targets, found, strict=True)]

    def _waiting(self, target: ResolvedTarget, staged: Staged) -> ResolvedTarget:
        waiting = _with(target, Staged(**json.loads(json.dumps(attrs.asdict(staged)))))
        self.targets[target.target.key] = waiting
        return waiting

    def resume(self, target: ResolvedTarget, staged: Staged | None) -> None:
        """Take over a target from another process's journal."""
        self.targets[target.target.key] = _with(target, staged)

    def forget(self) -> Promotion:
        """Forget what was staged, as a process that died before it could note it."""
        self.targets = {key: _with(target, None) for key, target in self.targets.items()}
        return self

    @property
    def batch(self) -> Batch:
        """What the hooks receive."""
        return Batch(
            promotion=self.name,
            generation=self.generation,
            targets=tuple(target.target for target in self.targets.values()),
            content_keys=self.content_keys,
        )

    def prepare(self) -> bool:
        """Do all of a publish but its commit."""
        bench = self.bench
        return bench.dispatcher.prepare_publish(bench.context, bench.connection, self.batch)

    def publish(self) -> Published:
        """Publish, as the core does: prepared first, where the backend can."""
        bench = self.bench
        if bench.dispatcher.supports(bench.backend.type, Hook.PREPARE_PUBLISH):
            self.prepare()
        return bench.dispatcher.publish(bench.context, bench.connection, self.batch)

    def revert(self, *, overwrite: bool = False) -> bool:
        """Undo."""
        bench = self.bench
        return bench.dispatcher.revert(
            bench.context, bench.connection, self.batch, overwrite=overwrite
        )

    def discard(self) -> None:
        """Throw away what is kept."""
        bench = self.bench
        bench.dispatcher.discard(bench.context, bench.connection, self.batch)


def _with(target: ResolvedTarget, staged: Staged | None) -> ResolvedTarget:
    return attrs.evolve(target, target=attrs.evolve(target.target, staged=staged))
