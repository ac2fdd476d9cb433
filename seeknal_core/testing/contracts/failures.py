"""Failures: of the right family, with a hint, without a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest

from seeknal_core.contract.errors import BackendError, SeeknalError
from seeknal_core.contract.hooks import Hook
from seeknal_core.testing.bench import Bench
from seeknal_core.testing.contracts.base import FOREIGN, OLD, BackendTests, Trial, needs


class FailureTests(BackendTests):
    """What a user reads when something is wrong."""

    def test_no_secret_is_in_an_error_or_a_log(
        self,
        trial: Trial,
        secrets: tuple[str, ...],
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        """No secret is in a message, a hint, a cause, a log or on the terminal."""
        caplog.set_level(logging.DEBUG)
        bench = trial.bench
        bench.write(bench.target(), OLD)
        foreign = bench.target("foreign")
        trial.intrude(foreign, FOREIGN)
        told = [
            _told(lambda: bench.count(bench.target("missing"))),
            _told(lambda: bench.write(foreign, OLD)),
            _told(lambda: bench.write(bench.target("empty"), {})),
        ]
        assert told[0], "a missing table was counted"
        printed = capfd.readouterr()
        places = {"an error": "\n".join(told), "a log": caplog.text, "output": "".join(printed)}
        leaks = [place for place, text in places.items() if any(s in text for s in secrets)]
        assert not leaks, f"a secret is in {', '.join(leaks)}"

    @needs(fixture="unreachable")
    def test_a_store_that_does_not_answer_is_told(
        self, bench: Bench, unreachable: Mapping[str, object]
    ) -> None:
        """Hooks raise a BackendError with a hint when the store does not answer."""
        _fails_with_a_hint(bench.command(options=unreachable))

    @needs(fixture="rejected")
    def test_wrong_credentials_are_told(self, bench: Bench, rejected: Mapping[str, object]) -> None:
        """Hooks raise a BackendError with a hint when the store refuses the credentials."""
        from seeknal_core.testing.plugin import secrets_of

        error = _fails_with_a_hint(bench.command(options=rejected))
        assert not any(secret in error for secret in secrets_of(rejected))


def _fails_with_a_hint(bench: Bench) -> str:
    target = bench.target()
    calls: list[Callable[[], object]] = [
        lambda: bench.count(target),
        lambda: bench.write(target, OLD),
    ]
    if bench.dispatcher.supports(bench.backend.type, Hook.CHECK_CONNECTION):
        calls.append(lambda: bench.dispatcher.check_connection(bench.context, bench.connection))
    told = ""
    for call in calls:
        with pytest.raises(BackendError) as raised:
            call()
        assert raised.value.hint, f"no hint: {raised.value}"
        told += f"{raised.value} {raised.value.hint}"
    return told


def _told(call: Callable[[], object]) -> str:
    """Return everything that a call says where it fails, causes included."""
    error: BaseException | None
    try:
        call()
        return ""
    except SeeknalError as failure:
        told, error = [failure.hint], failure
        while error is not None:
            told += [str(error), repr(error)]
            error = error.__cause__ or error.__context__
        return "\n".join(told)
