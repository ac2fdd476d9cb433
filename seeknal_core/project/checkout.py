"""Whether a checkout brought a ``target/`` of its own.

What lies there is this tool's: stored outputs, state, what spares work. A stranger's pull
request can add files there, too, so for an untrusted project none of them may come from git.
git isn't run for that: its settings may lie in the folder, and name programs.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.files.own import check_target
from seeknal_core.files.regular import read_regular
from seeknal_core.project.trust import UNTRUSTED, Trust

_TARGET = "target"
_HEAD = 12
#: Bytes of an entry before its object's name, those behind it, and the bit that says that
#: two more follow.
_BEFORE, _FLAGS, _EXTENDED, _MORE = 40, 2, 0x4000, 2


def refuse_brought_target(root: Path, trust: Trust) -> None:
    """Refuse a ``target/`` with links in it, or of an untrusted project's checkout.

    Raises:
        ConfigError: git tracks a file there, or the folder is a link; or that can't be told.
        StateError: it is a link to somebody's files, or holds a link.
    """
    if trust.untrusted:
        _refuse_brought(root / _TARGET, root)
    check_target(root, untrusted=trust.untrusted)


def _refuse_brought(target: Path, root: Path) -> None:
    if target.is_symlink():
        raise _refused(target, "is a link", f"rm {target}")
    if not target.exists():
        return
    try:
        found = _tracked(root)
    except (OSError, ValueError, IndexError) as error:
        raise _refused(
            target, f"may have come with the checkout: {error}", "rm -rf target"
        ) from None
    if found:
        raise _refused(
            target / os.fsdecode(found),
            "came with the checkout",
            "git rm -r --cached target; rm -rf target",
        )


def _refused(path: Path, what: str, command: str) -> ConfigError:
    return ConfigError(
        [Problem(f"{path} {what}; with {UNTRUSTED}=1 nothing in target/ may")],
        f"stored outputs and state are this tool's own: {command}",
    )


def _tracked(root: Path) -> bytes | None:
    """Return the first file below the project's ``target`` that git tracks, None if none."""
    # The repository is around the folder itself, not around a link to it.
    root = Path(os.path.realpath(root))
    for folder in (root, *root.parents):
        git = folder / ".git"
        if not git.exists():
            continue
        if git.is_file():
            # "gitdir: PATH", as worktrees and submodules have it.
            written = read_regular(git).decode("utf-8", "surrogateescape").replace("\0", "")
            git = folder / written.partition("gitdir:")[2].strip()
        index = git / "index"
        if not index.exists():
            return None
        start = os.fsencode((root / _TARGET).relative_to(folder))
        for name in names_in(read_regular(index)):
            # Folders that differ in case are one on some file systems.
            if name.lower() == start.lower() or name.lower().startswith(start.lower() + b"/"):
                return name[len(start) + 1 :]
        return None
    return None


def names_in(index: bytes) -> list[bytes]:
    """Return the names of the files in a git index (gitformat-index, versions 2 to 4).

    Raises:
        ValueError, IndexError: it is none.
    """
    version, count = int.from_bytes(index[4:8]), int.from_bytes(index[8:12])
    if index[:4] != b"DIRC" or version not in (2, 3, 4):
        raise ValueError("the index of git is of a version that is not known here")
    hash_bytes = 32 if index[-32:] == hashlib.sha256(index[:-32]).digest() else 20
    names: list[bytes] = []
    place, before = _HEAD, b""
    for _ in range(count):
        begin = place
        place += _BEFORE + hash_bytes
        flags = int.from_bytes(index[place : place + _FLAGS])
        place += _FLAGS + (_MORE if version > 2 and flags & _EXTENDED else 0)
        kept = 0
        if version == 4:
            removed, place = _number(index, place)
            kept = len(before) - removed
        end = index.index(b"\0", place)
        before = before[:kept] + index[place:end]
        names.append(before)
        # Entries of versions 2 and 3 are filled up to a multiple of eight bytes.
        place = end + 1 if version == 4 else begin + (end - begin + 8) // 8 * 8
    while place < len(index) - hash_bytes:
        if index[place : place + 4] == b"link":
            raise ValueError("the index of git is split: git update-index --no-split-index")
        place += 8 + int.from_bytes(index[place + 4 : place + 8])
    return names


def _number(index: bytes, place: int) -> tuple[int, int]:
    """Read a number of variable length, as pack files have it."""
    byte = index[place]
    value = byte & 127
    while byte & 128:
        place += 1
        byte = index[place]
        value = ((value + 1) << 7) | (byte & 127)
    return value, place + 1
