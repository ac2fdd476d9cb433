"""Tokens for a REST catalog: one for all threads of a command, renewed before it expires."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pyiceberg.catalog.rest.auth import AuthManager
from requests import Response, Session
from requests.exceptions import RequestException

from seeknal_core.contract.errors import BackendError, Unreachable
from seeknal_core.contract.types import Secret, redact
from seeknal_iceberg.connection.errors import Elsewhere

#: Seconds before its end at which a token is renewed, at most a third of its life.
_MARGIN = 60.0
#: A token that fits into a header (RFC 6750, 2.1, and what else is seen).
_SENDABLE = re.compile(r"[\x21-\x7e]+")


class NoToken(AuthManager):
    """Sends no token. pyiceberg itself would send ``Bearer None``."""

    def auth_header(self) -> str | None:
        """Return nothing."""
        return None


class StaticToken(AuthManager):
    """Sends the token of the profile.

    Args:
        token: as it is written there.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_header(self) -> str | None:
        """Return the header's value."""
        return f"Bearer {self._token}"


class TokenServerMissing(BackendError):
    """There is no token server where the catalog's own one would be."""


class ClientCredentials(AuthManager):
    """Asks a token server for tokens, by OAuth2's client credentials (RFC 6749, 4.4).

    Args:
        connection: the connection's name, for messages.
        open_session: makes a session that sends to the token server only.
        uri: the token server's address.
        credential: ``id:secret``, or a secret alone.
        extra: ``scope``, ``audience``, ``resource`` of the profile.
    """

    def __init__(
        self,
        connection: str,
        open_session: Callable[[], Session],
        uri: str,
        credential: str,
        extra: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._open_session = open_session
        self._uri = uri
        head, colon, tail = credential.partition(":")
        self._client = (head, tail) if colon else ("", credential)
        self._extra = dict(extra)
        self._lock = threading.Lock()
        self._token = ""
        #: The token that a thread sent last.
        self._sent = threading.local()
        self._renew_at = float("inf")

    def auth_header(self) -> str | None:
        """Return the header's value, with a token that is good for a while yet.

        Raises:
            BackendError: the token server refuses the client.
            Unreachable: it does not answer, or not with a token.
        """
        with self._lock:
            if not self._token or time.monotonic() >= self._renew_at:
                self._fetch()
            self._sent.token = self._token
            return f"Bearer {self._token}"

    def describe(self) -> str:
        """Return where tokens come from."""
        return f"from {self._uri}"

    def renew(self) -> None:
        """Get another token, the one that this thread sent being refused."""
        with self._lock:
            if getattr(self._sent, "token", self._token) == self._token:
                self._fetch()

    def _fetch(self) -> None:
        answer = self._ask(self._extra or {"scope": "catalog"})
        if not self._extra.get("scope") and _error_of(answer)[0] == "invalid_scope":
            # An identity provider knows no scope "catalog", which catalogs of their own want.
            answer = self._ask(self._extra)
        body = _body_of(answer)
        token = body.get("access_token")
        if not answer.ok or not isinstance(token, str) or not _SENDABLE.fullmatch(token):
            raise self._refusal(answer)
        self._token = Secret(token).reveal()
        life = _seconds(body.get("expires_in"))
        self._renew_at = time.monotonic() + life - min(_MARGIN, life / 3)

    def _ask(self, extra: Mapping[str, str]) -> Response:
        client_id, secret = self._client
        form = {
            "grant_type": "client_credentials",
            **({"client_id": client_id} if client_id else {}),
            "client_secret": secret,
            **extra,
        }
        with self._open_session() as session:
            try:
                return session.post(self._uri, data=form, headers={"Accept": "application/json"})
            except Elsewhere:
                raise
            except RequestException as error:
                raise Unreachable(
                    f"{self._connection}: the token server {self._uri} does not answer",
                    f"check connections.{self._connection}.catalog in the profile: "
                    "oauth2-server-uri",
                ) from error

    def _refusal(self, answer: Response) -> BackendError:
        status = answer.status_code
        kind, said = _error_of(answer)
        where = f"{self._connection}: the token server {self._uri}"
        check = f"check connections.{self._connection}.catalog in the profile"
        if status in (400, 401, 403) and kind:
            wrong = "the scope" if kind == "invalid_scope" else "the credentials"
            field = "scope" if kind == "invalid_scope" else "credential (client id and secret)"
            return BackendError(f"{where} refuses {wrong}: {said}", f"{check}: {field}")
        if status in (404, 405):
            return TokenServerMissing(
                f"{where} is not there: HTTP {status}",
                f"{check}: oauth2-server-uri is the identity provider's token address",
            )
        if answer.ok:
            return Unreachable(
                f"{where} answers the request for a token without an access_token that can be sent",
                f"{check}: oauth2-server-uri",
            )
        return Unreachable(f"{where} fails: HTTP {status}", f"{check}: oauth2-server-uri")


def _seconds(life: object) -> float:
    """Return how long a token is good; without end where that is not said, or not readable."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        seconds = float(life)  # type: ignore[arg-type]
        return seconds if seconds >= 0 else float("inf")
    return float("inf")


def _body_of(answer: Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _error_of(answer: Response) -> tuple[str, str]:
    """Return the error's kind and words: OAuth2's (RFC 6749, 5.2), or Iceberg's."""
    if answer.ok:
        return "", ""
    body = _body_of(answer)
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("type") or "error"), redact(str(error.get("message") or ""))
    if not error:
        return ("error", f"HTTP {answer.status_code}") if answer.status_code == 401 else ("", "")
    said = str(body.get("error_description") or "")
    return str(error), redact(f"{error} ({said})" if said else str(error))
