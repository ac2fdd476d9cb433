"""Cleaning up: all that is one's own, and nothing else."""

from __future__ import annotations

from typing import ClassVar

import pytest

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.types import Owned, OwnedKind
from seeknal_core.testing.bench import Bench
from seeknal_core.testing.contracts.base import FOREIGN, NEW, OLD, Contract, Trial, needs


class CleanupTests(Contract):
    """``list_owned`` and ``drop_target``."""

    contract = "CleanupContract"
    requires: ClassVar[frozenset[str]] = frozenset({"list_owned", "drop_target"})

    def test_an_untouched_store_holds_nothing_of_ours(self, trial: Trial) -> None:
        """A store that was never written lists nothing, and asking makes no ledger."""
        before = trial.outsider.objects()
        assert trial.bench.owned() == ()
        assert trial.outsider.objects() == before

    def test_what_was_made_is_listed(self, trial: Trial) -> None:
        """Tables are listed first, with their identities, then the namespaces."""
        target = trial.write(OLD)
        identity = None
        if trial.bench.dispatcher.supports(trial.bench.backend.type, Hook.INSPECT_TARGET):
            identity = trial.bench.inspect(target).identity
        owned = trial.bench.command(state_id="state-2").owned()
        kinds = [one.kind for one in owned]
        tables = [one for one in owned if one.kind is OwnedKind.TABLE]
        assert kinds == sorted(kinds, key=lambda kind: kind is OwnedKind.NAMESPACE)
        assert [one.name.parts for one in tables] == [target.target.name.parts]
        assert identity in (None, tables[0].identity)
        assert all(one.identity == "" for one in owned if one.kind is OwnedKind.NAMESPACE)

    def test_what_others_made_is_not_listed(self, trial: Trial) -> None:
        """Another environment's, another project's and adopted tables are not ours to drop."""
        trial.bench.development().write(trial.bench.development().target(), OLD)
        trial.bench.command(project="bank").write(trial.bench.target("bank"), OLD)
        adopted = trial.bench.target("adopted")
        trial.intrude(adopted)
        trial.bench.command(adopt=True).write(adopted, OLD)
        assert _tables(trial.bench) == []

    def test_dropping_all_leaves_the_store_as_it_was(self, trial: Trial) -> None:
        """Dropped in the order of the list, nothing is left, the ledger included."""
        before, dev = trial.outsider.objects(), trial.bench.development()
        for table, namespace in (("a", "one"), ("b", "one"), ("c", "two")):
            dev.write(dev.target(table, namespace=namespace), OLD)
        for owned in dev.owned():
            assert trial.bench.development().drop(owned) is True
        assert trial.outsider.objects() == before
        assert trial.bench.development().owned() == ()

    @needs("list_owned", "drop_targets")
    def test_many_are_dropped_as_each_is(self, trial: Trial) -> None:
        """`drop_targets` answers for each, in order, and leaves nothing, the ledger included."""
        before, dev = trial.outsider.objects(), trial.bench.development()
        for table, namespace in (("a", "one"), ("b", "one"), ("c", "two")):
            dev.write(dev.target(table, namespace=namespace), OLD)
        tables = [one for one in dev.owned() if one.kind is OwnedKind.TABLE]
        assert dev.drop(tables[1]) is True
        assert dev.drop_all(*tables) == (True, False, True)
        for owned in dev.owned():
            assert dev.drop(owned) is True
        assert trial.outsider.objects() == before

    @needs("list_owned", "drop_targets")
    def test_what_is_refused_alone_is_not_dropped_with_others(self, trial: Trial) -> None:
        """A table that changed hands stays, and is refused by itself afterwards."""
        targets = [trial.write(OLD, name) for name in ("a", "b")]
        tables = [one for one in trial.bench.owned() if one.kind is OwnedKind.TABLE]
        trial.bench.command(project="bank", adopt=True).write(targets[1], NEW)
        with pytest.raises(WriteRefused):
            trial.bench.drop_all(*tables)
        trial.expect(targets[1], NEW)

    def test_dropping_again_finds_nothing(self, trial: Trial) -> None:
        """A repeated drop says that there was nothing."""
        trial.write(OLD)
        owned = trial.bench.owned()
        assert [trial.bench.drop(one) for one in owned] == [True] * len(owned)
        assert [trial.bench.drop(one) for one in owned] == [False] * len(owned)

    def test_other_tables_survive(self, trial: Trial) -> None:
        """Dropping dev's tables leaves production's and foreign ones."""
        here, dev = trial.write(OLD), trial.bench.development()
        dev.write(dev.target(), NEW)
        foreign = trial.bench.target("foreign")
        trial.intrude(foreign)
        for owned in dev.owned():
            dev.drop(owned)
        trial.expect(here, OLD)
        trial.expect(foreign, FOREIGN)
        trial.expect(dev.target(), None)

    def test_a_table_that_changed_hands_is_not_dropped(self, trial: Trial) -> None:
        """Ownership is looked up again when it is dropped."""
        target = trial.write(OLD)
        [owned] = [one for one in trial.bench.owned() if one.kind is OwnedKind.TABLE]
        trial.bench.command(project="bank", adopt=True).write(target, NEW)
        with pytest.raises(WriteRefused):
            trial.bench.drop(owned)
        trial.expect(target, NEW)

    def test_a_namespace_with_foreign_tables_is_not_dropped(self, trial: Trial) -> None:
        """A drop never cascades: what holds something foreign is refused, and stays."""
        target, foreign = trial.write(OLD), trial.bench.target("foreign")
        trial.intrude(foreign)
        spaces: list[Owned] = []
        for owned in trial.bench.owned():
            if owned.kind is OwnedKind.TABLE:
                trial.bench.drop(owned)
            elif owned.name.parts == target.target.name.parts[: len(owned.name.parts)]:
                spaces.append(owned)
        for owned in spaces:
            with pytest.raises(WriteRefused):
                trial.bench.drop(owned)
        trial.expect(foreign, FOREIGN)


def _tables(bench: Bench) -> list[str]:
    return [str(one.name) for one in bench.owned() if one.kind is OwnedKind.TABLE]
