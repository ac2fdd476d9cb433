"""Connections: typed, pure, silent about secrets."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.options import keys_of
from seeknal_core.contract.types import Connection
from seeknal_core.testing.bench import Bench
from seeknal_core.testing.contracts.base import BackendTests, Trial, needs

_watched: dict[int, list[str]] = {}
_TOUCHES = ("open", "socket.", "sqlite3.", "subprocess.", "shutil.", "os.listdir", "os.scandir")
_WRITES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    seen = _watched.get(threading.get_ident())
    if seen is not None and event.startswith((*_TOUCHES, *_WRITES)):
        seen.append(f"{event} {arguments[:1]!r}")


@contextmanager
def _nothing_touched() -> Iterator[None]:
    """Fail if this thread opens a file, a socket or a process inside the block."""
    if not hasattr(sys, "_seeknal_audit"):
        sys.addaudithook(_audit)  # cannot be removed again, so there is one for all tests
        sys._seeknal_audit = True  # type: ignore[attr-defined]
    seen = _watched[threading.get_ident()] = []
    try:
        yield
    finally:
        del _watched[threading.get_ident()]
    assert not seen, f"this is to be pure, and touched {seen[0]}"


class ConnectionTests(BackendTests):
    """``resolve_profile`` and ``describe_options``."""

    def test_a_connection_is_frozen_and_typed(self, bench: Bench) -> None:
        """The mapping becomes the backend's own frozen subclass of Connection."""
        connection = bench.connection
        assert type(connection) is not Connection, "it must be a subclass of Connection"
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            connection.name = "other"  # type: ignore[misc]

    def test_equal_mappings_give_equal_connections(self, bench: Bench) -> None:
        """A connection is a value: equal, with equal bindings, whenever it is resolved."""
        first, second = bench.connection, bench.command().connection
        assert first == second
        assert dict(first.bindings()) == dict(second.bindings())

    def test_resolving_and_naming_touch_nothing(self, bench: Bench) -> None:
        """`resolve_profile` and `namespace_for` open no file and no socket."""
        bench.target()  # imports what there is to import
        other = bench.command()
        with _nothing_touched():
            other.target("another")

    def test_no_secret_is_shown(self, bench: Bench, secrets: tuple[str, ...]) -> None:
        """No secret is in repr, str, describe or bindings of a connection."""
        connection = bench.connection
        shown = {
            "repr": repr(connection),
            "str": str(connection),
            "describe": str(dict(connection.describe())),
            "bindings": str(dict(connection.bindings())),
            "the context's repr": repr(bench.context.connected(connection)),
        }
        leaks = [place for place, text in shown.items() if any(s in text for s in secrets)]
        assert not leaks, f"a secret is in {', '.join(leaks)}"

    def test_a_mistake_is_named_by_its_path(self, bench: Bench) -> None:
        """An option of a wrong shape is refused with its path, and without its value."""
        for key in bench.options:
            odd = {**bench.options, key: [{"v4lue": object()}]}
            with pytest.raises(ConfigError) as raised:
                _ = bench.command(options=odd).connection
            assert any(key in problem.path for problem in raised.value.problems)
            assert "v4lue" not in str(raised.value)

    @needs("describe_options")
    def test_the_described_options_are_those_that_are_taken(self, bench: Bench) -> None:
        """`describe_options` names attrs classes, and knows the connection's keys."""
        options = bench.dispatcher.options(bench.backend.type)
        assert options is not None
        classes = [options.connection, options.source, options.target]
        assert all(attrs.has(cls) for cls in classes if cls is not None)
        rest = any(field.metadata.get("rest") for field in attrs.fields(options.connection))
        assert rest or set(bench.options) <= set(keys_of(options.connection))

    @needs("check_connection")
    def test_checking_a_connection_says_something_and_changes_nothing(self, trial: Trial) -> None:
        """`check_connection` answers in words and leaves the store as it is."""
        before, bench = trial.outsider.objects(), trial.bench
        said = bench.dispatcher.check_connection(bench.context, bench.connection)
        assert said.strip()
        assert trial.outsider.objects() == before
