"""Processes that die, as by ``kill -9``, in the middle of a hook.

`Victims` keeps one process per backend and forks a child for every call. What the first
child has to import, the process imports for the next ones. A child counts the steps of
the hook: what the backend's own functions call, and where they return. Told a step to
die at, it sends itself SIGKILL there.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import IO, Any

import attrs

from seeknal_core.contract.types import Snapshot, TargetSpec
from seeknal_core.plugins.resolve import resolve_target
from seeknal_core.testing.backend import Backend
from seeknal_core.testing.bench import Bench, Command, Promotion

#: The events of `sys.setprofile` that are steps.
_EVENTS = frozenset({"call", "return", "c_call"})


@attrs.frozen(kw_only=True)
class Call:
    """A hook call for another process: which hook, for which targets, by whom.

    ``hook`` is ``materialize``, ``stage``, ``publish``, ``revert`` or ``discard``.
    ``die_at`` is the step to die at, None for none.
    """

    hook: str
    backend: Backend
    options: Mapping[str, object]
    root: Path
    command: Command
    target: TargetSpec | None = None
    snapshot: Snapshot | None = None
    promotion: Mapping[str, Any] | None = None
    die_at: int | None = None


@attrs.frozen(kw_only=True)
class Fate:
    """How a call ended: killed, or after so many steps, perhaps with an error.

    ``imported`` names the modules that the call imported.
    """

    killed: bool
    steps: int = 0
    error: str = ""
    imported: tuple[str, ...] = ()


class Victims:
    """The process that forks victims for one backend; a context manager.

    Args:
        bench: the backend's; what its hooks have imported so far is imported there, too.
    """

    def __init__(self, bench: Bench) -> None:
        program = "from seeknal_core.testing import victims; victims.serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._lock = threading.Lock()
        pure = (bench.backend, bench.options, bench.root, bench.by)
        self._send({"path": sys.path, "modules": _imported(bench), "bench": pure})

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *exc: object) -> None:
        stdin, stdout = self._pipes()
        stdin.close()
        stdout.close()
        self._process.wait(30)

    def run(self, call: Call) -> Fate:
        """Run a call in a process of its own and return how it ended."""
        with self._lock:
            self._send(call)
            fate: Fate = pickle.load(self._pipes()[1])
            return fate

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _send(self, value: object) -> None:
        stdin = self._pipes()[0]
        pickle.dump(value, stdin)
        stdin.flush()


def serve() -> None:
    """Fork a victim for every call that stands on standard input; the program's whole work."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = pickle.load(requests)
    sys.path[:] = first["path"]
    for name in first["modules"]:
        __import__(name)
    bench = Bench(*first["bench"])
    _import_all(_modules_below(_packages(bench)))
    # The hooks that touch nothing, for what they import: once, and not in every child.
    bench.target()
    while True:
        try:
            call = pickle.load(requests)
        except EOFError:
            return
        fate = _forked(call)
        pickle.dump(fate, answers)
        answers.flush()
        _import_all(fate.imported)


def _modules_below(packages: Iterable[str]) -> Iterator[str]:
    for package in packages:
        for module in pkgutil.walk_packages(
            getattr(sys.modules.get(package), "__path__", ()), f"{package}.", onerror=lambda _: None
        ):
            if not module.name.endswith(".__main__"):
                yield module.name


def _import_all(names: Iterable[str]) -> None:
    """Import modules; one that cannot be imported alone is left to the child that needs it."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _forked(call: Call) -> Fate:
    with tempfile.NamedTemporaryFile() as note:
        pid = os.fork()
        if not pid:
            os.dup2(2, 1)  # what a backend prints must not be taken for an answer
            code = 1
            try:
                Path(note.name).write_bytes(pickle.dumps(_run(call)))
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return Fate(killed=True)
        fate: Fate = pickle.loads(Path(note.name).read_bytes())
        return fate


def _run(call: Call) -> Fate:
    bench = Bench(call.backend, call.options, call.root, call.command)
    counter = _Counter(_packages(bench), call.die_at)
    before, error = set(sys.modules), ""
    try:
        work = _work(bench, call)
        with counter:
            work()
    except Exception as failure:  # noqa: BLE001 - whatever it is, the test hears of it
        error = f"{failure.__class__.__name__}: {failure}"
    finally:
        bench.close()
    imported = tuple(name for name in list(sys.modules) if name not in before)
    return Fate(killed=False, steps=counter.steps, error=error, imported=imported)


def _work(bench: Bench, call: Call) -> Callable[[], object]:
    if call.promotion is not None:
        promotion = Promotion(bench, call.promotion["name"])
        promotion.generation = call.promotion["generation"]
        promotion.content_keys = dict(call.promotion["content_keys"])
        for spec, staged in call.promotion["targets"]:
            promotion.resume(resolve_target(bench.dispatcher, bench.context, spec), staged)
        if call.hook != "stage":
            method: Callable[[], object] = getattr(promotion, call.hook)
            return method
    assert call.target is not None and call.snapshot is not None
    target, snapshot = resolve_target(bench.dispatcher, bench.context, call.target), call.snapshot
    if call.hook == "stage":
        return lambda: bench.dispatcher.stage(bench.context, target, snapshot, promotion.name)
    return lambda: bench.write(target, snapshot)


def _packages(bench: Bench) -> tuple[str, ...]:
    plugin = bench.dispatcher.host.loaded(bench.backend.type).plugin
    modules = {cls.__module__ for cls in type(plugin).__mro__} - {"builtins"}
    if isinstance(plugin, type(sys)):
        modules = {plugin.__name__}
    # The suite's own steps are no steps of a backend that lives in the core.
    return tuple(
        name if name.startswith("seeknal_core.") else name.partition(".")[0] for name in modules
    )


def _imported(bench: Bench) -> list[str]:
    prefixes = tuple(f"{name}." for name in _packages(bench))
    return [name for name in list(sys.modules) if f"{name}.".startswith(prefixes)]


class _Counter:
    """Counts the steps of a backend's code in all threads, and dies at one of them."""

    def __init__(self, packages: tuple[str, ...], die_at: int | None) -> None:
        self.steps = 0
        self._prefixes = tuple(f"{name}." for name in packages)
        self._die_at = die_at

    def __enter__(self) -> _Counter:
        threading.setprofile(self._seen)
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _seen(self, frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        ours = event in _EVENTS and f"{module}.".startswith(self._prefixes)
        if ours and not _imports(frame):
            self.steps += 1
            if self.steps == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def _imports(frame: FrameType | None) -> bool:
    """Return whether an import is going on: the next child does without, for it is made."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
