"""The reference backend: every hook of the contract, in the fewest words.

Its store (`seeknal_core.testing.memory_store`) is one object in memory, kept in one
file. Not for data that matters: it shows what each hook has to do, and the conformance
suite is held against it. `backend` is the plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa

from seeknal_core.contract import rules
from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.names import fit
from seeknal_core.contract.options import structure
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import (
    BackendOptions,
    Batch,
    Checksum,
    Connection,
    ConnectionSpec,
    ExecutionContext,
    Linked,
    Origin,
    Owned,
    OwnedKind,
    Ownership,
    Published,
    PublishedTarget,
    QualifiedName,
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
from seeknal_core.testing import memory_rows
from seeknal_core.testing.memory_connection import (
    MemoryConnection,
    MemoryOptions,
    connection_of,
    is_ours,
    named,
    opened,
    place_of,
    quoted,
    roll_back,
    translated,
)
from seeknal_core.testing.memory_store import Stage, Store, Table, Transaction, load


class MemoryBackend:
    """The hooks; see `seeknal_core.contract.hooks` for what each must do."""

    SEEKNAL_HOOK_API = 1

    @hookimpl
    def describe_options(self) -> BackendOptions:
        return BackendOptions(connection=MemoryOptions)

    @hookimpl
    def resolve_profile(self, context: ExecutionContext, connection: ConnectionSpec) -> Connection:
        options = structure(connection.options, MemoryOptions)
        return MemoryConnection(
            name=connection.name,
            type=connection.type,
            path=str(Path(context.project_root, options.path)),
            password=options.password,
        )

    @hookimpl
    def namespace_for(self, context: ExecutionContext, target: TargetSpec) -> QualifiedName:
        *namespaces, table = target.parts
        outermost, *inner = namespaces or ["main"]
        parts = (context.environment.prefix + outermost, *inner, table)
        fitting = tuple(fit(part, 63) for part in parts)
        return QualifiedName(parts=fitting, quoted=quoted(fitting))

    @hookimpl
    def check_connection(self, context: ExecutionContext) -> str:
        return f"{len(self.load(context).tables)} tables in {connection_of(context).path}"

    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        with self.changing(context) as store:
            there = self.own(context, store, target)
            table, arrived = self.table(context, target, snapshot, there)
            notes = self.notes(context, target, arrived, there)
            store.make_namespaces(target.name.parts, place_of(context))
            store.tables[target.name.parts] = table
        return WriteResult(
            rows_written=arrived.num_rows,
            rows_after=table.rows.num_rows,
            version=table.version,
            created=there is None,
            notes=notes,
            mark=table.version,
        )

    def own(self, context: ExecutionContext, store: Store, target: Target) -> Table | None:
        """Return the table that a write finds: none where a link of ours makes way for it."""
        there = store.tables.get(target.name.parts)
        return None if there and there.link and is_ours(context, there) else there

    def notes(
        self, context: ExecutionContext, target: Target, arrived: pa.Table, there: Table | None
    ) -> tuple[str, ...]:
        """Return what the user should hear of a write; refuse one that would lose rows."""
        if there is None or context.full_refresh:
            empty = arrived.slice(0, 0)
            return memory_rows.notes(target, arrived, empty)
        return memory_rows.notes(target, arrived, there.rows)

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        """Return the table as it will be and the rows that arrive; refuse what is against a rule."""
        if there is not None:
            rules.check_owner(context, target, there.owner)
        arrived = self.arriving(snapshot)
        memory_rows.check(target, arrived, there.rows if there else None, context.full_refresh)
        replaces = there is None or target.mode.rule.replaces or context.full_refresh
        appended = frozenset[str]() if there is None or replaces else there.appended
        if target.mode.rule.once and appended.intersection(snapshot.keys):
            arrived = arrived.slice(0, 0)
        rows = (
            arrived
            if there is None or replaces
            else memory_rows.merged(target, arrived, there.rows)
        )
        table = Table(
            rows=rows,
            made=there is None or (there.made and is_ours(context, there)),
            appended=appended | {snapshot.content_key},
            owner=self.owner(context, snapshot.content_key),
        )
        return table, arrived

    def owner(self, context: ExecutionContext, content_key: str) -> Ownership:
        """Return the ledger's entry of a write."""
        return Ownership(
            project=context.project,
            environment=context.environment.name,
            state_id=context.state_id,
            content_key=content_key,
            run_id=context.run_id,
        )

    def identity(self, context: ExecutionContext, name: QualifiedName) -> str:
        """Return a table's physical identity."""
        return f"memory:{connection_of(context).path}:{'/'.join(name.parts)}"

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        """Return a snapshot's rows."""
        return snapshot.reader().read_all()

    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        rows: int = self.rows(context, target).num_rows
        return rows

    @hookimpl
    def checksum(self, context: ExecutionContext, target: Target) -> Checksum:
        return checksum_of(self.rows(context, target).to_reader())

    @hookimpl
    def checksum_targets(
        self, context: ExecutionContext, targets: tuple[Target, ...]
    ) -> tuple[Checksum, ...]:
        return tuple(map(partial(self.checksum, context), targets))

    def rows(self, context: ExecutionContext, target: Target) -> pa.Table:
        """Return the rows of a target, or those that are staged for it."""
        store = self.load(context)
        if target.staged is not None:
            return self.staged(store, target.staged.promotion, target).arrived
        if target.name.parts not in store.tables:
            raise BackendError(f"{target.name} does not exist", target=str(target.name))
        rows = store.rows(target.name.parts)
        if rows is None:
            raise BackendError(f"what {target.name} shows is gone", target=str(target.name))
        return rows

    @hookimpl
    def inspect_target(self, context: ExecutionContext, target: Target) -> TargetState:
        store = self.load(context)
        table = store.tables.get(target.name.parts)
        if target.staged is not None:
            rows = self.rows(context, target)
        else:
            rows = store.rows(target.name.parts)
        return TargetState(
            exists=rows is not None or (table is not None and target.staged is None),
            identity=self.identity(context, target.name),
            columns=tuple(
                TargetColumn(name=field.name, type=str(field.type))
                for field in (rows.schema if rows is not None else ())
            ),
            version=table.version if table else None,
            owner=table.owner if table else None,
            generation=store.generations.get(place_of(context), 0),
            mark=table.version if table else None,
            linked=bool(table and table.link),
        )

    @hookimpl
    def can_link(self, context: ExecutionContext, target: Target, origin: Origin) -> str:
        store, there = self.load(context), self.identity(context, origin.name)
        if origin.identity != there or origin.name.parts not in store.tables:
            return "production's table is in another store"
        taken = store.tables.get(target.name.parts)
        ours = taken is None or (taken.link is not None and is_ours(context, taken))
        return "" if ours else "something else has its name"

    @hookimpl
    def link_target(self, context: ExecutionContext, target: Target, origin: Origin) -> Linked:
        why = self.can_link(context, target, origin)
        if why:
            raise WriteRefused(f"{target.name}: {why}", "seeknal run", target=str(target.name))
        with self.changing(context) as store:
            store.make_namespaces(target.name.parts, place_of(context))
            owner = self.owner(context, origin.content_key)
            store.tables[target.name.parts] = Table(
                rows=pa.table({}), version="link", owner=owner, link=origin.name.parts
            )
        return Linked(version="link")

    @hookimpl
    def unlink_target(self, context: ExecutionContext, target: Target) -> bool:
        with self.changing(context) as store:
            table = store.tables.get(target.name.parts)
            linked = bool(table and table.link and is_ours(context, table))
            if linked:
                del store.tables[target.name.parts]
        return linked

    @hookimpl
    def inspect_targets(
        self, context: ExecutionContext, targets: tuple[Target, ...], versions: bool
    ) -> tuple[TargetState, ...]:
        return tuple(self.inspect_target(context, target) for target in targets)

    @hookimpl
    def materialize_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
    ) -> tuple[WriteResult, ...]:
        return tuple(map(partial(self.materialize, context), targets, snapshots))

    @hookimpl
    def stage_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
        promotion: str,
    ) -> tuple[Staged, ...]:
        return tuple(
            self.stage(context, target, snapshot, promotion)
            for target, snapshot in zip(targets, snapshots, strict=True)
        )

    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        with self.changing(context) as store:
            there = store.tables.get(target.name.parts)
            table, arrived = self.table(context, target, snapshot, there)
            notes = self.notes(context, target, arrived, there)
            store.stages[promotion, target.key] = Stage(arrived=arrived, table=table)
        base = there.version if there else None
        return Staged(promotion=promotion, base=base, rows=arrived.num_rows, notes=notes)

    def staged(self, store: Store, promotion: str, target: Target) -> Stage:
        """Return what is staged for a target."""
        try:
            return store.stages[promotion, target.key]
        except KeyError:
            raise BackendError(f"nothing is staged for {target.name}") from None

    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        store = self.load(context)
        if all(self.staged(store, batch.promotion, each).published for each in batch.targets):
            return False
        prepared = self.prepared(context, batch)
        if not prepared:
            transaction = self.begin(context)
            prepared.append(transaction)
            try:
                self.apply(context, transaction.store, batch)
            except BaseException:
                roll_back(prepared)
                raise
        return True

    def prepared(self, context: ExecutionContext, batch: Batch) -> list[Transaction]:
        """Return the open transaction of a batch, in a list that is empty where there is none."""
        key = ("memory", connection_of(context).path, batch.promotion)
        return context.resources.get(key, list[Transaction], roll_back)

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        self.prepare_publish(context, batch)
        for transaction in self.prepared(context, batch):
            transaction.commit()
        roll_back(self.prepared(context, batch))
        store = self.load(context)
        done = []
        for target in batch.targets:
            stage = self.staged(store, batch.promotion, target)
            done.append(
                PublishedTarget(
                    key=target.key,
                    version=stage.table.version,
                    rows_after=stage.table.rows.num_rows,
                    created=stage.before is None,
                )
            )
        return Published(targets=tuple(done))

    def apply(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        """Put what is staged in its place, in memory."""
        generation = store.generations.get(place_of(context), 0)
        rules.check_generation(batch, generation)
        for target in batch.targets:
            stage = self.staged(store, batch.promotion, target)
            there = store.tables.get(target.name.parts)
            rules.check_base(target, there.version if there is not None else None)
            stage.published, stage.before = True, there
            stage.made = store.make_namespaces(target.name.parts, place_of(context))
            store.tables[target.name.parts] = stage.table
        store.generations[place_of(context)] = batch.generation

    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        roll_back(self.prepared(context, batch))
        with self.changing(context) as store:
            keys = [(batch.promotion, target.key) for target in batch.targets]
            done = [
                (target, store.stages[key])
                for target, key in zip(batch.targets, keys, strict=True)
                if key in store.stages and store.stages[key].published
            ]
            for target, stage in done:
                there = store.tables.get(target.name.parts)
                found = there.version if there else None
                if not overwrite:
                    rules.check_published(target, stage.table.version, found)
            for target, stage in done:
                store.tables.pop(target.name.parts, None)
                if stage.before is not None:
                    store.tables[target.name.parts] = stage.before
                stage.published = False
            for _, stage in done:
                for namespace in reversed(stage.made):
                    if store.is_empty(namespace):
                        store.namespaces.pop(namespace, None)
            if done and batch.generation > 1:
                store.generations[place_of(context)] = batch.generation - 1
            elif done:
                store.generations.pop(place_of(context), None)
        return bool(done)

    @hookimpl
    def discard(self, context: ExecutionContext, batch: Batch) -> None:
        roll_back(self.prepared(context, batch))
        with self.changing(context) as store:
            for target in batch.targets:
                store.stages.pop((batch.promotion, target.key), None)

    @hookimpl
    def read_source(self, context: ExecutionContext, source: Source) -> SourceStream:
        name = ".".join(source.parts)
        store = self.load(context)
        if source.query:
            rows, version = memory_rows.query(store, source.query), None
        elif source.parts in store.tables:
            table = store.tables[source.parts]
            rows, version = table.rows, table.version
        else:
            raise BackendError(f"source table {name} does not exist")
        missing = [column for column in source.columns or () if column not in rows.column_names]
        if missing:
            raise BackendError(f"source table {name} has no column {missing[0]!r}")
        found = rows.select(list(source.columns)) if source.columns else rows
        return SourceStream(
            identity=f"memory:{connection_of(context).path}:{source.query or name}",
            version=version,
            open=lambda: found.to_reader(max_chunksize=65_536),
        )

    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        store, place = self.load(context), place_of(context)
        tables = sorted(n for n, t in store.tables.items() if t.made and is_ours(context, t))
        spaces = sorted((n for n, p in store.namespaces.items() if p == place), key=len)
        path = connection_of(context).path
        return (
            *(
                Owned(kind=OwnedKind.TABLE, name=named(n), identity=f"memory:{path}:{'/'.join(n)}")
                for n in tables
            ),
            *(Owned(kind=OwnedKind.NAMESPACE, name=named(n)) for n in reversed(spaces)),
        )

    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        name = owned.name.parts
        with self.changing(context) as store:
            if owned.kind is OwnedKind.TABLE:
                if name not in store.tables:
                    return False
                if not (store.tables[name].made and is_ours(context, store.tables[name])):
                    raise refusals.stays(owned.name)
                del store.tables[name]
            else:
                if name not in store.namespaces:
                    return False
                if not store.is_empty(name) or store.namespaces[name] != place_of(context):
                    raise refusals.stays(owned.name, "holds what is not this environment's")
                del store.namespaces[name]
        if not self.list_owned(context):
            with self.changing(context) as store:
                store.generations.pop(place_of(context), None)
        return True

    def load(self, context: ExecutionContext) -> Store:
        """Return the store as it was saved last."""
        with translated():
            path, password = opened(context)
            return load(path, password)

    def begin(self, context: ExecutionContext) -> Transaction:
        """Begin a change."""
        with translated():
            return Transaction(*opened(context))

    @contextmanager
    def changing(self, context: ExecutionContext) -> Iterator[Store]:
        """Return the store to change; it is saved unless an exception leaves the block."""
        transaction = self.begin(context)
        try:
            yield transaction.store
            transaction.commit()
        finally:
            transaction.close()


#: The plugin.
backend = MemoryBackend()
