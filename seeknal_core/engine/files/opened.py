"""The files of a source, opened before they are looked at: what was checked is what is read."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seeknal_core.contract.errors import EngineError
from seeknal_core.files.regular import NotAFile
from seeknal_core.project.places import Closed, Places

if TYPE_CHECKING:
    pass


#: Where the system shows a process its own open files.
_OPEN_FILES = "/proc/self/fd"


_MOST_OPEN = 16_384


#: Making a link on a disk takes half a millisecond.
_IN_MEMORY = "/dev/shm"


@attrs.frozen(kw_only=True)
class ResolvedFiles:
    """The files of a source, in the order they are read.

    ``labels`` name them for the content key and for messages: relative to the
    project root with ``/``, or the absolute path or URL where they lie elsewhere.
    ``folders`` are those of each file below the fixed part of the written path: what a
    glob found. ``places`` are what the files were checked against, None for our own copies
    of what was downloaded.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    folders: tuple[tuple[str, ...], ...] = attrs.field()
    places: Places | None = None

    @folders.default
    def _no_folders(self) -> tuple[tuple[str, ...], ...]:
        return ((),) * len(self.files)

    @contextlib.contextmanager
    def opened(self, folder: Path) -> Iterator[ResolvedFiles]:
        """Open the files and give the same ones by paths that nobody can change.

        Each path is a link to the open file, under the file's own name, in a new folder
        below `folder`. Where the system has no such links, or there are more files than
        may be open at once, the files are given as they are.

        Raises:
            EngineError: a file leads to what the project may not read by now.
        """
        if self.places is None or not os.path.isdir(_OPEN_FILES):
            yield self
            return
        with _held_open.room_for(len(self.files)) as enough:
            if not enough:
                yield self
                return
            with self._linked(folder, self.places) as linked:
                yield linked

    @contextlib.contextmanager
    def _linked(self, folder: Path, places: Places) -> Iterator[ResolvedFiles]:
        made = _private_folder(folder)
        descriptors: list[int] = []
        links: dict[Path, None] = {}
        try:
            for path in self.files:
                descriptors.append(open_checked(path, places))
                link = made / path.name
                if link in links:
                    link = Path(tempfile.mkdtemp(dir=made)) / path.name
                os.symlink(f"{_OPEN_FILES}/{descriptors[-1]}", link)
                links[link] = None
            files = tuple(links)
            yield attrs.evolve(self, files=files)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
            shutil.rmtree(made, ignore_errors=True)


def _private_folder(folder: Path) -> Path:
    """Make a folder for links: in memory where that is possible, else below `folder`."""
    if os.access(_IN_MEMORY, os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="seeknal-open-", dir=_IN_MEMORY))
    return Path(tempfile.mkdtemp(prefix="open-", dir=folder))


def open_checked(path: Path, places: Places) -> int:
    """Open a file that the project may read; return its descriptor.

    Raises:
        EngineError: it leads elsewhere by now, or is no regular file.
        FileNotFoundError: it is gone.
    """
    try:
        return places.open(path)
    except Closed as closed:
        raise EngineError(
            f"{path.name}: {closed.message}", "look at who changes the file and its folder"
        ) from None
    except NotAFile as error:
        raise EngineError(f"{path.name}: {error.strerror}", "name a file") from None


class _HeldOpen:
    """Counts the files that are held open: half of what the process may, in all."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def room_for(self, files: int) -> Iterator[bool]:
        """Reserve room for some files; the answer is False where there is none."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_OPEN if soft == resource.RLIM_INFINITY else min(soft // 2, _MOST_OPEN)
        with self._lock:
            enough = self._count + files <= most
            self._count += files if enough else 0
        try:
            yield enough
        finally:
            with self._lock:
                self._count -= files if enough else 0


_held_open = _HeldOpen()
