"""The program that keeps an embedded server for as long as somebody uses it.

`seeknal_postgres.connection.embedded.server` runs this file as a script, detached.
It starts the server, waits until no command holds the shared lock on the ``users``
file, and shuts the server down. The kernel drops a command's lock however the command
ends, so that even ``kill -9`` doesn't leave a server behind. Standard library
only: the script runs without site-packages, for a fast start.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2)
_POLL_SECONDS = 0.1
_STOP_SECONDS = 60


def main(text: str) -> None:
    """Keep one server.

    Args:
        text: JSON of an object with ``command``; ``users`` and ``pid_file``: paths; ``lock``: descriptor of a file that this
            program keeps locked while it lives; ``account``: [uid, gid] or null.
    """
    options = json.loads(text)
    if os.fork():  # the command that started us must not have to wait for our end
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    users = os.open(options["users"], os.O_RDWR)
    server = _start(options)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(options["pid_file"], flags, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{server.pid}\n")
        _wait_for_the_last_user(server, users)
    finally:
        _stop(server)
    # In this order: a process that then locks `users` finds no keeper.
    os.close(options["lock"])
    os.close(users)


def _start(options: dict[str, Any]) -> subprocess.Popen[bytes]:
    uid, gid = options["account"] or (None, None)
    return subprocess.Popen(
        options["command"],
        stdin=subprocess.DEVNULL,  # its output goes to the log, as this program's does
        cwd="/",
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
        preexec_fn=_end_with_the_keeper,  # safe: this program has one thread
    )


def _end_with_the_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def _wait_for_the_last_user(server: subprocess.Popen[bytes], users: int) -> None:
    while server.poll() is None:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)
        else:
            return  # new users wait at this lock until the server is down


def _stop(server: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, by force
        if server.poll() is not None:
            return
        server.send_signal(how)
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    main(sys.argv[1])
