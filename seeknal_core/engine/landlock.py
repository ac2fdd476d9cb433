"""Linux's Landlock: a process that closes the file system and the network to itself.

See https://docs.kernel.org/userspace-api/landlock.html. What is closed stays closed, for the
process and what it starts; threads that run already are not held by it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1 << 0
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_TRUNCATE = 1 << 14
#: Removing and making files and folders; no links, sockets, pipes or devices.
_CHANGE = _WRITE_FILE | _TRUNCATE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | 1 << 15
#: How many rights on files, and on the network, and scopes, each version knows.
_FILES = {1: 13, 2: 14, 3: 15, 4: 15}
_FILES_NOW = 16
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that the kernel has, 0 where it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)))


def restrict(*, read: Iterable[Path], write: Iterable[Path]) -> None:
    """Close to this process, from now on, all files but some, and the network.

    Args:
        read: files and folders that may be read; those that are not there are left out.
        write: folders in which files may be read, made, changed and removed.

    Raises:
        OSError: the kernel has no Landlock, or refuses.
    """
    known = version()
    if not known:
        raise OSError("the kernel has no Landlock")
    libc = _libc()
    files = (1 << _FILES.get(known, _FILES_NOW)) - 1
    network = 0b11 if known >= _NETWORK_SINCE else 0
    scopes = 0b11 if known >= _SCOPES_SINCE else 0
    ruleset = _Ruleset(files, network, scopes)
    size = 24 if known >= _SCOPES_SINCE else 16 if known >= _NETWORK_SINCE else 8
    descriptor = _checked(
        libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), 0)
    )
    try:
        for path in read:
            _allow(libc, descriptor, path, (_READ_FILE | _READ_DIR | _EXECUTE) & files)
        for path in write:
            _allow(libc, descriptor, path, (_READ_FILE | _READ_DIR | _CHANGE) & files)
        _checked(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT_SELF, descriptor, 0))
    finally:
        os.close(descriptor)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = _Beneath(rights, opened)
        _checked(libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(opened)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: Any) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)
