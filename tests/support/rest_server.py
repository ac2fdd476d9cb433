"""An Iceberg REST catalog for tests: pyiceberg's SQLite catalog, served over HTTP.

It follows the specification and has no habits of its own, so that a way of answering can
be put in front of it (`support.catalog_modes`)::

    with RestServer(tmp_path) as server:
        catalog = load_catalog("x", **server.catalog_options())

Files are put under ``warehouse``: a folder beside the catalog's file, or any location that
pyiceberg reaches with ``properties``.
"""

from __future__ import annotations

import http.server
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
from pydantic import ValidationError
from pyiceberg.catalog.rest import CreateTableRequest, TableResponse
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import CommitTableRequest, StagedTable, Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import AssertCreate
from sqlalchemy import insert, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

#: What `/v1/config` lists.
ENDPOINTS = (
    "GET /v1/{prefix}/namespaces",
    "POST /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "DELETE /v1/{prefix}/namespaces/{namespace}",
    "POST /v1/{prefix}/namespaces/{namespace}/properties",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "POST /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    "POST /v1/{prefix}/namespaces/{namespace}/register",
    "POST /v1/{prefix}/tables/rename",
    "POST /v1/{prefix}/transactions/commit",
    "GET /v1/{prefix}/namespaces/{namespace}/views",
)

#: The client credentials that the server knows.
CREDENTIAL = "tester:test-secret"

_STATUS: Sequence[tuple[type[Exception], int]] = (
    (NoSuchTableError, 404),
    (NoSuchNamespaceError, 404),
    (TableAlreadyExistsError, 409),
    (NamespaceAlreadyExistsError, 409),
    (NamespaceNotEmptyError, 409),
    (CommitFailedException, 409),
    (ValidationError, 400),
    (ValueError, 400),
)


@attrs.frozen(kw_only=True)
class _Call:
    """A request: the names in its path, its query, and its body."""

    method: str
    names: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    @property
    def levels(self) -> tuple[str, ...]:
        """The namespace that the path names."""
        return tuple(unquote(self.names[0]).split("\x1f"))

    @property
    def table(self) -> tuple[str, ...]:
        """The table that the path names, as `SqlCatalog` knows it."""
        return _name(self.levels, unquote(self.names[1]))

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


def _name(levels: Sequence[str], table: str) -> tuple[str, ...]:
    """Return a table's name as `SqlCatalog` keeps it: the namespace as one text."""
    return ".".join(levels), table


#: A status and what is answered, as text of JSON.
Reply = tuple[int, str]


class RestServer:
    """An Iceberg REST catalog over SQLite, on a port of its own.

    Args:
        folder: where the catalog's file is, and the tables' files unless `warehouse` is given.
        warehouse: a location under which tables are put.
        properties: pyiceberg's, to reach the warehouse.
        tokens: refuse requests without a token of ``POST /v1/oauth/tokens``.
        prefix: what `/v1/config` says that paths begin with.
    """

    def __init__(
        self,
        folder: Path,
        *,
        warehouse: str | None = None,
        properties: Mapping[str, str] | None = None,
        tokens: bool = False,
        prefix: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.warehouse = warehouse or (folder / "warehouse").as_uri()
        self.properties = dict(properties or {})
        self.prefix = prefix
        self.catalog = SqlCatalog(
            "default",
            uri=f"sqlite:///{folder}/rest-catalog.db",
            warehouse=self.warehouse,
            **self.properties,
        )
        #: Views that somebody made, by namespace, as one text, and name.
        self.views: set[tuple[str, str]] = set()
        self._tokens: set[str] | None = set() if tokens else None
        # One request at a time: all or nothing is then a matter of one SQL transaction.
        self._lock = threading.RLock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def catalog_options(self) -> dict[str, str]:
        """Return the pyiceberg properties by which a client reaches catalog and files."""
        options = {"type": "rest", "uri": self.uri, "warehouse": self.warehouse, **self.properties}
        if self._tokens is not None:
            options["credential"] = CREDENTIAL
            options["oauth2-server-uri"] = f"{self.uri}v1/oauth/tokens"
        return options

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            self.catalog.engine.dispose()

    def __enter__(self) -> RestServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def reply(self, method: str, target: str, token: str, body: bytes) -> Reply:
        """Return the answer to a request."""
        parts = urlsplit(target)
        path = parts.path.rstrip("/")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        try:
            if path == "/v1/oauth/tokens":
                return self._token(body)
            if self._tokens is not None and token not in self._tokens:
                return _refusal(401, "NotAuthorizedException", "a token is needed")
            if path == "/v1/config":
                return 200, json.dumps(self._config())
            if self.prefix:
                path = path.replace(f"/v1/{self.prefix}/", "/v1/", 1)
            for methods, pattern, answer in _ROUTES:
                match = pattern.fullmatch(path)
                if match and method in methods.split():
                    call = _Call(method=method, names=match.groups(), query=query, body=body)
                    with self._lock:
                        return answer(self, call)
            return _refusal(404, "NotFoundException", f"no endpoint {method} {path}")
        except Exception as error:  # noqa: BLE001
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return _refusal(status, type(error).__name__, str(error))

    def _token(self, body: bytes) -> Reply:
        form = {key: values[-1] for key, values in parse_qs(body.decode()).items()}
        if f"{form.get('client_id')}:{form.get('client_secret')}" != CREDENTIAL:
            return _refusal(401, "invalid_client", "unknown client")
        token = secrets.token_urlsafe(12)
        if self._tokens is not None:
            self._tokens.add(token)
        return 200, json.dumps({"access_token": token, "token_type": "bearer", "expires_in": 3600})

    def _config(self) -> dict[str, Any]:
        overrides = {"prefix": self.prefix} if self.prefix else {}
        return {"defaults": {}, "overrides": overrides, "endpoints": list(ENDPOINTS)}

    # Namespaces.

    def _list_namespaces(self, call: _Call) -> Reply:
        parent = tuple(call.query["parent"].split("\x1f")) if "parent" in call.query else ()
        return 200, json.dumps({"namespaces": sorted(self.catalog.list_namespaces(parent))})

    def _create_namespace(self, call: _Call) -> Reply:
        made = call.json()
        levels, properties = tuple(made["namespace"]), made.get("properties") or {}
        if any("." in level for level in levels):
            raise ValueError("this catalog keeps no dot in a namespace's name")
        if len(levels) > 1:
            self._need(levels[:-1])
        self.catalog.create_namespace(levels, properties)
        return 200, json.dumps({"namespace": levels, "properties": properties})

    def _load_namespace(self, call: _Call) -> Reply:
        properties = dict(self.catalog.load_namespace_properties(call.levels))
        properties.pop("exists", None)  # what SqlCatalog puts into an empty namespace
        return 200, json.dumps({"namespace": call.levels, "properties": properties})

    def _has_namespace(self, call: _Call) -> Reply:
        self._need(call.levels)
        return 204, ""

    def _drop_namespace(self, call: _Call) -> Reply:
        if self.catalog.list_namespaces(call.levels):
            raise NamespaceNotEmptyError(f"{'.'.join(call.levels)} has namespaces in it")
        self.catalog.drop_namespace(call.levels)
        return 204, ""

    def _set_properties(self, call: _Call) -> Reply:
        asked = call.json()
        done = self.catalog.update_namespace_properties(
            call.levels, set(asked.get("removals") or ()), asked.get("updates") or {}
        )
        return 200, json.dumps(
            {"removed": done.removed, "updated": done.updated, "missing": done.missing}
        )

    def _need(self, levels: tuple[str, ...]) -> None:
        if not self.catalog.namespace_exists(levels):
            raise NoSuchNamespaceError(f"there is no namespace {'.'.join(levels)}")

    # Tables.

    def _list_tables(self, call: _Call) -> Reply:
        found = [
            {"namespace": call.levels, "name": name[-1]}
            for name in sorted(self.catalog.list_tables(call.levels))
        ]
        return 200, json.dumps({"identifiers": found})

    def _list_views(self, call: _Call) -> Reply:
        self._need(call.levels)
        found = [
            {"namespace": call.levels, "name": name}
            for levels, name in sorted(self.views)
            if levels == ".".join(call.levels)
        ]
        return 200, json.dumps({"identifiers": found})

    def _create_table(self, call: _Call) -> Reply:
        optional = dict.fromkeys(("location", "partition-spec", "write-order"))
        asked = CreateTableRequest.model_validate(optional | call.json())
        name = _name(call.levels, asked.name)
        self._need(call.levels)
        if self.catalog.table_exists(name):
            raise TableAlreadyExistsError(f"there is a table {'.'.join(name)}")
        if name in self.views:
            raise TableAlreadyExistsError(f"there is a view {'.'.join(name)}")
        create = self.catalog._create_staged_table if asked.stage_create else None
        table = (create or self.catalog.create_table)(
            name,
            asked.table_schema,
            asked.location,
            asked.partition_spec or UNPARTITIONED_PARTITION_SPEC,
            asked.write_order or UNSORTED_SORT_ORDER,
            asked.properties,
        )
        return 200, _loaded(table, staged=asked.stage_create)

    def _register(self, call: _Call) -> Reply:
        asked = call.json()
        name = _name(call.levels, asked["name"])
        return 200, _loaded(self.catalog.register_table(name, asked["metadata-location"]))

    def _load_table(self, call: _Call) -> Reply:
        return 200, _loaded(self.catalog.load_table(call.table))

    def _has_table(self, call: _Call) -> Reply:
        self.catalog.load_table(call.table)
        return 204, ""

    def _credentials(self, call: _Call) -> Reply:
        self.catalog.load_table(call.table)
        return 200, json.dumps({"storage-credentials": []})

    def _drop_table(self, call: _Call) -> Reply:
        if call.query.get("purgeRequested", "").lower() == "true":
            self.catalog.purge_table(call.table)
        else:
            self.catalog.drop_table(call.table)
        return 204, ""

    def _rename(self, call: _Call) -> Reply:
        source, destination = (
            _name(call.json()[end]["namespace"], call.json()[end]["name"])
            for end in ("source", "destination")
        )
        self.catalog.rename_table(source, destination)
        return 204, ""

    # Commits.

    def _commit(self, call: _Call) -> Reply:
        asked = CommitTableRequest.model_validate(
            {
                "identifier": {"namespace": call.levels, "name": call.table[-1]},
                **{key: value for key, value in call.json().items() if key != "identifier"},
            }
        )
        (made,) = self._commit_all([asked])
        return 200, _loaded(made)

    def _commit_transaction(self, call: _Call) -> Reply:
        changes = call.json()["table-changes"]
        self._commit_all([CommitTableRequest.model_validate(change) for change in changes])
        return 204, ""

    def _commit_all(self, changes: Sequence[CommitTableRequest]) -> list[StagedTable]:
        """Commit changes of several tables: all of them, or none."""
        catalog = self.catalog
        names = [_name(one.identifier.namespace.root, one.identifier.name) for one in changes]
        if len(set(names)) < len(names):
            raise ValueError("a table is named twice")
        before = [
            self._base(name, one.requirements) for name, one in zip(names, changes, strict=True)
        ]
        staged = [
            catalog._update_and_stage_table(table, name, one.requirements, one.updates)
            for table, name, one in zip(before, names, changes, strict=True)
        ]
        for made in staged:
            catalog._write_metadata(made.metadata, made.io, made.metadata_location)
        with Session(catalog.engine) as session:
            for name, table, made in zip(names, before, staged, strict=True):
                where = (
                    IcebergTables.catalog_name == catalog.name,
                    IcebergTables.table_namespace == name[0],
                    IcebergTables.table_name == name[1],
                )
                at = made.metadata_location
                if table is None:
                    row = catalog._create_table_row(name[0], name[1], at)
                    session.execute(insert(IcebergTables).values(**row))
                else:
                    old = table.metadata_location
                    values = {"metadata_location": at, "previous_metadata_location": old}
                    session.execute(update(IcebergTables).where(*where).values(**values))
            try:
                session.commit()
            except IntegrityError as error:
                raise TableAlreadyExistsError(str(error)) from error
        return staged

    def _base(self, name: tuple[str, ...], requirements: Sequence[object]) -> Table | None:
        if not any(isinstance(one, AssertCreate) for one in requirements):
            return self.catalog.load_table(name)
        self._need(tuple(name[0].split(".")))
        if self.catalog.table_exists(name):
            raise CommitFailedException(f"there is a table {'.'.join(name)}")
        return None


def _loaded(table: Table, *, staged: bool = False) -> str:
    response = TableResponse.model_validate(
        {"metadata-location": None if staged else table.metadata_location, "metadata": {}}
        | {"metadata": table.metadata}
    )
    return response.model_dump_json(
        by_alias=True, exclude_none=True, exclude={"storage_credentials"}
    )


def _refusal(status: int, kind: str, message: str) -> Reply:
    return status, json.dumps({"error": {"message": message, "type": kind, "code": status}})


_NAMESPACE = "/v1/namespaces/([^/]+)"
_TABLE = f"{_NAMESPACE}/tables/([^/]+)"
_ROUTES: Sequence[tuple[str, re.Pattern[str], Callable[[RestServer, _Call], Reply]]] = tuple(
    (methods, re.compile(pattern), answer)
    for methods, pattern, answer in (
        ("GET", "/v1/namespaces", RestServer._list_namespaces),
        ("POST", "/v1/namespaces", RestServer._create_namespace),
        ("GET", _NAMESPACE, RestServer._load_namespace),
        ("HEAD", _NAMESPACE, RestServer._has_namespace),
        ("DELETE", _NAMESPACE, RestServer._drop_namespace),
        ("POST", f"{_NAMESPACE}/properties", RestServer._set_properties),
        ("GET", f"{_NAMESPACE}/tables", RestServer._list_tables),
        ("POST", f"{_NAMESPACE}/tables", RestServer._create_table),
        ("GET", f"{_NAMESPACE}/views", RestServer._list_views),
        ("POST", f"{_NAMESPACE}/register", RestServer._register),
        ("GET", _TABLE, RestServer._load_table),
        ("HEAD", _TABLE, RestServer._has_table),
        ("POST", _TABLE, RestServer._commit),
        ("DELETE", _TABLE, RestServer._drop_table),
        ("GET", f"{_TABLE}/credentials", RestServer._credentials),
        ("POST", "/v1/tables/rename", RestServer._rename),
        ("POST", "/v1/transactions/commit", RestServer._commit_transaction),
    )
)


def _handler(server: RestServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = 65536

        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, text = server.reply(self.command, self.path, token, body)
            content = text.encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            self.wfile.flush()

        do_GET = do_HEAD = do_POST = do_DELETE = _go

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
