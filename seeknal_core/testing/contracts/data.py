"""Data: comes back exactly, or is refused by the name of its column, before any write."""

from __future__ import annotations

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.testing.contracts.base import OLD, BackendTests, Rows, Trial, needs, refused
from seeknal_core.testing.plugin import REFUSED
from seeknal_core.testing.values import awkward

_COLUMNS = (
    "Upper", "with space", "select", "é😀", 'quo"te', "per%cent", "{brace}", "a.b", "$1", "n" * 63,
)  # fmt: skip


class ValueTests(BackendTests):
    """What ``materialize`` does to values, types and the names of columns."""

    @pytest.mark.parametrize("kind", awkward())
    def test_values_come_back_exactly_or_are_refused(self, trial: Trial, kind: str) -> None:
        """Every value is read as it was, NULL as NULL; or its column is refused by name."""
        column = awkward()[kind]
        numbers = pa.array(range(len(column)))
        _written_or_refused(trial, pa.table({"id": numbers, "awkward": column}), "awkward")

    @pytest.mark.parametrize("name", _COLUMNS)
    def test_an_odd_column_name_is_kept_or_refused(self, trial: Trial, name: str) -> None:
        """A column keeps its name, whatever is in it; or is refused by it."""
        _written_or_refused(trial, pa.table({"id": [1], name: ["x"]}), name)

    def test_long_column_names_are_kept_apart_or_refused(self, trial: Trial) -> None:
        """Two names that differ past a store's limit are two columns, or refused."""
        first, second = "n" * 70 + "a", "n" * 70 + "b"
        _written_or_refused(trial, pa.table({first: [1], second: [2]}), "n" * 50)


class ShapeTests(BackendTests):
    """What ``materialize`` does to tables that are empty, wide, or in several files."""

    def test_no_rows_make_a_table_with_columns(self, trial: Trial) -> None:
        """Zero rows are a table that holds none."""
        target = trial.write(OLD.slice(0, 0))
        trial.expect(target, OLD.slice(0, 0))
        assert trial.bench.count(target) == 0

    def test_no_columns_are_refused(self, trial: Trial) -> None:
        """A snapshot without columns is refused before anything is written."""
        before = trial.outsider.objects()
        with refused(refusals.no_columns(trial.bench.target().target.name)):
            trial.write(pa.table({}))
        assert trial.outsider.objects() == before

    def test_a_thousand_columns_arrive_or_are_refused(self, trial: Trial) -> None:
        """A wide table is written wholly, or refused."""
        wide = pa.table({f"column_{number}": [number, None] for number in range(1_000)})
        _written_or_refused(trial, wide, "")

    def test_all_files_of_a_snapshot_arrive(self, trial: Trial) -> None:
        """A snapshot of several files and row groups is written wholly."""
        rows = pa.table({"id": range(1_000), "name": [f"n{n}" for n in range(1_000)]})
        target = trial.write(trial.bench.snapshot(rows, files=3))
        trial.expect(target, rows)

    @needs("checksum")
    def test_a_checksum_is_that_of_the_rows_in_the_store(self, trial: Trial) -> None:
        """`checksum` sums up what is there, also what others wrote."""
        from seeknal_core.contract.checksums import checksum_of

        target = trial.write(OLD)
        assert trial.bench.checksum(target) == checksum_of(OLD.to_reader())
        trial.intrude(target)
        found = trial.read(target)
        assert found is not None
        assert trial.bench.checksum(target) == checksum_of(found.to_reader())


def _written_or_refused(trial: Trial, rows: pa.Table, column: str) -> None:
    """Write rows; assert that they arrive exactly, or that `column` is refused before a write."""
    before = trial.outsider.objects()
    target = trial.bench.target()
    try:
        trial.bench.write(target, rows)
    except WriteRefused as error:
        assert column in str(error), f"the message does not name the column: {error}"
        trial.expect(target, None)
        assert trial.outsider.objects() == before, "it was refused after something was written"
        trial.record(REFUSED, str(error))
        _still_usable(trial, OLD)
        return
    trial.expect(target, rows)


def _still_usable(trial: Trial, rows: Rows) -> None:
    """Assert that a refused write did not spoil the command's connection."""
    target = trial.write(rows, "after_refusal")
    assert trial.bench.count(target) == OLD.num_rows
