"""Backends that do in two steps what must be one: right until somebody pulls the plug."""

from __future__ import annotations

import attrs
import pyarrow as pa

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Published,
    PublishedTarget,
    Snapshot,
    Staged,
    Target,
    WriteResult,
)
from seeknal_core.testing.memory import MemoryBackend
from seeknal_core.testing.memory_store import Table
from support.broken import breaks


def _tick() -> None:
    """Make some steps, so that there is time to die between two others."""
    for _ in range(200):
        _nothing()


def _nothing() -> None:
    pass


@breaks("a_killed_write_is_made_good")
class NotesFirstAndWritesThen(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        with self.changing(context) as store:
            there = store.tables.get(target.name.parts)
            if there is not None:
                there.rows = there.rows.slice(0, 0)
        _tick()
        with self.changing(context) as store:
            if there is not None:
                table = store.tables[target.name.parts]
                table.rows = there.rows if there.rows.num_rows else self.old(there)
        return super().materialize(context, target, snapshot)

    def old(self, there: Table) -> pa.Table:
        return pa.table({"id": [1, 2, 3], "name": ["a", "b", None]})


@breaks("a_killed_first_write_is_made_good")
class TakesItsOwnNamespaceForForeign(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        with self.changing(context) as store:
            namespace = target.name.parts[:-1]
            empty = namespace in store.namespaces and store.is_empty(namespace)
            if empty:
                raise WriteRefused(f"{namespace} is there and nobody's")
            store.make_namespaces(target.name.parts, (context.project, context.environment.name))
        _tick()
        return super().materialize(context, target, snapshot)


@breaks("a_killed_stage_leaves_nothing_after_a_discard")
class StagesInATableOfItsOwn(MemoryBackend):
    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        place = (*target.name.parts[:-1], f"_{promotion}")
        with self.changing(context) as store:
            store.tables[place] = Table(rows=self.arriving(snapshot))
        _tick()
        staged = super().stage(context, target, snapshot, promotion)
        with self.changing(context) as store:
            del store.tables[place]
        return staged


@breaks("a_killed_publish_ends_in_one_of_two_states")
class PublishesTableByTable(MemoryBackend):
    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        return True

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        done = []
        for number, target in enumerate(batch.targets):
            one = attrs.evolve(batch, targets=(target,), generation=batch.generation)
            with self.changing(context) as store:
                place = (context.project, context.environment.name)
                store.generations[place] = batch.generation - 1
                self.staged(store, batch.promotion, target)
                self.apply(context, store, one)
            _tick()
            done += self.told(context, batch, number)
        return Published(targets=tuple(done))

    def told(self, context: ExecutionContext, batch: Batch, number: int) -> list[PublishedTarget]:
        one = attrs.evolve(batch, targets=batch.targets[number : number + 1])
        return list(super().publish(context, one).targets)


@breaks("a_killed_clean_up_can_be_made_again")
class ForgetsBeforeItUndoes(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        found = self.load(context)
        with self.changing(context) as store:
            for target in batch.targets:
                stage = store.stages.get((batch.promotion, target.key))
                if stage is not None:
                    stage.published = False
        _tick()
        with self.changing(context) as store:
            store.stages = found.stages
        return super().revert(context, batch, overwrite)
