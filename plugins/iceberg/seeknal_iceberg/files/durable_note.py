"""Write a note into the tool's own folder so that it survives a crash."""

from __future__ import annotations

import os


def make_folder(path: str) -> None:
    """Make a folder that other users cannot enter, and the missing ones above it."""
    try:
        os.mkdir(path, 0o700)
    except FileNotFoundError:
        make_folder(os.path.dirname(path))
        make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def write_durably(path: str, text: str) -> None:
    """Replace a file, whole and synced to the disk with its folder; create missing folders."""
    make_folder(os.path.dirname(path))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(path + ".new", flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
