"""Whose a table is, and who may write it."""

from __future__ import annotations

from typing import Any

import pytest

from seeknal_core.contract.rules import refusals
from seeknal_core.testing.contracts.base import (
    FOREIGN,
    NEW,
    OLD,
    BackendTests,
    Trial,
    needs,
    refused,
)


class OwnershipTests(BackendTests):
    """Adoption: a table without a record of this project and environment is left alone."""

    @needs("inspect_target")
    def test_a_foreign_table_is_left_alone(self, trial: Trial) -> None:
        """A table that Seeknal did not make is refused, and stays as it is."""
        target = trial.bench.target()
        trial.intrude(target)
        with refused(refusals.not_ours(target.target.name, None)):
            trial.bench.write(target, OLD)
        trial.expect(target, FOREIGN)

    @pytest.mark.parametrize("other", [{"environment": "staging"}, {"project": "bank"}])
    @needs("inspect_target")
    def test_the_table_of_another_is_left_alone(self, trial: Trial, other: dict[str, Any]) -> None:
        """A table of another environment or another project is refused."""
        target = trial.write(OLD)
        owner = trial.bench.inspect(target).owner
        assert owner is not None
        with refused(refusals.not_ours(target.target.name, owner)):
            trial.bench.command(**other).write(target, NEW)
        trial.expect(target, OLD)

    @needs("inspect_target")
    def test_a_foreign_table_can_be_adopted(self, trial: Trial) -> None:
        """With `--adopt` a foreign table is taken over, and is ours from then on."""
        target = trial.bench.target()
        trial.intrude(target)
        result = trial.bench.command(adopt=True).write(target, OLD)
        trial.expect(target, OLD)
        assert not result.created
        trial.bench.command().write(target, NEW)
        trial.expect(target, NEW)

    @needs("inspect_target")
    def test_the_state_folder_does_not_decide_whose_a_table_is(self, trial: Trial) -> None:
        """Another checkout of the project writes its environment's tables."""
        target = trial.write(OLD)
        trial.bench.command(state_id="state-2").write(target, NEW)
        trial.expect(target, NEW)
