"""Several at once: writers that lose nothing, readers that never see a gap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Mode
from seeknal_core.plugins.resolved import ResolvedTarget
from seeknal_core.testing.contracts.base import OLD, BackendTests, Trial

_ROWS = 500


def version(number: int) -> pa.Table:
    """Return rows of one version: each says which, and there are more with each."""
    count = _ROWS + number
    return pa.table({"id": range(count), "version": [number] * count})


class Polling:
    """A reader that looks all the time, in a thread of its own; a context manager.

    `seen` holds what it saw: of which version, or what was wrong.
    """

    def __init__(self, trial: Trial, target: ResolvedTarget) -> None:
        self._trial = trial
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.seen: set[object] = set()

    def __enter__(self) -> Polling:
        self.seen.add(self._look())
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.is_set():
            self.seen.add(self._look())

    def _look(self) -> object:
        try:
            found = self._trial.read(self._target)
        except Exception as error:  # noqa: BLE001 - whatever a reader meets is a gap
            return f"{error.__class__.__name__}: {error}"
        if found is None:
            return "no table"
        numbers = set(found["version"].to_pylist())
        [number] = numbers if len(numbers) == 1 else [None]
        if number is None or found.num_rows != _ROWS + number:
            return f"{found.num_rows} rows of versions {sorted(numbers)}"
        return number


class ConcurrencyTests(BackendTests):
    """Hooks are called from several threads and processes at once."""

    def test_a_reader_sees_old_rows_or_new_ones(self, trial: Trial) -> None:
        """While a table is replaced, a reader never sees none, half, or a mixture."""
        target = trial.write(version(0))
        with Polling(trial, target) as reader:
            for number in range(1, 6):
                trial.bench.write(target, version(number))
        assert reader.seen <= set(range(6)), reader.seen

    def test_concurrent_appends_lose_and_double_nothing(self, trial: Trial) -> None:
        """Commands that append at once add all rows once; one may be told to try again."""
        target = trial.begin(Mode.APPEND, version(0))
        if target is None:
            return
        tables = [pa.table({"id": [n], "version": [n]}) for n in range(1, 5)]
        for left in reversed(range(10)):
            commands = [trial.bench.command() for _ in tables]
            refused = at_once(
                [
                    partial(command.write, target, rows)
                    for command, rows in zip(commands, tables, strict=True)
                ]
            )
            if not refused:
                break
            assert left, f"appends fail again and again: {refused[0]}"
        trial.expect(target, pa.concat_tables([version(0), *tables]))

    def test_targets_of_one_run_are_written_at_once(self, trial: Trial) -> None:
        """One command writes several tables of a new namespace in several threads."""
        targets = [trial.bench.target(f"t{number}") for number in range(4)]
        failed = at_once([partial(trial.bench.write, target, OLD) for target in targets])
        assert not failed, failed[0]
        for target in targets:
            trial.expect(target, OLD)


def at_once(calls: Sequence[Callable[[], object]]) -> list[BackendError]:
    """Make all calls at the same time; return the errors of the store."""
    start = threading.Barrier(len(calls))

    def call(one: Callable[[], object]) -> BackendError | None:
        start.wait(30)
        try:
            one()
        except BackendError as error:
            return error
        return None

    with ThreadPoolExecutor(len(calls)) as pool:
        return [error for error in pool.map(call, calls) if error is not None]
