"""Server processes that cannot outlive the test run."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

# Runs in the child: asks the kernel for a signal when the test process dies (also by
# `kill -9`; PR_SET_PDEATHSIG, prctl(2)), then gives up root, then becomes the server.
# A program of its own because `preexec_fn` is unsafe in pytest-xdist's threaded workers.
_LAUNCHER = """
import ctypes, json, os, sys
options = json.loads(sys.argv[1])
if options["account"]:
    uid, gid = options["account"]
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None, use_errno=True).prctl(1, options["signal"], 0, 0, 0)
    if os.getppid() != options["parent"]:
        sys.exit("the test run is over")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerProcess:
    """One server program, its log, and the ways to end it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        account: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._stop_signal = stop_signal
        options = {"account": account, "signal": int(stop_signal), "parent": os.getpid()}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # -I: the launcher must not import a file of the test run's folder.
                [sys.executable, "-I", "-c", _LAUNCHER, json.dumps(options), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env=dict(env),
                start_new_session=True,  # Ctrl-C reaches pytest, which then stops the server
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, seconds: float = 60) -> bool:
        """Wait for `ready`; False if the program ended first.

        Raises:
            TimeoutError: neither happened within `seconds`; the log's end is in the message.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if ready():
                return True
            time.sleep(0.02)
        raise TimeoutError(f"not ready after {seconds} s:\n{self.last_words()}")

    def last_words(self) -> str:
        """Return the last 2,000 characters of the log."""
        return self.log.read_text("utf-8", errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask the server to end and wait; kill it if it takes longer than 20 s."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill9()

    def kill9(self) -> None:
        """End the server as a power cut would."""
        self._process.kill()
        self._process.wait()


def free_port(*, low: int = 20000, high: int = 32700, also: Sequence[int] = (0,)) -> int:
    """Return a port of 127.0.0.1 that nothing listens on, below the kernel's own choices.

    Args:
        also: offsets that must be free as well (a server's second port).
    """
    while True:
        port = random.randrange(low, high)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for offset in also:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return port
