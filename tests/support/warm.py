"""Commands without the wait for their imports: forked from a process that has made them.

Half of a short command is spent importing drivers. What runs here is the same code in a
process of its own, with its own environment, folder and output, that can be killed like
any other; only what the imports themselves do isn't tested, and tests of that start
``python -m seeknal_core``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PACKAGES = ("seeknal_core", "seeknal_postgres", "seeknal_iceberg")
#: What commands import on their way, where it is installed.
_LIBRARIES = (
    "cattrs.preconf",
    "duckdb",
    "importlib.readers",
    "pyarrow.acero",
    "pyarrow.dataset",
    "pyiceberg.avro.file",
    "pyiceberg.catalog.rest",
    "pyiceberg.catalog.sql",
    "pyiceberg.io.pyarrow",
    "sqlalchemy.dialects.sqlite",
    "sqlglot.dialects.duckdb",
    "stevedore.driver",
    "stevedore.named",
)


class Running:
    """A command that runs beside the test: what tests use of `subprocess.Popen`.

    ``returncode`` is None until `communicate` has seen its end.
    """

    def __init__(self, channel: socket.socket, out: int, err: int) -> None:
        self._channel = channel
        self.stdout = os.fdopen(out, encoding="utf-8")
        self.stderr = os.fdopen(err, encoding="utf-8")
        self._answers = channel.makefile("r", encoding="utf-8")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        """Send the command a signal."""
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the command's end and return what it printed and was not read yet.

        Raises:
            subprocess.TimeoutExpired: it has not ended; it is killed then.
        """
        late = threading.Timer(timeout, self.send_signal, (signal.SIGKILL,))
        late.start()
        errors: list[str] = []
        reading = threading.Thread(target=lambda: errors.append(self.stderr.read()))
        reading.start()
        out = self.stdout.read()
        reading.join()
        self.returncode = int(self._answers.readline())
        expired = late.finished.is_set()
        late.cancel()
        for file in (self.stdout, self.stderr, self._answers, self._channel):
            file.close()
        if expired:
            raise subprocess.TimeoutExpired("seeknal", timeout, out, errors[0])
        return out, errors[0]


class Warm:
    """Runs commands, each in a fork of one warm process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("SEEKNAL_", "AWS_"))}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.warm", str(theirs.fileno())],
            env=environ | {"HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._socket = ours
        self._answers = ours.makefile("r", encoding="utf-8")
        self._running = 0

    def run(
        self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> tuple[int, str, str]:
        """Run ``seeknal`` with `args`; return its exit code and what it printed.

        After `timeout` seconds it is killed; its exit code is then -9.
        """
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            asked = json.dumps({"args": list(args), "cwd": str(cwd), "env": dict(env)}).encode()
            head = len(asked).to_bytes(4, "big")
            socket.send_fds(self._socket, [head], [out.fileno(), err.fileno()])
            self._socket.sendall(asked)
            pid = int(self._answers.readline())
            self._running = pid
            late = threading.Timer(timeout, _kill, (pid,))
            late.start()
            code = int(self._answers.readline())
            self._running = 0
            late.cancel()
            return code, _text(out), _text(err)

    def start(self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Running:
        """Start ``seeknal`` with `args` and return at once."""
        ours, theirs = socket.socketpair()
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        with self._lock:
            asked = json.dumps({"args": list(args), "cwd": str(cwd), "env": dict(env)}).encode()
            head = len(asked).to_bytes(4, "big")
            socket.send_fds(self._socket, [head], [out_end, err_end, theirs.fileno()])
            self._socket.sendall(asked)
        for end in (out_end, err_end):
            os.close(end)
        theirs.close()
        return Running(ours, out, err)

    def kill(self) -> None:
        """Kill the command that runs now, as ``kill -9`` does."""
        if self._running:
            _kill(self._running)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8")


def _import_everything() -> None:
    for package in _PACKAGES:
        with contextlib.suppress(ModuleNotFoundError):
            path = importlib.import_module(package).__path__
            for module in pkgutil.walk_packages(path, f"{package}."):
                if not module.name.startswith(("seeknal_core.testing", "seeknal_core.__main__")):
                    importlib.import_module(module.name)
    for name in _LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def _serve(channel: socket.socket) -> None:
    """Fork a process for each command until the tests are over."""
    while True:
        head, fds, _, _ = socket.recv_fds(channel, 4, 3)
        if not head:
            return
        asked = json.loads(channel.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
        if len(fds) == 2:
            _run(asked, fds, channel)
        elif os.fork():
            for fd in fds:
                os.close(fd)
        else:  # waits for a command that runs beside others
            channel.close()
            _run(asked, fds[:2], socket.socket(fileno=fds[2]))
            os._exit(0)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def _run(asked: dict[str, object], fds: Sequence[int], channel: socket.socket) -> None:
    """Fork the process of one command, and send its id and then its exit code."""
    pid = os.fork()
    if not pid:
        channel.close()
        _become(asked, fds)
    for fd in fds:
        os.close(fd)
    channel.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    channel.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(asked: dict[str, object], fds: Sequence[int]) -> None:
    """Be the command, to its end."""
    for fd, place in zip(fds, (1, 2), strict=True):
        os.dup2(fd, place)
        os.close(fd)
    env, args = asked["env"], asked["args"]
    assert isinstance(env, dict) and isinstance(args, list)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(str(asked["cwd"]))
    # As the interpreter would: the folder, then PYTHONPATH.
    more = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = ["", *more, *sys.path[2:]]
    sys.argv[:] = ["seeknal", *args]
    from seeknal_core.cli.main import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    # The interpreter's end, less the taking apart of all that is imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _import_everything()
    # Without an argument, all that is wanted is the bytecode: no worker of a test run, and no
    # command that it starts, has to compile it once more.
    if sys.argv[1:]:
        gc.freeze()
        _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # DuckDB complains of what is imported and never used
