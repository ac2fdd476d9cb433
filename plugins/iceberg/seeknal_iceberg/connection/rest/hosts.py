"""Restricts a REST catalog's requests to the hosts that the profile names.

Otherwise a token or a client's secret could follow a redirect, or an address that the catalog
returns for itself, to any other host.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urljoin, urlsplit, urlunsplit

from requests import PreparedRequest, Response

from seeknal_iceberg.connection.errors import Elsewhere
from seeknal_iceberg.connection.patience import Patience, PatientAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PORTS = {"http": 80, "https": 443}


def origin_of(uri: str) -> str:
    """Return scheme, host and port of an address, always with the port."""
    parts = urlsplit(uri)
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    port = parts.port or _PORTS.get(scheme, 0)
    return f"{scheme}://{host}:{port}"


class NamedHosts(PatientAdapter):
    """An HTTP adapter that sends to some hosts only, and follows no redirect away from them.

    Args:
        uris: addresses on the hosts.
    """

    def __init__(self, patience: Patience, uris: Iterable[str]) -> None:
        super().__init__(patience)
        self._origins = {origin_of(uri) for uri in uris if uri}

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        """Send a request.

        Raises:
            Elsewhere: it, or where the answer redirects to, is on another host.
        """
        where = request.url or ""
        if origin_of(where) not in self._origins:
            raise Elsewhere(f"the profile does not name {_shown(where)}", request=request)
        answer = super().send(request, *args, **kwargs)
        if answer.is_redirect:
            there = urljoin(where, answer.headers["Location"])
            if origin_of(there) not in self._origins:
                raise Elsewhere(
                    f"{_shown(where)} redirects to {_shown(there)}, which the profile does not "
                    "name; nothing was sent there",
                    request=request,
                )
        return answer


def _shown(uri: str) -> str:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


class SignedHosts(NamedHosts):
    """The same, with each request signed by AWS's signature version 4.

    Args:
        properties: the catalog's, of which ``rest.signing-name`` and ``rest.signing-region``
            decide; the keys are ``client.*`` or ``s3.*``, else AWS's own.
    """

    def __init__(
        self, patience: Patience, uris: Iterable[str], properties: Mapping[str, Any]
    ) -> None:
        super().__init__(patience, uris)
        import boto3

        def of(*names: str) -> str | None:
            return next((str(properties[name]) for name in names if properties.get(name)), None)

        self._session = boto3.Session(
            profile_name=of("client.profile-name"),
            region_name=of("rest.signing-region", "client.region", "s3.region"),
            aws_access_key_id=of("client.access-key-id", "s3.access-key-id"),
            aws_secret_access_key=of("client.secret-access-key", "s3.secret-access-key"),
            aws_session_token=of("client.session-token", "s3.session-token"),
        )
        self._service = of("rest.signing-name") or "execute-api"
        self._region = of("rest.signing-region") or self._session.region_name

    def add_headers(self, request: PreparedRequest, **kwargs: Any) -> None:
        """Sign a request that is about to be sent; a repeated one again."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import NoCredentialsError, NoRegionError

        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        if not self._region:
            raise NoRegionError
        parts = urlsplit(request.url or "")
        sent = request.body or b""
        body = sent if isinstance(sent, bytes) else str(sent).encode()
        headers = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        for name, value in request.headers.items():
            # Headers that a proxy may change are not signed.
            if name.lower() == "content-type" or name.lower().startswith("x-iceberg"):
                headers[name] = value if isinstance(value, str) else value.decode()
        signed = AWSRequest(
            method=request.method,
            url=urlunsplit(parts._replace(query="")),
            # Signed as %20 what the address has as +.
            params=parse_qsl(parts.query, keep_blank_values=True),
            data=body,
            headers=headers,
        )
        SigV4Auth(found.get_frozen_credentials(), self._service, self._region).add_auth(signed)
        for name, value in signed.headers.items():
            request.headers[name] = value
