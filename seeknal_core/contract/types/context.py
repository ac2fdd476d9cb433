"""What every hook receives: the context of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from typing import Any, cast

import attrs

from seeknal_core.contract.errors import Interrupted
from seeknal_core.contract.types.connections import Connection, Environment, Profile
from seeknal_core.contract.types.values import T


class Cancellation:
    """Tells running work that the user wants to stop.

    `check` is called between batches; a callback is for work that waits inside
    a driver and needs to be woken. Thread-safe.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def requested(self) -> bool:
        """Whether somebody asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Interrupted` if somebody asked to stop."""
        if self._event.is_set():
            raise Interrupted("stopped by the user")

    def request(self) -> None:
        """Ask all running work to stop, and wake what waits."""
        self._event.set()
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def on_request(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` (from another thread) on a request; return its removal.

        The callback must not raise. It is called at once if a request was made already.
        """
        with self._lock:
            self._callbacks.append(callback)
        if self._event.is_set():
            callback()

        def remove() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return remove


class Resources:
    """What one command keeps open in the stores: pools, catalogs, file systems.

    `get` opens a resource once per key, also under threads; `close` closes all
    of them in reverse order of opening, whatever happened. A failing close does
    not keep the others from being closed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_locks: dict[Hashable, threading.Lock] = {}
        self._opened: dict[Hashable, tuple[object, Callable[[Any], None]]] = {}

    def get(self, key: Hashable, open: Callable[[], T], close: Callable[[T], None]) -> T:
        """Return the resource of `key`, opening it if this is the first call for it."""
        with self._lock:
            key_lock = self._key_locks.setdefault(key, threading.Lock())
        with key_lock:
            with self._lock:
                found = self._opened.get(key)
            if found is None:
                resource = open()
                with self._lock:
                    self._opened[key] = (resource, close)
                return resource
            return cast(T, found[0])

    def close(self) -> None:
        """Close everything; raise the first failure after all were tried."""
        with self._lock:
            opened = list(self._opened.values())
            self._opened.clear()
        failure: Exception | None = None
        for resource, close in reversed(opened):
            try:
                close(resource)
            except Exception as error:  # noqa: BLE001 - every resource gets its turn
                failure = failure or error
        if failure is not None:
            raise failure


@attrs.frozen(kw_only=True)
class ExecutionContext:
    """What every hook receives: who runs, where, with which profile.

    ``connection`` is the resolved connection of the call's target or source; it
    is None only in ``resolve_profile``, ``bind_target``, ``bind_source`` and
    ``describe_options``. ``project_root`` is the absolute path of the project:
    relative paths in a profile are relative to it. ``target_dir`` is where the
    tool may write. ``state_id`` identifies the state folder (two checkouts of
    one project have two). ``adopt`` lets a write take over a table that bears
    no record of this project and environment. ``promoting`` says that the call is a part of
    a promotion, which can be undone: `preview_write` says what `stage` will note. ``inputs`` holds, by node, the nodes
    that it reads directly: what a plugin that follows lineage needs to know.
    """

    project: str
    project_root: str
    target_dir: str
    state_id: str
    environment: Environment
    run_id: str
    started_at: datetime
    profile: Profile
    resources: Resources = attrs.field(repr=False)
    cancellation: Cancellation = attrs.field(repr=False)
    connection: Connection | None = None
    adopt: bool = False
    full_refresh: bool = False
    promoting: bool = False
    inputs: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, repr=False)

    def connected(self, connection: Connection) -> ExecutionContext:
        """Return this context for a call on `connection`."""
        return attrs.evolve(self, connection=connection)
