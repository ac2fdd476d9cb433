"""Publishing: all of a batch at once, once, and over nobody else's rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import BackendError, StaleStage
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Mode
from seeknal_core.testing.contracts.base import (
    FOREIGN,
    NEW,
    OLD,
    StagingTests,
    Trial,
    needs,
    refused,
    with_rows,
)
from seeknal_core.testing.contracts.concurrency import Polling, at_once, version
from seeknal_core.testing.contracts.modes import days
from seeknal_core.testing.values import awkward

_MODES: dict[str, tuple[Mode, dict[str, Any], pa.Table, pa.Table, list[int]]] = {
    # Of each mode: its fields, the rows before, the snapshot, and which old rows stay.
    "append": (Mode.APPEND, {}, OLD, NEW, [0, 1, 2]),
    "upsert_by_key": (Mode.UPSERT_BY_KEY, {"keys": ("id",)}, OLD, NEW, [0, 1]),
    "insert_overwrite": (
        Mode.INSERT_OVERWRITE,
        {"partition_by": ("name",)},
        OLD,
        pa.table({"id": [7, 8], "name": ["b", None]}),
        [0],
    ),
    "incremental_by_time": (
        Mode.INCREMENTAL_BY_TIME,
        {"time": "t"},
        days("2024-01-01T10:00", "2024-01-02T03:00", "2024-01-03T12:01", "2024-01-04T00:00"),
        days("2024-01-02T08:00", "2024-01-03T12:00"),
        [0, 3],
    ),
}

#: Rows that no store hands over in one piece.
_MANY = 200_000
#: Seconds after which a publish must have given up waiting for a lock.
PATIENCE = 30


class PublishTests(StagingTests):
    """``publish`` and ``prepare_publish``."""

    def test_a_publish_makes_all_targets_visible(self, trial: Trial) -> None:
        """After a publish each target holds its rows, and the result says so, in order."""
        there, absent = trial.write(OLD), trial.bench.target("absent")
        promotion = trial.bench.promotion()
        promotion.stage(there, NEW)
        promotion.stage(absent, OLD)
        published = promotion.publish()
        trial.expect(there, NEW)
        trial.expect(absent, OLD)
        assert [one.key for one in published.targets] == [there.target.key, absent.target.key]
        assert [one.rows_after for one in published.targets] == [2, 3]
        assert [one.created for one in published.targets] == [False, True]
        versions = [trial.bench.inspect(target).version for target in (there, absent)]
        assert [one.version for one in published.targets] == versions

    def test_the_ledger_knows_of_a_publish(self, trial: Trial) -> None:
        """After a publish the owner is who published, and the generation has grown by one."""
        target = trial.write(OLD)
        generation = trial.bench.inspect(target).generation
        command = trial.bench.command(state_id="state-2")
        promotion = command.promotion()
        promotion.stage(target, NEW, content_key="k-2")
        promotion.publish()
        state = trial.bench.inspect(target)
        assert state.generation == generation + 1
        assert state.owner is not None
        assert (state.owner.content_key, state.owner.state_id) == ("k-2", "state-2")

    def test_a_repeated_publish_gives_the_same_result(self, trial: Trial) -> None:
        """Called again, by another command, `publish` changes nothing and says the same."""
        there, absent = trial.write(OLD), trial.bench.target("absent")
        promotion = trial.bench.promotion()
        promotion.stage(there, NEW)
        promotion.stage(absent, OLD)
        first = promotion.publish()
        again = promotion.by(trial.bench.command()).publish()
        assert again.targets == first.targets
        trial.expect(there, NEW)
        trial.expect(absent, OLD)
        assert trial.bench.inspect(there).version == first.targets[0].version

    @pytest.mark.parametrize("mode", _MODES)
    def test_a_promotion_goes_by_the_mode(self, trial: Trial, mode: str) -> None:
        """Old rows stay in a promotion as they stay in a write; what was staged is counted."""
        kind, fields, old, new, stay = _MODES[mode]
        target = trial.begin(kind, old, **fields)
        if target is None:
            return
        promotion = trial.bench.promotion()
        assert trial.bench.count(promotion.stage(target, new)) == new.num_rows
        [published] = promotion.publish().targets
        trial.expect(target, with_rows(old.take(stay), new))
        assert published.rows_after == len(stay) + new.num_rows

    def test_a_promotion_appends_the_rows_of_one_content_key_once(self, trial: Trial) -> None:
        """Rows that the ledger has appended already are staged as none."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is None:
            return
        promotion = trial.bench.promotion()
        staged = promotion.stage(target, OLD)
        assert staged.target.staged is not None and staged.target.staged.rows == 0
        promotion.publish()
        trial.expect(target, OLD)
        promotion.discard()
        later = trial.bench.promotion("p-2")
        later.stage(target, NEW)
        later.publish()
        trial.bench.write(target, NEW)
        trial.expect(target, with_rows(OLD, NEW))

    @pytest.mark.parametrize("mode", _MODES)
    def test_a_full_refresh_promotes_a_replacement(self, trial: Trial, mode: str) -> None:
        """With `--full-refresh` every mode stages the whole table."""
        kind, fields, old, new, _ = _MODES[mode]
        target = trial.begin(kind, old, **fields)
        if target is not None:
            promotion = trial.bench.command(full_refresh=True).promotion()
            promotion.stage(target, new)
            promotion.publish()
            trial.expect(target, new)

    def test_a_promotion_changes_columns(self, trial: Trial) -> None:
        """A promoted table has the snapshot's new columns, and no reader sees them before."""
        target, wider = trial.write(OLD), pa.table({"id": [1], "name": ["x"], "extra": [2]})
        promotion = trial.bench.promotion()
        promotion.stage(target, wider)
        trial.expect(target, OLD)
        promotion.publish()
        trial.expect(target, wider)

    def test_a_publish_over_a_foreign_write_is_refused(self, trial: Trial) -> None:
        """Somebody wrote a target since it was staged: StaleStage, and nothing is published."""
        first, second = trial.write(OLD), trial.write(OLD, "second")
        promotion = trial.bench.promotion()
        promotion.stage(first, NEW)
        base = trial.bench.inspect(second).version
        promotion.stage(second, NEW)
        trial.intrude(second)
        now = trial.bench.inspect(second).version
        with refused(refusals.moved(second.target.name, "staged", base, now)):
            promotion.publish()
        trial.expect(second, with_rows(OLD, FOREIGN))
        trial.expect(first, OLD)
        promotion.revert()
        promotion.discard()
        trial.expect(first, OLD)

    def test_a_publish_over_a_table_that_came_up_is_refused(self, trial: Trial) -> None:
        """Somebody made a target since it was staged as absent: StaleStage."""
        target, promotion = trial.bench.target(), trial.bench.promotion()
        promotion.stage(target, NEW)
        trial.intrude(target)
        with pytest.raises(StaleStage):
            promotion.publish()
        trial.expect(target, FOREIGN)

    def test_the_second_of_two_promotions_is_refused(self, trial: Trial) -> None:
        """Staged before another promotion published: StaleStage, whichever process asks."""
        target = trial.write(OLD)
        first, second = (trial.bench.command().promotion(name) for name in ("p-1", "p-2"))
        first.stage(target, NEW)
        second.stage(target, OLD, content_key="other")
        first.publish()
        first.discard()
        with pytest.raises(StaleStage):
            second.publish()
        second.revert()
        second.discard()
        trial.expect(target, NEW)

    def test_of_two_promotions_at_once_one_is_published(self, trial: Trial) -> None:
        """Two processes publish at the same time: one wins, the other is told."""
        target = trial.write(version(0))
        promotions = [trial.bench.command().promotion(f"p-{n}") for n in (1, 2)]
        for number, promotion in enumerate(promotions, 1):
            promotion.stage(target, version(number))
        calls: list[Callable[[], object]] = [promotion.publish for promotion in promotions]
        with Polling(trial, target) as reader:
            failed = at_once(calls)
        assert len(failed) == 1, f"{2 - len(failed)} of 2 promotions were published"
        assert isinstance(failed[0], BackendError)
        assert reader.seen <= {0, 1, 2} and len(reader.seen - {0}) <= 1, reader.seen

    def test_a_reader_sees_a_publish_whole_or_not(self, trial: Trial) -> None:
        """While a batch is published, a reader sees the old rows or the new ones."""
        target = trial.write(version(0))
        with Polling(trial, target) as reader:
            for number in range(1, 4):
                promotion = trial.bench.command().promotion(f"p-{number}")
                promotion.stage(target, version(number))
                promotion.publish()
                promotion.discard()
        assert reader.seen <= set(range(4)), reader.seen

    @needs("read_source")
    def test_an_open_reader_is_not_waited_for_for_ever(self, trial: Trial) -> None:
        """Beside a half-read source a publish goes through, or says in time that it cannot."""
        old = pa.table({"id": range(_MANY), "name": ["n"] * _MANY})
        target, promotion = trial.write(old), trial.bench.promotion()
        promotion.stage(target, NEW)
        reading = trial.bench.command()
        source = reading.source(target)
        with reading.dispatcher.read_source(reading.context, source) as stream:
            rows = stream.open()
            count = rows.read_next_batch().num_rows
            began = time.monotonic()
            with contextlib.suppress(BackendError):
                promotion.publish()
            assert time.monotonic() - began < PATIENCE, "it waits for the reader"
            count += sum(batch.num_rows for batch in rows)
        assert count == _MANY
        reading.close()
        promotion.by(trial.bench.command()).publish()
        trial.expect(target, NEW)

    @needs("prepare_publish")
    def test_what_is_prepared_is_invisible_until_the_publish(self, trial: Trial) -> None:
        """`prepare_publish` leaves one commit to do, and says whether there is something."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        promotion.stage(target, NEW)
        assert promotion.prepare() is True
        trial.expect(target, OLD)
        promotion.publish()
        trial.expect(target, NEW)
        assert promotion.by(trial.bench.command()).prepare() is False

    @needs("prepare_publish")
    @pytest.mark.parametrize("end", ["revert", "the command's end"])
    def test_what_is_prepared_can_be_given_up(self, trial: Trial, end: str) -> None:
        """A prepared batch is rolled back by `revert` and by the end of the command."""
        target, command = trial.write(OLD), trial.bench.command()
        before, promotion = trial.bench.inspect(target), command.promotion()
        promotion.stage(target, NEW)
        promotion.prepare()
        if end == "revert":
            promotion.revert()
        else:
            command.close()
        trial.expect(target, OLD)
        assert trial.bench.command().inspect(target) == before
        later = promotion.by(trial.bench.command())
        later.discard()
        trial.bench.write(target, NEW)
        trial.expect(target, NEW)

    @needs("prepare_publish")
    def test_preparing_over_a_foreign_write_is_refused(self, trial: Trial) -> None:
        """`prepare_publish` itself notices that a target moved, and changes nothing."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        promotion.stage(target, NEW)
        trial.intrude(target)
        with pytest.raises(StaleStage):
            promotion.prepare()
        promotion.revert()
        trial.expect(target, with_rows(OLD, FOREIGN))

    def test_a_batch_of_one_connection_says_what_is_missing(self, trial: Trial) -> None:
        """A batch that was discarded cannot be published: an error, and nothing changes."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        promotion.stage(target, NEW)
        promotion.discard()
        later = promotion.by(trial.bench.command())
        with pytest.raises(BackendError):
            later.publish()
        later.revert()
        trial.expect(target, OLD)
        assert attrs.asdict(trial.bench.inspect(target))["exists"]


class PublishedValueTests(StagingTests):
    """What a promotion does to values."""

    @pytest.mark.parametrize("kind", awkward())
    def test_published_values_are_those_that_were_staged(self, trial: Trial, kind: str) -> None:
        """Values come through a promotion exactly, or are refused when they are staged."""
        column = awkward()[kind]
        rows = pa.table({"id": pa.array(range(len(column))), "awkward": column})
        target, promotion = trial.bench.target(), trial.bench.promotion()
        try:
            promotion.stage(target, rows)
        except BackendError as error:
            assert "awkward" in str(error)
            return
        promotion.publish()
        trial.expect(target, rows)
