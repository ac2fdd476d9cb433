"""Files of a table that are opened by keys which a catalog lends for a while.

pyarrow's file systems keep the keys that they were made with. The one here makes itself
again when the keys have changed, also while a file is read. What is written is put into a
file on this machine first and sent as a whole: an upload can't change its keys, and can be
sent again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar

import pyarrow as pa
from pyarrow import fs
from pyiceberg.io import FileIO, InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from seeknal_core.contract.errors import SeeknalError
from seeknal_iceberg.connection.storage.object_store import TABLE_LOCATION, WatchedFileIO
from seeknal_iceberg.connection.storage.vended_keys import VendedKeys

T = TypeVar("T")

_CHUNK = 8 * 1024 * 1024
#: Kept in memory of a file that is written, before it goes to this machine's disk.
_IN_MEMORY = 4 * 1024 * 1024
#: File systems of this machine, or without keys.
_OWN = frozenset({"file", "hdfs", "viewfs"})
#: Messages of a storage for keys that it does not accept (any more).
_REFUSED = (
    "Expired", "EXPIRED", "TokenRefreshRequired", "InvalidToken", "INVALID_TOKEN",
    "ACCESS_DENIED", "AccessDenied", "INVALID_ACCESS_KEY_ID", "InvalidAccessKeyId",
    "SIGNATURE", "Signature", "HTTP status 400", "HTTP status 403", "response code 400",
    "response code 403", "Unauthenticated",
)  # fmt: skip


class VendedFileIO(WatchedFileIO):
    """pyiceberg's way to files, by what a lease says at the moment.

    Args:
        lease: of the table.
        location: the table's.
        spool: the folder for files that are being written.
        refused: makes the error where nothing opens the files.
    """

    def __init__(
        self,
        lease: VendedKeys,
        location: str,
        spool: str,
        refused: Callable[[], SeeknalError],
    ) -> None:
        self._lease, self._spool, self._refused = lease, spool, refused
        super().__init__({**lease.at(location)[0].properties, TABLE_LOCATION: location})

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> fs.FileSystem:
        if scheme in _OWN:
            return super()._initialize_fs(scheme, netloc)
        access, _ = self._lease.at(f"{scheme}://{netloc or ''}")
        if access.signed_only:
            raise self._refused()
        lent = _LentFileSystem(self._lease, scheme, netloc, self._spool)
        return fs.PyFileSystem(lent)


class LeftFiles(FileIO):
    """Files that nobody here can open: they stay where they are.

    Args:
        refused: makes the error of who wants to read or write one.
    """

    def __init__(self, refused: Callable[[], SeeknalError]) -> None:
        super().__init__()
        self._refused = refused

    def new_input(self, location: str) -> InputFile:
        """Refuse to open a file."""
        raise self._refused()

    def new_output(self, location: str) -> OutputFile:
        """Refuse to write a file."""
        raise self._refused()

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Leave a file; the user has been told."""


class _LentFileSystem(fs.FileSystemHandler):  # type: ignore[misc]
    def __init__(self, lease: VendedKeys, scheme: str, netloc: str | None, spool: str) -> None:
        super().__init__()
        self._lease, self._scheme, self._netloc, self._spool = lease, scheme, netloc, spool
        self._lock = threading.Lock()
        self._made: dict[tuple[tuple[str, str], ...], fs.FileSystem] = {}

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def current(self, path: str) -> tuple[fs.FileSystem, int]:
        """Return the file system that opens a path now, and its offer's number."""
        access, number = self._lease.at(f"{self._scheme}://{path}")
        key = tuple(sorted((name, str(value)) for name, value in access.properties.items()))
        with self._lock:
            if key not in self._made:
                # File systems of earlier keys stay with the threads that use them.
                self._made = dict(list(self._made.items())[-3:])
                made = PyArrowFileIO(dict(access.properties))
                self._made[key] = made._initialize_fs(self._scheme, self._netloc)
            return self._made[key], number

    def run(self, path: str, action: Callable[[fs.FileSystem], T]) -> T:
        """Run a repeatable operation; run it once more if the keys are refused."""
        native, number = self.current(path)
        try:
            return action(native)
        except OSError as error:
            if not is_refused(error) or not self._lease.renewed_since(number):
                raise
        native, _ = self.current(path)
        return action(native)

    # What pyarrow asks for.

    def get_type_name(self) -> str:
        return f"lent+{self._scheme}"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        return self.run(path, lambda native: native.get_file_info(path))

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        found: list[fs.FileInfo] = self.run(
            selector.base_dir, lambda native: native.get_file_info(selector)
        )
        return found

    def create_dir(self, path: str, recursive: bool) -> None:
        self.run(path, lambda native: native.create_dir(path, recursive=recursive))

    def delete_dir(self, path: str) -> None:
        self.run(path, lambda native: native.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.run(
            path, lambda native: native.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)
        )

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self.run(path, lambda native: native.delete_file(path))

    # pyarrow wants a handler to have it; an Iceberg table's files are never moved.
    def move(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def copy_file(self, src: str, dest: str) -> None:
        self.run(dest, lambda native: native.copy_file(src, dest))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Reading(self, path), mode="r")

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:
        return pa.PythonFile(_Writing(self, path, self._spool), mode="w")

    # The same: none of them is ever appended to.
    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        raise NotImplementedError


def is_refused(error: BaseException) -> bool:
    """Return whether a storage does not take the keys."""
    if isinstance(error, FileNotFoundError):
        return False
    return isinstance(error, PermissionError) or any(word in str(error) for word in _REFUSED)


class _Reading:
    """A file that is read, opened again where the keys have changed meanwhile."""

    def __init__(self, files: _LentFileSystem, path: str) -> None:
        self._files, self._path = files, path
        self._native: pa.NativeFile = files.run(path, lambda native: native.open_input_file(path))
        self._number = files.current(path)[1]
        self._position = 0
        self._size: int = self._native.size()
        self.closed = False

    def _read(self, read: Callable[[pa.NativeFile], Any]) -> Any:
        number = self._files.current(self._path)[1]
        if number != self._number:
            self._open_again(number)
        try:
            return read(self._native)
        except OSError as error:
            if not is_refused(error) or not self._files._lease.renewed_since(self._number):
                raise
        self._open_again(self._files.current(self._path)[1])
        return read(self._native)

    def _open_again(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._native.close()
        native, _ = self._files.current(self._path)
        self._native, self._number = native.open_input_file(self._path), number

    def _many(self, nbytes: int | None) -> int:
        left = self._size - self._position
        return left if nbytes is None or nbytes < 0 else min(nbytes, left)

    def read(self, nbytes: int | None = None) -> bytes:
        many, at = self._many(nbytes), self._position
        if many <= 0:
            return b""
        data: bytes = self._read(lambda native: native.read_at(many, at))
        self._position += len(data)
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = base + position
        return self._position

    def tell(self) -> int:
        return self._position

    def size(self) -> int:
        return self._size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._native.close()


class _Writing:
    """A file that is written: to this machine first, and sent when it is closed."""

    def __init__(self, files: _LentFileSystem, path: str, spool: str) -> None:
        self._files, self._path = files, path
        # Another program's temporary files may be in memory; these may be as large as a table.
        with contextlib.suppress(OSError):
            os.makedirs(spool, 0o700, exist_ok=True)
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close
            max_size=_IN_MEMORY, dir=spool if os.path.isdir(spool) else None
        )
        self.closed = False

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """Do nothing: what is sent is the whole file."""

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with self._file:
            self._files.run(self._path, self._send)

    def _send(self, native: fs.FileSystem) -> None:
        self._file.seek(0)
        with native.open_output_stream(self._path) as stream:
            shutil.copyfileobj(self._file, stream, _CHUNK)
