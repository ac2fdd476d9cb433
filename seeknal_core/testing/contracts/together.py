"""Several targets by one call: the same as one by one."""

from __future__ import annotations

import pytest

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.types import Mode
from seeknal_core.testing.contracts.base import (
    FOREIGN,
    NEW,
    OLD,
    BackendTests,
    StagingTests,
    Trial,
    needs,
    with_rows,
)


class TogetherTests(BackendTests):
    """``materialize_targets``."""

    @needs("materialize_targets", "inspect_target")
    def test_targets_written_together_are_as_written_alone(self, trial: Trial) -> None:
        """`materialize_targets` writes each, in order, and says of each what was done."""
        bench = trial.bench
        there, absent = trial.write(OLD, "there"), bench.target("absent")
        results = bench.command().write_all((there, NEW), (absent, OLD))
        trial.expect(there, NEW)
        trial.expect(absent, OLD)
        told = [(r.rows_written, r.rows_after, r.created) for r in results]
        assert told == [(2, 2, False), (3, 3, True)]
        for target, result in zip((there, absent), results, strict=True):
            state = bench.command().inspect(target)
            assert state.version == result.version
            assert state.owner is not None and state.owner.project == "shop"

    @needs("materialize_targets")
    def test_rows_appended_together_are_appended_once(self, trial: Trial) -> None:
        """An append that is repeated adds nothing, however many targets go along."""
        target = trial.begin(Mode.APPEND, trial.bench.snapshot(OLD, "k-1"))
        if target is None:
            return
        other, more = trial.bench.target("other"), trial.bench.snapshot(NEW, "k-2")
        first = trial.bench.command().write_all((target, more), (other, OLD))
        again = trial.bench.command().write_all((target, more), (other, OLD))
        assert [first[0].rows_written, again[0].rows_written] == [2, 0]
        trial.expect(target, with_rows(OLD, NEW))

    @needs("materialize_targets", "inspect_target")
    def test_a_mistake_leaves_each_target_old_or_new(self, trial: Trial) -> None:
        """Where one target is refused, none is half, and somebody else's is untouched."""
        there, foreign = trial.write(OLD, "there"), trial.bench.target("foreign")
        trial.intrude(foreign)
        with pytest.raises(SeeknalError):
            trial.bench.command().write_all((there, NEW), (foreign, OLD))
        trial.expect(foreign, FOREIGN)
        assert trial.bench.count(there) in (2, 3)
        trial.expect(there, OLD if trial.bench.count(there) == 3 else NEW)
        # What the core does then.
        trial.bench.command().write(there, NEW)
        trial.expect(there, NEW)


class StagedTogetherTests(StagingTests):
    """``stage_targets`` and ``checksum_targets``."""

    @needs("stage_targets")
    def test_targets_staged_together_are_as_staged_alone(self, trial: Trial) -> None:
        """`stage_targets` stages each, unseen, upon the version that it has."""
        bench = trial.bench
        there, absent = trial.write(OLD, "there"), bench.target("absent")
        base = bench.inspect(there).version
        promotion = bench.promotion()
        staged = promotion.stage_all((there, NEW), (absent, OLD))
        found = [one.target.staged for one in staged]
        assert [(one.base, one.rows) for one in found if one] == [(base, 2), (None, 3)]
        assert [bench.command().count(one) for one in staged] == [2, 3]
        trial.expect(there, OLD)
        trial.expect(absent, None)
        promotion.publish()
        trial.expect(there, NEW)
        trial.expect(absent, OLD)
        promotion.revert()
        promotion.discard()
        trial.expect(there, OLD)
        trial.expect(absent, None)

    @needs("stage_targets")
    def test_what_is_refused_alone_is_refused_together(self, trial: Trial) -> None:
        """A table of somebody else's is refused before anything is published."""
        there, foreign = trial.write(OLD, "there"), trial.bench.target("foreign")
        trial.intrude(foreign)
        promotion = trial.bench.promotion()
        with pytest.raises(SeeknalError):
            promotion.stage_all((there, NEW), (foreign, OLD))
        promotion.discard()
        trial.expect(there, OLD)
        trial.expect(foreign, FOREIGN)

    @needs("checksum_targets", "stage")
    def test_targets_summed_up_together_are_as_summed_up_alone(self, trial: Trial) -> None:
        """`checksum_targets` returns what `checksum` does for each, in order."""
        there, absent = trial.write(OLD, "there"), trial.bench.target("absent")
        promotion = trial.bench.promotion()
        staged = [promotion.stage(there, NEW), promotion.stage(absent, OLD)]
        found = trial.bench.command().checksums(staged)
        assert found == [trial.bench.command().checksum(one) for one in staged]
        assert [one.rows for one in found] == [2, 3]
        promotion.discard()
