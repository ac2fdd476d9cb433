"""Undoing and throwing away: as it was before, with nothing left over."""

from __future__ import annotations

import pyarrow as pa

from seeknal_core.contract.rules import refusals
from seeknal_core.testing.bench import Promotion
from seeknal_core.testing.contracts.base import (
    FOREIGN,
    NEW,
    OLD,
    StagingTests,
    Trial,
    refused,
    with_rows,
)


class RevertTests(StagingTests):
    """``revert``."""

    def test_a_revert_brings_back_rows_and_columns(self, trial: Trial) -> None:
        """After a revert a table has its old rows and its old columns."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        columns = trial.bench.inspect(target).columns
        promotion.stage(target, {"id": [1], "other": ["x"]})
        promotion.publish()
        assert promotion.by(trial.bench.command()).revert() is True
        trial.expect(target, OLD)
        assert trial.bench.inspect(target).columns == columns

    def test_a_revert_brings_back_absence(self, trial: Trial) -> None:
        """After a revert a table that the publish made is gone, with all that came with it."""
        trial.write(OLD)
        before = trial.outsider.objects()
        target = trial.bench.target("absent", namespace="another")
        promotion = trial.bench.promotion()
        promotion.stage(target, NEW)
        promotion.publish()
        assert promotion.revert() is True
        trial.expect(target, None)
        assert not trial.bench.inspect(target).exists
        promotion.discard()
        assert trial.outsider.objects() == before

    def test_a_revert_brings_back_the_ledger(self, trial: Trial) -> None:
        """After a revert the owner and the generation are those before, absence included."""
        there, absent = trial.write(OLD), trial.bench.target("absent")
        before = [trial.bench.inspect(target) for target in (there, absent)]
        promotion = trial.bench.command(run_id="run-2").promotion()
        promotion.stage(there, NEW, content_key="k-2")
        promotion.stage(absent, NEW)
        promotion.publish()
        promotion.revert()
        after = [trial.bench.inspect(target) for target in (there, absent)]
        assert [one.owner for one in after] == [one.owner for one in before]
        assert [one.generation for one in after] == [one.generation for one in before]
        promotion.discard()
        trial.bench.write(there, NEW)
        trial.expect(there, NEW)

    def test_a_repeated_revert_undoes_nothing_more(self, trial: Trial) -> None:
        """Called again, `revert` says that there was nothing, and changes nothing."""
        target, promotion = trial.write(OLD), _published(trial)
        assert promotion.revert() is True
        assert promotion.by(trial.bench.command()).revert() is False
        trial.expect(target, OLD)

    def test_what_was_not_published_is_not_undone(self, trial: Trial) -> None:
        """`revert` of a batch that is only staged leaves the table alone."""
        target, promotion = trial.write(OLD), trial.bench.promotion()
        promotion.stage(target, NEW)
        version = trial.bench.inspect(target).version
        assert promotion.revert() is False
        trial.expect(target, OLD)
        assert trial.bench.inspect(target).version == version

    def test_a_revert_stops_at_a_foreign_write(self, trial: Trial) -> None:
        """Somebody wrote a published target: StaleStage, and nothing is undone."""
        first, second = trial.write(OLD), trial.write(OLD, "second")
        promotion = trial.bench.promotion()
        promotion.stage(first, NEW)
        promotion.stage(second, NEW)
        promotion.publish()
        then = trial.bench.inspect(second).version
        trial.intrude(second)
        now = trial.bench.inspect(second).version
        with refused(refusals.moved(second.target.name, "published", then, now)):
            promotion.revert()
        trial.expect(first, NEW)
        trial.expect(second, with_rows(NEW, FOREIGN))

    def test_a_revert_overwrites_where_it_is_told_to(self, trial: Trial) -> None:
        """With `overwrite` a foreign write since the publish is undone as well."""
        target, promotion = trial.write(OLD), _published(trial)
        trial.intrude(target)
        assert promotion.revert(overwrite=True) is True
        trial.expect(target, OLD)

    def test_a_published_batch_can_be_staged_and_undone_again(self, trial: Trial) -> None:
        """A second promotion after a revert is as good as the first."""
        target, promotion = trial.write(OLD), _published(trial)
        promotion.revert()
        promotion.discard()
        later = trial.bench.promotion("p-2")
        later.stage(target, NEW)
        later.publish()
        trial.expect(target, NEW)
        later.revert()
        trial.expect(target, OLD)


class DiscardTests(StagingTests):
    """``discard``."""

    def test_a_discarded_stage_leaves_nothing(self, trial: Trial) -> None:
        """What was staged and not published is gone, and the tables are as they were."""
        there = trial.write(OLD)
        before = trial.outsider.objects()
        promotion = trial.bench.promotion()
        promotion.stage(there, NEW)
        promotion.stage(trial.bench.target("absent", namespace="another"), NEW)
        promotion.discard()
        assert trial.outsider.objects() == before
        trial.expect(there, OLD)

    def test_a_stage_in_an_untouched_store_leaves_nothing(self, trial: Trial) -> None:
        """No namespace and no ledger stays of a stage that was the first thing ever written."""
        before, promotion = trial.outsider.objects(), trial.bench.promotion()
        promotion.stage(trial.bench.target(), NEW)
        promotion.discard()
        assert trial.outsider.objects() == before

    def test_a_stage_that_was_not_noted_can_be_discarded(self, trial: Trial) -> None:
        """`discard` finds what was staged for a promotion and a target by their names."""
        target = trial.write(OLD)
        before, promotion = trial.outsider.objects(), trial.bench.promotion()
        promotion.stage(target, NEW)
        promotion.stage(trial.bench.target("absent"), NEW)
        promotion.forget().by(trial.bench.command()).discard()
        assert trial.outsider.objects() == before
        trial.expect(target, OLD)

    def test_a_discard_can_be_repeated(self, trial: Trial) -> None:
        """`discard` may be called any number of times, and before anything was staged."""
        target = trial.write(OLD)
        before, promotion = trial.outsider.objects(), trial.bench.promotion()
        promotion.plan(target, trial.bench.snapshot(NEW))
        promotion.discard()
        promotion.stage(target, NEW)
        promotion.discard()
        promotion.by(trial.bench.command()).discard()
        assert trial.outsider.objects() == before

    def test_published_rows_stay_and_nothing_else_does(self, trial: Trial) -> None:
        """After `discard` a published table stands, and all that a promotion needed is gone."""
        target = trial.write(OLD)
        for name in ("p-1", "p-2"):
            promotion = trial.bench.promotion(name)
            promotion.stage(target, NEW if name == "p-1" else OLD)
            promotion.publish()
            if name == "p-1":
                promotion.discard()
                between = trial.outsider.objects()
        promotion.by(trial.bench.command()).discard()
        trial.expect(target, OLD)
        assert trial.outsider.objects() == between

    def test_one_promotion_discards_its_own(self, trial: Trial) -> None:
        """`discard` of one promotion leaves another's staged rows alone."""
        target = trial.write(OLD)
        first, second = trial.bench.promotion("p-1"), trial.bench.promotion("p-2")
        first.stage(target, OLD)
        staged = second.stage(target, NEW)
        first.discard()
        assert trial.bench.count(staged) == 2
        second.publish()
        trial.expect(target, NEW)


def _published(trial: Trial) -> Promotion:
    promotion = trial.bench.promotion()
    promotion.stage(trial.bench.target(), pa.table({"id": [5], "name": ["e"]}))
    promotion.publish()
    return promotion
