"""A wrapper plugin that counts hook calls, and kills its process at one of them, or waits.

``SEEKNAL_KILL_AT=before:7`` or ``after:7`` names the call, counted from 1 among the hooks
that ``SEEKNAL_KILL_HOOKS`` lists (all by default); ``SEEKNAL_KILL_LOG`` is a file that
gets the name of every counted call. ``SEEKNAL_WAIT=stage:FILE`` waits after each call of
that hook until the file is there, for half a minute at most.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from typing import Any

from seeknal_core.contract.hooks import hookimpl

_lock = threading.Lock()
_count = 0


def _wrapper(name: str) -> Any:
    def wrapped(context: object) -> Generator[None, Any, Any]:
        number = _counted(name)
        _kill(f"before:{number}")
        result = yield
        _kill(f"after:{number}")
        _wait(name)
        return result

    wrapped.__name__ = name
    return hookimpl(wrapper=True)(wrapped)


def _counted(name: str) -> int:
    global _count
    hooks = os.environ.get("SEEKNAL_KILL_HOOKS")
    if hooks and name not in hooks.split(","):
        return 0
    with _lock:
        _count += 1
        if log := os.environ.get("SEEKNAL_KILL_LOG"):
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        return _count


def _kill(point: str) -> None:
    if os.environ.get("SEEKNAL_KILL_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def _wait(name: str) -> None:
    hook, _, path = os.environ.get("SEEKNAL_WAIT", "").partition(":")
    deadline = time.monotonic() + 30
    if hook == name:
        with open(f"{path}.reached", "w", encoding="utf-8"):
            pass
        while not os.path.exists(path) and time.monotonic() < deadline:
            time.sleep(0.02)


for _name in (
    "stage",
    "count_rows",
    "inspect_target",
    "checksum",
    "prepare_publish",
    "publish",
    "revert",
    "discard",
    "materialize",
    "drop_target",
):
    globals()[_name] = _wrapper(_name)
