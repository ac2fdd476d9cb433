"""What pyiceberg may import by name: only a few classes, no matter where the name is from.

pyiceberg 0.12 loads classes by names that stand in a profile, in a catalog's answers and in
the properties of tables (``py-io-impl``, ``write.py-location-provider.impl``,
``s3.retry-strategy-impl``, ``auth.impl``, ``py-catalog-impl``), and calls them. A name such as
``subprocess.Popen`` would run a program. Code of a user that works with pyiceberg in the same
process still loads what it likes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.connection.isolation import is_anothers

_PYARROW = "pyiceberg.io.pyarrow"
_FILES = frozenset({
    "pyiceberg.io.pyarrow.PyArrowFileIO", "pyiceberg.io.fsspec.FsspecFileIO",
    "seeknal_iceberg.connection.storage.local_files.DurableFileIO", "seeknal_iceberg.connection.storage.object_store.WatchedFileIO",
})  # fmt: skip
_LOCATIONS = frozenset({
    "pyiceberg.table.locations.SimpleLocationProvider",
    "pyiceberg.table.locations.ObjectStoreLocationProvider",
})  # fmt: skip
_RETRIES = frozenset({
    "seeknal_iceberg.connection.storage.s3_retries.PatientRetries", "pyarrow.fs.AwsDefaultS3RetryStrategy",
    "pyarrow.fs.AwsStandardS3RetryStrategy",
})  # fmt: skip
_AUTH = frozenset({"noop", "basic", "legacyoauth2", "oauth2", "google", "entra"})

#: Names that are loaded for each property; all others are refused.
ALLOWED: Mapping[str, frozenset[str]] = {
    "py-io-impl": _FILES,
    "write.py-location-provider.impl": _LOCATIONS,
    "s3.retry-strategy-impl": _RETRIES,
    "auth.type": _AUTH,
    "auth.impl": frozenset(),
    "py-catalog-impl": frozenset(),
}
#: The same by where pyiceberg loads them: module, class or none, function.
_LOADERS = (
    ("pyiceberg.io", "", "_import_file_io", "py-io-impl"),
    ("pyiceberg.table.locations", "", "_import_location_provider", "write.py-location-provider.impl"),
    (_PYARROW, "", "_import_retry_strategy", "s3.retry-strategy-impl"),
    ("pyiceberg.catalog.rest.auth", "AuthManagerFactory", "create", "auth.type"),
    ("pyiceberg.catalog", "", "_import_catalog", "py-catalog-impl"),
)  # fmt: skip

#: Databases of SQL catalogs, as SQLAlchemy writes them: it imports what stands there by name.
DIALECTS = frozenset({
    "sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg", "postgresql+psycopg2",
    "postgresql+pg8000", "mysql", "mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector",
    "mariadb", "mariadb+pymysql", "mariadb+mariadbconnector",
})  # fmt: skip


def is_allowed(property: str, name: object) -> bool:
    """Return whether a property's value names nothing that would be imported beside the lists."""
    known = ALLOWED.get(property)
    return known is None or str(name) in known


def guard() -> None:
    """Have pyiceberg load for this backend what is allowed, and nothing else."""
    for module, cls, function, property in _LOADERS:
        found: Any = importlib.import_module(module)
        holder = getattr(found, cls) if cls else found
        real = getattr(holder, function)
        if getattr(real, "is_guarded", False):
            continue
        guarded = _guarded(real, property, is_catalog=function == "_import_catalog")
        setattr(holder, function, staticmethod(guarded) if cls else guarded)


def _guarded(real: Callable[..., Any], property: str, *, is_catalog: bool) -> Callable[..., Any]:
    def load(*arguments: Any, **keywords: Any) -> Any:
        # The catalog's own name comes before that of its class.
        name = arguments[1 if is_catalog else 0]
        if not is_allowed(property, name) and not is_anothers(sys._getframe(1)):
            raise refusal(property, str(name))
        return real(*arguments, **keywords)

    load.is_guarded = True  # type: ignore[attr-defined]
    return load


def refusal(property: str, name: str) -> BackendError:
    """Return the error of a name that is not loaded."""
    return BackendError(
        f"{property} names {name!r}, which is not loaded: it could run anything",
        hint(property),
    )


def hint(property: str) -> str:
    """Return what to write in place of a name that is not loaded."""
    known = ALLOWED[property]
    if property == "write.py-location-provider.impl":
        return "remove it from the table's properties"
    if not known:
        return f"remove {property}"
    return f"remove it, or write one of {', '.join(sorted(known))}"
