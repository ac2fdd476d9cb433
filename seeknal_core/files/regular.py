"""Reading files of the tool's own, whatever stands where they should be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


class NotAFile(OSError):
    """Something else than a regular file stands at a path; `strerror` says what."""


def read_regular(path: Path) -> bytes:
    """Read a regular file; a pipe is not waited for.

    Raises:
        NotAFile: something else is there.
        OSError: it is absent, or cannot be read.
    """
    try:
        # Without this flag, opening a pipe waits for somebody who writes into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
            refuse_irregular(path)
        raise
    try:
        refuse_not_regular(os.fstat(descriptor).st_mode, path)
    except NotAFile:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        return file.read()


def refuse_irregular(path: Path) -> None:
    """Refuse what is no regular file; nothing at all is fine.

    Raises:
        NotAFile: something else is there.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    refuse_not_regular(mode, path)


def refuse_not_regular(mode: int, path: Path | str) -> None:
    """Refuse what is no regular file, by its mode.

    Raises:
        NotAFile: it is something else.
    """
    if stat.S_ISREG(mode):
        return
    kind = next((word for test, word in _KINDS if test(mode)), "something else")
    raise NotAFile(errno.EINVAL, f"it is {kind}, not a file", str(path))
