"""Local files that are on the disk when they are closed.

A catalog in SQLite syncs its commit, pyiceberg none of the files that the commit names: data,
manifests, metadata. After a power cut it could point at files that are not there. Object stores
keep what they have accepted; only local files go through here.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import pyarrow as pa
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from seeknal_iceberg.files import disk


class DurableFileIO(PyArrowFileIO):
    """pyiceberg's own way to files, with local ones synced as they are closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """Return a file that is to be written."""
        scheme, place, path = self.parse_location(location, self.properties)
        if scheme != "file":
            return super().new_output(location)
        return _LocalFile(location=location, path=path, fs=self.fs_by_scheme(scheme, place))


class _LocalFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> Any:
        missing = disk.missing(os.path.dirname(self._path))
        return SyncedStream(super().create(overwrite), self._path, missing)


class SyncedStream:
    """A stream into a local file. ``native`` is Arrow's, for its own writers."""

    def __init__(self, native: Any, path: str, missing: int) -> None:
        self.native: pa.NativeFile = native
        self._path = path
        self._missing = missing

    def write(self, data: bytes) -> int:
        """Write bytes and return how many."""
        written: int = self.native.write(data)
        return written

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        closed: bool = self.native.closed
        return closed

    def flush(self) -> None:
        """Pass what is buffered here to the system."""
        self.native.flush()

    def tell(self) -> int:
        """Return how many bytes were written."""
        position: int = self.native.tell()
        return position

    def close(self) -> None:
        """Close the file and wait for it, its name and new folders to be on the disk.

        Raises:
            OSError: the disk did not take all of it.
        """
        if self.closed:
            return
        self.native.close()
        disk.sync(self._path)
        disk.sync_upwards(os.path.dirname(self._path), self._missing)

    def __enter__(self) -> SyncedStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
