"""The four modes, each by its rule, each repeatable."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Mode
from seeknal_core.testing.contracts.base import NEW, OLD, BackendTests, Trial, refused, with_rows


def days(*times: str) -> pa.Table:
    """Return one row per time, numbered."""
    stamps = [dt.datetime.fromisoformat(time) for time in times]
    return pa.table({"t": pa.array(stamps, pa.timestamp("us")), "n": range(len(times))})


class ModeTests(BackendTests):
    """``materialize`` by mode. A mode may be refused, before anything is written."""

    def test_a_full_write_replaces_all_rows(self, trial: Trial) -> None:
        """`full`: the table equals the snapshot, and the result tells its numbers."""
        target = trial.bench.target()
        first = trial.bench.write(target, OLD)
        second = trial.bench.write(target, NEW)
        trial.expect(target, NEW)
        assert (first.rows_written, first.rows_after, first.created) == (3, 3, True)
        assert (second.rows_written, second.rows_after, second.created) == (2, 2, False)

    def test_a_repeated_full_write_changes_no_row(self, trial: Trial) -> None:
        """`full`: the same snapshot again leaves the same rows."""
        target, snapshot = trial.bench.target(), trial.bench.snapshot(OLD)
        trial.bench.write(target, snapshot)
        again = trial.bench.command().write(target, snapshot)
        trial.expect(target, OLD)
        assert (again.rows_after, again.created) == (3, False)

    def test_an_append_adds_its_rows(self, trial: Trial) -> None:
        """`append`: old rows stay, new rows come, and the result tells both numbers."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is not None:
            result = trial.bench.write(target, NEW)
            trial.expect(target, with_rows(OLD, NEW))
            assert (result.rows_written, result.rows_after, result.created) == (2, 5, False)

    def test_an_append_adds_the_rows_of_one_content_key_once(self, trial: Trial) -> None:
        """`append`: a repeat adds nothing, also later, and by another command."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is not None:
            trial.bench.write(target, NEW)
            for rows in (OLD, NEW):
                again = trial.bench.command(run_id="run-2").write(target, rows)
                assert (again.rows_written, again.rows_after) == (0, 5)
            trial.expect(target, with_rows(OLD, NEW))

    def test_equal_rows_under_two_content_keys_are_appended_twice(self, trial: Trial) -> None:
        """`append`: the content key decides, not the rows."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is not None:
            trial.bench.write(target, OLD, content_key="another")
            trial.expect(target, with_rows(OLD, OLD))

    def test_an_upsert_updates_and_inserts(self, trial: Trial) -> None:
        """`upsert_by_key`: rows of known keys are updated, others inserted, the rest stays."""
        target = trial.begin(Mode.UPSERT_BY_KEY, OLD, keys=("id",))
        if target is not None:
            result = trial.bench.write(target, NEW)
            trial.expect(target, with_rows(OLD.slice(0, 2), NEW))
            assert result.rows_after == 4
            trial.bench.command().write(target, NEW)
            trial.expect(target, with_rows(OLD.slice(0, 2), NEW))

    def test_a_key_of_several_columns_is_one_key(self, trial: Trial) -> None:
        """`upsert_by_key`: rows match where all columns of the key do."""
        first = pa.table({"a": [1, 1, 2], "b": ["x", "y", "x"], "v": [1, 2, 3]})
        second = pa.table({"a": [1, 2], "b": ["y", "y"], "v": [20, 40]})
        target = trial.begin(Mode.UPSERT_BY_KEY, first, keys=("a", "b"))
        if target is not None:
            trial.bench.write(target, second)
            kept = pa.table({"a": [1, 2], "b": ["x", "x"], "v": [1, 3]})
            trial.expect(target, with_rows(kept, second))

    @pytest.mark.parametrize("fault", ["duplicate", "duplicate of a row that is there", "NULL"])
    def test_a_faulty_key_is_refused(self, trial: Trial, fault: str) -> None:
        """`upsert_by_key`: duplicate or NULL keys are refused, and nothing changes."""
        target = trial.begin(Mode.UPSERT_BY_KEY, OLD, keys=("id",))
        if target is not None:
            # A row that equals the table's changes nothing; its key is duplicated all the same.
            ids = {"duplicate": [7, 7], "NULL": [7, None]}.get(fault, [1, 1])
            words = refusals.null_keys if fault == "NULL" else refusals.duplicated_keys
            with refused(words(target.target.name, 1, ["id"])):
                trial.bench.write(target, {"id": pa.array(ids, pa.int64()), "name": ["a", "y"]})
            trial.expect(target, OLD)

    def test_an_increment_replaces_its_days(self, trial: Trial) -> None:
        """`incremental_by_time`: the days that rows arrive of are replaced, and no others."""
        old = days(
            "2024-01-01T10:00", "2024-01-02T00:00", "2024-01-03T12:00", "2024-01-03T23:59:59.999999",
            "2024-01-04T00:00",
        )  # fmt: skip
        target = trial.begin(Mode.INCREMENTAL_BY_TIME, old, time="t")
        if target is not None:
            new = days("2024-01-02T08:00", "2024-01-03T12:00", "2024-01-03T00:00")
            trial.bench.write(target, new)
            kept = with_rows(old.slice(0, 1), old.slice(4, 1))
            trial.expect(target, with_rows(kept, new))
            trial.bench.command().write(target, new)
            trial.expect(target, with_rows(kept, new))

    def test_an_increment_deletes_no_day_that_it_does_not_have(self, trial: Trial) -> None:
        """`incremental_by_time`: a late row leaves the days between alone, and a note says so."""
        old = days("2024-01-01T10:00", "2024-01-02T00:00", "2024-01-03T12:00")
        fields = {"time": "t", "lookback": dt.timedelta(days=2)}
        target = trial.begin(Mode.INCREMENTAL_BY_TIME, old, **fields)
        if target is not None:
            new = days("2024-01-01T11:00", "2024-01-03T09:00", "2024-01-04T01:00")
            result = trial.bench.write(target, new)
            trial.expect(target, with_rows(old.slice(1, 1), new))
            assert any("2024-01-02" in note for note in result.notes), result.notes
            trial.bench.write(target, days("2024-01-06T01:00"))
            trial.expect(target, with_rows(old.slice(1, 1), new, days("2024-01-06T01:00")))

    def test_an_increment_that_would_lose_rows_of_a_day_is_refused(self, trial: Trial) -> None:
        """`incremental_by_time`: a day that arrives with fewer rows is refused by its name."""
        old = days("2024-01-01T10:00", "2024-01-02T03:00", "2024-01-02T04:00")
        target = trial.begin(Mode.INCREMENTAL_BY_TIME, old, time="t")
        if target is not None:
            with pytest.raises(WriteRefused, match="2024-01-02"):
                trial.bench.write(target, days("2024-01-02T05:00", "2024-01-03T05:00"))
            trial.expect(target, old)

    def test_an_increment_replaces_what_its_node_covers(self, trial: Trial) -> None:
        """`incremental_by_time` with `covers`: the whole interval, and nothing but it."""
        old = days("2024-01-01T23:59", "2024-01-02T00:00", "2024-01-02T01:00", "2024-01-04T00:00")
        target = trial.begin(Mode.INCREMENTAL_BY_TIME, old, time="t")
        if target is not None:
            covering = trial.bench.target(
                mode=Mode.INCREMENTAL_BY_TIME, time="t", covers=("2024-01-02", "2024-01-04")
            )
            kept = with_rows(old.slice(0, 1), old.slice(3, 1))
            new = days("2024-01-03T23:59:59.999999")
            trial.bench.write(covering, new)
            trial.expect(target, with_rows(kept, new))
            trial.bench.write(covering, new.slice(0, 0))
            trial.expect(target, kept)
            with pytest.raises(WriteRefused):
                trial.bench.write(covering, days("2024-01-03T01:00", "2024-01-04T00:00"))
            trial.expect(target, kept)

    def test_an_overwrite_replaces_its_partitions(self, trial: Trial) -> None:
        """`insert_overwrite`: partitions with new rows are replaced, NULL's too, others stay."""
        old = pa.table({"place": ["a", "a", "b", None], "n": [1, 2, 3, 4]})
        target = trial.begin(Mode.INSERT_OVERWRITE, old, partition_by=("place",))
        if target is not None:
            new = pa.table({"place": ["a", "c", None], "n": [10, 11, 12]})
            trial.bench.write(target, new)
            trial.expect(target, with_rows(old.slice(2, 1), new))
            trial.bench.command().write(target, new)
            trial.expect(target, with_rows(old.slice(2, 1), new))

    def test_an_increment_without_time_is_refused(self, trial: Trial) -> None:
        """`incremental_by_time`: a NULL time is refused, and nothing changes."""
        old = days("2024-01-01T10:00")
        target = trial.begin(Mode.INCREMENTAL_BY_TIME, old, time="t")
        if target is not None:
            with refused(refusals.null_times(target.target.name, 1, "t")):
                trial.bench.write(target, with_rows(days("2024-01-02T10:00"), pa.table({"n": [9]})))
            trial.expect(target, old)

    @pytest.mark.parametrize("mode", [Mode.APPEND, Mode.UPSERT_BY_KEY, Mode.INCREMENTAL_BY_TIME])
    def test_a_full_refresh_replaces_all_rows(self, trial: Trial, mode: Mode) -> None:
        """With `--full-refresh` every mode leaves the snapshot's rows, and those alone."""
        old, new = days("2024-01-01", "2024-01-02", "2024-01-05"), days("2024-01-03", "2024-01-04")
        target = trial.begin(mode, old, keys=("n",), time="t")
        if target is not None:
            result = trial.bench.command(full_refresh=True).write(target, new)
            trial.expect(target, new)
            assert result.rows_after == 2
