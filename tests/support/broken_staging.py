"""Backends that stage or publish wrongly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pyarrow as pa

from seeknal_core.contract.errors import BackendError, StaleStage, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    Batch,
    Checksum,
    ExecutionContext,
    Mode,
    Ownership,
    Published,
    PublishedTarget,
    SchemaChange,
    Snapshot,
    Source,
    SourceStream,
    Staged,
    Target,
    TargetState,
)
from seeknal_core.testing.memory import MemoryBackend
from seeknal_core.testing.memory_store import Stage, Store, Table
from support.broken import breaks
from support.broken_looking import password


class _Stages(MemoryBackend):
    """Stages as if it had been told something else, and writes as it should."""

    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        return context, target, snapshot

    def answer(self, context: ExecutionContext, target: Target, staged: Staged) -> Staged:
        return staged

    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        staged = super().stage(*self.told(context, target, snapshot), promotion)
        return self.answer(context, target, staged)


@breaks("what_is_staged_is_invisible")
class StagesInTheTable(_Stages):
    def answer(self, context: ExecutionContext, target: Target, staged: Staged) -> Staged:
        with self.changing(context) as store:
            stage = store.stages[staged.promotion, target.key]
            there = store.tables.get(target.name.parts)
            if there is not None:
                rows = pa.concat_tables([there.rows, stage.arrived], promote_options="permissive")
                store.tables[target.name.parts] = attrs.evolve(there, rows=rows)
        return staged


@breaks("staged_rows_are_counted_in_the_store")
class BelievesTheJournal(MemoryBackend):
    @hookimpl
    def count_rows(self, context: ExecutionContext, target: Target) -> int:
        return target.staged.rows if target.staged else super().count_rows(context, target)


@breaks("staged_columns_are_told")
class TellsTheColumnsThatAreThere(MemoryBackend):
    @hookimpl
    def inspect_target(self, context: ExecutionContext, target: Target) -> TargetState:
        return super().inspect_target(context, attrs.evolve(target, staged=None))


@breaks("the_checksum_of_staged_rows_is_that_of_the_snapshot")
class SumsUpRoundedRows(MemoryBackend):
    @hookimpl
    def checksum(self, context: ExecutionContext, target: Target) -> Checksum:
        found = super().checksum(context, target)
        return attrs.evolve(found, columns=dict.fromkeys(found.columns, "0"))


@breaks("what_stage_returns_goes_through_json")
class NotesATuple(_Stages):
    def answer(self, context: ExecutionContext, target: Target, staged: Staged) -> Staged:
        return attrs.evolve(staged, data={"parts": target.name.parts})


@breaks("what_stage_returns_goes_through_json")
class NotesThePassword(_Stages):
    def answer(self, context: ExecutionContext, target: Target, staged: Staged) -> Staged:
        return attrs.evolve(staged, data={"key": password(context)})


@breaks("staging_again_starts_afresh")
class KeepsTheFirstStage(_Stages):
    @hookimpl
    def stage(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, promotion: str
    ) -> Staged:
        found = self.load(context).stages.get((promotion, target.key))
        if found is not None:
            base = found.before.version if found.before else None
            return Staged(promotion=promotion, base=base, rows=found.arrived.num_rows)
        return super().stage(context, target, snapshot, promotion)


@breaks("what_a_write_refuses_is_refused_when_it_is_staged")
class RefusesNothingEarly(_Stages):
    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        adopting = attrs.evolve(context, adopt=True)
        return adopting, attrs.evolve(target, on_schema_change=SchemaChange.EVOLVE), snapshot


@breaks("no_rows_can_be_promoted")
class StagesNoEmptyTable(_Stages):
    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        if not snapshot.row_count:
            raise WriteRefused("there is nothing to stage")
        return context, target, snapshot


class _Publishes(MemoryBackend):
    """Changes what is staged before it is put in its place."""

    def change(
        self, context: ExecutionContext, target: Target, stage: Stage, there: Table | None
    ) -> None:
        raise NotImplementedError

    def apply(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        for target in batch.targets:
            stage = self.staged(store, batch.promotion, target)
            self.change(context, target, stage, store.tables.get(target.name.parts))
        super().apply(context, store, batch)


@breaks(
    "a_publish_makes_all_targets_visible",
    "a_repeated_publish_gives_the_same_result",
)
class PublishesHalf(MemoryBackend):
    def apply(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        before = {each.name.parts: store.tables.get(each.name.parts) for each in batch.targets[1:]}
        super().apply(context, store, batch)
        for name, table in before.items():
            del store.tables[name]
            if table is not None:
                store.tables[name] = table


@breaks("the_ledger_knows_of_a_publish")
class ForgetsWhoPublished(_Publishes):
    def change(
        self, context: ExecutionContext, target: Target, stage: Stage, there: Table | None
    ) -> None:
        owner = stage.table.owner
        assert owner is not None
        stage.table.owner = Ownership(**{**attrs.asdict(owner), "content_key": "?"})


@breaks("a_repeated_publish_gives_the_same_result")
class TellsARepeatApart(MemoryBackend):
    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        store = self.load(context)
        keys = [(batch.promotion, target.key) for target in batch.targets]
        again = any(store.stages[key].published for key in keys if key in store.stages)
        found = super().publish(context, batch)
        if not again:
            return found
        return Published(targets=tuple(attrs.evolve(one, created=False) for one in found.targets))


@breaks("published_values_are_those_that_were_staged")
class LosesValuesOnTheWay(_Publishes):
    def change(
        self, context: ExecutionContext, target: Target, stage: Stage, there: Table | None
    ) -> None:
        rows = stage.table.rows
        if "awkward" in rows.column_names:
            lost = pa.nulls(rows.num_rows, rows["awkward"].type)
            place = rows.column_names.index("awkward")
            stage.table.rows = rows.set_column(place, "awkward", lost)


@breaks("a_promotion_goes_by_the_mode", "a_promotion_appends_the_rows_of_one_content_key_once")
class PromotesByReplacing(_Stages):
    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        return context, attrs.evolve(target, mode=Mode.FULL), snapshot


@breaks("a_promotion_appends_the_rows_of_one_content_key_once", "the_ledger_knows_of_a_publish")
class PromotesTheSameRowsTwice(_Stages):
    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        return context, target, attrs.evolve(snapshot, content_key=f"{snapshot.content_key} again")


@breaks("a_full_refresh_promotes_a_replacement")
class NeverPromotesAReplacement(_Stages):
    def told(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> tuple[ExecutionContext, Target, Snapshot]:
        return attrs.evolve(context, full_refresh=False), target, snapshot


@breaks("a_promotion_changes_columns")
class PromotesOldColumns(_Publishes):
    def change(
        self, context: ExecutionContext, target: Target, stage: Stage, there: Table | None
    ) -> None:
        if there is not None:
            stage.table.rows = stage.table.rows.select(there.rows.column_names)


class _Believes(MemoryBackend):
    """Publishes over what moved, where `overlooks` says so."""

    def overlooks(self, context: ExecutionContext, target: Target, there: Table | None) -> bool:
        raise NotImplementedError

    def apply(self, context: ExecutionContext, store: Store, batch: Batch) -> None:
        targets = []
        overlooked = False
        for target in batch.targets:
            there = store.tables.get(target.name.parts)
            assert target.staged is not None
            if self.overlooks(context, target, there):
                overlooked = True
                base = there.version if there else None
                target = attrs.evolve(target, staged=attrs.evolve(target.staged, base=base))
            targets.append(target)
        generation = store.generations.get((context.project, context.environment.name), 0) + 1
        generation = generation if overlooked else batch.generation
        batch = attrs.evolve(batch, targets=tuple(targets), generation=generation)
        super().apply(context, store, batch)


@breaks("a_publish_over_a_foreign_write_is_refused", "preparing_over_a_foreign_write_is_refused")
class OverwritesForeignRows(_Believes):
    def overlooks(self, context: ExecutionContext, target: Target, there: Table | None) -> bool:
        names = there.rows["name"].to_pylist() if there and is_named(there) else []
        return "theirs" in names and len(names) > 1


@breaks("a_publish_over_a_table_that_came_up_is_refused")
class OverwritesTablesThatCameUp(_Believes):
    def overlooks(self, context: ExecutionContext, target: Target, there: Table | None) -> bool:
        return there is not None and target.staged is not None and target.staged.base is None


def is_named(table: Table) -> bool:
    return "name" in table.rows.column_names


@breaks("the_second_of_two_promotions_is_refused")
class OverwritesPromotions(_Believes):
    def overlooks(self, context: ExecutionContext, target: Target, there: Table | None) -> bool:
        # What somebody else wrote has more rows, or no owner.
        return there is not None and there.owner is not None and there.rows.num_rows == 2


@breaks("of_two_promotions_at_once_one_is_published")
class LetsTheLastPublisherWin(_Believes):
    def overlooks(self, context: ExecutionContext, target: Target, there: Table | None) -> bool:
        return there is not None and "version" in there.rows.column_names


@breaks("a_reader_sees_a_publish_whole_or_not")
class PublishesWithAGap(MemoryBackend):
    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        prepared = self.prepared(context, batch)
        if not prepared or batch.promotion != "p-3":
            return super().publish(context, batch)
        wanted = prepared[0].store
        kept = {target.name.parts: wanted.tables[target.name.parts] for target in batch.targets}
        for name, table in kept.items():
            wanted.tables[name] = attrs.evolve(table, rows=table.rows.slice(0, 0))
        prepared[0].commit()
        time.sleep(0.03)
        wanted.tables.update(kept)
        return super().publish(context, batch)


@breaks("an_open_reader_is_not_waited_for_for_ever")
class LetsALockTimeOut(MemoryBackend):
    readers = 0

    @hookimpl
    def read_source(self, context: ExecutionContext, source: Source) -> SourceStream:
        stream = super().read_source(context, source)
        self.readers += 1

        def close() -> None:
            self.readers -= 1

        return SourceStream(
            identity=stream.identity, version=stream.version, open=stream.open, close=close
        )

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        if self.readers:
            raise TimeoutError("a reader holds the table")
        return super().publish(context, batch)


@breaks("what_is_prepared_is_invisible_until_the_publish", "what_is_prepared_can_be_given_up")
class PreparesTooMuch(MemoryBackend):
    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        found = super().prepare_publish(context, batch)
        for transaction in self.prepared(context, batch):
            transaction.commit()
        return found


@breaks("what_is_prepared_can_be_given_up")
class RevertsWithoutRollingBack(MemoryBackend):
    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        for transaction in self.prepared(context, batch):
            transaction.commit()
            transaction.close()
            self.prepared(context, batch).clear()
            return False
        return super().revert(context, batch, overwrite)


@breaks("preparing_over_a_foreign_write_is_refused")
class PreparesWithoutLooking(MemoryBackend):
    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        try:
            return super().prepare_publish(context, batch)
        except StaleStage:
            return True

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        super().prepare_publish(context, batch)
        return super().publish(context, batch)


@breaks("a_batch_of_one_connection_says_what_is_missing")
class PublishesNothingAsSomething(MemoryBackend):
    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        try:
            return super().prepare_publish(context, batch)
        except StaleStage:
            raise
        except BackendError:
            return False

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        try:
            return super().publish(context, batch)
        except StaleStage:
            raise
        except BackendError:
            done = [
                PublishedTarget(key=target.key, version="?", rows_after=0)
                for target in batch.targets
            ]
            return Published(targets=tuple(done))


@breaks("targets_staged_together_are_as_staged_alone")
class StagesTogetherUponNothing(MemoryBackend):
    @hookimpl
    def stage_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
        promotion: str,
    ) -> tuple[Staged, ...]:
        found = super().stage_targets(context, targets, snapshots, promotion)
        return tuple(attrs.evolve(one, base=None) for one in found)


@breaks("what_is_refused_alone_is_refused_together")
class StagesTogetherWhateverIsThere(MemoryBackend):
    @hookimpl
    def stage_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
        promotion: str,
    ) -> tuple[Staged, ...]:
        taking = attrs.evolve(context, adopt=True)
        return super().stage_targets(taking, targets, snapshots, promotion)


@breaks("targets_summed_up_together_are_as_summed_up_alone")
class SumsUpTogetherInAnotherOrder(MemoryBackend):
    @hookimpl
    def checksum_targets(
        self, context: ExecutionContext, targets: tuple[Target, ...]
    ) -> tuple[Checksum, ...]:
        return super().checksum_targets(context, targets[::-1])


@breaks("a_publish_over_a_foreign_write_is_refused", "a_revert_stops_at_a_foreign_write")
class SaysInItsOwnWordsWhatMoved(MemoryBackend):
    @hookimpl
    def prepare_publish(self, context: ExecutionContext, batch: Batch) -> bool:
        with _other_words():
            return super().prepare_publish(context, batch)

    @hookimpl
    def publish(self, context: ExecutionContext, batch: Batch) -> Published:
        with _other_words():
            return super().publish(context, batch)

    @hookimpl
    def revert(self, context: ExecutionContext, batch: Batch, overwrite: bool) -> bool:
        with _other_words():
            return super().revert(context, batch, overwrite)


@contextmanager
def _other_words() -> Iterator[None]:
    try:
        yield
    except StaleStage as error:
        raise StaleStage("somebody was faster", error.hint, target=error.target) from error
