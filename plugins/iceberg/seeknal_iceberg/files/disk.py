"""Syncs names to the disk: a folder keeps the names of its files and folders."""

from __future__ import annotations

import os


def missing(folder: str) -> int:
    """Count the folders that are to be made for `folder` to be there."""
    count = 0
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
        count += 1
    return count


def make_folders(folder: str) -> None:
    """Make a folder and those above it, and have what was made on the disk.

    Raises:
        OSError: it cannot be made.
    """
    made = missing(folder)
    os.makedirs(folder, exist_ok=True)
    if made:
        sync_upwards(folder, made)


def sync_upwards(folder: str, made: int) -> None:
    """Sync a folder, and the `made` ones above it: those made now, and where the first one is."""
    for _ in range(made + 1):
        sync(folder)
        folder = os.path.dirname(folder)


def sync(path: str) -> None:
    """Wait for a file's bytes, or a folder's names, to be on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
