"""A full disk, in words for the user."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from seeknal_core.contract.errors import EngineError


def disk_full(where: str = "") -> EngineError:
    """Return the error of a full disk."""
    return EngineError(
        f"{where}: no space left on device" if where else "no space left on device",
        "free space on the disk, or move target/ to another one",
    )


@contextlib.contextmanager
def disk_guard(where: str = "") -> Iterator[None]:
    """Turn a full disk into an `EngineError`; other failures of the system pass."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(where) from None
        raise


def is_disk_full(error: BaseException) -> bool:
    """Return whether an exception means a full disk or a used-up quota."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
