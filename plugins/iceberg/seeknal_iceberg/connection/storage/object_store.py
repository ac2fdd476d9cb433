"""Files of an object store, with a word to the user where it lets them wait.

Named in a catalog's properties, not imported: pyiceberg imports it with its file system.
Reads of an open file are not watched: opening comes first, and fails in the same way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFile

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import redact
from seeknal_iceberg.connection import patience
from seeknal_iceberg.connection.storage.local_files import DurableFileIO, SyncedStream

#: Seconds in which the user is told once of all that waits for the storage.
_SILENCE = 30.0

log = logging.getLogger("seeknal")
_lock = threading.Lock()
_told = [0.0]


#: The property with the location of the table that a server described.
TABLE_LOCATION = "seeknal.table-location"


class WatchedFileIO(DurableFileIO):
    """pyiceberg's own way to files; the user hears of what is waited for.

    For a table that a server described, files of this machine are opened only where the
    table itself lies here: a server names what is read and deleted.
    """

    def _check(self, location: str) -> None:
        place = self.properties.get(TABLE_LOCATION)
        if not place or not _is_local(location):
            return
        if not _is_local(place) or not _is_below(location, place):
            raise BackendError(
                f"the catalog names a file of this machine for the table at {place}: {location}",
                "ask who runs the catalog; the file was not opened",
            )

    def new_input(self, location: str) -> PyArrowFile:
        """Return a file that is to be read."""
        self._check(location)
        return _watched(super().new_input(location))

    def new_output(self, location: str) -> PyArrowFile:
        """Return a file that is to be written."""
        self._check(location)
        return _watched(super().new_output(location))

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file."""
        where = location if isinstance(location, str) else location.location
        self._check(where)
        with _watch("delete", where):
            super().delete(location)


def _is_local(location: str) -> bool:
    return "://" not in location or location.startswith("file:")


def _is_below(location: str, place: str) -> bool:
    path, folder = (
        os.path.realpath(unquote(each.removeprefix("file://"))) for each in (location, place)
    )
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _watched(file: PyArrowFile) -> PyArrowFile:
    if type(file) is not PyArrowFile:  # a local one
        return file
    return _WatchedFile(file.location, file._path, file._filesystem, file._buffer_size)


class _WatchedFile(PyArrowFile):
    def __len__(self) -> int:
        with _watch("look for", self.location):
            return super().__len__()

    def exists(self) -> bool:
        with _watch("look for", self.location):
            return super().exists()

    def open(self, seekable: bool = True) -> Any:
        with _watch("open", self.location):
            return super().open(seekable)

    def create(self, overwrite: bool = False) -> Any:
        with _watch("create", self.location):
            return _WatchedStream(super().create(overwrite), self.location, 0)


class _WatchedStream(SyncedStream):
    """A stream into an object store, which has the file once it is closed."""

    def close(self) -> None:
        if not self.closed:
            with _watch("write", self._path):
                self.native.close()


@contextlib.contextmanager
def _watch(what: str, location: str) -> Iterator[None]:
    timer = threading.Timer(patience.TOLD_AFTER, _tell, (what, location))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(what: str, location: str) -> None:
    with _lock:
        now = time.monotonic()
        if _told[0] and now - _told[0] < _SILENCE:
            return
        _told[0] = now
    log.warning("waiting for the storage to %s %s", what, redact(location))
