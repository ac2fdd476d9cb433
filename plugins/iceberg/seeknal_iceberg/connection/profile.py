"""A profile's connection of type ``iceberg``, typed and without I/O.

``warehouse`` alone means the embedded catalog: a SQLite file ``catalog.db``
beside the warehouse's files. ``catalog`` names any catalog that pyiceberg
knows; its keys are pyiceberg's properties
(https://py.iceberg.apache.org/configuration/), plus ``bearer_token`` (its
``token``) and ``verify_tls`` (``false``, or the path of a CA bundle).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit, urlunsplit

import attrs

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.options import Mistake, nearest, structure
from seeknal_core.contract.types import Connection, ConnectionSpec, Secret
from seeknal_iceberg.connection import imports, older_variables

#: Catalogs of pyiceberg 0.12 that this backend opens, by their ``type``.
CATALOG_TYPES = ("rest", "sql", "glue", "hive", "dynamodb", "bigquery")

log = logging.getLogger("seeknal")

_SECRET = re.compile(
    r"token|secret|password|passwd|credential|private|access-key|account-key|\bkey\b|sas",
    re.IGNORECASE,
)
_HTTP = re.compile(r"https?://[^/\s]", re.IGNORECASE)
_NOT_SECRET = frozenset({"oauth2-server-uri", "token-refresh-enabled"})
_SCHEMES = (
    ("http", "rest"), ("sqlite", "sql"), ("postgres", "sql"), ("mysql", "sql"), ("thrift", "hive")
)  # fmt: skip
#: Properties of catalogs that are easily written beside ``catalog``.
_OF_CATALOG = frozenset(
    {"uri", "token", "bearer_token", "credential", "scope", "oauth2-server-uri", "verify_tls"}
)
#: The file of the embedded catalog, inside the warehouse.
EMBEDDED_FILE = "catalog.db"


def _is_purge(_instance: object, _field: object, value: object) -> None:
    if not isinstance(value, bool) and value not in ("auto", "yes", "no"):
        raise Mistake("is none of auto, yes and no", "write purge: auto")


@attrs.frozen(kw_only=True)
class IcebergOptions:
    """What a profile may say under a connection of type ``iceberg``."""

    warehouse: str | None = attrs.field(
        default=None,
        metadata={
            "doc": "folder (relative to the project) or URI under which tables are put; "
            "alone: with a SQLite catalog in it"
        },
    )
    catalog: Mapping[str, object] | None = attrs.field(
        default=None,
        metadata={"doc": "the catalog: type, uri, and any property of pyiceberg's"},
    )
    catalog_uri: str | None = attrs.field(
        default=None, metadata={"doc": "short for catalog: {uri: ...}"}
    )
    purge: str | bool = attrs.field(
        default="auto",
        validator=_is_purge,
        metadata={
            "doc": "whether the catalog is asked to delete the files of a table that is dropped: "
            "yes, no, or auto: where it refuses, Seeknal deletes the files that it wrote"
        },
    )


@attrs.frozen(kw_only=True)
class IcebergConnection(Connection):
    """A resolved connection.

    ``properties`` are pyiceberg's, flattened to dotted keys, as pairs so that the
    connection can be hashed; secrets are `Secret`. ``uri`` is the catalog's without
    user information. ``sqlite_file`` is the absolute path of a SQLite catalog's
    file. ``verify_tls`` is False, True, or the path of a CA bundle. ``purge`` is ``auto``,
    ``yes`` or ``no``.
    """

    catalog_type: str
    catalog_name: str = "default"
    uri: str = ""
    warehouse: str = ""
    sqlite_file: str | None = None
    embedded: bool = False
    verify_tls: bool | str = True
    purge: str = "auto"
    properties: tuple[tuple[str, str | Secret], ...] = attrs.field(default=(), repr=False)

    def describe(self) -> Mapping[str, str]:
        """Return type, catalog, address and warehouse, whatever of them is known."""
        shown = {"type": self.type, "catalog": "embedded" if self.embedded else self.catalog_type}
        if self.uri and not self.embedded:
            shown["uri"] = self.uri
        if self.warehouse:
            shown["warehouse"] = self.warehouse
        return shown

    def bindings(self) -> Mapping[str, str]:
        """Return what decides which catalog and which tables are meant."""
        return {
            "type": self.type,
            "catalog": self.catalog_type,
            "catalog_name": self.catalog_name if self.catalog_type == "sql" else "",
            "uri": self.uri.rstrip("/"),
            "warehouse": self.warehouse.rstrip("/"),
        }


def is_local(warehouse: str) -> bool:
    """Return whether a warehouse is a folder of this machine."""
    return warehouse.startswith(("file:", "/"))


def resolve(spec: ConnectionSpec, project_root: str) -> IcebergConnection:
    """Turn a mapping into a connection.

    Args:
        project_root: absolute; relative paths are relative to it.

    Raises:
        OptionError: with all mistakes.
    """
    options = _options(spec)
    nowhere = options.catalog is None and options.catalog_uri is None
    if nowhere and (options.warehouse or not older_variables.variables().get("uri")):
        return _embedded(spec, options, project_root)
    raw = dict(options.catalog or {})
    for key, value in (("uri", options.catalog_uri), ("warehouse", options.warehouse)):
        if value is not None:
            raw.setdefault(key, value)
    problems: list[Problem] = []
    flat = dict(_flatten(raw, "catalog", problems))
    verify: bool | str = _verify(flat.pop("verify_tls", True), problems)
    if "bearer_token" in flat:
        flat.setdefault("token", flat.pop("bearer_token"))
    _add_older(spec.name, flat)
    kind = _catalog_type(flat, problems)
    problems += _named_code(kind, flat)
    if problems:
        raise OptionError(problems)
    name = str(flat.pop("name", "default"))
    properties = {key: _text(value) for key, value in flat.items()}
    uri = properties.get("uri", "")
    sqlite_file = None
    if kind == "sql" and uri.startswith("sqlite:///"):
        sqlite_file = _absolute(uri.removeprefix("sqlite:///").partition("?")[0], project_root)
        uri = f"sqlite:///{sqlite_file}"
        properties["uri"] = uri
    if kind == "sql" and "warehouse" in properties:
        properties["warehouse"] = local_location(properties["warehouse"], project_root)
    shown = without_userinfo(uri)
    return IcebergConnection(
        name=spec.name,
        type=spec.type,
        catalog_type=kind,
        catalog_name=name,
        uri=shown,
        warehouse=without_userinfo(properties.get("warehouse", "")),
        sqlite_file=sqlite_file,
        verify_tls=verify,
        purge=_purge(options.purge),
        properties=tuple(
            (key, Secret(value) if _is_secret(key) or (key == "uri" and value != shown) else value)
            for key, value in sorted(properties.items())
        ),
    )


def _options(spec: ConnectionSpec) -> IcebergOptions:
    """Return what the profile says; a property of the catalog beside it is told where it belongs."""
    try:
        return structure(spec.options, IcebergOptions)
    except OptionError as error:
        known = {field.name for field in attrs.fields(IcebergOptions)}
        raise OptionError(
            [
                each._replace(hint=f"write it into catalog: {{{each.path}: ...}}")
                if not each.hint and each.path not in known and _is_of_catalog(each.path)
                else each
                for each in error.problems
            ],
            error.hint,
        ) from error


def _is_of_catalog(key: str) -> bool:
    """Return whether an option's name is a property of catalogs, as far as the name says."""
    return "." in key or key in _OF_CATALOG


def _add_older(name: str, flat: dict[str, object]) -> None:
    """Add to a REST catalog what it lacks and variables of older projects say."""
    uri = str(flat.get("uri", ""))
    if flat.get("type", "rest") != "rest" or (uri and not uri.startswith("http")):
        return
    added, used = older_variables.defaults(flat)
    flat.update(added)
    if used:
        log.warning(
            "connections.%s: %s %s read from the environment, as older projects have it: write "
            "%s into the profile's catalog",
            name,
            ", ".join(used),
            "is" if len(used) == 1 else "are",
            ", ".join(added),
        )


def _embedded(
    spec: ConnectionSpec, options: IcebergOptions, project_root: str
) -> IcebergConnection:
    warehouse = options.warehouse
    if not warehouse:
        raise OptionError(
            [Problem("neither a warehouse nor a catalog", hint="write warehouse: ./warehouse")]
        )
    if "://" in warehouse and not warehouse.startswith("file://"):
        raise OptionError(
            [
                Problem(
                    "a warehouse in an object store needs a catalog",
                    path="warehouse",
                    hint='write catalog: {type: rest, uri: "...", warehouse: "..."}',
                )
            ]
        )
    folder = _absolute(warehouse.removeprefix("file://"), project_root)
    file = os.path.join(folder, EMBEDDED_FILE)
    uri = f"sqlite:///{file}"
    return IcebergConnection(
        name=spec.name,
        type=spec.type,
        catalog_type="sql",
        uri=uri,
        warehouse=folder,
        sqlite_file=file,
        embedded=True,
        properties=(("uri", uri), ("warehouse", local_location(folder, project_root))),
    )


def _absolute(path: str, root: str) -> str:
    return os.path.normpath(os.path.join(root, os.path.expanduser(path)))


def local_location(warehouse: str, root: str) -> str:
    """Return a warehouse as a location of pyiceberg's: a URI stays, a path gets absolute.

    pyiceberg parses a location as a URL, so that a path with one of ``#?;%`` is
    given to it bare: it takes a bare path literally.
    """
    if "://" in warehouse and not warehouse.startswith("file://"):
        return warehouse.rstrip("/")
    path = _absolute(warehouse.removeprefix("file://"), root)
    return path if set("#?;%") & set(path) else f"file://{path}"


def without_userinfo(uri: str) -> str:
    """Return a URI without the user's name and password in it."""
    if "@" not in uri or "://" not in uri:
        return uri
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _flatten(
    value: Mapping[str, object], path: str, problems: list[Problem], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        here = f"{path}.{key}"
        if isinstance(item, Mapping):
            yield from _flatten(item, here, problems, f"{prefix}{key}.")
        elif isinstance(item, str | int | float | bool):
            yield f"{prefix}{key}", item
        elif item is not None:
            problems.append(Problem("a list is no property", path=here, hint="write one value"))


def _purge(value: str | bool) -> str:
    # YAML reads a bare yes or no as true or false.
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _verify(value: object, problems: list[Problem]) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    problems.append(Problem("not a boolean", path="catalog.verify_tls", hint="write true or false"))
    return True


def _catalog_type(flat: dict[str, object], problems: list[Problem]) -> str:
    uri = str(flat.get("uri", ""))
    kind = flat.pop("type", None)
    if kind is None:
        kind = next((kind for scheme, kind in _SCHEMES if uri.startswith(scheme)), None)
        if kind is None:
            hint = "write type: " + " or ".join(CATALOG_TYPES)
            if uri:
                hint = f"begin the uri of a REST catalog with http:// or https://, else {hint}"
            problems.append(Problem("the catalog has no type", path="catalog", hint=hint))
    elif kind not in CATALOG_TYPES:
        hint = nearest(str(kind), CATALOG_TYPES) or "write " + ", ".join(CATALOG_TYPES)
        problems.append(Problem(f"{kind!r} is no catalog", path="catalog.type", hint=hint))
    if kind in ("rest", "sql", "hive") and not uri:
        problems.append(
            Problem(f"a catalog of type {kind} needs a uri", path="catalog.uri", hint="add uri")
        )
    elif kind == "rest" and not _HTTP.match(uri):
        problems.append(
            Problem(
                "is no address of a REST catalog",
                path="catalog.uri",
                hint="write http:// or https://, then the host: uri: https://catalog.example.com",
            )
        )
    return str(kind)


def _named_code(kind: str, flat: Mapping[str, object]) -> Iterator[Problem]:
    """Find values that would load code by name."""
    for key, value in flat.items():
        if not imports.is_allowed(key, value):
            yield Problem(
                f"names {str(value)!r}, which is not loaded: it could run anything",
                path=f"catalog.{key}",
                hint=imports.hint(key),
            )
    uri = str(flat.get("uri", ""))
    dialect = uri.partition("://")[0]
    if kind == "sql" and uri and dialect not in imports.DIALECTS:
        yield Problem(
            f"{dialect!r} is no database of a catalog",
            path="catalog.uri",
            hint=nearest(dialect, sorted(imports.DIALECTS))
            or "write sqlite:// or postgresql+psycopg2://",
        )
    if kind == "sql" and "plugin" in parse_qs(urlsplit(uri).query, keep_blank_values=True):
        yield Problem("loads a plugin of SQLAlchemy's", path="catalog.uri", hint="remove plugin=")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_secret(key: str) -> bool:
    return key not in _NOT_SECRET and _SECRET.search(key) is not None
