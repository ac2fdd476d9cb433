"""Backends that undo, or throw away, too little or too much."""

from __future__ import annotations

import attrs

from seeknal_core.contract.errors import BackendError, StaleStage
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import Batch, ExecutionContext, Snapshot, Staged, Target
from seeknal_core.testing.memory import MemoryBackend
from seeknal_core.testing.memory_store import Stage, Store
from support.broken import breaks


class _Reverts(MemoryBackend):
    """Does something more after a revert that undid something."""

    def after(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        raise NotImplementedError

    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        done = super().revert(context, batch, overwrite)
        if done:
            with self.changing(context) as store:
                self.after(context, store, batch)
        return done


@breaks(
    "a_revert_brings_back_rows_and_columns",
    "a_repeated_revert_undoes_nothing_more",
    "a_revert_overwrites_where_it_is_told_to",
    "a_published_batch_can_be_staged_and_undone_again",
)
class ForgetsAColumn(_Reverts):
    def after(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        for target in batch.targets:
            table = store.tables.get(target.name.parts)
            if table is not None:
                table.rows = table.rows.select(table.rows.column_names[:1])


@breaks("a_revert_brings_back_rows_and_columns")
class KeepsTheNewColumns(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        found = self.load(context)
        done = super().revert(context, batch, overwrite)
        with self.changing(context) as store:
            for target in batch.targets:
                before, after = (s.tables.get(target.name.parts) for s in (found, store))
                if before is not None and after is not None:
                    more = [f for f in before.rows.schema if f.name not in after.rows.column_names]
                    for field in more:
                        empty = [None] * after.rows.num_rows
                        after.rows = after.rows.append_column(field.name, [empty])
        return done


@breaks("a_revert_brings_back_absence", "a_revert_brings_back_the_ledger")
class LeavesAnEmptyTable(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        found = self.load(context)
        done = super().revert(context, batch, overwrite)
        with self.changing(context) as store:
            for target in batch.targets:
                there = found.tables.get(target.name.parts)
                if there is not None and target.name.parts not in store.tables:
                    store.make_namespaces(target.name.parts, None)
                    store.tables[target.name.parts] = attrs.evolve(
                        there, rows=there.rows.slice(0, 0)
                    )
        return done


@breaks("a_revert_brings_back_absence")
class LeavesANamespace(_Reverts):
    def after(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        for target in batch.targets:
            store.make_namespaces(target.name.parts, (context.project, context.environment.name))


@breaks("a_revert_brings_back_the_ledger")
class ForgetsTheGeneration(_Reverts):
    def after(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        place = (context.project, context.environment.name)
        # Only where the test of the ledger looks: elsewhere a leftover would be seen, too.
        if len(batch.targets) > 1:
            store.generations[place] = batch.generation


@breaks("a_repeated_revert_undoes_nothing_more")
class SaysItUndoesWhatItUndid(MemoryBackend):
    undone = frozenset[str]()

    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        again = f"{context.project_root} {batch.promotion}"
        done = super().revert(context, batch, overwrite) or again in self.undone
        if done:
            self.undone |= {again}
        return done


@breaks("what_was_not_published_is_not_undone")
class UndoesWhatWasOnlyStaged(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        done = super().revert(context, batch, overwrite)
        with self.changing(context) as store:
            for target in batch.targets:
                stage = store.stages.get((batch.promotion, target.key))
                table = store.tables.get(target.name.parts)
                if not done and stage and not stage.before and table is not None:
                    table.version = f"{table.version} again"
        return done


@breaks("a_revert_stops_at_a_foreign_write")
class RevertsOverForeignRows(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        return super().revert(context, batch, True)


@breaks("a_revert_overwrites_where_it_is_told_to")
class NeverOverwrites(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        return super().revert(context, batch, False)


@breaks("a_published_batch_can_be_staged_and_undone_again")
class PromotesOnceOnly(MemoryBackend):
    used = frozenset[str]()

    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        if f"{context.project_root} {target.key}" in self.used:
            raise StaleStage("this was undone once")
        return super().stage(context, target, snapshot, promotion)

    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        self.used |= {f"{context.project_root} {target.key}" for target in batch.targets}
        return super().revert(context, batch, overwrite)


class _Discards(MemoryBackend):
    """Discards some targets of a batch only."""

    def wanted(self, context: ExecutionContext, batch: Batch) -> tuple[Target, ...]:
        raise NotImplementedError

    @hookimpl
    def discard(self, context: ExecutionContext, batch: Batch) -> None:
        super().discard(context, attrs.evolve(batch, targets=self.wanted(context, batch)))


@breaks("a_discarded_stage_leaves_nothing", "a_stage_that_was_not_noted_can_be_discarded")
class DiscardsOneTarget(_Discards):
    def wanted(self, context: ExecutionContext, batch: Batch) -> tuple[Target, ...]:
        return batch.targets[:1]


@breaks("a_stage_that_was_not_noted_can_be_discarded")
class DiscardsWhatWasNoted(_Discards):
    def wanted(self, context: ExecutionContext, batch: Batch) -> tuple[Target, ...]:
        return tuple(target for target in batch.targets if target.staged is not None)


@breaks("published_rows_stay_and_nothing_else_does")
class KeepsUndoData(_Discards):
    def wanted(self, context: ExecutionContext, batch: Batch) -> tuple[Target, ...]:
        stages = self.load(context).stages
        found = {key: stages.get((batch.promotion, key)) for key in batch.content_keys}
        return tuple(
            target
            for target in batch.targets
            if (stage := found[target.key]) is None or not stage.published
        )


@breaks("published_rows_stay_and_nothing_else_does")
class DiscardsPublishedRows(MemoryBackend):
    @hookimpl
    def discard(self, context: ExecutionContext, batch: Batch) -> None:
        with self.changing(context) as store:
            for target in batch.targets:
                stage = store.stages.get((batch.promotion, target.key))
                if stage is not None and stage.published:
                    store.tables.pop(target.name.parts, None)
        super().discard(context, batch)


@breaks("a_stage_in_an_untouched_store_leaves_nothing")
class MakesALedgerAndLeavesIt(MemoryBackend):
    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        with self.changing(context) as store:
            store.make_namespaces(target.name.parts, None) if not store.tables else None
        return super().stage(context, target, snapshot, promotion)


@breaks("a_discard_can_be_repeated")
class DiscardsOnce(MemoryBackend):
    @hookimpl
    def discard(self, context: ExecutionContext, batch: Batch) -> None:
        stages = self.load(context).stages
        if not any((batch.promotion, target.key) in stages for target in batch.targets):
            raise BackendError("there is nothing to discard")
        super().discard(context, batch)


@breaks("one_promotion_discards_its_own")
class DiscardsEverybodysStages(MemoryBackend):
    @hookimpl
    def discard(self, context: ExecutionContext, batch: Batch) -> None:
        with self.changing(context) as store:
            keys = {target.key for target in batch.targets}
            kept: dict[tuple[str, str], Stage] = {
                key: stage for key, stage in store.stages.items() if key[1] not in keys
            }
            store.stages = kept
