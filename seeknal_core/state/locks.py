"""Locks: two commands on one environment exclude each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from seeknal_core.contract.errors import StateError
from seeknal_core.files.own import make_folder, open_own
from seeknal_core.state.documents import state_error


@contextlib.contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold a file lock that dies with the process.

    The file's content names the holder; it serves the message of whoever is
    refused and nothing else.

    Raises:
        StateError: somebody else holds it.
    """
    try:
        make_folder(path.parent)
        descriptor = open_own(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise state_error(error, path) from error
    with open(descriptor, "ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = (file.read() or b"").decode("utf-8", "replace").strip()
            raise StateError(
                f"{what} is in use by {holder or 'another process'}",
                "wait for it to end, then run again",
            ) from None
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        # A full disk has no room for the name; the lock holds all the same.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"pid {os.getpid()} on host {socket.gethostname()} since {since}".encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)
