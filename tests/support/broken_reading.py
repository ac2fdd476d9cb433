"""Backends that read wrongly, or tidy up too much or too little."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import duckdb
import pyarrow as pa

from seeknal_core.contract.errors import BackendError, WriteRefused
from seeknal_core.contract.hooks import hookimpl
from seeknal_core.contract.types import ExecutionContext, Owned, OwnedKind, Source, SourceStream
from seeknal_core.testing.memory import MemoryBackend
from support.broken import breaks

_numbers = itertools.count()


class _Reads(MemoryBackend):
    """Bends what it reads."""

    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        return rows

    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        return opened(stream, lambda: self.bent(stream.open().read_all(), source).to_reader(65_536))

    @hookimpl
    def read_source(self, context: ExecutionContext, source: Source) -> SourceStream:
        return self.stream(context, source, super().read_source(context, source))


def opened(
    stream: SourceStream, open: Callable[[], pa.RecordBatchReader], **fields: Any
) -> SourceStream:
    given = {"identity": stream.identity, "version": stream.version, **fields}
    return SourceStream(open=open, **given)


@breaks("a_source_gives_all_rows")
class ReadsOnlyOurRows(_Reads):
    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        if "name" not in rows.column_names:
            return rows
        ours = [name != "theirs" for name in rows["name"].to_pylist()]
        return rows.filter(pa.array(ours, pa.bool_()))


@breaks("values_are_read_exactly")
class ReadsNoNull(_Reads):
    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        if "awkward" not in rows.column_names:
            return rows
        return rows.filter(rows["awkward"].is_valid())


@breaks("a_projection_gives_its_columns")
class ReadsColumnsInItsOwnOrder(_Reads):
    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        return rows.select(sorted(rows.column_names)) if source.columns else rows


@breaks("no_rows_have_columns")
class ReadsNothingAsNothing(_Reads):
    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        return rows if rows.num_rows else pa.table({})


@breaks("many_rows_come_in_batches")
class ReadsAllAtOnce(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        return opened(
            stream, lambda: stream.open().read_all().combine_chunks().to_reader(10_000_000)
        )


@breaks("a_view_is_consistent", "the_rows_are_those_of_the_version")
class LooksAgainForEachBatch(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        def rows() -> pa.Table:
            found = self.load(context).tables[source.parts].rows
            return found.select(list(source.columns)) if source.columns else found

        def batches() -> Iterator[pa.RecordBatch]:
            for start in itertools.count(0, 65_536):
                found = rows().slice(start, 65_536).combine_chunks().to_batches()
                if not found:
                    return
                yield from found

        if source.query:
            return stream
        return opened(stream, lambda: pa.RecordBatchReader.from_batches(rows().schema, batches()))


@breaks("the_rows_are_those_of_the_version")
class LooksAgainWhenItIsOpened(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        if source.query or source.columns:
            return stream
        return opened(
            stream, lambda: self.load(context).tables[source.parts].rows.to_reader(65_536)
        )


@breaks("a_version_changes_when_the_rows_change")
class HasOneVersion(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        return opened(stream, stream.open, version="1")


@breaks("a_version_changes_when_the_rows_change", "a_sources_identity_is_its_tables")
class IdentifiesByTheHour(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        return opened(stream, stream.open, identity=f"{stream.identity} {next(_numbers)}")


@breaks("a_sources_identity_is_its_tables")
class IdentifiesAllTablesAsOne(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        return opened(stream, stream.open, identity="memory")


@breaks("what_is_missing_is_named")
class SaysThatSomethingIsMissing(MemoryBackend):
    @hookimpl
    def read_source(self, context: ExecutionContext, source: Source) -> SourceStream:
        try:
            return super().read_source(context, source)
        except BackendError as error:
            if source.query:
                raise
            raise BackendError("something is missing", error.hint) from None


@breaks(
    "a_view_that_is_not_read_is_closed",
    "a_version_changes_when_the_rows_change",
    "a_sources_identity_is_its_tables",
)
class ClosesOnlyWhatWasRead(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        seen: list[pa.RecordBatchReader] = []

        def open() -> pa.RecordBatchReader:
            seen.append(stream.open())
            return seen[0]

        return opened(stream, open, close=lambda: seen[0].close())


@breaks("reading_changes_nothing")
class NotesWhatItReads(_Reads):
    def stream(
        self, context: ExecutionContext, source: Source, stream: SourceStream
    ) -> SourceStream:
        with self.changing(context) as store:
            store.namespaces[("read",)] = None
        return stream


@breaks("a_query_is_answered_by_the_store")
class AnswersWithHalf(_Reads):
    def bent(self, rows: pa.Table, source: Source) -> pa.Table:
        return rows.slice(0, rows.num_rows // 2) if source.query else rows


@breaks("a_query_that_writes_is_refused")
class RunsAnyQuery(MemoryBackend):
    @hookimpl
    def read_source(self, context: ExecutionContext, source: Source) -> SourceStream:
        if source.query and not source.query.startswith("SELECT"):
            with duckdb.connect(":memory:") as engine:
                rows = engine.sql("SELECT 1 AS done").to_arrow_table()
            return SourceStream(identity="memory", version=None, open=rows.to_reader)
        return super().read_source(context, source)


@breaks("an_untouched_store_holds_nothing_of_ours")
class MakesALedgerToAsk(MemoryBackend):
    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        with self.changing(context) as store:
            if not store.namespaces:
                store.generations[context.project, context.environment.name] = 0
        found = super().list_owned(context)
        if found or context.environment.name == "dev":
            with self.changing(context) as store:
                store.generations.pop((context.project, context.environment.name), None)
        return found


@breaks("what_was_made_is_listed")
class ListsNamespacesFirst(MemoryBackend):
    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        found = super().list_owned(context)
        if context.environment.name == "dev" or context.state_id == "state-1":
            return found
        return found[::-1]


@breaks("what_others_made_is_not_listed", "other_tables_survive")
class ListsTablesOfAllEnvironments(MemoryBackend):
    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        found = super().list_owned(context)
        others = [name for name in ("prod", "dev") if name != context.environment.name]
        for name in others:
            there = attrs.evolve(context.environment, name=name)
            more = super().list_owned(attrs.evolve(context, environment=there))
            found = (*(one for one in more if one.kind is OwnedKind.TABLE), *found)
        return found


@breaks("what_others_made_is_not_listed")
class ListsAdoptedTables(MemoryBackend):
    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        with self.changing(context) as store:
            for table in store.tables.values():
                table.made = True
        return super().list_owned(context)


@breaks("dropping_all_leaves_the_store_as_it_was")
class ListsNoNamespaces(MemoryBackend):
    @hookimpl
    def list_owned(self, context: ExecutionContext) -> tuple[Owned, ...]:
        found = super().list_owned(context)
        if context.environment.name != "dev":
            return found
        return tuple(one for one in found if one.kind is OwnedKind.TABLE)


class _Drops(MemoryBackend):
    def drop(self, context: ExecutionContext, owned: Owned) -> bool:
        raise NotImplementedError

    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        return self.drop(context, owned)


@breaks("dropping_again_finds_nothing")
class DropsOnce(MemoryBackend):
    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        if not super().drop_target(context, owned):
            raise BackendError(f"{owned.name} is not there")
        return True


@breaks("other_tables_survive")
class DropsByTheTablesName(MemoryBackend):
    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        found = super().drop_target(context, owned)
        with self.changing(context) as store:
            for name in [name for name in store.tables if name[-1] == owned.name.parts[-1]]:
                del store.tables[name]
        return found


@breaks("a_table_that_changed_hands_is_not_dropped")
class DropsWhatItOwnedOnce(MemoryBackend):
    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        try:
            return super().drop_target(context, owned)
        except WriteRefused:
            if owned.kind is OwnedKind.NAMESPACE:
                raise
        with self.changing(context) as store:
            del store.tables[owned.name.parts]
        return True


@breaks("a_namespace_with_foreign_tables_is_not_dropped")
class Cascades(MemoryBackend):
    @hookimpl
    def drop_target(self, context: ExecutionContext, owned: Owned) -> bool:
        if owned.kind is OwnedKind.NAMESPACE:
            with self.changing(context) as store:
                inside = [name for name in store.tables if name[:-1] == owned.name.parts]
                for name in inside:
                    del store.tables[name]
        return super().drop_target(context, owned)


@breaks("many_are_dropped_as_each_is")
class SaysThatAllWereThere(MemoryBackend):
    @hookimpl
    def drop_targets(self, context: ExecutionContext, owned: tuple[Owned, ...]) -> tuple[bool, ...]:
        for one in owned:
            super().drop_target(context, one)
        return (True,) * len(owned)


@breaks("what_is_refused_alone_is_not_dropped_with_others")
class DropsManyWithoutALook(MemoryBackend):
    @hookimpl
    def drop_targets(self, context: ExecutionContext, owned: tuple[Owned, ...]) -> tuple[bool, ...]:
        with self.changing(context) as store:
            return tuple(store.tables.pop(one.name.parts, None) is not None for one in owned)
