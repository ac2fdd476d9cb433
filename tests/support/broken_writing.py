"""Backends that write by another rule than the mode's, or what is not theirs."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.contract.errors import BackendError, Unreachable, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import (
    ExecutionContext,
    Interval,
    Mode,
    SchemaChange,
    Snapshot,
    Target,
    WriteResult,
)
from seeknal_core.testing.memory import MemoryBackend
from seeknal_core.testing.memory_store import Table, Transaction
from support.broken import breaks

FULL, APPEND, UPSERT, BY_TIME = (
    Mode.FULL,
    Mode.APPEND,
    Mode.UPSERT_BY_KEY,
    Mode.INCREMENTAL_BY_TIME,
)


class _Writes(MemoryBackend):
    """Writes as if it had been told something else."""

    def told(
        self,
        context: ExecutionContext,
        target: Target,
        snapshot: Snapshot,
        there: Table | None,
    ) -> tuple[ExecutionContext, Target, Snapshot, Table | None]:
        raise NotImplementedError

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        return super().table(*self.told(context, target, snapshot, there))


def told(change: Callable[..., dict[str, Any] | None], what: str) -> Any:
    """Return a `_Writes.told` that changes one of its arguments where `change` says so."""
    names = ("context", "target", "snapshot", "there")

    def method(self: object, *given: Any) -> tuple[Any, ...]:
        named = dict(zip(names, given, strict=True))
        changes = change(**named)
        if changes:
            named[what] = attrs.evolve(named[what], **changes)
        return tuple(named.values())

    return method


@breaks("a_full_write_replaces_all_rows", "a_repeated_full_write_changes_no_row")
class AddsInsteadOfReplacing(_Writes):
    told = told(
        lambda target, snapshot, **_: {"mode": APPEND} if target.mode is FULL else None, "target"
    )

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        if there is not None and target.mode is FULL:
            there = attrs.evolve(there, appended=frozenset())
        return super().table(context, target, snapshot, there)


@breaks("a_repeated_full_write_changes_no_row")
class AddsOnRepeat(MemoryBackend):
    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        repeats = there is not None and snapshot.content_key in there.appended
        if there is not None and repeats and target.mode is FULL:
            target = attrs.evolve(target, mode=APPEND)
            there = attrs.evolve(there, appended=frozenset())
        return super().table(context, target, snapshot, there)


@breaks(
    "an_append_adds_its_rows",
    "an_append_adds_the_rows_of_one_content_key_once",
    "equal_rows_under_two_content_keys_are_appended_twice",
)
class ReplacesInsteadOfAdding(_Writes):
    told = told(lambda target, **_: {"mode": FULL} if target.mode is APPEND else None, "target")


@breaks("an_append_adds_its_rows")
class TellsOldRowsAsWritten(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        result = super().materialize(context, target, snapshot)
        adds = target.mode is APPEND and result.rows_written
        return attrs.evolve(result, rows_written=result.rows_after) if adds else result


@breaks("an_append_adds_the_rows_of_one_content_key_once")
class AppendsTwiceOnRetry(_Writes):
    told = told(lambda there, **_: {"appended": frozenset()} if there else None, "there")


@breaks("equal_rows_under_two_content_keys_are_appended_twice")
class KnowsRowsByTheirLooks(_Writes):
    told = told(lambda snapshot, **_: {"content_key": str(snapshot.row_count)}, "snapshot")


@breaks("an_upsert_updates_and_inserts", "a_key_of_several_columns_is_one_key")
class InsertsWithoutUpdating(_Writes):
    told = told(lambda target, **_: {"mode": APPEND} if target.mode is UPSERT else None, "target")

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        from seeknal_core.testing import memory_rows

        memory_rows.check(target, self.arriving(snapshot), None, False)
        return super().table(context, target, snapshot, there)


@breaks("a_key_of_several_columns_is_one_key")
class ComparesOneColumnOfAKey(_Writes):
    told = told(
        lambda target, there, **_: {"unique_keys": target.unique_keys[:1]} if there else None,
        "target",
    )


@breaks("a_faulty_key_is_refused")
class TakesFaultyKeys(MemoryBackend):
    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        if "id" not in rows.column_names:
            return rows
        # Of each key the last row, as an upsert without a check would have it.
        last = {key: place for place, key in enumerate(rows["id"].to_pylist()) if key is not None}
        return rows.take(sorted(last.values()))


@breaks("a_faulty_key_is_refused", "what_a_write_refuses_is_refused_when_it_is_staged")
class PassesOverRowsThatAreThere(MemoryBackend):
    """As a MERGE does that leaves it to an index to find keys that stand twice."""

    known: tuple[dict[str, Any], ...] = ()

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        upserts = there is not None and target.mode is UPSERT
        self.known = tuple(there.rows.to_pylist()) if there is not None and upserts else ()
        return super().table(context, target, snapshot, there)

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        if not self.known:
            return rows
        return rows.filter([row not in self.known for row in rows.to_pylist()])


@breaks(
    "an_increment_replaces_its_days",
    "an_increment_deletes_no_day_that_it_does_not_have",
    "an_increment_replaces_what_its_node_covers",
)
class ReplacesAllTimes(_Writes):
    told = told(lambda target, **_: {"mode": FULL} if target.mode is BY_TIME else None, "target")

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        from seeknal_core.testing import memory_rows

        memory_rows.check(target, self.arriving(snapshot), None, False)
        return super().table(context, target, snapshot, there)


@breaks("an_increment_replaces_what_its_node_covers")
class NeverHearsWhatIsCovered(_Writes):
    told = told(lambda **_: {"covers": None}, "target")


@breaks("an_increment_replaces_its_days", "an_increment_deletes_no_day_that_it_does_not_have")
class DeletesDaysBetween(MemoryBackend):
    def times(self, target: Target, snapshot: Snapshot) -> list[Any]:
        rows = self.arriving(snapshot)
        return list(rows["t"].to_pylist()) if target.mode is BY_TIME else []

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        found = sorted(filter(None, self.times(target, snapshot)))
        if found and target.covers is None:
            first = found[0].replace(hour=0, minute=0, second=0, microsecond=0)
            last = found[-1] + timedelta(microseconds=1)
            target = attrs.evolve(target, covers=Interval(start=first, end=last))
        return super().table(context, target, snapshot, there)


@breaks("an_increment_that_would_lose_rows_of_a_day_is_refused")
class LosesRowsOfADay(MemoryBackend):
    def notes(self, context: ExecutionContext, target: Target, *rows: Any) -> tuple[str, ...]:
        try:
            return super().notes(context, target, *rows)
        except WriteRefused as error:
            if target.covers is not None:
                raise
            return (error.message,)


@breaks("an_overwrite_replaces_its_partitions")
class ReplacesAllPartitions(_Writes):
    told = told(
        lambda target, **_: {"mode": FULL} if target.mode is Mode.INSERT_OVERWRITE else None,
        "target",
    )


@breaks("an_increment_without_time_is_refused")
class DropsRowsWithoutTime(MemoryBackend):
    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return rows.filter(rows["t"].is_valid()) if "t" in rows.column_names else rows


@breaks("a_full_refresh_replaces_all_rows")
class NeverRefreshesFully(_Writes):
    told = told(lambda **_: {"full_refresh": False}, "context")


class _Shapes(MemoryBackend):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        raise NotImplementedError

    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        found = None if there is None else (target, there)
        self.about = found
        return super().table(context, target, snapshot, there)

    def arriving(self, snapshot: Snapshot) -> pa.Table:
        rows = super().arriving(snapshot)
        return self.shaped(rows, *self.about) if self.about else rows


def kept(rows: pa.Table, there: Table) -> pa.Table:
    return rows.select([name for name in there.rows.column_names if name in rows.column_names])


@breaks("a_new_column_is_added")
class DropsNewColumnsOfAnAppend(_Shapes):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        evolves = target.on_schema_change is SchemaChange.EVOLVE
        return kept(rows, there) if target.mode is APPEND and evolves else rows


@breaks("a_full_write_brings_its_new_columns")
class DropsNewColumnsOfAFullWrite(_Shapes):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        evolves = target.on_schema_change is SchemaChange.EVOLVE
        return kept(rows, there) if target.mode is FULL and evolves else rows


@breaks("a_changed_schema_fails_where_it_must")
class EvolvesWhereItMustFail(_Writes):
    told = told(lambda **_: {"on_schema_change": SchemaChange.EVOLVE}, "target")


@breaks("an_append_that_lacks_a_column_is_refused")
class FillsMissingColumns(_Shapes):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        for field in there.rows.schema:
            if field.name not in rows.column_names and target.mode is APPEND:
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows


@breaks("a_column_that_left_holds_nothing_old", "sync_drops_a_column_that_left")
class KeepsOldValuesOfAColumn(_Shapes):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        for field in there.rows.schema:
            if field.name not in rows.column_names and target.mode is FULL:
                rows = rows.append_column(field, there.rows[field.name].slice(0, rows.num_rows))
        return rows


@breaks("sync_drops_a_column_that_left")
class NeverDropsAColumn(_Shapes):
    def shaped(self, rows: pa.Table, target: Target, there: Table) -> pa.Table:
        for field in there.rows.schema:
            if field.name not in rows.column_names and target.mode is FULL:
                rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows


@breaks("a_type_changes_in_full")
class RefusesATypeAfterWriting(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        there = self.load(context).tables.get(target.name.parts)
        result: WriteResult = super().materialize(context, target, snapshot)
        if there is not None and there.rows.schema.types[0] != snapshot.schema.types[0]:
            raise WriteRefused(f"{target.name}: another type")
        return result


@breaks("a_foreign_table_is_left_alone")
class TakesForeignTables(_Writes):
    told = told(lambda there, **_: {"adopt": there is None or there.owner is None}, "context")


@breaks("the_table_of_another_is_left_alone")
class TakesTheTablesOfOthers(_Writes):
    told = told(
        lambda there, context, **_: {
            "adopt": context.adopt or (there is not None and there.owner is not None)
        },
        "context",
    )


@breaks("a_foreign_table_can_be_adopted")
class NeverAdopts(_Writes):
    told = told(lambda **_: {"adopt": False}, "context")


@breaks("the_state_folder_does_not_decide_whose_a_table_is")
class KnowsOneStateFolder(MemoryBackend):
    def table(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot, there: Table | None
    ) -> tuple[Table, pa.Table]:
        owner = there.owner if there else None
        if owner is not None and owner.state_id != context.state_id:
            raise WriteRefused(f"{target.name} was written by another checkout")
        return super().table(context, target, snapshot, there)


@breaks("a_reader_sees_old_rows_or_new_ones")
class EmptiesBeforeItFills(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        if target.mode is FULL:
            with self.changing(context) as store:
                there = store.tables.get(target.name.parts)
                if there is not None:
                    there.rows = there.rows.slice(0, 0)
            time.sleep(0.03)
        return super().materialize(context, target, snapshot)


@breaks("concurrent_appends_lose_and_double_nothing")
class AddsToWhatItSawBefore(MemoryBackend):
    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        there = self.load(context).tables.get(target.name.parts)
        table, arrived = self.table(context, target, snapshot, there)
        time.sleep(0.1)
        with self.changing(context) as store:
            store.make_namespaces(target.name.parts, None)
            store.tables[target.name.parts] = table
        return WriteResult(
            rows_written=arrived.num_rows, rows_after=table.rows.num_rows, version=table.version
        )


@breaks("targets_of_one_run_are_written_at_once")
class WritesOneThingAtATime(MemoryBackend):
    busy = False

    @hookimpl
    def materialize(
        self, context: ExecutionContext, target: Target, snapshot: Snapshot
    ) -> WriteResult:
        if self.busy and target.mode is FULL:
            raise BackendError("I am busy")
        self.busy = True
        try:
            time.sleep(0.05)
            return super().materialize(context, target, snapshot)
        finally:
            self.busy = False


@breaks("a_store_that_does_not_answer_is_told")
class SaysNoNextStep(MemoryBackend):
    def begin(self, context: ExecutionContext) -> Transaction:
        try:
            return super().begin(context)
        except Unreachable as error:
            raise Unreachable(str(error)) from None


@breaks("targets_written_together_are_as_written_alone", "rows_appended_together_are_appended_once")
class TellsOfSeveralInItsOwnOrder(MemoryBackend):
    @hookimpl
    def materialize_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
    ) -> tuple[WriteResult, ...]:
        found = super().materialize_targets(context, targets, snapshots)
        return tuple(reversed(found))


@breaks("rows_appended_together_are_appended_once")
class AppendsAgainWhatIsWrittenTogether(MemoryBackend):
    @hookimpl
    def materialize_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
    ) -> tuple[WriteResult, ...]:
        renamed = tuple(attrs.evolve(one, content_key=f"k{time.time_ns()}") for one in snapshots)
        return super().materialize_targets(context, targets, renamed)


@breaks("a_mistake_leaves_each_target_old_or_new")
class TakesWhatIsWrittenTogether(MemoryBackend):
    @hookimpl
    def materialize_targets(
        self,
        context: ExecutionContext,
        targets: tuple[Target, ...],
        snapshots: tuple[Snapshot, ...],
    ) -> tuple[WriteResult, ...]:
        taking = attrs.evolve(context, adopt=True)
        return super().materialize_targets(taking, targets, snapshots)
