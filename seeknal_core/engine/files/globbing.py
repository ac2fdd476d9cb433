"""Finding the files that a path or a glob names, without leaving the places of the project."""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attrs

from seeknal_core.project.places import Closed, Places, is_below


class Match(NamedTuple):
    """A file: its path as the glob wrote it, and where that leads."""

    shown: str
    real: str


class LeadsOut(Exception):
    """A link that a glob meets leads to what the project may not read."""

    def __init__(self, shown: str, closed: Closed) -> None:
        super().__init__(shown)
        self.shown = shown
        self.closed = closed


@attrs.define
class _Walk:
    """One walk. A folder that ``**`` enters is entered once, whatever links lead to it."""

    places: Places
    entered: set[tuple[str, tuple[str, ...]]] = attrs.field(factory=set)

    def find(self, shown: str, real: str, parts: tuple[str, ...]) -> Iterator[Match]:
        if not parts:
            if os.path.isfile(real):
                yield Match(shown, real)
            return
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self._deep(shown, real, rest or ("*",))
        elif not glob.has_magic(head):
            joined = os.path.join(shown, head)
            child = os.path.join(real, head)
            if os.path.lexists(child):
                yield from self.find(joined, self._checked(joined, child), rest)
        else:
            matches = _matcher(head)
            for entry in _entries(real):
                if matches(entry.name) and (head.startswith(".") or not _is_hidden(entry.name)):
                    yield from self._enter(shown, real, entry, rest)

    def _enter(
        self, shown: str, real: str, entry: os.DirEntry[str], rest: tuple[str, ...]
    ) -> Iterator[Match]:
        joined, child = os.path.join(shown, entry.name), os.path.join(real, entry.name)
        if rest:
            if not entry.is_dir() or self._is_closed_folder(child):
                return
        elif not entry.is_file():
            return
        child = self._checked(joined, child, link=entry.is_symlink())
        if rest:
            yield from self.find(joined, child, rest)
        else:
            yield Match(joined, child)

    def _deep(self, shown: str, real: str, rest: tuple[str, ...]) -> Iterator[Match]:
        if (real, rest) in self.entered:
            return
        self.entered.add((real, rest))
        yield from self.find(shown, real, rest)
        for entry in _entries(real):
            child = os.path.join(real, entry.name)
            if _is_hidden(entry.name) or not entry.is_dir() or self._is_closed_folder(child):
                continue
            joined = os.path.join(shown, entry.name)
            child = self._checked(joined, child, link=entry.is_symlink())
            yield from self._deep(joined, child, rest)

    def _checked(self, shown: str, path: str, *, link: bool = True) -> str:
        """Return where a path leads that a glob met."""
        real = os.path.realpath(path) if link else path
        try:
            if link:
                self.places.check_real(real)
            else:
                self.places.check_entry(real, os.path.basename(real))
        except Closed as closed:
            raise LeadsOut(shown, closed) from None
        return real

    def _is_closed_folder(self, path: str) -> bool:
        """Return whether a folder is one that no glob means: it is passed over."""
        return any(is_below(path, folder) for folder, _ in self.places.closed)


def matches_of(pattern: str, root: str, places: Places) -> list[Match]:
    """Return the files that a glob matches, by the rules of `glob`.

    Args:
        pattern: relative to `root`, or absolute.

    Raises:
        LeadsOut: a link in the way leads to what the project may not read.
        Closed: so does the part of the pattern before its first wildcard.
    """
    if pattern.endswith("/"):
        return []
    parts = [part for part in pattern.split("/") if part]
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    # A pattern without a wildcard is one file, which is looked at like any other.
    fixed = min(fixed, max(len(parts) - 1, 0))
    start = ("/" if pattern.startswith("/") else "") + "/".join(parts[:fixed])
    real = places.check(os.path.join(root, start))
    return list(_Walk(places).find(start, real, tuple(parts[fixed:])))


@functools.cache
def _pattern(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(part))


def _matcher(part: str) -> Callable[[str], object]:
    return _pattern(part).match


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a folder in a fixed order, links last; one that cannot be read has nothing."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda each: (each.is_symlink(), each.name))
    except OSError:
        return []
