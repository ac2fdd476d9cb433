"""The content-addressed store of what nodes gave: immutable Parquet under its key.

One folder a snapshot, ``root/ab/abcdef…/`` with ``data_*.parquet`` and
``snapshot.json``. A folder gets its name by one atomic rename after every byte
was fsynced, so a name that exists is whole. Work in progress stands under
``root/tmp/``, in a folder per process that the process holds a lock on; what a
dead process left there is removed by the next one that writes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import stat
import threading
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import attrs

from seeknal_core.contract.errors import DamagedOutput, EngineError, StateError
from seeknal_core.contract.types import Snapshot
from seeknal_core.contract.types.digests import ContentKey
from seeknal_core.contract.verified import check, root_of, stamp_at
from seeknal_core.engine import filedigest, snapshotdoc
from seeknal_core.engine.aliases import Aliases
from seeknal_core.engine.disk import disk_guard
from seeknal_core.engine.snapshotdoc import Document
from seeknal_core.files.own import FOLDER_MODE, STORED_MODE, make_folder, open_own
from seeknal_core.files.regular import NotAFile
from seeknal_core.state.documents import state_error

_KEY = re.compile(r"[0-9A-Za-z_-]{4,}")
_MAGIC = b"PAR1"
#: The names of the folders in ``tmp`` and of their locks.
_OWN_NAME = re.compile(r"[0-9a-f]{32}(\.lock)?")


@attrs.frozen(kw_only=True)
class Staging:
    """A private folder to write Parquet files (``data_*.parquet``) into."""

    path: Path

    def file(self, number: int = 0) -> Path:
        """Return the path of the data file of a number."""
        return self.path / f"data_{number}.parquet"

    def files(self) -> tuple[Path, ...]:
        """Return the data files that are there, in the order of their rows."""
        found = self.path.glob("data_*.parquet")
        return tuple(sorted(found, key=lambda path: int(path.stem.partition("_")[2])))


@attrs.frozen(kw_only=True)
class Stored:
    """A snapshot in the store: its key, its size, and since when it is there."""

    content_key: str
    bytes: int
    stored_at: datetime


class Recorded(Protocol):
    """What environments recorded of snapshots; ``anew`` looks at the records again."""

    def documents_of(self, content_key: str, *, anew: bool = False) -> Collection[str]:
        """Return the digests of a snapshot's documents that any of them recorded."""
        ...

    def holds(self, node: str, content_key: str, *, anew: bool = False) -> bool:
        """Return whether any of them recorded a content key as a node's."""
        ...


class SnapshotStore:
    """The snapshots under one folder. Thread-safe; several processes share one.

    Nothing is written, not even the folder, before `staging` or a lock is asked for.

    Args:
        recorded: a snapshot with another document than was recorded counts as damaged, and
            an alias holds only where the node's record has what it leads to.
    """

    def __init__(self, root: Path, recorded: Recorded | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self.aliases = Aliases(self.root)
        self._lock = threading.Lock()
        self._own: Path | None = None
        self._own_lock: int | None = None
        self._recorded = recorded
        self._own_aliases: set[str] = set()
        #: The stamps of files whose every byte was checked, by key.
        self._sound: dict[str, tuple[tuple[int, ...], ...]] = {}
        #: The digests of the documents that this process stored, by key.
        self.committed: dict[str, str] = {}
        #: Keys whose files this process found damaged, whatever became of them since.
        self.damaged: set[str] = set()

    def find(self, node: str, content_key: str, *, verify: bool = False) -> Snapshot | None:
        """Return the snapshot stored under a key, or None.

        Where the key is an alias, the snapshot has the key that it stands for. A folder
        whose files are missing, of another size, or with another footer than recorded
        counts as absent, and is removed.

        Args:
            node: the node that the result is for; another one may have stored it.
            verify: compare every byte with the digests taken when the files were written,
                once per process. Needed before rows are read or sent to a store; deciding
                what to do doesn't need it.
        """
        folder = self._folder(content_key)
        document = self._document(folder)
        if document is None and folder.exists():
            # Another thread or process may have stored it between the two looks.
            document = self._document(folder)
            if document is None:
                self.damaged.add(content_key)
                self._remove(folder)
        if document is None:
            stored = self.named_by(node, content_key)
            # Of an alias of an alias nothing is made: none is ever written.
            if stored == content_key or not self._folder(stored).exists():
                return None
            return self.find(node, stored, verify=verify)
        try:
            paths = [folder / file.name for file in document.files]
            if not self._is_recorded(content_key, document):
                raise ValueError("document")
            for path, file in zip(paths, document.files, strict=True):
                if not _is_whole(path, file.sums.bytes):
                    raise ValueError("damaged")
                if snapshotdoc.footer_digest(path) != file.footer:
                    raise ValueError("footer")
            if verify:
                self._check(node, content_key, document)
        except (ValueError, DamagedOutput, FileNotFoundError):
            self.damaged.add(content_key)
            self._remove(folder)
            return None
        except OSError as error:
            raise _unreadable(error, folder) from error
        stamps = self._sound.get(content_key, (None,) * len(paths))
        sums = [file.sums for file in document.files]
        return Snapshot(
            node=node,
            content_key=content_key,
            row_count=document.row_count,
            files=tuple(map(str, paths)),
            bytes=sum(one.bytes for one in sums),
            document=document.own,
            sums=tuple(
                attrs.evolve(one, stamp=stamp) for one, stamp in zip(sums, stamps, strict=True)
            ),
        )

    def named_by(self, node: str, content_key: str) -> str:
        """Return the key under which a node's rows belong: itself, or what it is an alias of.

        Unlike `resolve`, it doesn't believe an alias that somebody else wrote, and the rows
        need not be there.
        """
        alias = None if self._folder(content_key).exists() else self.aliases.get(content_key)
        if alias is None or not _KEY.fullmatch(alias[0]):
            return content_key
        return alias[0] if self._is_meant(node, content_key, alias[0]) else content_key

    def _is_recorded(self, content_key: str, document: Document) -> bool:
        """Return whether a document is one that somebody recorded, or nobody recorded any."""
        if self._recorded is None or self.committed.get(content_key) == document.own:
            return True
        known = self._recorded.documents_of(content_key)
        if not known or document.own in known:
            return True
        # Another command may have stored it anew, and recorded that, since this one began.
        return document.own in self._recorded.documents_of(content_key, anew=True)

    def _is_meant(self, node: str, content_key: str, stored: str) -> bool:
        """Return whether an alias was made by this tool, and not by somebody in the folder."""
        if self._recorded is None or content_key in self._own_aliases:
            return True
        return self._recorded.holds(node, stored) or self._recorded.holds(node, stored, anew=True)

    def alias(self, content_key: str, stored: str, proof: str) -> None:
        """Record that a key stands for a stored one, and why."""
        self.aliases.put(content_key, stored, proof)
        self._own_aliases.add(content_key)

    def _check(self, node: str, content_key: str, document: Document) -> None:
        """Compare every byte with its digest, unless that was done and no file changed since.

        Raises:
            DamagedOutput: one differs.
            OSError: a file cannot be read.
        """
        paths = [str(self._folder(content_key) / file.name) for file in document.files]
        known = self._sound.get(content_key)
        if known is not None and known == tuple(map(stamp_at, paths)):
            return
        self._sound.pop(content_key, None)
        self._sound[content_key] = tuple(
            check(path, node, file.sums) for path, file in zip(paths, document.files, strict=True)
        )

    def contains(self, content_key: str) -> bool:
        """Return whether a key is stored, by sizes and magic bytes alone.

        Cheaper than `find`: pyarrow isn't imported; and nothing is removed.
        """
        return self._is_there(self.resolve(content_key))

    def _is_there(self, stored: str) -> bool:
        """Return whether the files of a key, which is no alias, are there."""
        folder = self._folder(stored)
        document = self._document(folder)
        if document is None:
            return False
        try:
            return all(_is_whole(folder / file.name, file.sums.bytes) for file in document.files)
        except OSError as error:
            raise _unreadable(error, folder) from error

    def resolve(self, content_key: str) -> ContentKey:
        """Return the key that a key is stored under: itself, or what it is an alias of."""
        if not self._folder(content_key).exists():
            alias = self.aliases.get(content_key)
            if alias is not None and _KEY.fullmatch(alias[0]):
                return ContentKey(alias[0])
        return ContentKey(content_key)

    def stored_as(self, node: str, content_key: str) -> ContentKey | None:
        """Return the key that a node's rows are stored under; None where they are not.

        Asks what `find` would find, as cheaply as `contains`.

        Args:
            node: the node that the rows are for; another one may have stored them.
        """
        stored = self.resolve(content_key)
        if stored != content_key and not self._is_meant(node, content_key, stored):
            return None
        return stored if self._is_there(stored) else None

    def digest_of(self, content_key: str) -> str | None:
        """Return the content digest that was given on `commit`; None if there is none."""
        document = self._document(self._folder(content_key))
        return (document.digest or None) if document else None

    def digest_of_same(self, staging: Staging, content_key: str) -> str | None:
        """Return the content digest of a stored snapshot that has the very bytes of the staged.

        Returns:
            None where there is none, or it has other bytes.
        """
        document = self._document(self._folder(content_key))
        files = staging.files()
        if document is None or len(files) != len(document.files):
            return None
        for path, file in zip(files, document.files, strict=True):
            if path.stat().st_size != file.sums.bytes:
                return None
        for path, file in zip(files, document.files, strict=True):
            if root_of(*filedigest.pieces(path)) != file.sums.digest:
                return None
        return document.digest or None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staging]:
        """Return a folder to write into; it is removed afterwards unless committed.

        Raises:
            EngineError: the disk is full, also for a write inside the block.
        """
        with disk_guard():
            path = self._process_folder() / uuid.uuid4().hex
            path.mkdir(FOLDER_MODE)
            try:
                yield Staging(path=path)
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def notes_of(self, content_key: str) -> tuple[str, ...]:
        """Return the notes that were given on `commit`."""
        document = self._document(self._folder(content_key))
        return document.notes if document else ()

    def commit(
        self,
        staging: Staging,
        node: str,
        content_key: str,
        digest: str,
        notes: Sequence[str] = (),
    ) -> Snapshot:
        """Make what is staged the snapshot of a key, durably.

        Where the key is stored already, the stored one wins and the staged is dropped.

        Args:
            digest: what `Engine.digest` said of the staging, or empty.
            notes: what is to be said of the rows whenever they are used (`Output.notes`).

        Raises:
            EngineError: nothing is staged, or the disk is full.
        """
        files = staging.files()
        if not files:
            raise EngineError(f"{node}: nothing was stored", "please report this with the log")
        import pyarrow.parquet as pq

        with disk_guard(node):
            for path in files:
                path.chmod(STORED_MODE)
            before = tuple(map(stamp_at, files))
            content = snapshotdoc.write(
                content_key,
                node=node,
                row_count=sum(pq.read_metadata(path).num_rows for path in files),
                files=files,
                digest=digest,
                notes=notes,
            )
            _write_durably(staging.path / snapshotdoc.NAME, content)
            for path in files:
                _sync(path)
            _sync(staging.path)
            folder = self._folder(content_key)
            if not folder.parent.exists():
                make_folder(folder.parent)
                _sync(self.root)
            # A damaged folder is moved away by the look before the second try.
            for _ in range(2):
                found = self.find(node, content_key, verify=True)
                if found is not None:
                    return found
                try:
                    os.rename(staging.path, folder)
                    _sync(folder.parent)
                    # While they are the same files, they are the ones that were digested.
                    self._sound[content_key] = before
                    self.committed[content_key] = snapshotdoc.own_digest(content)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
        found = self.find(node, content_key)
        if found is None:
            raise EngineError(f"{node}: the snapshot store at {self.root} cannot be written")
        return found

    def stored(self) -> Iterator[Stored]:
        """List what is stored, damaged folders too."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            if _KEY.fullmatch(folder.name):
                files = [path.stat() for path in folder.iterdir()]
                yield Stored(
                    content_key=folder.name,
                    bytes=sum(stat.st_size for stat in files),
                    stored_at=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
                )

    def remove(self, content_key: str) -> None:
        """Remove a snapshot. The caller holds the exclusive lock."""
        self._remove(self._folder(content_key))

    @contextlib.contextmanager
    def shared_lock(self, *, wait: float = 60.0) -> Iterator[None]:
        """Keep snapshots from being removed while a command uses them.

        Args:
            wait: the most seconds to wait for a removal that is under way.

        Raises:
            StateError: it did not end in time.
        """
        with self._locked(fcntl.LOCK_SH, wait, "snapshots are being removed by another command"):
            yield

    @contextlib.contextmanager
    def exclusive_lock(self, *, wait: float = 0.0) -> Iterator[None]:
        """Keep all other commands out, to remove snapshots.

        Raises:
            StateError: another command uses the store.
        """
        with self._locked(fcntl.LOCK_EX, wait, "another command uses the snapshots"):
            yield

    @contextlib.contextmanager
    def _locked(self, kind: int, wait: float, busy: str) -> Iterator[None]:
        file = self._open_lock(readable=kind == fcntl.LOCK_SH)
        if file is None:
            yield
            return
        try:
            end = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= end:
                        raise StateError(busy, "wait for it to end, then try again") from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(file)

    def _open_lock(self, *, readable: bool) -> int | None:
        """Open the lock file, or return None where there is nothing to lock.

        Args:
            readable: whether reading the store is all that the lock is for. A folder that
                this account can't write is read all the same, under the lock of those who can.

        Raises:
            StateError: the folder can't be written, and has to be.
        """
        path = self.root / "lock"
        try:
            with disk_guard():
                make_folder(self.root)
                return open_own(path, os.O_RDWR | os.O_CREAT)
        except NotAFile as error:
            raise state_error(error, path) from error
        except OSError as error:
            if readable and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                with contextlib.suppress(FileNotFoundError):
                    return os.open(path, os.O_RDONLY)
                return None
            raise StateError(
                f"cannot write {self.root}: {error.strerror or error}",
                "check the folder's owner and rights",
            ) from error

    def _folder(self, content_key: str) -> Path:
        if not _KEY.fullmatch(content_key):
            raise ValueError(f"no content key: {content_key!r}")
        return self.root / content_key[:2] / content_key

    @staticmethod
    def _document(folder: Path) -> Document | None:
        if folder.is_symlink():
            return None
        try:
            return snapshotdoc.read(folder, folder.name)
        except NotAFile:
            return None
        except OSError as error:
            raise _unreadable(error, folder) from error

    def _remove(self, folder: Path) -> None:
        """Move a damaged folder out of its name at once, then remove it."""
        self._sound.pop(folder.name, None)
        with contextlib.suppress(OSError):
            away = self._process_folder() / f"damaged-{uuid.uuid4().hex}"
            os.rename(folder, away)
            shutil.rmtree(away, ignore_errors=True)

    def _process_folder(self) -> Path:
        """Return this process's folder under ``tmp``; first remove those of dead ones.

        The lock file is there, and held, before the folder is: a folder without
        one is nobody's. The lock ends with the process, however that ends.
        """
        with self._lock:
            if self._own is not None and self._own.is_dir():
                return self._own
            temporary = self.root / "tmp"
            make_folder(temporary)
            _remove_stale(temporary)
            if self._own_lock is not None:
                os.close(self._own_lock)
            while True:
                name = uuid.uuid4().hex
                path = temporary / f"{name}.lock"
                file = open_own(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                fcntl.flock(file, fcntl.LOCK_EX)
                if path.exists():
                    break
                os.close(file)  # removed as stale between the two calls
            self._own = temporary / name
            self._own.mkdir(FOLDER_MODE)
            self._own_lock = file
            return self._own

    def close(self) -> None:
        """Remove this process's working folder. The store can be used again afterwards."""
        with self._lock:
            if self._own is not None:
                shutil.rmtree(self._own, ignore_errors=True)
                self._own.with_suffix(".lock").unlink(missing_ok=True)
                self._own = None
            if self._own_lock is not None:
                os.close(self._own_lock)
                self._own_lock = None

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError, TypeError, ImportError):
            self.close()


def _unreadable(error: OSError, folder: Path) -> StateError:
    """Return why a snapshot cannot be looked at: no rights, no file descriptors, a failing disk.

    None of that is damage, and none of it may cost a snapshot that others refer to.
    """
    return StateError(
        f"cannot read the stored output in {folder}: {error.strerror or error}",
        "check the folder's owner and rights and the disk, then run again",
    )


def _is_whole(path: Path, size: int) -> bool:
    """Check size and the magic bytes at both ends (Parquet format: "File format")."""
    try:
        found = path.stat()
        # Opening a pipe would wait for somebody who writes into it.
        if not stat.S_ISREG(found.st_mode) or found.st_size != size or size < 12:
            return False
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(-4, os.SEEK_END)
            return head == _MAGIC and file.read(4) == _MAGIC
    except FileNotFoundError:
        return False


def _remove_stale(temporary: Path) -> None:
    for entry in temporary.iterdir():
        if not _OWN_NAME.fullmatch(entry.name) or entry.is_symlink():
            continue  # somebody else's
        if entry.suffix == ".lock":
            _remove_if_dead(entry)
        elif not entry.with_suffix(".lock").exists():
            shutil.rmtree(entry, ignore_errors=True)


def _remove_if_dead(lock: Path) -> None:
    try:
        file = os.open(lock, os.O_RDWR)
    except OSError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
        lock.unlink(missing_ok=True)
    except OSError:
        pass
    finally:
        os.close(file)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _write_durably(path: Path, content: bytes) -> None:
    with open(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
