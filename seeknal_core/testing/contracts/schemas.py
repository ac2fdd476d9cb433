"""Columns that come and go."""

from __future__ import annotations

import pyarrow as pa
import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import refusals
from seeknal_core.contract.types import Mode, SchemaChange
from seeknal_core.testing.contracts.base import OLD, BackendTests, Trial, refused, with_rows

_WIDER = pa.table({"id": [4], "name": ["d"], "extra": [1.5]})


class SchemaTests(BackendTests):
    """What a write does when the snapshot's columns differ from the table's."""

    def test_a_new_column_is_added(self, trial: Trial) -> None:
        """`evolve`: a new column is added; in rows that stay it is NULL."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is not None:
            trial.bench.write(target, _WIDER)
            trial.expect(target, with_rows(OLD, _WIDER))

    def test_a_full_write_brings_its_new_columns(self, trial: Trial) -> None:
        """`evolve`: a replaced table has the snapshot's new columns."""
        target = trial.write(OLD)
        trial.bench.write(target, _WIDER)
        found = trial.read(target)
        assert found is not None and set(found.column_names) >= set(_WIDER.column_names)
        trial.expect(target, _WIDER)

    @pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND])
    def test_a_changed_schema_fails_where_it_must(self, trial: Trial, mode: Mode) -> None:
        """`on_schema_change: fail`: another column is refused, and nothing changes."""
        target = trial.begin(mode, OLD, on_schema_change=SchemaChange.FAIL)
        if target is not None:
            with refused(refusals.columns_differ(target.target.name, [""])):
                trial.bench.write(target, _WIDER)
            trial.expect(target, OLD)

    def test_an_append_that_lacks_a_column_is_refused(self, trial: Trial) -> None:
        """`append`: a schema that shrinks is refused, and nothing changes."""
        target = trial.begin(Mode.APPEND, OLD)
        if target is not None:
            with pytest.raises(WriteRefused):
                trial.bench.write(target, {"id": [9]})
            trial.expect(target, OLD)

    def test_a_column_that_left_holds_nothing_old(self, trial: Trial) -> None:
        """`evolve`, `full`: a column that left the node is NULL everywhere, or gone."""
        target = trial.write(OLD)
        trial.bench.write(target, OLD.select(["id"]))
        found = trial.read(target)
        assert found is not None and found["id"].to_pylist()
        if "name" in found.column_names:
            assert found["name"].null_count == found.num_rows, "an old value is still there"

    def test_sync_drops_a_column_that_left(self, trial: Trial) -> None:
        """`on_schema_change: sync`: a column of ours that left the node is dropped."""
        target = trial.begin(Mode.FULL, OLD, on_schema_change=SchemaChange.SYNC)
        if target is not None:
            trial.bench.write(target, OLD.select(["id"]))
            found = trial.read(target)
            assert found is not None and found.column_names == ["id"]

    def test_a_type_changes_in_full(self, trial: Trial) -> None:
        """`full`: a type that cannot be widened is changed, or refused with nothing changed."""
        target = trial.write(OLD)
        changed = pa.table({"id": ["one", "two"], "name": ["a", None]})
        try:
            trial.bench.write(target, changed)
        except WriteRefused:
            trial.expect(target, OLD)
        else:
            trial.expect(target, changed)
