"""Links: targets that read another environment's table, live."""

from __future__ import annotations

import attrs
import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import Drift, Origin, OwnedKind, Since, TargetChange
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.testing.bench import Bench
from seeknal_core.testing.contracts.base import FOREIGN, NEW, OLD, BackendTests, Trial, needs


def origin_of(bench: Bench, target: ResolvedTarget) -> Origin:
    """Return what the core knows of production's target."""
    state = bench.inspect(target)
    assert state.owner is not None
    return Origin(
        name=target.target.name,
        identity=state.identity,
        environment="prod",
        content_key=state.owner.content_key,
    )


class LinkTests(BackendTests):
    """``can_link``, ``link_target`` and ``unlink_target``."""

    contract = "LinkContract"

    @needs("can_link")
    def test_a_link_shows_the_other_tables_rows_as_they_are_now(self, trial: Trial) -> None:
        """No row is copied: what is written to the other table is there at once."""
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        assert dev.count(link) == 3
        trial.bench.write(target, NEW)
        assert dev.count(link) == 2
        trial.expect(link, NEW)

    @needs("can_link")
    def test_a_link_is_told_as_one(self, trial: Trial) -> None:
        """It is linked and this environment's; its version stays while rows change."""
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        state = dev.inspect(link)
        assert (state.exists, state.linked) == (True, True)
        assert state.owner is not None and state.owner.environment == "dev"
        trial.bench.write(target, NEW)
        assert dev.inspect(link).version == state.version
        assert not trial.bench.inspect(target).linked

    @needs("can_link")
    def test_linking_again_changes_nothing(self, trial: Trial) -> None:
        """A link that stands is no reason against one, and is made anew."""
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        origin = origin_of(trial.bench, target)
        before = trial.outsider.objects()
        assert dev.dispatcher.can_link(dev.context, [link], [origin]) == [""]
        dev.dispatcher.link_target(dev.context, link, origin)
        assert trial.outsider.objects() == before
        assert dev.count(link) == 3

    @needs("can_link", "link_targets", "can_link_targets")
    def test_many_are_linked_as_each_is(self, trial: Trial) -> None:
        """`link_targets` and `can_link_targets` answer for each, in order."""
        targets = [trial.bench.target(name) for name in ("one", "two")]
        for number, target in enumerate(targets):
            trial.bench.write(target, OLD.slice(number))
        dev = trial.bench.development()
        links = [dev.target(name) for name in ("one", "two")]
        origins = [origin_of(trial.bench, target) for target in targets]
        gone = attrs.evolve(origins[1], identity="elsewhere")
        found = dev.dispatcher.can_link(dev.context, links, [origins[0], gone])
        assert (found[0], bool(found[1])) == ("", True)
        dev.dispatcher.link_targets(dev.context, links, origins)
        assert [dev.count(link) for link in links] == [3, 2]

    @needs("can_link")
    def test_a_table_takes_a_links_place(self, trial: Trial) -> None:
        """`materialize` makes a table of its own; the other table keeps its rows."""
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        dev.write(link, NEW)
        assert not dev.inspect(link).linked
        trial.expect(link, NEW)
        trial.expect(target, OLD)

    @needs("can_link")
    def test_a_link_does_not_stand_on_what_is_not_ours(self, trial: Trial) -> None:
        """A table that has the name already stays, whoever made it."""
        target = trial.write(OLD)
        dev = trial.bench.development()
        link = dev.target()
        trial.intrude(link)
        origin = origin_of(trial.bench, target)
        assert dev.dispatcher.can_link(dev.context, [link], [origin]) != [""]
        with pytest.raises(WriteRefused):
            dev.dispatcher.link_target(dev.context, link, origin)
        trial.expect(link, FOREIGN)

    @needs("can_link")
    def test_an_unlinked_target_is_gone_and_a_table_is_left_alone(self, trial: Trial) -> None:
        """`unlink_target` drops a link, and says whether there was one."""
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        assert dev.dispatcher.unlink_target(dev.context, link) is True
        assert dev.dispatcher.unlink_target(dev.context, link) is False
        trial.expect(link, None)
        assert trial.bench.dispatcher.unlink_target(trial.bench.context, target) is False
        trial.expect(target, OLD)

    @needs("can_link", "list_owned")
    def test_a_link_is_listed_and_dropped_like_a_table(self, trial: Trial) -> None:
        """It is its environment's; the other table stays, and may itself be dropped."""
        before = trial.outsider.objects()
        target = trial.write(OLD)
        dev, link = linked(trial.bench, target)
        [owned] = [one for one in dev.owned() if one.kind is OwnedKind.TABLE]
        assert owned.name.parts == link.target.name.parts
        [theirs] = [one for one in trial.bench.owned() if one.kind is OwnedKind.TABLE]
        assert theirs.name.parts == target.target.name.parts
        for one in dev.owned():
            assert dev.drop(one)
        trial.expect(target, OLD)
        linked(trial.bench, target)
        for one in trial.bench.owned():
            trial.bench.drop(one)
        trial.expect(target, None)
        again = trial.bench.development()
        for one in again.owned():
            again.drop(one)
        assert trial.outsider.objects() == before


def linked(bench: Bench, target: ResolvedTarget) -> tuple[Bench, ResolvedTarget]:
    """Link a target in ``dev`` to production's."""
    dev = bench.development()
    link = dev.target()
    origin = origin_of(bench, target)
    assert dev.dispatcher.can_link(dev.context, [link], [origin]) == [""]
    dev.dispatcher.link_target(dev.context, link, origin)
    return dev, link


class ChangeTests(BackendTests):
    """``changes_since`` and ``adopt_target``, and the marks that ask for them."""

    contract = "LinkContract"

    @needs("inspect_target")
    def test_a_mark_stays_while_nobody_writes(self, trial: Trial) -> None:
        """Where there are marks, a write gives the one that `inspect_target` sees."""
        target = trial.bench.target()
        written = trial.bench.write(target, OLD)
        trial.bench.context.resources.close()
        state = trial.bench.command().inspect(target)
        assert state.mark is None or state.mark == written.mark
        trial.intrude(target)
        assert state.mark is None or trial.bench.command().inspect(target).mark != state.mark

    @needs("changes_since")
    def test_an_exact_look_tells_what_others_did(self, trial: Trial) -> None:
        """Nothing, rows that were added, or a change."""
        target = trial.bench.target()
        written = trial.bench.write(target, OLD)
        trial.bench.context.resources.close()
        since = Since(version=written.version, rows=3, mark=written.mark)
        other = trial.bench.command()

        def look() -> TargetChange:
            return other.dispatcher.changes_since(other.context, [target], [since])[0]

        assert look().drift is Drift.NONE
        trial.intrude(target)
        change = look()
        assert (change.drift, change.rows, change.others) == (Drift.ADDED, 4, 1)
        trial.bench.command().write(target, NEW)
        assert look().drift is Drift.CHANGED

    @needs("adopt_target")
    def test_a_table_is_taken_over_as_it_is(self, trial: Trial) -> None:
        """`adopt_target` changes who owns it, and neither rows nor columns."""
        target = trial.bench.target()
        trial.intrude(target)
        taken = trial.bench.dispatcher.adopt_target(trial.bench.context, target, "key-1")
        assert (taken.rows_written, taken.rows_after) == (0, 1)
        trial.expect(target, FOREIGN)
        state = trial.bench.inspect(target)
        assert state.owner is not None and state.owner.content_key == "key-1"
        assert state.version == taken.version
