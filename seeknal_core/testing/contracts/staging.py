"""Staging: the rows are in the store, and nobody sees them."""

from __future__ import annotations

import json

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Mode, SchemaChange
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.testing.contracts.base import FOREIGN, NEW, OLD, StagingTests, Trial, needs
from seeknal_core.testing.plugin import REFUSED
from seeknal_core.testing.values import awkward

#: Columns of which a checksum must not change on the way through a store.
_SUMMED = ("int64", "float64", "decimal(38,9)", "text", "bytes", "date", "timestamp", "moment")


class StageTests(StagingTests):
    """``stage``, and what the other hooks return for what is staged."""

    def test_what_is_staged_is_invisible(self, trial: Trial) -> None:
        """A reader sees the old rows, or no table, until the publish."""
        there, absent = trial.write(OLD), trial.bench.target("absent")
        promotion = trial.bench.promotion()
        promotion.stage(there, NEW)
        promotion.stage(absent, NEW)
        trial.expect(there, OLD)
        trial.expect(absent, None)
        assert trial.bench.count(there) == 3
        assert not trial.bench.inspect(absent).exists

    def test_staged_rows_are_counted_in_the_store(self, trial: Trial) -> None:
        """`count_rows` of what is staged asks the store, whatever the journal says."""
        promotion = trial.bench.promotion()
        staged = promotion.stage(trial.bench.target(), NEW)
        assert staged.target.staged is not None and staged.target.staged.rows == 2
        lying = attrs.evolve(staged.target.staged, rows=999)
        other = attrs.evolve(staged, target=attrs.evolve(staged.target, staged=lying))
        assert trial.bench.count(staged) == 2
        assert trial.bench.command().count(other) == 2

    def test_staged_columns_are_told(self, trial: Trial) -> None:
        """`inspect_target` of what is staged: it exists, and has the snapshot's columns."""
        target = trial.write(OLD)
        staged = trial.bench.promotion().stage(target, {"id": [1], "other": [2]})
        state = trial.bench.command().inspect(staged)
        assert state.exists
        assert {column.name for column in state.columns} == {"id", "other"}

    @needs("checksum")
    @pytest.mark.parametrize("kind", _SUMMED)
    def test_the_checksum_of_staged_rows_is_that_of_the_snapshot(
        self, trial: Trial, kind: str
    ) -> None:
        """`checksum` of what is staged is the snapshot's, for all plain types that it takes."""
        rows = pa.table({"id": [1, 2], "awkward": awkward()[kind].slice(0, 2)})
        promotion = trial.bench.promotion()
        try:
            staged = promotion.stage(trial.bench.target(), rows)
        except WriteRefused as error:
            assert "awkward" in str(error)
            trial.record(REFUSED, str(error))
            return
        assert trial.bench.command().checksum(staged) == checksum_of(rows.to_reader())

    def test_what_stage_returns_goes_through_json(
        self, trial: Trial, secrets: tuple[str, ...]
    ) -> None:
        """A staged write is plain data without a secret: a journal keeps it in a file."""
        bench, target = trial.bench, trial.write(OLD)
        staged = bench.dispatcher.stage(bench.context, target, bench.snapshot(NEW), "p-1")
        text = json.dumps(staged.data)
        assert json.loads(text) == staged.data
        assert not any(secret in text for secret in secrets)
        assert (staged.promotion, staged.rows) == ("p-1", 2)
        assert staged.base == bench.inspect(target).version

    def test_staging_again_starts_afresh(self, trial: Trial) -> None:
        """Called again, `stage` leaves one staged write, the last one."""
        target, before = trial.write(OLD), trial.outsider.objects()
        promotion = trial.bench.promotion()
        promotion.stage(target, OLD)
        again = trial.bench.command().promotion()
        assert trial.bench.count(again.stage(target, NEW)) == 2
        again.publish()
        trial.expect(target, NEW)
        again.revert()
        again.discard()
        assert trial.outsider.objects() == before

    @pytest.mark.parametrize(
        "fault",
        ["foreign table", "duplicate key", "key of a row there", "changed schema", "no columns"],
    )
    def test_what_a_write_refuses_is_refused_when_it_is_staged(
        self, trial: Trial, fault: str
    ) -> None:
        """All that can be refused is refused by `stage`, and leaves nothing behind."""
        target: ResolvedTarget | None = trial.bench.target()
        assert target is not None
        rows = NEW
        if fault == "foreign table":
            trial.intrude(target)
        elif fault in ("duplicate key", "key of a row there"):
            target = trial.begin(Mode.UPSERT_BY_KEY, OLD, keys=("id",))
            id = 7 if fault == "duplicate key" else 1
            rows = pa.table({"id": [id, id], "name": ["a", "y"]})
        elif fault == "changed schema":
            target = trial.begin(Mode.FULL, OLD, on_schema_change=SchemaChange.FAIL)
            rows = pa.table({"id": [7], "other": [1]})
        else:
            trial.bench.write(target, OLD)
            rows = pa.table({})
        if target is None:
            return
        before, promotion = trial.outsider.objects(), trial.bench.promotion()
        with pytest.raises(WriteRefused):
            promotion.stage(target, rows)
        promotion.discard()
        assert trial.outsider.objects() == before
        trial.expect(target, FOREIGN if fault == "foreign table" else OLD)

    def test_no_rows_can_be_promoted(self, trial: Trial) -> None:
        """Zero rows are staged, counted and published as any others."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        assert trial.bench.count(promotion.stage(target, NEW.slice(0, 0))) == 0
        promotion.publish()
        trial.expect(target, NEW.slice(0, 0))
