"""What the store says of a target."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Ownership
from seeknal_core.testing.contracts.base import NEW, OLD, BackendTests, Trial, needs


class InspectionTests(BackendTests):
    """``count_rows`` and ``inspect_target``."""

    def test_rows_are_counted_in_the_store(self, trial: Trial) -> None:
        """`count_rows` counts what a reader would, also what others wrote."""
        target = trial.write(OLD)
        assert trial.bench.count(target) == 3
        trial.intrude(target)
        assert trial.bench.count(target) == 4

    def test_a_missing_table_cannot_be_counted(self, trial: Trial) -> None:
        """`count_rows` of a table that is not there is an error that names it."""
        target = trial.bench.target("missing")
        with pytest.raises(BackendError) as raised:
            trial.bench.count(target)
        assert "missing" in str(raised.value)

    @needs("inspect_target")
    def test_an_absent_table_is_told_as_absent(self, trial: Trial) -> None:
        """`inspect_target` of nothing: no version, no owner, an identity all the same."""
        before = trial.outsider.objects()
        state = trial.bench.inspect(trial.bench.target())
        assert (state.exists, state.version, state.owner) == (False, None, None)
        assert state.identity
        assert trial.outsider.objects() == before

    @needs("inspect_target")
    def test_an_identity_is_one_tables(self, trial: Trial) -> None:
        """Identities: equal whoever looks and whenever; different for two tables."""
        target, other = trial.bench.target(), trial.bench.target("other")
        absent = trial.bench.inspect(target).identity
        trial.bench.write(target, OLD)
        assert trial.bench.inspect(target).identity == absent
        assert trial.bench.command(project="bank").inspect(target).identity == absent
        dev = trial.bench.development()
        identities = {
            absent,
            trial.bench.inspect(other).identity,
            dev.inspect(dev.target()).identity,
        }
        assert len(identities) == 3

    @needs("inspect_targets")
    def test_several_targets_are_told_as_each_is(self, trial: Trial) -> None:
        """`inspect_targets` says of each, in order, what `inspect_target` says of it."""
        bench = trial.bench
        there, absent, foreign = (bench.target(name) for name in ("there", "absent", "foreign"))
        bench.write(there, OLD)
        trial.intrude(foreign)
        wanted = [bench.inspect(target) for target in (foreign, absent, there)]
        assert bench.command().inspect_all(foreign, absent, there) == wanted

    @needs("inspect_targets")
    def test_without_versions_the_rest_is_told_all_the_same(self, trial: Trial) -> None:
        """`inspect_targets` may leave out versions and rows where nobody asks for them."""
        bench = trial.bench
        there, absent = bench.target("there"), bench.target("absent")
        bench.write(there, OLD)
        for target in (there, absent):
            [told] = bench.command().inspect_all(target, versions=False)
            wanted = bench.inspect(target)
            assert told is not None and told.version in (None, wanted.version)
            assert told.rows in (None, 3)
            assert attrs.evolve(wanted, version=told.version, rows=told.rows) == told

    @needs("inspect_target")
    def test_a_version_changes_with_every_write(self, trial: Trial) -> None:
        """Versions: as the write said, the same until somebody writes, then another."""
        target = trial.bench.target()
        seen = [trial.bench.write(target, OLD).version]
        assert trial.bench.inspect(target).version == seen[0]
        assert trial.bench.command().inspect(target).version == seen[0]
        trial.intrude(target)
        seen.append(str(trial.bench.inspect(target).version))
        seen.append(trial.bench.write(target, NEW).version)
        assert trial.bench.inspect(target).version == seen[2]
        assert len(set(seen)) == 3, seen

    @needs("inspect_target")
    def test_the_last_writer_is_known(self, trial: Trial) -> None:
        """The ledger tells who wrote a table last, and what."""
        target = trial.write(OLD)
        by: dict[str, Any] = {"state_id": "state-2", "run_id": "run-2"}
        trial.bench.command(**by).write(target, NEW, content_key="k-2")
        owner = trial.bench.inspect(target).owner
        assert owner == Ownership(project="shop", environment="prod", content_key="k-2", **by)

    @needs("inspect_target")
    def test_the_columns_are_those_of_the_table(self, trial: Trial) -> None:
        """`inspect_target` names the table's columns, with types in the store's words."""
        columns = trial.bench.inspect(trial.write(OLD)).columns
        assert [column.name for column in columns] == OLD.column_names
        assert all(column.type for column in columns)
