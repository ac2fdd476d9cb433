"""Notes on writes, which list the leftovers of a killed one.

Before a write places its first file it notes, in the tool's own folder, where
it will place them. The note goes when the write has landed or its files are
deleted. A note that nobody holds the lock of is a dead process's. Its commit may
still be on its way, so it also names what that commit requires of the table: once
the table has moved from there, the commit is fenced off, and the next write of the
same target, or ``seeknal gc``, deletes the files that no snapshot names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from seeknal_core.contract.types import ExecutionContext
from seeknal_iceberg.connection import catalog as catalogs
from seeknal_iceberg.files.durable_note import make_folder

if TYPE_CHECKING:
    from pyiceberg.table import Table


def notes_folder(context: ExecutionContext, parts: tuple[str, ...], kind: str = "pending") -> str:
    """Return the folder of the notes on a table.

    Args:
        kind: ``pending`` for writes that commit at once, ``staged`` for those that wait.
    """
    place = catalogs.short_hash(catalogs.identity(catalogs.of(context), parts))
    return os.path.join(context.target_dir, f"iceberg-{kind}", place)


log = logging.getLogger("seeknal")


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The most bytes of a note.
_MOST = 1024 * 1024
#: Seconds after which no catalog carries out a commit any more.
LATEST = 24 * 3600.0

#: What a commit requires of a table: its UUID and iceberg_snapshot_id; an empty UUID for
#: a table that must not be there.
Base = tuple[str, int | None]


def base_of(table: Table | None) -> Base:
    """Return what a commit that was made of a table as it is now requires of it."""
    if table is None:
        return ("", None)
    return (str(table.metadata.table_uuid), table.metadata.current_snapshot_id)


@attrs.frozen(kw_only=True)
class Noted:
    """The content of a note; empty if there is none, or it was never written.

    ``bases`` are what the write's commits require, one for each attempt. ``promotion``
    is that of a staged write. ``sent`` is when a commit was sent whose outcome is not
    known, ``at`` when the note was last changed, both in seconds since 1970. ``bare`` tells
    that no tag fences that commit off, for the catalog keeps none. ``begun`` are names under
    which the write created a table that is not finished (see `commit.unfinished`).
    """

    there: bool = False
    folders: list[str] = attrs.field(factory=list)
    ids: list[str] = attrs.field(factory=list)
    namespaces: list[tuple[str, ...]] = attrs.field(factory=list)
    made: list[str] = attrs.field(factory=list)
    parts: tuple[str, ...] = ()
    bases: list[Base] = attrs.field(factory=list)
    sent: float = 0.0
    promotion: str = ""
    at: float = 0.0
    bare: bool = False
    begun: list[tuple[str, ...]] = attrs.field(factory=list)

    def until(self) -> str:
        """Return when no commit of the write can land any more, in words."""
        last = datetime.fromtimestamp((self.sent or self.at) + LATEST, UTC)
        return last.strftime("%Y-%m-%d %H:%M UTC")

    def is_fenced(self, table: Table | None) -> bool:
        """Return whether no commit of the write can land any more on a table as it is now."""
        if time.time() - self.at > LATEST:
            return True
        uuid, snapshot_id = base_of(table)
        return all(
            table is not None if not base[0] else base != (uuid, snapshot_id) for base in self.bases
        )


def _parsed(text: bytes, at: float = 0.0) -> Noted:
    try:
        return _noted(json.loads(text), at)
    # Killed before it was written: no file was placed. Or damaged since: it names none.
    except (ValueError, RecursionError, TypeError, AttributeError, OverflowError):
        return Noted(there=True, at=at)


def _noted(found: Any, at: float) -> Noted:
    return Noted(
        there=True,
        at=at,
        parts=tuple(found.get("parts", ())),
        bases=[(str(uuid), snapshot_id) for uuid, snapshot_id in found.get("bases", ())],
        folders=[str(each) for each in found.get("folders", ())],
        # A file is deleted whose name holds one: a shorter text would stand in any name.
        ids=[str(each) for each in found.get("ids", ()) if _ID.fullmatch(str(each))],
        namespaces=[tuple(levels) for levels in found.get("namespaces", ())],
        made=[str(each) for each in found.get("made", ())],
        sent=float(found.get("sent", 0.0)),
        promotion=str(found.get("promotion", "")),
        bare=bool(found.get("bare", False)),
        begun=[tuple(name) for name in found.get("begun", ())],
    )


def _opened(path: str) -> int:
    while True:
        make_folder(os.path.dirname(path))
        # Another thread removes the folder when its own note was the last one.
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


class Note:
    """The note of a write that is under way.

    Args:
        folder: that of the target's notes; made if needed.
        write_id: a UUID.
        parts: the table's name.
    """

    def __init__(self, folder: str, write_id: str, parts: tuple[str, ...]) -> None:
        self._path = os.path.join(folder, f"{write_id}.json")
        self._descriptor = _opened(self._path)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._write_id = write_id
        # Earlier entries stay: a publish adds to the note of its staging.
        noted = _parsed(os.pread(self._descriptor, _MOST, 0))
        self._folders = noted.folders
        self._ids = noted.ids or [write_id]
        self._namespaces = noted.namespaces
        self._made = noted.made
        self._parts = noted.parts or parts
        self._bases = noted.bases
        self._sent = noted.sent
        self._promotion = noted.promotion
        self._bare = noted.bare
        self._begun = noted.begun

    @property
    def noted(self) -> Noted:
        """The note's current content."""
        return Noted(
            there=True,
            folders=list(self._folders),
            ids=list(self._ids),
            parts=self._parts,
            bases=list(self._bases),
            begun=list(self._begun),
            at=time.time(),
        )

    def add(self, data: str, metadata: str, commit_id: str, *, base: Base | None = None) -> None:
        """Note, durably, a folder for data files, one for manifests, and the manifests' id.

        Args:
            base: what the commit will require of the table, where that is known yet.
        """
        for folder in (data, metadata):
            if folder not in self._folders:
                self._folders.append(folder)
        if commit_id not in self._ids:
            self._ids.append(commit_id)
        if base is not None and base not in self._bases:
            self._bases.append(base)
        self._save()

    def add_namespaces(self, namespaces: Iterable[tuple[str, ...]]) -> None:
        """Note, durably, namespaces that are about to be made."""
        self._namespaces += [levels for levels in namespaces if levels not in self._namespaces]
        self._save()

    def add_begun(self, name: tuple[str, ...]) -> None:
        """Note, durably, the name of a table that is about to be created without rows."""
        if name not in self._begun:
            self._begun.append(name)
        self._save()

    def add_made(self, paths: Iterable[str]) -> None:
        """Note, durably, a local catalog and folders that are about to be made."""
        self._made += [path for path in paths if path not in self._made]
        self._save()

    def is_published(self) -> None:
        """Note, durably, that the files are the table's: only the namespaces are left over."""
        self._folders = []
        self._begun = []
        self._save()

    def belongs_to(self, promotion: str) -> None:
        """Set which promotion the staged write belongs to; written with the next entry."""
        self._promotion = promotion

    def set_sent(self, sent: float, promotion: str = "", *, bare: bool = False) -> None:
        """Note, durably, when a commit was sent, or by 0 that its outcome is known.

        Args:
            bare: no tag fences it off.
        """
        self._sent = sent
        self._bare = bare
        self._promotion = promotion or self._promotion
        self._save()

    def _save(self) -> None:
        noted: dict[str, object] = {
            "write_id": self._write_id,
            "folders": self._folders,
            "ids": self._ids,
            "parts": self._parts,
            "bases": self._bases,
        }
        if self._namespaces:
            noted["namespaces"] = self._namespaces
        if self._made:
            noted["made"] = self._made
        if self._sent:
            noted["sent"] = self._sent
        if self._bare:
            noted["bare"] = True
        if self._begun:
            noted["begun"] = self._begun
        if self._promotion:
            noted["promotion"] = self._promotion
        text = json.dumps(noted).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove the note: nothing is left behind."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Release the note's lock, whether or not the note was removed."""
        os.close(self._descriptor)

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_staged(context: ExecutionContext, parts: tuple[str, ...], write_id: str) -> Noted:
    """Return what is noted of a staged write."""
    path = os.path.join(notes_folder(context, parts, "staged"), f"{write_id}.json")
    try:
        with open(path, "rb") as file:
            return _parsed(file.read())
    except FileNotFoundError:
        return Noted()


def forget_staged(context: ExecutionContext, parts: tuple[str, ...], write_id: str) -> None:
    """Remove the note of a staged write, and the folders that held only it."""
    folder = notes_folder(context, parts, "staged")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, f"{write_id}.json"))
    for emptied in (folder, os.path.dirname(folder)):
        with contextlib.suppress(OSError):
            os.rmdir(emptied)


def dead(folder: str) -> Iterator[tuple[str, Noted]]:
    """Yield the notes that no process works with, and their files' paths."""
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = os.read(descriptor, _MOST)
            at = os.fstat(descriptor).st_mtime
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
        yield path, _parsed(text, at)
