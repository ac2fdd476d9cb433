"""The rules that backends share, without a store; a store of dicts for the promotions."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract import rules
from seeknal_core.contract.errors import BackendError, Interrupted, StaleStage, WriteRefused
from seeknal_core.contract.modes import Field
from seeknal_core.contract.rules import Name, Record, Write
from seeknal_core.contract.types import (
    Batch,
    Connection,
    ExecutionContext,
    Interval,
    Mode,
    Owned,
    OwnedKind,
    Ownership,
    PublishedTarget,
    QualifiedName,
    SchemaChange,
    Snapshot,
    Source,
    Staged,
    Target,
)
from support.contexts import make_context

OURS = Ownership(
    project="shop", environment="prod", state_id="other", content_key="k-0", run_id="run-0"
)
THEIRS = attrs.evolve(OURS, project="bank")


def named(*parts: str) -> QualifiedName:
    return QualifiedName(parts=parts, quoted=".".join(parts))


def target(mode: Mode = Mode.FULL, table: str = "orders", **fields: Any) -> Target:
    name = named("sales", table)
    return Target(key=table, node="transform.n", type="toy", name=name, mode=mode, **fields)


def snapshot(key: str = "k-1", **columns: pa.DataType) -> Snapshot:
    schema = pa.schema(list((columns or {"id": pa.int64()}).items()))
    return Snapshot(node="n", content_key=key, row_count=0, files=(), schema=schema)


UPSERT = target(Mode.UPSERT_BY_KEY, unique_keys=("a", "b"))
BY_TIME = target(Mode.INCREMENTAL_BY_TIME, time_column="t")


class TestOwnership:
    @pytest.mark.parametrize("other", [{"project": "bank"}, {"environment": "dev"}])
    def test_project_and_environment_decide_and_nothing_else(self, other: dict[str, str]) -> None:
        context = make_context()
        assert rules.is_ours(context, OURS)
        assert not rules.is_ours(context, attrs.evolve(OURS, **other))
        assert not rules.is_ours(context, None)

    @pytest.mark.parametrize(
        ("owner", "words"), [(THEIRS, "belongs to project 'bank'"), (None, "exists and was not")]
    )
    def test_somebody_elses_table_is_refused_unless_it_is_adopted(
        self, owner: Ownership | None, words: str
    ) -> None:
        with pytest.raises(WriteRefused, match=words) as raised:
            rules.check_owner(make_context(), target(), owner)
        assert raised.value.target == "sales.orders"
        assert "sales.orders" in str(raised.value) and "--adopt" in raised.value.hint
        rules.check_owner(make_context(adopt=True), target(), owner)
        rules.check_owner(make_context(), target(), OURS)

    @pytest.mark.parametrize(
        "record", [None, Record(owner=THEIRS, made=True), Record(owner=OURS, made=False)]
    )
    def test_only_what_was_made_and_is_ours_may_be_dropped(self, record: Record | None) -> None:
        owned = Owned(kind=OwnedKind.TABLE, name=named("sales", "orders"))
        with pytest.raises(WriteRefused, match=r"sales\.orders is not this environment's"):
            rules.check_drop(make_context(), owned, record)
        rules.check_drop(make_context(), owned, Record(owner=OURS, made=True))

    def test_what_is_absent_is_told_apart(self) -> None:
        staged = Staged(promotion="p", base=None, rows=1)
        assert "does not exist" in str(rules.absent(target()))
        assert "nothing staged" in str(rules.absent(target(staged=staged)))


REFUSALS = [
    rules.refusals.not_ours("s.t", OURS),
    rules.refusals.stays("s.t"),
    rules.refusals.needs_option("s.t", Mode.UPSERT_BY_KEY, Field.UNIQUE_KEYS, "[id]"),
    rules.refusals.no_such_column("s.t", "time_column", "at", ["a", "b"]),
    rules.refusals.no_partitions("s.t", Mode.INSERT_OVERWRITE),
    rules.refusals.null_keys("s.t", 2, ["a", "b"]),
    rules.refusals.duplicated_keys("s.t", 2, ["a", "b"], "1 / x"),
    rules.refusals.no_key("s.t", ["a"], "json has no equality"),
    rules.refusals.not_a_time("s.t", "a", "text"),
    rules.refusals.null_times("s.t", 2, "a"),
    rules.refusals.outside_calendar("s.t", "a"),
    rules.refusals.losing_days("s.t", {date(9999, 12, 31): (2, 1)}, "transform.n"),
    rules.refusals.no_columns("s.t"),
    rules.refusals.columns_differ("s.t", ["column 'a' is new"]),
    rules.refusals.moved("s.t", "staged", None, "2"),
    rules.refusals.nothing_staged("s.t", "p-1"),
    rules.refusals.stage_is_gone("s.t", "p-1", "s3://b/t"),
    rules.refusals.undone("s.t", "p-1"),
    rules.refusals.past_undoing("s.t", "p-1"),
    rules.refusals.another_promotion(3, 2, "s.t"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_a_refusal_names_its_target_and_what_to_do(refusal: BackendError) -> None:
    assert "s.t" in refusal.message and refusal.target == "s.t"
    assert refusal.hint and refusal.hint != refusal.message


def test_a_missing_option_and_a_wrong_name_are_refused_by_the_option() -> None:
    for mode, option in ((Mode.UPSERT_BY_KEY, "unique_keys"), (Mode.INCREMENTAL_BY_TIME, "time_")):
        with pytest.raises(WriteRefused, match=f"needs {option}") as raised:
            rules.check_named_columns(target(mode), ["a"])
        assert f"{option}" in raised.value.hint
    with pytest.raises(WriteRefused, match="unique_keys names 'ida'") as raised:
        rules.check_named_columns(target(unique_keys=("ida",)), ["idb", "x"])
    assert "idb" in raised.value.hint
    rules.check_named_columns(target(unique_keys=("id",), time_column="gone"), ["id"])


class TestPlans:
    def plan(
        self, record: Record | None, mode: Mode = Mode.APPEND, there: bool = True, **context: Any
    ) -> Write:
        return rules.plan_write(
            make_context(**context), target(mode), snapshot(), there=there, record=record
        )

    def test_a_new_table_is_made_and_ours(self) -> None:
        write = self.plan(None, there=False)
        assert (write.replaces, write.repeated, write.record.made) == (True, False, True)
        assert write.record.appended == ("k-1",)
        assert write.record.owner == Ownership(
            project="shop",
            environment="prod",
            state_id="state-1",
            content_key="k-1",
            run_id="run-1",
        )

    def test_an_append_adds_one_content_key_once(self) -> None:
        known = Record(owner=OURS, made=True, appended=("k-0", "k-1"))
        write = self.plan(known)
        assert (write.replaces, write.repeated) == (False, True)
        assert write.record.appended == ("k-0", "k-1")
        fresh = self.plan(attrs.evolve(known, appended=("k-0",)))
        assert not fresh.repeated and fresh.record.appended == ("k-0", "k-1")

    def test_other_modes_repeat_their_rows(self) -> None:
        known = Record(owner=OURS, made=True, appended=("k-1",))
        assert not self.plan(known, Mode.UPSERT_BY_KEY).repeated

    @pytest.mark.parametrize("why", ["full", "refresh", "dropped by somebody"])
    def test_a_replacement_forgets_what_was_appended(self, why: str) -> None:
        known = Record(owner=OURS, made=True, appended=("k-0", "k-1"))
        write = self.plan(
            known,
            Mode.FULL if why == "full" else Mode.APPEND,
            there=why != "dropped by somebody",
            full_refresh=why == "refresh",
        )
        assert write.replaces and not write.repeated and write.record.appended == ("k-1",)

    @pytest.mark.parametrize(
        "record",
        [None, Record(owner=THEIRS, made=True), Record(owner=OURS, made=False)],
    )
    def test_what_is_adopted_was_not_made(self, record: Record | None) -> None:
        assert self.plan(record, adopt=True).record.made is False
        assert self.plan(Record(owner=OURS, made=True), adopt=True).record.made is True

    def test_a_foreign_table_is_refused_and_a_stale_record_is_not(self) -> None:
        foreign = Record(owner=THEIRS, made=True)
        with pytest.raises(WriteRefused):
            self.plan(foreign)
        assert self.plan(foreign, there=False).record.made

    def test_a_record_goes_through_json(self) -> None:
        record = Record(owner=OURS, made=False, appended=("a", "b"))
        assert Record.of(json.loads(json.dumps(record.document()))) == record
        assert Record.of(None) is None
        assert Record(owner=OURS, made=True).token != Record(owner=OURS, made=True).token


class TestSnapshots:
    def test_columns_are_needed(self) -> None:
        empty = Snapshot(node="n", content_key="k", row_count=0, files=(), schema=pa.schema([]))
        with pytest.raises(WriteRefused, match="no columns"):
            rules.check_snapshot(target(), empty)

    @pytest.mark.parametrize(("of", "lacking"), [(UPSERT, "b"), (BY_TIME, "t")])
    def test_the_modes_columns_are_needed(self, of: Target, lacking: str) -> None:
        rows = snapshot(a=pa.int64(), x=pa.int64())
        with pytest.raises(WriteRefused, match=f"names '{lacking}', which the node") as raised:
            rules.check_snapshot(of, rows)
        assert "a, x" in raised.value.hint
        rules.check_snapshot(target(), rows)

    def test_a_time_column_is_a_date_or_a_timestamp(self) -> None:
        for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "UTC")):
            rules.check_snapshot(BY_TIME, snapshot(t=kind))
        with pytest.raises(WriteRefused, match="'t' is string, not a date or timestamp"):
            rules.check_snapshot(BY_TIME, snapshot(t=pa.string()))

    def test_a_type_without_counterpart_is_refused_by_its_column(self) -> None:
        def unfit(kind: pa.DataType) -> str:
            return "is a map, which the store lacks" if pa.types.is_map(kind) else ""

        rows = snapshot(id=pa.int64(), tags=pa.map_(pa.string(), pa.string()))
        with pytest.raises(WriteRefused, match="column 'tags' is a map, which") as raised:
            rules.check_snapshot(target(), rows, unfit)
        assert "CAST(tags" in raised.value.hint


OLD = {"id": "INT", "name": "TEXT"}


class TestColumns:
    @pytest.mark.parametrize(
        "new", [{"id": "INT"}, {**OLD, "x": "INT"}, {"id": "INT", "name": "BLOB"}]
    )
    @pytest.mark.parametrize("replaces", [True, False])
    def test_nothing_may_differ_where_a_change_is_to_fail(
        self, new: dict[str, str], replaces: bool
    ) -> None:
        strict = target(on_schema_change=SchemaChange.FAIL)
        with pytest.raises(WriteRefused, match=r"columns differ: (name|x)$"):
            rules.check_columns(strict, OLD, new, replaces=replaces)
        turned = dict(reversed(OLD.items()))
        assert rules.check_columns(strict, OLD, turned, replaces=replaces) == {}
        assert rules.check_columns(strict, {}, new, replaces=True) == {}

    @pytest.mark.parametrize(
        ("new", "words"),
        [
            ({"id": "INT"}, "'name' is TEXT there, and missing here"),
            ({"id": "REAL", "name": "TEXT"}, "'id' is INT there, and REAL here"),
        ],
    )
    def test_rows_that_stay_keep_their_columns(self, new: dict[str, str], words: str) -> None:
        with pytest.raises(WriteRefused, match=words) as raised:
            rules.check_columns(target(), OLD, new, replaces=False)
        assert "--full-refresh" in raised.value.hint
        assert rules.check_columns(target(), OLD, new, replaces=True) == {}

    def test_new_columns_are_returned(self) -> None:
        new = {"x": "REAL", **OLD}
        assert rules.check_columns(target(), OLD, new, replaces=False) == {"x": "REAL"}
        assert rules.check_columns(target(), OLD, new, replaces=True) == {}


class TestRows:
    def check(self, of: Target, nulls: int = 0, doubles: int = 0) -> list[tuple[str, list[str]]]:
        asked: list[tuple[str, list[str]]] = []

        def answer(what: str, count: int, columns: Sequence[str]) -> int:
            asked.append((what, list(columns)))
            return count

        rules.check_rows(of, partial(answer, "nulls", nulls), partial(answer, "doubles", doubles))
        return asked

    def test_the_store_is_asked_what_the_mode_needs(self) -> None:
        assert self.check(UPSERT) == [("nulls", ["a", "b"]), ("doubles", ["a", "b"])]
        assert self.check(BY_TIME) == [("nulls", ["t"])]
        for mode in (Mode.FULL, Mode.APPEND):
            assert self.check(target(mode, unique_keys=("a",), time_column="t")) == []

    @pytest.mark.parametrize(
        ("of", "counts", "words"),
        [
            (UPSERT, {"nulls": 3}, r"3 rows of the snapshot have NULL in the key \(a, b\)"),
            (UPSERT, {"doubles": 2}, r"2 keys \(a, b\) are duplicated in the snapshot"),
            (BY_TIME, {"nulls": 1}, r"1 rows of the snapshot have NULL in the time column \(t\)"),
        ],
    )
    def test_rows_without_a_place_are_refused(
        self, of: Target, counts: dict[str, int], words: str
    ) -> None:
        with pytest.raises(WriteRefused, match=words) as raised:
            self.check(of, **counts)
        assert raised.value.hint and raised.value.target == "sales.orders"

    def test_a_store_with_sql_is_asked_in_sql(self) -> None:
        asked: list[str] = []

        def count(text: str) -> int:
            asked.append(text)
            return 0

        rules.check_rows_in_sql(UPSERT, "r", count, lambda name: f"[{name}]")
        assert asked == [
            "r WHERE [a] IS NULL OR [b] IS NULL",
            "(SELECT [a], [b] FROM r GROUP BY [a], [b] HAVING count(*) > 1) AS twice",
        ]


def local(*parts: int) -> datetime:
    """Return a time without a zone."""
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - that is the point


class TestIntervals:
    def test_adjacent_days_are_one_interval(self) -> None:
        days = [date(2024, 1, 3), date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 5)]
        assert rules.intervals(BY_TIME, days) == (
            Interval(start=local(2024, 1, 1), end=local(2024, 1, 4)),
            Interval(start=local(2024, 1, 5), end=local(2024, 1, 6)),
        )
        assert rules.intervals(BY_TIME, []) == ()

    def test_what_is_covered_is_replaced_whatever_arrives(self) -> None:
        covers = Interval(start=local(2024, 1, 1), end=local(2024, 1, 4))
        of = attrs.evolve(BY_TIME, covers=covers)
        assert rules.intervals(of, [date(2024, 1, 2)]) == rules.intervals(of, []) == (covers,)

    def test_days_of_moments_are_those_of_utc(self) -> None:
        east = timezone(timedelta(hours=9))
        assert rules.day_of(datetime(2024, 1, 3, 8, tzinfo=east)) == date(2024, 1, 2)
        assert rules.day_of(local(2024, 1, 3, 23, 59)) == date(2024, 1, 3)
        assert rules.day_of(date(2024, 1, 3)) == date(2024, 1, 3)

    def test_days_are_counted_of_any_kind_of_time(self) -> None:
        east = timezone(timedelta(hours=9))
        moments = [datetime(2024, 1, 3, 8, tzinfo=east), datetime(2024, 1, 3, 9, tzinfo=east), None]
        found = pa.array(moments, pa.timestamp("us", "Asia/Tokyo"))
        one_each = {date(2024, 1, 2): 1, date(2024, 1, 3): 1}
        assert rules.count_days(BY_TIME, found) == one_each
        for kind in (pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("ns")):
            days = pa.array([date(2024, 1, 2), date(2024, 1, 3)]).cast(kind)
            assert rules.count_days(BY_TIME, days) == one_each, kind
        old = pa.array([-1], pa.timestamp("us"))
        assert rules.count_days(BY_TIME, old) == {date(1969, 12, 31): 1}
        with pytest.raises(WriteRefused, match="years 1 to 9999"):
            rules.count_days(BY_TIME, pa.array([3_000_000], pa.int32()).cast(pa.date32()))

    def test_the_end_is_not_inside(self) -> None:
        one = Interval(start=local(2024, 1, 1), end=local(2024, 1, 2))
        times = [local(2024, 1, 1), local(2024, 1, 1, 23, 59, 59, 999999), local(2024, 1, 2), None]
        for zone in (None, "UTC"):
            found = rules.inside(pa.array(times, pa.timestamp("us", zone)), [one])
            assert found.to_pylist() == [True, True, False, False]
        assert rules.inside(pa.array(times, pa.timestamp("us")), []).to_pylist() == [False] * 4

    def test_a_day_that_would_lose_rows_is_refused_with_the_way_out(self) -> None:
        one, two = date(2024, 1, 1), date(2024, 1, 2)
        with pytest.raises(WriteRefused, match="2024-01-02 has 3 rows there and 2 here") as raised:
            rules.check_days(BY_TIME, {one: 5, two: 2}, {one: 5, two: 3})
        assert "covers: {from: 2024-01-02, to: 2024-01-03}" in raised.value.hint
        assert "--full-refresh" in raised.value.hint
        covers = Interval(start=local(2024, 1, 1), end=local(2024, 1, 4))
        assert not rules.check_days(attrs.evolve(BY_TIME, covers=covers), {two: 2}, {two: 3})

    def test_a_day_between_that_only_the_table_has_is_named(self) -> None:
        first, last = date(2024, 1, 2), date(2024, 1, 9)
        there = {date(2024, 1, day): 1 for day in range(1, 11)}
        [note] = rules.check_days(BY_TIME, {first: 1, last: 1}, there)
        assert "6 rows" in note and "2024-01-03" in note and "and 1 more" in note
        assert not rules.check_days(BY_TIME, {first: 1}, there)

    def test_rows_outside_of_what_is_covered_are_refused(self) -> None:
        covers = Interval(start=local(2024, 1, 1), end=local(2024, 1, 4, 12))
        of = attrs.evolve(BY_TIME, covers=covers)
        rules.check_covers(of, lambda _: 0)
        rules.check_covers(BY_TIME, lambda _: 1 // 0)
        with pytest.raises(WriteRefused, match=r"7 rows .* \[2024-01-01, 2024-01-04 12:00:00\)"):
            rules.check_covers(of, lambda interval: 7 if interval == covers else 0)


class TestStaleness:
    def test_versions_are_compared_and_named(self) -> None:
        staged = target(staged=Staged(promotion="p", base="v1", rows=0))
        rules.check_base(staged, "v1")
        for found, words in (("v2", "version v1 then, v2 now"), (None, r"v1 then, \(no table\)")):
            with pytest.raises(StaleStage, match=words) as raised:
                rules.check_base(staged, found)
            assert raised.value.target == "sales.orders" and "staged" in str(raised.value)
        with pytest.raises(StaleStage, match=r"since it was published: version v1 then, v2 now"):
            rules.check_published(staged, "v1", "v2")
        rules.check_published(staged, "v2", "v2")

    def test_absence_is_a_base(self) -> None:
        absent = target(staged=Staged(promotion="p", base=None, rows=0))
        rules.check_base(absent, None)
        with pytest.raises(StaleStage, match=r"\(no table\) then, v1 now"):
            rules.check_base(absent, "v1")

    @pytest.mark.parametrize("found", [0, 2, 3])
    def test_a_batch_must_be_the_next_promotion(self, found: int) -> None:
        batch = Batch(promotion="p", generation=2, targets=())
        rules.check_generation(batch, 1)
        with pytest.raises(StaleStage, match=f"generation {found} is there, and 2 was to come"):
            rules.check_generation(batch, found)


@attrs.define
class Shelf:
    """A store: rows by table, documents by kind and key, what waits, what is kept to undo."""

    tables: dict[Name, list[str]] = attrs.field(factory=dict)
    documents: dict[str, dict[Name, Any]] = attrs.field(factory=dict)
    waiting: dict[Name, list[str]] = attrs.field(factory=dict)
    undo: dict[Name, list[str]] = attrs.field(factory=dict)


class Session(rules.Transaction):
    """A transaction: works on a copy of the shelf, which takes its place at the commit."""

    open = 0
    fails = ""

    def __init__(self, shelf: Shelf, context: ExecutionContext) -> None:
        self.context, self.shelf, self.copy = context, shelf, copy.deepcopy(shelf)
        Session.open += 1

    def commit(self) -> None:
        if Session.fails == "commit":
            raise BackendError("no commit today")
        # What a store keeps is text.
        self.copy.documents = {
            kind: {key: json.loads(json.dumps(one)) for key, one in found.items()}
            for kind, found in self.copy.documents.items()
        }
        for field in attrs.fields(Shelf):
            setattr(self.shelf, field.name, copy.deepcopy(getattr(self.copy, field.name)))

    def close(self) -> None:
        Session.open -= 1

    def documents(self, kind: str, key: Name | None = None) -> dict[Name, Any]:
        found = self.copy.documents.get(kind, {})
        return {name: one for name, one in found.items() if key in (None, name)}

    def put(self, kind: str, key: Name, document: object) -> None:
        found = self.copy.documents.setdefault(kind, {})
        if document is None:
            del found[key]  # It is there, or this fails.
        else:
            found[key] = document

    def exists(self, *name: str) -> bool:
        return name in self.copy.tables

    def version(self, target: Target) -> str | None:
        rows, record = self.copy.tables.get(target.name.parts), self.record(target.name.parts)
        return None if rows is None else f"{record and record.token} {rows}"

    def arrive(self, promotion: str, target: Target, snapshot: Snapshot) -> tuple[Write, int]:
        write = self.plan(target, snapshot)
        rows = [] if write.repeated else [snapshot.content_key]
        self.copy.waiting[promotion, target.key] = rows
        return write, len(rows)

    def apply(self, promotion: str, target: Target, write: Write) -> PublishedTarget:
        name, rows = target.name.parts, self.copy.waiting.pop((promotion, target.key))
        if Session.fails == target.key:
            raise BackendError("no row today")
        old = self.copy.tables.get(name)
        if old is not None and promotion:
            self.copy.undo[promotion, target.key] = old
        self.copy.tables[name] = rows if write.replaces or old is None else [*old, *rows]
        self.put_record(name, write.record)
        count = len(self.copy.tables[name])
        version = str(self.version(target))
        return PublishedTarget(
            key=target.key, version=version, rows_after=count, created=old is None
        )

    def restore(self, promotion: str, target: Target, published: PublishedTarget) -> None:
        if published.created:
            self.copy.tables.pop(target.name.parts, None)
        else:
            self.copy.tables[target.name.parts] = self.copy.undo[promotion, target.key]

    def drop_kept(self, promotion: str, target: Target) -> None:
        for kept in (self.copy.waiting, self.copy.undo):
            kept.pop((promotion, target.key), None)

    def drop(self, owned: Owned) -> None:
        del self.copy.tables[owned.name.parts]


class Promoter:
    """One promotion, called hook by hook."""

    def __init__(self, shelf: Shelf, **context: Any) -> None:
        self.shelf = shelf
        self.context = make_context(Connection(name="store", type="toy"), **context)
        self.open: Callable[[ExecutionContext], rules.Transaction] = partial(Session, shelf)
        self.batch = Batch(promotion="p-1", generation=1, targets=())

    def write(self, of: Target, key: str) -> int:
        result = rules.materialize(self.context, of, snapshot(key), self.open)
        assert result.rows_after == len(self.shelf.tables[of.name.parts])
        return result.rows_written

    def stage(self, of: Target, key: str, promotion: str = "p-1", generation: int = 1) -> Staged:
        staged = rules.stage(self.context, of, snapshot(key), promotion, self.open)
        batch = self.batch
        if batch.promotion != promotion:
            batch = Batch(promotion=promotion, generation=generation, targets=())
        targets = (*batch.targets, attrs.evolve(of, staged=staged))
        self.batch = attrs.evolve(batch, targets=targets)
        return staged

    def prepare(self) -> bool:
        return rules.prepare_publish(self.context, self.batch, self.open)

    def publish(self) -> tuple[PublishedTarget, ...]:
        return rules.publish(self.context, self.batch, self.open).targets

    def revert(self, overwrite: bool = False) -> bool:
        return rules.revert(self.context, self.batch, overwrite, self.open)

    def discard(self) -> None:
        rules.discard(self.context, self.batch, self.open)

    def end(self) -> None:
        self.context.resources.close()


ONE, TWO = target(Mode.APPEND, "one"), target(Mode.FULL, "two")


class TestPromotions:
    @pytest.fixture(autouse=True)
    def everything_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(Session, "open", 0)
        monkeypatch.setattr(Session, "fails", "")
        yield
        assert Session.open == 0

    @pytest.fixture
    def shelf(self) -> Shelf:
        shelf = Shelf()
        assert Promoter(shelf).write(ONE, "k-0") == 1
        return shelf

    def staged(self, shelf: Shelf) -> Promoter:
        found = Promoter(shelf)
        found.stage(ONE, "k-1")
        found.stage(TWO, "k-1")
        return found

    def test_a_repeated_append_writes_and_stages_no_row(self, shelf: Shelf) -> None:
        assert Promoter(shelf).write(ONE, "k-0") == 0
        assert Promoter(shelf).stage(ONE, "k-0").rows == 0
        assert shelf.tables == {("sales", "one"): ["k-0"]}

    def test_a_batch_is_published_and_says_the_same_again(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        first = promoter.publish()
        assert [(one.key, one.rows_after, one.created) for one in first] == [
            ("one", 2, False),
            ("two", 1, True),
        ]
        assert shelf.tables == {("sales", "one"): ["k-0", "k-1"], ("sales", "two"): ["k-1"]}
        assert not shelf.waiting
        after = copy.deepcopy(shelf)
        assert promoter.publish() == first and promoter.prepare() is False
        assert shelf == after
        with promoter.open(promoter.context) as store:
            assert store.generation() == 1

    def test_what_is_prepared_is_one_commit_away(self, shelf: Shelf) -> None:
        promoter, before = self.staged(shelf), copy.deepcopy(shelf.tables)
        assert promoter.prepare() is True and promoter.prepare() is True
        assert (shelf.tables, Session.open) == (before, 1)
        promoter.publish()
        assert ("sales", "two") in shelf.tables

    @pytest.mark.parametrize("end", ["revert", "discard", "end"])
    def test_what_is_prepared_can_be_given_up(self, shelf: Shelf, end: str) -> None:
        promoter, before = self.staged(shelf), copy.deepcopy(shelf.tables)
        promoter.prepare()
        getattr(promoter, end)()
        assert (shelf.tables, Session.open) == (before, 0)

    @pytest.mark.parametrize("fault", ["commit", "two"])
    def test_a_publish_that_fails_changes_nothing(self, shelf: Shelf, fault: str) -> None:
        promoter, before = self.staged(shelf), copy.deepcopy(shelf)
        Session.fails = fault
        with pytest.raises(BackendError, match="today"):
            promoter.publish()
        assert (shelf, Session.open) == (before, 0)
        Session.fails = ""
        assert len(promoter.publish()) == 2

    def test_a_target_that_moved_is_refused(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        Promoter(shelf).write(ONE, "k-9")
        before = copy.deepcopy(shelf)
        with pytest.raises(StaleStage, match=r"sales\.one was changed"):
            promoter.prepare()
        assert shelf == before

    def test_the_second_of_two_promotions_is_refused(self, shelf: Shelf) -> None:
        first, second = self.staged(shelf), Promoter(shelf)
        second.stage(target(table="three"), "k-1", "p-2")
        first.publish()
        with pytest.raises(StaleStage, match="generation 1 is there, and 1 was to come"):
            second.publish()
        second.discard()

    def test_what_is_not_staged_cannot_be_published(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        promoter.discard()
        with pytest.raises(BackendError, match=r"nothing is staged for sales\.one"):
            promoter.publish()

    def test_a_revert_brings_everything_back(self, shelf: Shelf) -> None:
        before, promoter = copy.deepcopy(shelf), self.staged(shelf)
        promoter.publish()
        assert promoter.revert() is True and promoter.revert() is False
        with pytest.raises(StaleStage, match="promotion p-1 was undone"):
            promoter.publish()
        assert shelf.tables == before.tables
        promoter.discard()
        shelf.documents = {kind: found for kind, found in shelf.documents.items() if found}
        assert shelf == before

    def test_a_revert_stops_at_somebody_elses_write(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        promoter.publish()
        shelf.tables["sales", "two"].append("theirs")
        before = copy.deepcopy(shelf)
        with pytest.raises(StaleStage, match=r"sales\.two was changed .* published"):
            promoter.revert()
        assert shelf == before
        assert promoter.revert(overwrite=True) is True
        assert shelf.tables == {("sales", "one"): ["k-0"]}

    def test_a_discard_before_anything_was_staged_writes_nothing(self, shelf: Shelf) -> None:
        promoter, before = Promoter(shelf), copy.deepcopy(shelf)
        promoter.batch = Batch(promotion="p-1", generation=1, targets=(ONE, TWO))
        promoter.discard()
        assert shelf == before

    def test_the_ledger_tells_of_a_target(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        promoter.publish()
        with promoter.open(promoter.context) as store:
            there = store.state(ONE, {"id": "INT"}, "toy:one")
            absent = store.state(target(table="absent"), None, "toy:absent")
        assert there.exists and there.owner is not None and there.owner.content_key == "k-1"
        assert [(one.name, one.type) for one in there.columns] == [("id", "INT")]
        assert (there.version, there.generation) == (promoter.publish()[0].version, 1)
        assert (absent.exists, absent.owner, absent.version) == (False, None, None)
        assert (absent.identity, absent.generation) == ("toy:absent", 1)

    def test_what_was_made_is_listed_and_dropped(self, shelf: Shelf) -> None:
        promoter = self.staged(shelf)
        promoter.publish()
        promoter.discard()
        with promoter.open(promoter.context) as store:
            owned = store.owned(named, "/".join)
        assert [one.identity for one in owned] == ["sales/one", "sales/two"]
        other = make_context(promoter.context.connection, environment="dev")
        with promoter.open(other) as store:
            assert store.owned(named, "/".join) == ()
        with pytest.raises(WriteRefused, match="it stays"):
            rules.drop_target(other, owned[0], promoter.open)
        assert rules.drop_target(promoter.context, owned[0], promoter.open) is True
        assert shelf.documents["generation"]
        assert rules.drop_target(promoter.context, owned[1], promoter.open) is True
        assert rules.drop_target(promoter.context, owned[1], promoter.open) is False
        assert not any(shelf.documents.values()) and not shelf.tables

    def test_what_somebody_dropped_is_forgotten(self, shelf: Shelf) -> None:
        promoter = Promoter(shelf)
        with promoter.open(promoter.context) as store:
            [owned] = store.owned(named, "/".join)
        del shelf.tables["sales", "one"]
        with promoter.open(promoter.context) as store:
            assert store.owned(named, "/".join) == ()
        assert rules.drop_target(promoter.context, owned, promoter.open) is False
        assert not shelf.documents[OwnedKind.TABLE.value]

    def test_namespaces_come_last_and_inner_ones_first(self, shelf: Shelf) -> None:
        promoter = Promoter(shelf)
        record = Record(owner=OURS, made=True)
        with promoter.open(promoter.context) as store:
            for name in (("sales",), ("sales", "deep")):
                store.put_record(name, record, OwnedKind.NAMESPACE)
        shelf.tables.update({("sales",): [], ("sales", "deep"): []})
        with promoter.open(promoter.context) as store:
            found = store.owned(named, "/".join)
        assert [str(one.name) for one in found] == ["sales.one", "sales.deep", "sales"]
        assert [one.identity for one in found] == ["sales/one", "", ""]


class TestWaiting:
    def test_it_tries_until_it_succeeds(self) -> None:
        left = [BlockingIOError(), BlockingIOError()]

        def attempt() -> str:
            if left:
                raise left.pop()
            return "had"

        def is_busy(error: Exception) -> bool:
            return isinstance(error, BlockingIOError)

        assert rules.patiently(make_context(), attempt, is_busy, 5) == "had"

    @pytest.mark.parametrize(("busy", "tries"), [(True, 2), (False, 1)])
    def test_it_gives_up_with_the_last_failure(self, busy: bool, tries: int) -> None:
        tried: list[int] = []

        def attempt() -> None:
            tried.append(1)
            raise OSError(f"attempt {len(tried)}")

        with pytest.raises(OSError, match="attempt") as raised:
            rules.patiently(make_context(), attempt, lambda _: busy, 0.005)
        assert len(tried) >= tries and (busy or len(tried) == 1)
        assert str(raised.value) == f"attempt {len(tried)}"

    def test_a_stop_ends_it(self) -> None:
        context = make_context()

        def attempt() -> None:
            raise OSError

        threading.Timer(0.05, context.cancellation.request).start()
        with pytest.raises(Interrupted):
            rules.patiently(context, attempt, lambda _: True, 60)


class TestSources:
    SOURCE = Source(node="source.n", type="toy", parts=("crm", "rates"))

    def test_a_projection_keeps_its_order(self) -> None:
        chosen = attrs.evolve(self.SOURCE, columns=("c", "a"))
        assert rules.projection(chosen, ("a", "b", "c")) == ("c", "a")
        assert rules.projection(self.SOURCE, ["a", "b"]) == ("a", "b")

    def test_a_column_that_is_not_there_is_named(self) -> None:
        for source, words in (
            (self.SOURCE, r"crm\.rates of source\.n has no column 'x'"),
            (attrs.evolve(self.SOURCE, parts=(), query="SELECT 1"), "the query of source.n"),
        ):
            with pytest.raises(BackendError, match=words) as raised:
                rules.projection(attrs.evolve(source, columns=("a", "x")), ("a", "b"))
            assert "a, b" in raised.value.hint


def test_rows_come_in_plain_types_batch_by_batch() -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    rows = pa.record_batch(
        {
            "word": words,
            "flag": flags,
            "lists": pa.array([["a"], None, []], pa.list_(pa.string())).cast(
                pa.list_(pa.dictionary(pa.int32(), pa.string()))
            ),
            "struct": pa.StructArray.from_arrays([words], ["word"]),
            "n": pa.array([1, 2, 3]),
        }
    )
    given: list[int] = []

    def batches() -> Any:
        for number in range(2):
            given.append(number)
            yield rows

    reader = rules.plain(pa.RecordBatchReader.from_batches(rows.schema, batches()))
    assert {field.name: str(field.type) for field in reader.schema} == {
        "word": "string",
        "flag": "bool",
        "lists": "list<item: string>",
        "struct": "struct<word: string>",
        "n": "int64",
    }
    first = reader.read_next_batch()
    assert given == [0]
    assert first.to_pylist()[0] == {
        "word": "a",
        "flag": True,
        "lists": ["a"],
        "struct": {"word": "a"},
        "n": 1,
    }
    assert first["flag"].to_pylist() == [True, False, None]


def test_pyarrow_is_not_imported_before_it_is_needed(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = "import sys, seeknal_core.contract.rules; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
