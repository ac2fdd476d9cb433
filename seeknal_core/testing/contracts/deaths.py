"""Processes that are killed in the middle of a hook, and the same call made again.

Each test kills a process at several steps of the hook, from its first to its last, and
every time the call that follows ends in one of the two right states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.types import Mode
from seeknal_core.testing.bench import Bench, Promotion
from seeknal_core.testing.contracts.base import (
    NEW,
    OLD,
    BackendTests,
    StagingTests,
    Trial,
    with_rows,
)
from seeknal_core.testing.rows import difference
from seeknal_core.testing.victims import Call, Victims

#: At how many steps of a hook a process is killed.
DEATHS = 5


def call_of(bench: Bench, hook: str, **fields: Any) -> Call:
    """Return a call in another process, by the bench's command."""
    return Call(
        hook=hook,
        backend=bench.backend,
        options=bench.options,
        root=bench.root,
        command=attrs.evolve(bench.by, run_id="run-victim"),
        **fields,
    )


def of_promotion(promotion: Promotion) -> dict[str, Any]:
    """Return a promotion's state as its journal has it, for another process."""
    targets = [(target.spec, target.target.staged) for target in promotion.targets.values()]
    kept = {"name": promotion.name, "generation": promotion.generation}
    return {**kept, "content_keys": promotion.content_keys, "targets": targets}


def steps(victims: Victims, call: Call) -> Iterator[int]:
    """Return the steps to die at: the first of a hook, the last, and some between.

    Args:
        call: made once, and not killed, to count its steps.
    """
    fate = victims.run(call)
    assert not fate.error, fate.error
    assert fate.steps, "the backend's hook makes no step of its own"
    spread = {1 + (fate.steps - 1) * n // (DEATHS - 1) for n in range(DEATHS)}
    yield from sorted(spread)


def die(victims: Victims, call: Call, step: int) -> None:
    """Make a call that is killed at a step, or gets through where it has fewer."""
    fate = victims.run(attrs.evolve(call, die_at=step))
    assert fate.killed or not fate.error, fate.error


def one_of(trial: Trial, target: Any, *wanted: pa.Table | None) -> None:
    """Assert that a reader sees one of several states of a table."""
    found = trial.read(target)
    seen = [found is None if rows is None else not difference(found, rows) for rows in wanted]
    what = "no table" if found is None else f"{found.num_rows} rows {found.slice(0, 9).to_pylist()}"
    assert any(seen), f"{target.target.name} is neither as before nor as after: {what}"


class DeathTests(BackendTests):
    """``materialize``, killed and called again."""

    @pytest.mark.parametrize("mode", [Mode.FULL, Mode.APPEND])
    def test_a_killed_write_is_made_good(
        self, trial: Trial, seeknal_victims: Victims, mode: Mode
    ) -> None:
        """A reader sees old rows or new ones; the same write again ends right, rows once."""
        bench, after = trial.bench, NEW if mode is Mode.FULL else with_rows(OLD, NEW)
        if trial.begin(mode, OLD, table="t0") is None:
            return

        def call(table: str) -> Call:
            spec = bench.spec_of(table, mode)
            return call_of(bench, "materialize", target=spec, snapshot=bench.snapshot(NEW))

        for number, step in enumerate(steps(seeknal_victims, call("t0")), 1):
            target = bench.target(f"t{number}", mode)
            bench.write(target, OLD)
            die(seeknal_victims, call(f"t{number}"), step)
            one_of(trial, target, OLD, after)
            bench.command().write(target, NEW)
            trial.expect(target, after)

    def test_a_killed_first_write_is_made_good(
        self, trial: Trial, seeknal_victims: Victims
    ) -> None:
        """Killed while it makes a table in a new namespace, a write can be made again."""
        bench = trial.bench

        def call(number: int) -> Call:
            spec = bench.spec_of("t", namespace=f"n{number}")
            return call_of(bench, "materialize", target=spec, snapshot=bench.snapshot(NEW))

        for number, step in enumerate(steps(seeknal_victims, call(0)), 1):
            die(seeknal_victims, call(number), step)
            target = bench.target("t", namespace=f"n{number}")
            one_of(trial, target, None, NEW)
            bench.command().write(target, NEW)
            trial.expect(target, NEW)


class StagingDeathTests(StagingTests):
    """``stage``, ``publish``, ``revert`` and ``discard``, killed and called again."""

    def test_a_killed_stage_leaves_nothing_after_a_discard(
        self, trial: Trial, seeknal_victims: Victims
    ) -> None:
        """Killed while staging: nobody sees anything, and `discard` clears all of it."""
        bench, target = trial.bench, trial.write(OLD)
        before, snapshot = trial.outsider.objects(), bench.snapshot(NEW)

        def planned(number: int) -> tuple[Promotion, Call]:
            promotion = bench.command().promotion(f"p-{number}")
            promotion.plan(target, snapshot)
            fields = {"target": target.spec, "snapshot": snapshot}
            return promotion, call_of(bench, "stage", promotion=of_promotion(promotion), **fields)

        first, call = planned(0)
        for number, step in enumerate(steps(seeknal_victims, call), 1):
            promotion, call = planned(number)
            die(seeknal_victims, call, step)
            trial.expect(target, OLD)
            promotion.discard()
            first.discard()
            assert trial.outsider.objects() == before, f"killed at step {step}"
        last = bench.promotion("p-last")
        last.stage(target, snapshot)
        last.publish()
        trial.expect(target, NEW)

    @pytest.mark.parametrize("then", ["publish", "revert"])
    def test_a_killed_publish_ends_in_one_of_two_states(
        self, trial: Trial, seeknal_victims: Victims, then: str
    ) -> None:
        """Killed while publishing: publish again and all is new, or revert and all is old."""
        first, call = self._staged(trial, 0)
        for number, step in enumerate(steps(seeknal_victims, call), 1):
            promotion, call = self._staged(trial, number)
            there, absent = promotion.targets.values()
            die(seeknal_victims, call, step)
            one_of(trial, there, OLD, NEW)
            one_of(trial, absent, None, NEW)
            again = promotion.by(trial.bench.command())
            if then == "publish":
                published = again.publish()
                assert [one.rows_after for one in published.targets] == [2, 2]
                assert [one.created for one in published.targets] == [False, True]
                trial.expect(there, NEW)
                trial.expect(absent, NEW)
            else:
                again.revert()
                trial.expect(there, OLD)
                trial.expect(absent, None)
            again.discard()
        first.discard()

    @pytest.mark.parametrize("hook", ["revert", "discard"])
    def test_a_killed_clean_up_can_be_made_again(
        self, trial: Trial, seeknal_victims: Victims, hook: str
    ) -> None:
        """Killed while undoing or discarding: the same call again finishes it."""
        bench = trial.bench

        def published(number: int) -> tuple[Promotion, Call]:
            promotion, _ = self._staged(trial, number)
            promotion.publish()
            return promotion, call_of(bench, hook, promotion=of_promotion(promotion))

        _, call = published(0)
        for number, step in enumerate(steps(seeknal_victims, call), 1):
            promotion, call = published(number)
            there, absent = promotion.targets.values()
            die(seeknal_victims, call, step)
            again = promotion.by(bench.command())
            if hook == "revert":
                one_of(trial, there, OLD, NEW)
                one_of(trial, absent, None, NEW)
                again.revert()
            again.discard()
            trial.expect(there, OLD if hook == "revert" else NEW)
            trial.expect(absent, None if hook == "revert" else NEW)

    def _staged(self, trial: Trial, number: int) -> tuple[Promotion, Call]:
        """Stage one existing and one absent table, and return the call that publishes them."""
        bench = trial.bench
        there = trial.write(OLD, f"there{number}")
        promotion = bench.command().promotion(f"p-{number}")
        promotion.stage(there, NEW)
        promotion.stage(bench.target(f"absent{number}"), NEW)
        return promotion, call_of(bench, "publish", promotion=of_promotion(promotion))
