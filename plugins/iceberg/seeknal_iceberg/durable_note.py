"""Write a note into the tool's own folder so that it survives a crash."""

from __future__ import annotations

import os


def write_durably(path: str, text: str) -> None:
    """Replace a file, whole and synced to the disk, its folder too; folders are made."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
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
