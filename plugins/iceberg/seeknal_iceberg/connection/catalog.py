"""Opens catalogs, and wraps the few calls on them that need care.

pyiceberg does not promise that a catalog may be shared between threads (a REST
catalog holds one HTTP session), so each thread has its own, kept in
``context.resources`` until the command ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
)
from pyiceberg.io import load_file_io

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import ExecutionContext, Secret
from seeknal_iceberg.connection import embedded, imports, views
from seeknal_iceberg.connection.errors import translating
from seeknal_iceberg.connection.patience import Patience
from seeknal_iceberg.connection.profile import IcebergConnection, is_local
from seeknal_iceberg.connection.rest.base import Shared, spool_of
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from seeknal_iceberg.connection.storage import access
from seeknal_iceberg.names import quote as quoted

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io import FileIO
    from pyiceberg.table import Table

imports.guard()

#: What an object store is given to connect, to send the next byte, and how often it is
#: asked, where the profile says nothing: a silent one ends after about a minute.
STORAGE_TIMEOUTS = {
    "s3.connect-timeout": "5",
    "s3.request-timeout": "10",
    "s3.retry-strategy-impl": "seeknal_iceberg.connection.storage.s3_retries.PatientRetries",
}

#: The class for local files; named, not imported: most commands that open a catalog write nothing.
DURABLE_IO = "seeknal_iceberg.connection.storage.local_files.DurableFileIO"

#: The same, with a message to the user if an object store does not answer.
WATCHED_IO = "seeknal_iceberg.connection.storage.object_store.WatchedFileIO"


def of(context: ExecutionContext) -> IcebergConnection:
    """Return the call's connection; the dispatcher resolved it."""
    assert isinstance(context.connection, IcebergConnection)
    return context.connection


def absent(connection: IcebergConnection) -> bool:
    """Return whether the catalog is a SQLite file that nobody has made yet.

    Reading must not make it; opening a SQLite catalog would.
    """
    return connection.sqlite_file is not None and not os.path.exists(connection.sqlite_file)


@attrs.define(kw_only=True)
class _Opened:
    """An open catalog, and which file it is in where it is SQLite's."""

    catalog: Catalog
    inode: int = 0

    def follow(self, file: str) -> None:
        """Close a file that was removed because the catalog was empty; create it again if needed.

        SQLite itself refuses to write to a file that no longer exists.
        """
        inode = embedded.inode_of(file)
        if inode and inode == self.inode:
            return
        if self.inode:
            cast("SqlCatalog", self.catalog).engine.dispose()
        if not inode:
            embedded.make_again(cast("SqlCatalog", self.catalog), file)
        self.inode = embedded.inode_of(file)


def open_catalog(context: ExecutionContext) -> Catalog:
    """Return this thread's catalog of the call's connection.

    Raises:
        Unreachable, BackendError: it cannot be opened.
    """
    connection = of(context)
    key = ("iceberg-catalog", connection, threading.get_ident())
    opened = context.resources.get(
        key,
        lambda: _Opened(catalog=_open(context, connection)),
        lambda opened: _close(opened.catalog),
    )
    if connection.sqlite_file is not None:
        opened.follow(connection.sqlite_file)
    return opened.catalog


def open_unmade(context: ExecutionContext) -> Catalog:
    """Return the call's catalog, or one in memory in place of an embedded one not made yet.

    The latter knows where tables would be, and keeps nothing that is done in it.
    """
    connection = of(context)
    if not absent(connection):
        return open_catalog(context)
    key = ("iceberg-unmade", connection, threading.get_ident())
    return context.resources.get(
        key, lambda: embedded.open_in_memory(connection, properties_of(connection)), _close
    )


def _close(catalog: Catalog) -> None:
    session = getattr(catalog, "_session", None)
    if session is not None:
        session.close()
    engine = getattr(catalog, "engine", None)
    if engine is not None:
        engine.dispose()


def properties_of(connection: IcebergConnection) -> dict[str, Any]:
    """Return pyiceberg's properties, secrets revealed, ``ssl`` and ``auth`` nested."""
    properties: dict[str, Any] = dict(STORAGE_TIMEOUTS)
    for key, value in connection.properties:
        plain = value.reveal() if isinstance(value, Secret) else value
        head, _, rest = key.partition(".")
        if head in ("ssl", "auth") and rest:
            _nest(properties, key.split("."), plain)
        else:
            properties[key] = plain
    access.with_region(properties)
    if connection.catalog_type == "rest":
        pass  # each table comes with its own way to its files
    elif is_local(connection.warehouse):
        properties.setdefault("py-io-impl", DURABLE_IO)
    elif any(key.startswith("s3.") for key, _ in connection.properties):
        properties.setdefault("py-io-impl", WATCHED_IO)
    if connection.verify_tls is not True:
        # pyiceberg 0.12 hands ssl.cabundle to requests' Session.verify as it is.
        properties.setdefault("ssl", {})["cabundle"] = connection.verify_tls
    return properties


def _nest(into: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
    into[path[-1]] = value


def patience_of(context: ExecutionContext) -> Patience:
    """Return what the command knows of its servers."""
    return context.resources.get(
        "iceberg-patience",
        lambda: Patience(context.cancellation),
        lambda patience: patience.close(),
    )


def _shared_of(context: ExecutionContext, connection: IcebergConnection) -> Shared:
    """Return what the threads of the command know together of a REST catalog."""
    return context.resources.get(
        ("iceberg-rest", connection),
        lambda: Shared(
            name=connection.name,
            patience=patience_of(context),
            spool=spool_of(context.target_dir),
        ),
        lambda _: None,
    )


def _open(context: ExecutionContext, connection: IcebergConnection) -> Catalog:
    properties = properties_of(connection)
    with translating(connection):
        if connection.sqlite_file is not None:
            found = embedded.open_file(connection, connection.sqlite_file, properties)
            return _by_profile(found)
        if connection.catalog_type == "rest":
            return PatientRestCatalog(
                connection.catalog_name, _shared_of(context, connection), **properties
            )
        from pyiceberg.catalog import AVAILABLE_CATALOGS, CatalogType

        # Not by `load_catalog`, which would add what the user's own files for pyiceberg say.
        kind = connection.catalog_type
        return _by_profile(
            AVAILABLE_CATALOGS[CatalogType(kind)](
                connection.catalog_name, {**properties, "type": kind}
            )
        )


def _by_profile(catalog: Catalog) -> Catalog:
    """Open files as the profile says: pyiceberg would let a table's properties decide.

    Whoever may write a table could else have it read by a class or a server of theirs, with
    the profile's keys.
    """

    def load(properties: Mapping[str, Any] = {}, location: str | None = None) -> FileIO:
        return load_file_io(dict(catalog.properties), location)

    catalog._load_file_io = load  # type: ignore[method-assign]
    return catalog


def io_at(catalog: Catalog, parts: tuple[str, ...], location: str, folder: str = "") -> FileIO:
    """Return the file access for a table that is being made, or is no longer in the catalog.

    Args:
        location: the table's.
        folder: where the files are, if elsewhere.
    """
    if isinstance(catalog, PatientRestCatalog):
        return catalog.io_at(parts, location)
    return load_file_io(dict(catalog.properties), folder or location)


def known_io(catalog: Catalog, location: str) -> FileIO | None:
    """Return the file access for a location where the catalog need not be asked for it."""
    if isinstance(catalog, PatientRestCatalog):
        return catalog.known_io(location)
    return load_file_io(dict(catalog.properties), location)


def is_sql(connection: IcebergConnection) -> bool:
    """Return whether the catalog is a database that this process works with itself."""
    return connection.catalog_type == "sql"


def root_of(folder: str) -> str:
    """Return a table's location from that of a folder in which a write puts files."""
    for mark in ("/data/seeknal-", "/metadata"):
        head, found, tail = folder.rstrip("/").rpartition(mark)
        if found and "/" not in tail:
            return head
    return folder.rstrip("/")


def load(catalog: Catalog, parts: tuple[str, ...]) -> Table | None:
    """Return a table, or None if it or its namespace is not there."""
    try:
        return catalog.load_table(parts)
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def look(catalog: Catalog, parts: tuple[str, ...]) -> Table | None:
    """Return a table, or None if it is not there, or the catalog doesn't say.

    Some catalogs forbid to ask for what is absent. Whether it is, making it tells: only
    where that is done next, or nothing depends on it, may it be taken for absent.
    """
    try:
        return load(catalog, parts)
    except ForbiddenError:
        return None


def existing(context: ExecutionContext, parts: tuple[str, ...]) -> Table:
    """Return a table that has to be there.

    Raises:
        BackendError: it is not.
    """
    connection = of(context)
    name = quoted(parts)
    table = None
    if not absent(connection):
        catalog = open_catalog(context)
        with translating(connection, name):
            table = load(catalog, parts)
        if table is None and views.is_view(catalog, parts, unlisted=True):
            raise BackendError(
                f"{name} is a view, and views of a catalog are not read here",
                views.SOURCE_HINT,
                target=name,
            )
    if table is None:
        raise BackendError(
            f"there is no table {name} in the catalog of connection {connection.name!r}",
            "check its name and the connection",
            target=name,
        )
    return table


def identity(connection: IcebergConnection, parts: tuple[str, ...]) -> str:
    """Return the physical identity of a table: equal for any way that leads to it.

    A SQL catalog keeps a namespace as one dotted string, so levels are joined
    for it; Glue and Hive fold names to lower case.
    """
    place = [connection.catalog_type, connection.uri.rstrip("/")]
    if connection.sqlite_file is not None:
        place = ["sql", os.path.realpath(connection.sqlite_file), connection.catalog_name]
    elif connection.catalog_type == "sql":
        place.append(connection.catalog_name)
    else:
        place.append(connection.warehouse.rstrip("/"))
    namespace: object = list(parts[:-1])
    if connection.catalog_type == "sql":
        namespace = ".".join(parts[:-1])
    name = parts[-1]
    if connection.catalog_type in ("glue", "hive"):
        namespace, name = [level.lower() for level in cast("list[str]", namespace)], name.lower()
    return "iceberg:" + json.dumps([*place, namespace, name], ensure_ascii=False)


def short_hash(text: str) -> str:
    """Return sixteen hexadecimal digits that stand for a text in a file's name."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
