"""The store behind the reference backend: one Python object, kept in one file.

A writer locks the store, changes the object in memory, and saves it in one rename:
that makes every change atomic, whoever dies when. Readers take no lock; they see the
object as it was saved last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import attrs
import pyarrow as pa

from seeknal_core.contract.types import Ownership

#: The parts of a name: namespaces, and the table's at the end.
Name = tuple[str, ...]

#: A project and an environment.
Place = tuple[str, str]


class Busy(Exception):
    """Another writer holds the store's lock for longer than a writer should wait."""


class WrongPassword(Exception):
    """The store was made with another password."""


@attrs.define(kw_only=True)
class Table:
    """A table: its rows, a version that every write changes, and the ledger's entry.

    ``made`` tells whether Seeknal made it or adopted it; ``appended`` holds the content
    keys whose rows are in it. A table with a ``link`` has no rows of its own: it shows those
    of the table of that name.
    """

    rows: pa.Table
    version: str = attrs.field(factory=lambda: uuid.uuid4().hex)
    owner: Ownership | None = None
    made: bool = True
    appended: frozenset[str] = frozenset()
    link: Name | None = None


@attrs.define(kw_only=True)
class Stage:
    """A write that waits: the rows as they arrived, and the table as it will be.

    ``before`` and ``made`` are what undoes a publish: the table that was replaced, and
    the namespaces that were made.
    """

    arrived: pa.Table
    table: Table
    published: bool = False
    before: Table | None = None
    made: tuple[Name, ...] = ()


@attrs.define(kw_only=True)
class Store:
    """Everything the store holds."""

    password: str | None = None
    tables: dict[Name, Table] = attrs.field(factory=dict)
    namespaces: dict[Name, Place | None] = attrs.field(factory=dict)
    stages: dict[tuple[str, str], Stage] = attrs.field(factory=dict)
    generations: dict[Place, int] = attrs.field(factory=dict)

    def rows(self, name: Name) -> pa.Table | None:
        """Return the rows that a reader of a table sees; None where there is none."""
        table = self.tables.get(name)
        return self.rows(table.link) if table and table.link else table.rows if table else None

    def make_namespaces(self, name: Name, owner: Place | None) -> tuple[Name, ...]:
        """Make a table's missing namespaces, outer ones first, and return them."""
        levels = [name[:depth] for depth in range(1, len(name))]
        made = tuple(level for level in levels if level not in self.namespaces)
        self.namespaces.update(dict.fromkeys(made, owner))
        return made

    def is_empty(self, namespace: Name) -> bool:
        """Return whether a namespace holds neither table nor namespace."""
        inside = [*self.tables, *self.namespaces]
        return not any(name[:-1] == namespace for name in inside)


class Transaction:
    """A change of the store, under its lock: `commit` saves it, `close` forgets it.

    Raises:
        Busy: the lock could not be had within `patience` seconds.
        FileNotFoundError: the folder of the store's file is not there.
    """

    def __init__(self, path: Path, password: str | None, patience: float = 10) -> None:
        self._path = path
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        try:
            self._wait(time.monotonic() + patience)
            self.store = load(path, password)
        except BaseException:
            os.close(self._lock)
            raise

    def _wait(self, deadline: float) -> None:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                raise Busy(f"{self._path} is locked by another writer")
            time.sleep(0.005)

    def commit(self) -> None:
        """Save the store as it is now, durably and in one step."""
        temporary = Path(f"{self._path}.new")
        with temporary.open("wb") as file:
            pickle.dump(self.store, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._lock)


@contextlib.contextmanager
def changing(path: Path, password: str | None = None) -> Iterator[Store]:
    """Return the store to change; it is saved unless an exception leaves the block."""
    transaction = Transaction(path, password)
    try:
        yield transaction.store
        transaction.commit()
    finally:
        transaction.close()


def load(path: Path, password: str | None = None) -> Store:
    """Return the store as it was saved last; an empty one where there is none yet.

    Raises:
        FileNotFoundError: the folder is not there.
        WrongPassword: the password is not the store's.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist")
    if not path.exists():
        return Store(password=password)
    with path.open("rb") as file:
        store: Store = pickle.load(file)
    if store.password != password:
        raise WrongPassword(f"{path} does not open with this password")
    return store
