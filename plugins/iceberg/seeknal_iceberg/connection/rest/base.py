"""A REST catalog before it is asked for tables: its address, its hosts, its configuration.

The catalog's configuration is asked for once per command, its token is shared by the threads.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import attrs
from pyiceberg.catalog.rest import (
    DEFAULT_ENDPOINTS,
    DEFAULT_NAMESPACE_SEPARATOR,
    NAMESPACE_SEPARATOR_PROPERTY,
    VIEW_ENDPOINTS,
    VIEW_ENDPOINTS_SUPPORTED,
    Endpoints,
    RestCatalog,
)
from pyiceberg.catalog.rest.auth import AuthManager
from pyiceberg.catalog.rest.response import _handle_non_200_response
from pyiceberg.exceptions import ForbiddenError, RESTError, UnauthorizedError
from pyiceberg.utils.properties import property_as_bool
from requests import HTTPError, Response, Session

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.connection.errors import sentence
from seeknal_iceberg.connection.patience import Patience
from seeknal_iceberg.connection.rest.answers import endpoints_of, tolerate
from seeknal_iceberg.connection.rest.hosts import NamedHosts, SignedHosts, origin_of
from seeknal_iceberg.connection.rest.tokens import (
    ClientCredentials,
    NoToken,
    StaticToken,
    TokenServerMissing,
)
from seeknal_iceberg.connection.storage import access as accesses
from seeknal_iceberg.connection.storage.access import Offer
from seeknal_iceberg.connection.storage.vended_keys import VendedKeys

if TYPE_CHECKING:
    from pyiceberg.io import FileIO

from seeknal_iceberg.connection.rest.config import as_config, is_iceberg_error

log = logging.getLogger("seeknal")

_DELEGATION = "X-Iceberg-Access-Delegation"
#: Where catalogs of older projects are, below the address that their profiles have.
_BELOW = "catalog"


@attrs.define(kw_only=True)
class Shared:
    """The state of a REST catalog that the threads of one command share.

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
    leases: dict[str, VendedKeys] = attrs.field(factory=dict)


class BaseRestCatalog(RestCatalog):
    """pyiceberg's REST catalog, adapted to the behaviour of real catalogs.

    Args:
        shared: the same for all threads of a command.
        properties: the connection's; ``py-io-impl`` only where the profile has it.
    """

    def __init__(self, name: str, shared: Shared, **properties: Any) -> None:
        self._shared = shared
        self._oauth2 = _own_oauth2(properties)
        #: The connection's properties, independent of the catalog's configuration.
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
        """Request the configuration at the profile's address, else below ``/catalog``."""
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
            return base, as_config(response, self._shared.name, base)
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
            if error.response is not None and not is_iceberg_error(error.response):
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
        """Return the answer of an address; None if there is no catalog."""
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
        if response.status_code == 404 and not is_iceberg_error(response):
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


def spool_of(target_dir: str) -> str:
    """Return the folder for files on their way to a storage."""
    return os.path.join(target_dir, "iceberg-sending")


def _no_auth(request: Any) -> Any:
    # The user's .netrc is not used either.
    return request


def _own_oauth2(properties: dict[str, Any]) -> dict[str, Any]:
    """Replace pyiceberg's ``auth: {type: oauth2}`` by our options: its requests never time out."""
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
