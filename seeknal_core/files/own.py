"""Seeknal's own folder ``target/``: closed to other users, and free of links.

Files there are opened, replaced and deleted by name. A link that somebody committed to the
project would lead that elsewhere, so a command that finds one does nothing. The folder is
closed to other users first: nobody else can put a link there afterwards.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from seeknal_core.contract.errors import ExitCode, StateError
from seeknal_core.files.layout import OURS
from seeknal_core.files.regular import NotAFile, refuse_irregular, refuse_not_regular
from seeknal_core.hints import hints

FOLDER_MODE = 0o700
FILE_MODE = 0o600
#: Stored outputs are never written again.
STORED_MODE = 0o400
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

#: How deep folders are looked through for links; stored outputs are looked at when they are read.
_DEPTHS = {"state": 9, "cache": 9, "snapshots": 1}
_DEPTH = 2


def make_folder(path: Path) -> None:
    """Create a folder that is closed to other users, and the missing ones above it.

    Raises:
        OSError: it cannot be created, or something else is there.
    """
    try:
        os.mkdir(path, FOLDER_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        make_folder(path)
    except FileExistsError:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise


def open_own(path: Path, flags: int) -> int:
    """Open a file of Seeknal's own; no link is followed, and a new file is closed to others.

    Raises:
        NotAFile: something else than a file is there, or a second name of one.
        OSError: it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _OPEN, FILE_MODE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotAFile(errno.EINVAL, "it is a link, not a file", str(path)) from None
        if error.errno in (errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
            refuse_irregular(path)
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISCHR(found.st_mode):
            refuse_not_regular(found.st_mode, path)
        if found.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
            raise NotAFile(errno.EINVAL, "it is another name of some file", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_target(root: Path, *, untrusted: bool) -> None:
    """Close ``target/`` to other users, and refuse links in it. Nothing is created.

    ``target`` itself may be a link that the user made, to a folder of the user's own that
    holds nothing but Seeknal's files.

    Args:
        untrusted: the project is a stranger's, so that a link may be, too.

    Raises:
        StateError: with the path of the link, and where it leads.
    """
    target = root / "target"
    try:
        found = target.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        if not target.exists():
            raise _refusal(
                target, "leads to nothing", f"make it: mkdir {_quoted(target.resolve())}"
            )
        _check_linked(target, untrusted=untrusted)
        found = target.stat()
    if not stat.S_ISDIR(found.st_mode):
        return
    _close(target, found)
    for link in _links(target):
        raise _refusal(link, f"is a link to {os.readlink(link)}", f"remove it: rm {_quoted(link)}")


def _check_linked(target: Path, *, untrusted: bool) -> None:
    real = target.resolve()
    remove = f"remove the link: rm {_quoted(target)}"
    if untrusted:
        raise _refusal(target, f"is a link to {real}, and the project is untrusted", remove)
    found = real.stat()
    if not stat.S_ISDIR(found.st_mode):
        return
    if found.st_uid != os.geteuid():
        raise _refusal(target, f"is a link to {real}, which is another user's", remove)
    root = target.parent.resolve()
    backends = tuple(hints().own_folders)
    found_there = os.listdir(real)
    others = [n for n in found_there if n not in OURS and not n.startswith(backends)]
    if others or root.is_relative_to(real):
        raise _refusal(
            target,
            f"is a link to {real}, which holds other files than Seeknal's",
            "link it to an empty folder, made for it",
        )


def _close(target: Path, found: os.stat_result) -> None:
    """Take the rights of other users away, those of the group too unless it was set to share."""
    if found.st_uid != os.geteuid():
        return
    wanted = FOLDER_MODE
    if found.st_mode & stat.S_ISGID:
        wanted |= stat.S_IRWXG
    if _holds_a_server_of_another_account(target):
        # Its account passes through to its data, and sees no names.
        wanted |= stat.S_IXGRP | stat.S_IXOTH
        _close_folders(target)
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o777 & ~wanted:
        os.chmod(target, mode & (wanted | 0o7000))


def _close_folders(target: Path) -> None:
    """Close the folders of older versions, each for itself, but for the server's."""
    for entry in _entries(target):
        if not entry.is_dir(follow_symlinks=False) or _is_of_another_account(entry.path):
            continue
        found = entry.stat(follow_symlinks=False)
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            os.chmod(entry.path, FOLDER_MODE)


def _holds_a_server_of_another_account(target: Path) -> bool:
    """Return whether a backend keeps data of another account in the folder."""
    if os.geteuid() != 0:
        return False
    return any(_is_of_another_account(entry.path) for entry in _entries(target))


def _is_of_another_account(folder: str) -> bool:
    try:
        return os.lstat(os.path.join(folder, "data")).st_uid != os.geteuid()
    except OSError:
        return False


def _links(target: Path) -> Iterator[Path]:
    """Find the links in the folder, as far as Seeknal's own names reach."""
    for entry in _entries(target):
        if entry.is_symlink():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _links_below(entry.path, _DEPTHS.get(entry.name, _DEPTH))
    for name in ("tmp", "aliases"):
        yield from _links_below(str(target / "snapshots" / name), 1)


def _links_below(folder: str, depth: int) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_symlink():
            yield Path(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _links_below(entry.path, depth - 1)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _refusal(path: Path, what: str, hint: str) -> StateError:
    error = StateError(f"{path} {what}; Seeknal follows no links there", hint)
    error.exit_code = ExitCode.USAGE
    return error
