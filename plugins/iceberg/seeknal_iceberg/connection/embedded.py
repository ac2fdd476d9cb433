"""The file of a SQLite catalog: made when it is first written to, removed when made for nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.connection.errors import check_hint
from seeknal_iceberg.connection.profile import IcebergConnection, is_local
from seeknal_iceberg.files import disk

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog

#: Seconds that a SQLite catalog waits for another process's lock.
SQLITE_TIMEOUT = 30


def open_file(connection: IcebergConnection, file: str, properties: dict[str, Any]) -> SqlCatalog:
    """Open the catalog in a file, making what of it is missing.

    Raises:
        BackendError: its folder cannot be made, or what is there is no file.
    """
    from pyiceberg.catalog.sql import SqlCatalog

    elsewhere = f"move it away, or name another folder under connections.{connection.name}"
    if os.path.exists(file) and not os.path.isfile(file):
        raise BackendError(f"{file} is no file, and the catalog is kept in one", elsewhere)
    try:
        disk.make_folders(os.path.dirname(file))
    except FileExistsError as error:
        raise BackendError(
            f"{error.filename} is no folder, and the catalog is kept in one", elsewhere
        ) from None
    except OSError as error:
        raise BackendError(
            f"the folder of the catalog {file} cannot be made: {error.strerror}",
            check_hint(connection),
        ) from None
    # As a URI of SQLite's, quoted for it and once more for SQLAlchemy, which unquotes:
    # a folder may have a question mark in its name.
    uri = f"sqlite:///file:{quote(quote(file))}?uri=true&timeout={SQLITE_TIMEOUT}"
    properties["uri"] = uri
    # Two processes that both find no tables would both make them, and one fail.
    with _locked(file + ".lock"):
        return SqlCatalog(connection.catalog_name, **properties)


def make_again(catalog: SqlCatalog, file: str) -> None:
    """Make an open catalog's file again, which was removed since."""
    disk.make_folders(os.path.dirname(file))
    with _locked(file + ".lock"):
        catalog.create_tables()


def open_in_memory(connection: IcebergConnection, properties: dict[str, Any]) -> SqlCatalog:
    """Open a catalog that knows where tables would be, and keeps nothing that is done in it."""
    from pyiceberg.catalog.sql import SqlCatalog

    # Threads open catalogs, and the command's end closes them all from its own thread. For
    # files SQLAlchemy allows that by itself.
    uri = "sqlite:///:memory:?check_same_thread=false"
    return SqlCatalog(connection.catalog_name, **{**properties, "uri": uri})


def inode_of(file: str) -> int:
    """Return which file is at a path; 0 if there is none."""
    try:
        return os.stat(file).st_ino
    except FileNotFoundError:
        return 0


def remove_unused(connection: IcebergConnection) -> None:
    """Remove the file of a SQLite catalog in which there is nothing."""
    file = connection.sqlite_file
    if file is None or not os.path.exists(file):
        return
    with _locked(file + ".lock"):
        with contextlib.closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as database:
            try:
                database.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                return  # somebody is using it
            listed = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' "
                "ESCAPE '~'"
            )
            for (name,) in listed.fetchall():
                quoted_name = name.replace('"', '""')
                if database.execute(f'SELECT 1 FROM "{quoted_name}" LIMIT 1').fetchone():
                    return
            os.unlink(file)
        os.unlink(file + ".lock")


def not_there_yet(connection: IcebergConnection) -> list[str]:
    """Return the local folders of catalog and warehouse that nobody has made, inner ones first.

    With the catalog's file at the head, where it is SQLite's and not there.
    """
    file = connection.sqlite_file
    found = [file] if file is not None and not os.path.exists(file) else []
    places = [os.path.dirname(file)] if file is not None else []
    warehouse = connection.warehouse
    if is_local(warehouse):
        places.append(warehouse.removeprefix("file://").removeprefix("file:"))
    for place in places:
        while place and not os.path.exists(place):
            if place not in found:
                found.append(place)
            place = os.path.dirname(place)
    return found


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
