"""Warnings about a profile or a ``.env`` that other users may read or write."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from pathlib import Path

from seeknal_core.contract.errors import Problem


def rights_warning(path: Path, shown: str, *, secret: bool) -> tuple[Problem, ...]:
    """Return a warning where others may write a file, or read its secrets.

    Args:
        shown: the file's name for messages.
        secret: the file holds a secret in clear.
    """
    try:
        found = path.stat()
        folder = path.resolve().parent
        may_write = _others(found, stat.S_IWOTH)
        may_read = secret and _others(found, stat.S_IROTH)
        if not (may_write or may_read) or not _reachable(folder):
            return ()
    except OSError:
        return ()
    what = "write" if may_write else "read"
    mode = stat.S_IMODE(found.st_mode) & 0o700
    hint = f"chmod {mode:o} {shlex.quote(str(path))}"
    return (Problem(f"other users may {what} it", shown, hint=hint),)


def _others(found: os.stat_result, bit: int) -> bool:
    """Return whether a right is given to somebody beside the owner."""
    if found.st_mode & bit:
        return True
    return bool(found.st_mode & (bit << 3)) and not _is_private(found)


def _is_private(found: os.stat_result) -> bool:
    """Return whether a file's group is the owner's own, as many systems make one."""
    try:
        group = grp.getgrgid(found.st_gid)
        owner = pwd.getpwuid(found.st_uid)
    except KeyError:
        return False
    return owner.pw_gid == group.gr_gid and not set(group.gr_mem) - {owner.pw_name}


def _reachable(folder: Path) -> bool:
    """Return whether others can pass through all folders above a file."""
    return all(_others(each.stat(), stat.S_IXOTH) for each in (folder, *folder.parents))
