"""Which files a project may read: those below its folder, and those that somebody allowed.

A path is judged by where it leads, links followed. `Places.open` judges the file that was
opened, so that nobody can put a link in its place in between.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from seeknal_core.files.regular import NotAFile, refuse_not_regular
from seeknal_core.hints import hints

#: Files that hold secrets, whoever allows their folder.
_SECRET_FILE = re.compile(
    r"\.env(\..*)?|profiles(-.*)?\.ya?ml|[._]netrc|\.pgpass|\.pg_service\.conf"
    r"|\.pypirc|\.npmrc|\.my\.cnf|\.git-credentials",
    re.IGNORECASE | re.DOTALL,
)
#: How those names begin, and those of the folders below.
_SECRET_STARTS = (".", "_", "p", "P")
_SECRET_FOLDERS = frozenset(
    {".git", ".ssh", ".aws", ".azure", ".gnupg", ".kube", ".docker", ".seeknal"}
)
#: What is no data: a process's variables are files of ``/proc``.
_SYSTEM = ("/proc", "/sys", "/dev")
_NOT_SYSTEM = "/dev/shm"
#: Entries of a folder that are looked at before it is proposed.
_LOOKED_AT = 10_000


class Closed(Exception):
    """A project may not read a path.

    ``never`` says that nobody can allow it; ``real`` is where the path leads.
    """

    def __init__(self, message: str, real: str, *, never: bool) -> None:
        super().__init__(message)
        self.message = message
        self.real = real
        self.never = never


@attrs.frozen(kw_only=True)
class Places:
    """What a project may read: all paths are absolute, links resolved.

    ``root`` is the project's folder, ``folders`` are the folders and files allowed beside
    it. ``closed`` are files and folders that nobody can allow, each with what it is.
    ``written`` is what the project file allows already, as it stands there; ``ignored``
    are those of its folders that do not count, since the project is untrusted.
    """

    root: str
    folders: tuple[str, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    written: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    _closed_files: frozenset[str] = attrs.field(init=False, repr=False)

    @_closed_files.default
    def _paths_of_closed(self) -> frozenset[str]:
        return frozenset(path for path, _ in self.closed)

    @classmethod
    def of(
        cls,
        root: Path,
        allow: Sequence[str] = (),
        closed: Sequence[tuple[Path, str]] = (),
        written: Sequence[str] = (),
        ignored: Sequence[str] = (),
    ) -> Places:
        """Return the places of the project in `root`; its ``target`` is closed.

        Args:
            allow: absolute folders or files.
            closed: further files and folders that are never read, and what they are.
            written: ``files: allow`` of the project file.
            ignored: those of its folders that the machine doesn't allow to an untrusted one.
        """
        real = os.path.realpath(root)
        never = [(Path(root, "target"), "the folder of Seeknal's own files"), *closed]
        return cls(
            root=real,
            folders=tuple(dict.fromkeys(map(os.path.realpath, allow))),
            closed=tuple((os.path.realpath(path), what) for path, what in never),
            written=tuple(written),
            ignored=tuple(map(os.path.realpath, ignored)),
        )

    def check(self, path: str | Path) -> str:
        """Return where a path leads; it need not exist.

        Raises:
            Closed: the project may not read that.
        """
        real = os.path.realpath(path)
        self.check_real(real)
        return real

    def check_real(self, real: str) -> None:
        """Refuse a path whose links are resolved already.

        Raises:
            Closed: the project may not read that.
        """
        what = self.what_is_closed(real)
        if what:
            raise Closed(f"is {what}, which is never read as data", real, never=True)
        if not any(is_below(real, folder) for folder in (self.root, *self.folders)):
            raise Closed("lies outside of the project", real, never=False)

    def what_is_closed(self, real: str) -> str:
        """Return what a path is that nobody can allow, empty for any other."""
        for folder, what in self.closed:
            if is_below(real, folder):
                return what
        inside = real[len(self.root) :] if is_below(real, self.root) else real
        name = inside[inside.rfind("/") + 1 :]
        if name.startswith(_SECRET_STARTS) and is_secret_file(name):
            return "a file for secrets"
        if "/." in inside and any(part.lower() in _SECRET_FOLDERS for part in inside.split("/")):
            return "in a folder for secrets"
        if real.startswith(_SYSTEM) and any(is_below(real, top) for top in _SYSTEM):
            return "" if is_below(real, _NOT_SYSTEM) else "of the operating system"
        return ""

    def check_entry(self, real: str, name: str) -> None:
        """Refuse an entry of a folder that was checked; it is no link.

        Raises:
            Closed: the project may not read that.
        """
        if name.startswith(_SECRET_STARTS) or real in self._closed_files:
            self.check_real(real)

    def open(self, path: str | Path) -> int:
        """Open a file for reading; return its descriptor.

        The file that was opened is checked: a link that was put there since the path was
        looked at is noticed.

        Raises:
            Closed: the project may not read what was opened.
            NotAFile: it is a pipe, a device, a folder.
            OSError: it cannot be opened.
        """
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            # A link, which may lead to a place below the project.
            descriptor = os.open(self.check(path), flags)
        try:
            found = os.fstat(descriptor)
            real = _opened(descriptor, str(path))
            self.check_real(real)
            refuse_not_regular(found.st_mode, path)
            self._refuse_hard_link(found, real)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse_hard_link(self, found: os.stat_result, real: str) -> None:
        """Refuse another name of a file that is closed."""
        if found.st_nlink < 2:
            return
        names = [Path(path) for path, _ in self.closed]
        try:
            with os.scandir(self.root) as entries:
                names += [Path(each.path) for each in entries if is_secret_file(each.name)]
        except OSError:
            pass
        for name in names:
            try:
                other = name.stat()
            except OSError:
                continue
            if (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino):
                raise Closed(
                    f"is another name of {name.name}, which is never read as data",
                    real,
                    never=True,
                )

    def way_out(self, closed: Closed, *, folder: bool, relative: bool) -> str:
        """Return what to do about a path that is closed, for a hint.

        Args:
            folder: the path is a folder; else it is a file, and its folder is proposed.
            relative: the path was written relative to the project.
        """
        copied = "copy what is needed to a file below the project"
        if closed.never:
            return copied
        if any(is_below(closed.real, place) for place in self.ignored):
            folders = self.machine_folders(closed.real, folder=folder)
            return (
                f"the project is untrusted: set {folders} where the command runs"
                if folders
                else copied
            )
        line = self.proposal(closed.real, folder=folder, relative=relative)
        return f"{copied}, or write in the project file: {line}" if line else copied

    def proposal(self, real: str, *, folder: bool, relative: bool = False) -> str:
        """Return the line for the project file that allows a path, empty where none should.

        The folder of a file is proposed, and the file alone where its folder holds a file
        for secrets, the project, or the user's home.
        """
        place = self._narrowest(real, folder=folder)
        if not place:
            return ""
        shown = os.path.relpath(place, self.root) if relative else place
        return f"files: {{allow: [{', '.join(map(_yaml, (*self.written, shown)))}]}}"

    def machine_folders(self, real: str, *, folder: bool) -> str:
        """Return the setting of the machine that allows a path to an untrusted project."""
        place = self._narrowest(real, folder=folder)
        return f"SEEKNAL_FILES_ALLOW={shlex.quote(place)}" if place else ""

    def _narrowest(self, real: str, *, folder: bool) -> str:
        if self.what_is_closed(real):
            return ""
        places = (real,) if folder else (os.path.dirname(real), real)
        return next((place for place in places if not self._is_too_wide(place)), "")

    def _is_too_wide(self, place: str) -> bool:
        home = os.path.realpath(os.path.expanduser("~"))
        system = ("/", "/etc", "/root", "/home", "/var", "/usr", "/tmp")
        if place in system or is_below(self.root, place) or is_below(home, place):
            return True
        if not os.path.isdir(place):
            return False
        if any(is_below(path, place) for path, _ in self.closed):
            return True
        try:
            with os.scandir(place) as entries:
                for number, each in enumerate(entries):
                    secret = is_secret_file(each.name) or each.name.lower() in _SECRET_FOLDERS
                    if secret or number > _LOOKED_AT:
                        return True
        except OSError:
            return False
        return False


def is_secret_file(name: str) -> bool:
    """Return whether files of a name hold secrets."""
    return _SECRET_FILE.fullmatch(name) is not None or name.lower() in hints().secret_files


def is_below(real: str, folder: str) -> bool:
    """Return whether a path is a folder or lies below it; both without links."""
    return real == folder or real.startswith(folder.rstrip("/") + "/")


def _opened(descriptor: int, path: str) -> str:
    """Return the path of an open file, as the system has it.

    Where the system doesn't say, the path is looked at again.
    """
    if sys.platform == "darwin":
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_GETPATH, b"\0" * 1024).rstrip(b"\0").decode()
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")
    except OSError:
        real = os.path.realpath(path)
        found, again = os.fstat(descriptor), os.lstat(real)
        if (found.st_dev, found.st_ino) != (again.st_dev, again.st_ino):
            raise NotAFile(errno.EINVAL, "it was replaced meanwhile", path) from None
        return real


def _yaml(text: str) -> str:
    """Write a path inside a YAML list in brackets."""
    plain = re.fullmatch(r"[\w./~+-][\w./~+@ -]*(?<! )", text)
    return text if plain else "'" + text.replace("'", "''") + "'"
