"""What a REST catalog is before it is asked for tables: address, answers, hosts, files.

The catalog's configuration is asked for once per command, its token is shared by the
threads, and each table comes with its own way to its files.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import attrs
from pyiceberg.catalog.rest import (
    DEFAULT_ENDPOINTS,
    DEFAULT_NAMESPACE_SEPARATOR,
    NAMESPACE_SEPARATOR_PROPERTY,
    VIEW_ENDPOINTS,
    VIEW_ENDPOINTS_SUPPORTED,
    Capability,
    Endpoints,
    RestCatalog,
    TableResponse,
)
from pyiceberg.catalog.rest.auth import AuthManager
from pyiceberg.catalog.rest.response import _handle_non_200_response
from pyiceberg.exceptions import ForbiddenError, NoSuchTableError, RESTError, UnauthorizedError
from pyiceberg.io import load_file_io
from pyiceberg.schema import Schema
from pyiceberg.table import StagedTable, Table
from pyiceberg.types import LongType, NestedField
from pyiceberg.utils.properties import property_as_bool
from requests import HTTPError, Response, Session

from seeknal_core.contract.errors import BackendError, SeeknalError
from seeknal_core.contract.types import redact
from seeknal_iceberg.connection.errors import sentence
from seeknal_iceberg.connection.patience import Patience
from seeknal_iceberg.connection.rest.answers import endpoints_of, tolerate, without_nothing
from seeknal_iceberg.connection.rest.hosts import NamedHosts, SignedHosts, origin_of
from seeknal_iceberg.connection.rest.tokens import (
    ClientCredentials,
    NoToken,
    StaticToken,
    TokenServerMissing,
)
from seeknal_iceberg.connection.storage import access as accesses
from seeknal_iceberg.connection.storage.access import Offer
from seeknal_iceberg.connection.storage.object_store import TABLE_LOCATION
from seeknal_iceberg.connection.storage.vended_files import LeftFiles, LentFileIO
from seeknal_iceberg.connection.storage.vended_keys import Lease

if TYPE_CHECKING:
    from pyiceberg.io import FileIO

log = logging.getLogger("seeknal")

_DELEGATION = "X-Iceberg-Access-Delegation"
#: Where catalogs of older projects are, below the address that their profiles have.
_BELOW = "catalog"
#: What a catalog's configuration may say besides how files are opened, and headers.
_SERVER_MAY = frozenset(
    {
        # Which catalog it is; see `commit.capabilities`.
        "nessie.is-nessie-catalog",
        "uri", "prefix", "warehouse", "namespace-separator", "view-endpoints-supported",
        "rest-page-size", "snapshot-loading-mode",
    }
)  # fmt: skip
#: Schemes that pyiceberg opens by other file systems than pyarrow's.
_OTHERS = frozenset({"hf", "oss"})
#: Azure's keys that only fsspec takes.
_FSSPEC_KEYS = ("adls.connection-string", "adls.credential", "adls.token", "adls.anon")


@attrs.define(kw_only=True)
class Shared:
    """What the catalogs of one command's threads know together of a REST catalog.

    ``name`` is the connection's. ``spool`` is a folder for files that are being written.
    """

    name: str
    patience: Patience
    spool: str
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    base: str = ""
    config: Mapping[str, Any] | None = None
    tokens: AuthManager | None = None
    #: The way to the files of tables that are being made, or were dropped, by location.
    places: dict[str, FileIO] = attrs.field(factory=dict)
    leases: dict[str, Lease] = attrs.field(factory=dict)


class BaseRestCatalog(RestCatalog):
    """pyiceberg's REST catalog, found, asked and read as catalogs are found in the wild.

    Args:
        shared: the same for all threads of a command.
        properties: the connection's; ``py-io-impl`` only where the profile has it.
    """

    def __init__(self, name: str, shared: Shared, **properties: Any) -> None:
        self._shared = shared
        self._oauth2 = _own_oauth2(properties)
        #: The connection's properties, whatever the catalog's configuration says.
        self.profile: dict[str, Any] = dict(properties)
        #: What the catalog's configuration says of the storage.
        self.offered: dict[str, Any] = {}
        super().__init__(name, **properties)

    # Asking.

    @property
    def _hosts(self) -> tuple[str, ...]:
        return (self.profile["uri"],)

    def _config_headers(self, session: Session) -> None:
        # The first thing done with each new session, also with those that are closed at once.
        adapter = NamedHosts(self._shared.patience, self._hosts)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        session.hooks["response"].append(tolerate)
        super()._config_headers(session)
        written = {name.lower() for name in self.profile}
        if accesses.has_keys(self.profile) and f"header.{_DELEGATION}".lower() not in written:
            # Some catalogs fail where they are asked for keys that they can't give.
            session.headers.pop(_DELEGATION, None)

    def _init_sigv4(self, session: Session) -> None:
        adapter = SignedHosts(self._shared.patience, self._hosts, self.properties)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)

    def _create_legacy_oauth2_auth_manager(self, session: Session) -> AuthManager:
        with self._shared.lock:
            if self._shared.tokens is None:
                self._shared.tokens = self._new_tokens()
            return self._shared.tokens

    def _new_tokens(self) -> AuthManager:
        found: dict[str, Any] = self._oauth2 or self.profile
        credential = found.get("credential")
        if credential is None:
            token = found.get("token")
            return StaticToken(token) if token else NoToken()
        own = self.url(Endpoints.get_token, prefixed=False)
        uri = str(found.get("oauth2-server-uri") or own)
        extra = {
            name: str(found[name]) for name in ("scope", "audience", "resource") if found.get(name)
        }
        return ClientCredentials(
            self._shared.name, lambda: self._token_session(uri), uri, str(credential), extra
        )

    def _token_session(self, uri: str) -> Session:
        """Return a session that sends to the token server only, without the catalog's headers."""
        session = Session()
        session.auth = _no_auth
        adapter = NamedHosts(self._shared.patience, (uri,))
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        bundle = (self.profile.get("ssl") or {}).get("cabundle")
        if bundle is not None:
            session.verify = bundle
        return session

    def _refresh_token(self) -> None:
        if isinstance(self._auth_manager, ClientCredentials):
            self._auth_manager.renew()

    # The configuration.

    def _fetch_config(self) -> None:
        shared = self._shared
        with shared.lock:
            if shared.config is None:
                shared.base, shared.config = self._found_config()
        defaults, overrides = shared.config["defaults"], shared.config["overrides"]
        storage = {k: v for k, v in self.profile.items() if accesses.is_of_storage(k)}
        self.properties = {**defaults, **self.profile, **overrides, **storage}
        both = {**defaults, **overrides}
        self.offered = Offer.of(
            {k: v for k, v in both.items() if accesses.is_of_storage(k)}, ()
        ).config  # type: ignore[assignment]
        self.uri = self._address(shared.base, overrides.get("uri"))
        self.properties["uri"] = self.uri
        listed = endpoints_of(shared.config.get("endpoints"))
        self._supported_endpoints = set(listed or DEFAULT_ENDPOINTS)
        if not listed and property_as_bool(self.properties, VIEW_ENDPOINTS_SUPPORTED, False):
            self._supported_endpoints |= VIEW_ENDPOINTS
        separator = self.properties.get(NAMESPACE_SEPARATOR_PROPERTY) or DEFAULT_NAMESPACE_SEPARATOR
        self._namespace_separator = unquote(str(separator))

    def _found_config(self) -> tuple[str, Mapping[str, Any]]:
        """Ask for the configuration where the profile says, else below ``/catalog``."""
        written = str(self.profile["uri"]).rstrip("/")
        bases = [written]
        if not urlsplit(written).path.endswith(f"/{_BELOW}"):
            bases.append(f"{written}/{_BELOW}")
        for base in bases:
            response = self._config_at(base)
            if response is None:
                continue
            try:
                response.raise_for_status()
            except HTTPError as error:
                self._refuse_config(base, error)
            if base != written:
                log.warning("%s: the catalog is at %s: write that as uri", self._shared.name, base)
            return base, _as_config(response, self._shared.name, base)
        hint = (
            f"write the catalog's path into connections.{self._shared.name}.catalog.uri, such as "
            "/catalog (Lakekeeper), /api/catalog (Polaris), /iceberg (Nessie, Gravitino)"
        )
        if written.endswith("/v1"):
            hint = (
                f"leave out /v1 at the end of connections.{self._shared.name}.catalog.uri: "
                f"{written.removesuffix('/v1')}"
            )
        raise BackendError(
            f"{self._shared.name}: there is no Iceberg catalog at {written}: "
            + " and ".join(f"{base}/v1/config" for base in bases)
            + " are not found" * (len(bases) > 1)
            + " is not found" * (len(bases) == 1),
            hint,
        )

    def _refuse_config(self, base: str, error: HTTPError) -> NoReturn:
        """Raise for a refused request for the configuration: most catalogs know the warehouse."""
        try:
            _handle_non_200_response(error, {})
        except (RESTError, ForbiddenError) as refused:
            status = error.response.status_code if error.response is not None else 500
            if isinstance(refused, UnauthorizedError) or status >= 500:
                raise
            warehouse = self.profile.get("warehouse")
            option = f"connections.{self._shared.name}.catalog.warehouse"
            said = sentence(refused)
            if error.response is not None and not _is_iceberg_error(error.response):
                raise BackendError(
                    f"{self._shared.name}: {base}/v1/config is refused with no answer of an "
                    f"Iceberg catalog: {said}",
                    f"check connections.{self._shared.name}.catalog.uri, and what stands before "
                    "the catalog",
                ) from refused
            if not warehouse:
                raise BackendError(
                    f"{self._shared.name}: the catalog {base} refuses the request for its "
                    f"configuration: {said}",
                    f"some catalogs want to know the warehouse: write its name as {option}",
                ) from refused
            raise BackendError(
                f"{self._shared.name}: the catalog {base} refuses the warehouse {warehouse!r}: "
                f"{said}",
                f"correct {option} in the profile: the warehouse's name in the catalog",
            ) from refused
        raise AssertionError("unreachable")

    def _config_at(self, base: str) -> Response | None:
        """Return the answer of an address; None where there is no catalog."""
        self.uri = base
        warehouse = self.properties.get("warehouse")
        params = {"warehouse": warehouse} if warehouse else {}
        with self._create_session() as session:
            try:
                response = session.get(
                    self.url(Endpoints.get_config, prefixed=False), params=params
                )
            except TokenServerMissing:
                if self.profile.get("oauth2-server-uri") or self._oauth2:
                    raise
                self._shared.tokens = None  # that of the next address is another one
                return None
        if response.status_code == 404 and not _is_iceberg_error(response):
            self._shared.tokens = None if not self._oauth2 else self._shared.tokens
            return None
        return response

    def _address(self, base: str, override: object) -> str:
        """Return the address to ask from now on: the catalog's own one, on the same host."""
        if not override:
            return base
        if origin_of(str(override)) == origin_of(base):
            return str(override)
        log.debug("%s: the catalog calls itself %s", self._shared.name, override)
        return base

    # Files.

    def _load_file_io(
        self, properties: Mapping[str, Any] = {}, location: str | None = None
    ) -> FileIO:
        return self._io(Lease(self.profile, self.offered, Offer.of(properties, ())), location or "")

    def _io(self, lease: Lease, location: str) -> FileIO:
        access, _ = lease.at(location)
        scheme = location.partition("://")[0] if "://" in location else ""
        fsspec = any(access.properties.get(name) for name in _FSSPEC_KEYS)
        if "py-io-impl" in self.profile or scheme in _OTHERS or fsspec:
            return load_file_io(dict(access.properties), location)
        if not access.vended and not access.signed_only:
            plain = {
                **access.properties,
                "py-io-impl": "seeknal_iceberg.connection.storage.object_store.WatchedFileIO",
                TABLE_LOCATION: location,
            }
            return load_file_io(plain, location)
        return LentFileIO(lease, location, self._shared.spool, self._refusal)

    def _refusal(self) -> SeeknalError:
        return accesses.refusal(self._shared.name, str(self.profile["uri"]), "")

    def _response_to_table(
        self, identifier_tuple: tuple[str, ...], table_response: TableResponse
    ) -> Table:
        def renew() -> Offer:
            return self._asked_offer(identifier_tuple)

        return Table(
            identifier=identifier_tuple,
            metadata_location=table_response.metadata_location or "",
            metadata=table_response.metadata,
            io=self._opened(table_response, renew),
            catalog=self,
        )

    def _response_to_staged_table(
        self, identifier_tuple: tuple[str, ...], table_response: TableResponse
    ) -> StagedTable:
        def renew() -> Offer:
            # By now it may have been made.
            try:
                return self._asked_offer(identifier_tuple)
            except NoSuchTableError:
                return self._staged_offer(identifier_tuple, table_response.metadata.location)

        return StagedTable(
            identifier=identifier_tuple,
            metadata_location=table_response.metadata_location or "",
            metadata=table_response.metadata,
            io=self._opened(table_response, renew),
            catalog=self,
        )

    def _opened(self, response: TableResponse, renew: Callable[[], Offer]) -> FileIO:
        """Return what opens a table's files, and remember it by the table's place."""
        location = response.metadata.location
        io = self._io(self._lease(response, renew), location)
        # Its files are deleted after it is dropped, when no keys come with it any more.
        self._shared.places[location.rstrip("/")] = io
        return io

    def _lease(self, response: TableResponse, renew: Any) -> Lease:
        lease = Lease(self.profile, self.offered, _offer_of(response), renew)
        self._shared.leases[response.metadata.location.rstrip("/")] = lease
        return lease

    def _asked_offer(self, identifier: tuple[str, ...]) -> Offer:
        """Ask for a table's keys: for them alone where the catalog can, else with the table."""
        if Capability.V1_LOAD_CREDENTIALS in self._supported_endpoints:
            try:
                found = self._load_credentials(identifier).storage_credentials
            except NoSuchTableError:
                raise
            # Lakekeeper up to 0.8 lists the address and does not know it.
            except Exception:  # noqa: BLE001
                found = []
            if any(accesses.has_keys(each.config) for each in found):
                return Offer.of({}, ((each.prefix, each.config) for each in found))
        response = self._session.get(
            self.url(Endpoints.load_table, **self._split_identifier_for_path(identifier))
        )
        if response.status_code in (401, 419):
            self._refresh_token()
            response = self._session.get(response.request.url or "")
        try:
            response.raise_for_status()
        except HTTPError as error:
            _handle_non_200_response(error, {404: NoSuchTableError})
        return _offer_of(TableResponse.model_validate_json(response.text))

    def _staged_offer(self, identifier: tuple[str, ...], location: str | None) -> Offer:
        """Ask for the keys of a table that is not there, by beginning to make it at its place.

        Some catalogs (Polaris, Lakekeeper) begin a table only where no files are. Where they
        choose the place by the table's name, they choose the same one again.
        """
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        try:
            return _offer_of(self._create_table(identifier, schema, location, stage_create=True))
        except RESTError:
            if location is None:
                raise
            begun = self._create_table(identifier, schema, None, stage_create=True)
            if begun.metadata.location.rstrip("/") != location.rstrip("/"):
                raise
            return _offer_of(begun)

    def access_of(self, table: Table) -> accesses.Access | None:
        """Return how a table's files are opened; None where the profile's own class does."""
        if "py-io-impl" in self.profile:
            return None
        with self._shared.lock:
            lease = self._shared.leases.get(table.metadata.location.rstrip("/"))
        return lease.at(table.metadata.location)[0] if lease is not None else None

    def known_io(self, location: str) -> FileIO | None:
        """Return the way to files at a location that this command knows without asking."""
        if accesses.has_keys(self.profile) or not accesses.is_kept_by_keys(location):
            return self._load_file_io(location=location)
        place = location.rstrip("/") + "/"
        # A copy: other threads add to it.
        fitting = [root for root in list(self._shared.places) if place.startswith(f"{root}/")]
        return self._shared.places[max(fitting, key=len)] if fitting else None

    def io_at(self, identifier: tuple[str, ...], location: str) -> FileIO:
        """Return the way to files of a table that is being made, or was dropped.

        Args:
            location: the table's.
        """
        known = self.known_io(location)
        if known is not None:
            return known

        def renew() -> Offer:
            return self._staged_offer(identifier, location)

        try:
            io = self._io(Lease(self.profile, self.offered, renew(), renew), location)
        # A catalog that stages nothing, or nothing where files are.
        except Exception as error:  # noqa: BLE001
            log.debug("no keys for %s: %s", location, redact(str(error)))
            io = self._io_without_keys(identifier, location)
        with self._shared.lock:
            self._shared.places[location.rstrip("/")] = io
        return io

    def _io_without_keys(self, identifier: tuple[str, ...], location: str) -> FileIO:
        """Return the way to files for which the catalog gives no keys: AWS's own, or none.

        Where it lends keys with other tables, these are tried, and nobody else's: some
        catalogs (R2) lend keys to the whole warehouse.
        """
        other = (*identifier[:-1], f"seeknal_keys_{uuid.uuid4().hex[:8]}")
        try:
            offer = self._staged_offer(other, None)
        except Exception:  # noqa: BLE001 - it stages nothing at all
            return self._load_file_io(location=location)
        place = location if not offer.credentials else offer.credentials[0][0]
        access, _ = Lease(self.profile, self.offered, offer).at(place)
        if not access.vended and not access.signed_only:
            return self._load_file_io(location=location)
        lease = Lease(self.profile, self.offered, offer, lambda: self._staged_offer(other, None))
        if lease.at(location)[0].vended:
            io = self._io(lease, location)
            if _opens(io, location):
                return io
        log.warning(
            "%s: the files at %s stay: the catalog gives no keys for a table that is not there",
            self._shared.name,
            location,
        )
        return LeftFiles(lambda: accesses.no_keys(self._shared.name, location))


def _opens(io: FileIO, location: str) -> bool:
    """Tell whether files at a location can be looked at."""
    try:
        io.new_input(f"{location.rstrip('/')}/metadata/seeknal-looks").exists()
    # Whatever it says: these keys are not for it.
    except Exception as error:  # noqa: BLE001
        log.debug("another table's keys don't open %s: %s", location, redact(str(error)))
        return False
    return True


def spool_of(target_dir: str) -> str:
    """Return the folder for files on their way to a storage."""
    return os.path.join(target_dir, "iceberg-sending")


def _no_auth(request: Any) -> Any:
    # Nothing of the user's .netrc either.
    return request


def _offer_of(response: TableResponse) -> Offer:
    given = ((each.prefix, each.config) for each in response.storage_credentials)
    return Offer.of(response.config, given)


def _permitted(found: object) -> dict[str, Any]:
    """Return what of a catalog's configuration counts: nothing that loads code or sends secrets."""
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): value
        for name, value in found.items()
        if name in _SERVER_MAY
        or (accesses.is_of_storage(str(name)) and name != "py-io-impl")
        or (str(name).startswith("header.") and str(name).lower() != "header.authorization")
    }


def _own_oauth2(properties: dict[str, Any]) -> dict[str, Any]:
    """Take pyiceberg's ``auth: {type: oauth2}`` out: its requests have no end of their own."""
    auth = properties.get("auth")
    if not isinstance(auth, Mapping) or auth.get("type") != "oauth2":
        return {}
    found = auth.get("oauth2") or {}
    del properties["auth"]
    return {
        "credential": f"{found.get('client_id', '')}:{found.get('client_secret', '')}",
        "oauth2-server-uri": found.get("token_url"),
        "scope": found.get("scope"),
    }


def _is_iceberg_error(response: Response) -> bool:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    error = body.get("error") if isinstance(body, Mapping) else None
    return isinstance(error, Mapping) and bool(error.get("message") or error.get("type"))


def _as_config(response: Response, name: str, base: str) -> Mapping[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, Mapping):
        raise BackendError(
            f"{name}: {base}/v1/config is answered with what is no configuration of an Iceberg "
            "catalog",
            f"check connections.{name}.catalog.uri: it is the address of the catalog's REST "
            "interface",
        )
    body = without_nothing(dict(body))
    for part in ("defaults", "overrides"):
        if not isinstance(body.get(part, {}), Mapping):
            raise BackendError(
                f"{name}: the catalog {base} answers the request for its configuration with "
                f"{part} that are no mapping",
                f"check connections.{name}.catalog.uri",
            )
        body[part] = {
            key: _as_text(value, f"{part}.{key}", name, base)
            for key, value in _permitted(body.get(part)).items()
        }
    return body


def _as_text(value: object, field: str, name: str, base: str) -> str:
    """Return a value of a catalog's configuration, all of which are texts."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise BackendError(
        f"{name}: the catalog {base} answers the request for its configuration with {field} "
        "that is no text",
        f"check connections.{name}.catalog.uri",
    )
