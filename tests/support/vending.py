"""A catalog that gives each table keys of its own, and a storage that holds clients to them.

The keys are real: SeaweedFS's token service makes them. That they open one table's files
only, and for how long, is the guard's work: a proxy in front of the storage.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import attrs

from support.catalog_asking import Asked, body_of, has_table, with_body
from support.catalog_proxy import Answer, CatalogProxy, Request, Send
from support.sts import TemporaryKeys, assume_role


@attrs.define(kw_only=True)
class _Issued:
    """What keys are good for."""

    place: str
    until: float


class Guard:
    """A proxy in front of an S3 service: temporary keys open their own place, and expire.

    Args:
        endpoint: address of the service.
    """

    def __init__(self, endpoint: str) -> None:
        self._issued: dict[str, _Issued] = {}
        self.refused: list[str] = []
        self._proxy = CatalogProxy(endpoint, [self._layer])

    @property
    def endpoint(self) -> str:
        """Address of the proxy."""
        return self._proxy.uri.rstrip("/")

    def allow(self, key: str, place: str, seconds: float) -> None:
        """Let keys open what is at ``s3://...`` for a while."""
        bucket_and_path = place.removeprefix("s3://").rstrip("/")
        self._issued[key] = _Issued(place=bucket_and_path, until=time.time() + seconds)

    def close(self) -> None:
        """Stop listening."""
        self._proxy.close()

    def _layer(self, request: Request, send: Send) -> Answer:
        headers = {name.lower(): value for name, value in request.headers.items()}
        signed = re.search(r"Credential=([^/]+)/", headers.get("authorization", ""))
        issued = self._issued.get(signed[1]) if signed else None
        if issued is None:
            return send(request)  # the keys of the tests themselves, or none: the server's matter
        if time.time() > issued.until:
            return self._refusal(request, 400, "ExpiredToken")
        for place in _places(request):
            if place != issued.place and not place.startswith(f"{issued.place}/"):
                return self._refusal(request, 403, "AccessDenied")
        return send(request)

    def _refusal(self, request: Request, status: int, code: str) -> Answer:
        self.refused.append(f"{code} {request.method} {request.path}")
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        headers = {"Content-Type": "application/xml"}
        return Answer(status=status, headers=headers, body=body.encode())


class TableBucket:
    """A proxy in front of an S3 service that lists and deletes no objects, as S3 Tables'.

    Args:
        endpoint: address of the service.
    """

    def __init__(self, endpoint: str) -> None:
        self._proxy = CatalogProxy(endpoint, [self._layer])
        self.refused: list[str] = []

    @property
    def endpoint(self) -> str:
        """Address of the proxy."""
        return self._proxy.uri.rstrip("/")

    def close(self) -> None:
        """Stop listening."""
        self._proxy.close()

    def _layer(self, request: Request, send: Send) -> Answer:
        asked = parse_qs(request.path.partition("?")[2], keep_blank_values=True)
        lists = request.method == "GET" and ("prefix" in asked or "list-type" in asked)
        deletes = request.method == "DELETE" or (request.method == "POST" and "delete" in asked)
        if not lists and not deletes:
            return send(request)
        self.refused.append(f"{request.method} {request.path}")
        code = "MethodNotAllowed"
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        return Answer(status=405, headers={"Content-Type": "application/xml"}, body=body.encode())


def _places(request: Request) -> list[str]:
    """Return what a request reads or writes, as ``bucket/path``."""
    path, _, query = request.path.partition("?")
    bucket, _, key = unquote(path).strip("/").partition("/")
    if key:
        return [f"{bucket}/{key}".rstrip("/")]
    asked = parse_qs(query, keep_blank_values=True)
    if request.method == "POST" and "delete" in asked:
        return [f"{bucket}/{key}" for key in re.findall(r"<Key>([^<]+)</Key>", request.text)]
    if request.method == "GET" and ("prefix" in asked or "list-type" in asked):
        return [f"{bucket}/{asked.get('prefix', [''])[0]}".rstrip("/")]
    return []  # whether the bucket is there


class Vending:
    """Puts keys of its own beside each table.

    Args:
        guard: the storage as clients reach it.
        endpoint: the S3 service itself, which makes the keys.
        keys: those of the catalog.
        parts: where to put the keys: ``config``, ``storage-credentials``, or both.
        seconds: how long keys are good.
    """

    def __init__(
        self,
        guard: Guard,
        endpoint: str,
        keys: tuple[str, str],
        parts: tuple[str, ...],
        seconds: float = 3600.0,
    ) -> None:
        self._guard, self._endpoint, self._keys = guard, endpoint, keys
        self._parts, self._seconds = parts, seconds
        self._lock = threading.Lock()
        self._number = 0

    def __call__(self, request: Request, send: Send) -> Answer:
        asked = Asked.of(request)
        if asked.what == "credentials" and request.method == "GET":
            path = request.path.partition("?")[0].removesuffix("/credentials")
            answer = send(attrs.evolve(request, path=path))
            if answer.status != 200:
                return answer
            location = body_of(answer)["metadata"]["location"]
            return with_body(answer, {"storage-credentials": self._credentials(location)})
        answer = send(request)
        wanted = {name.lower(): value for name, value in request.headers.items()}.get(
            "x-iceberg-access-delegation", ""
        )
        if answer.status != 200 or not has_table(asked, answer):
            return answer
        if "vended-credentials" not in wanted:
            return answer
        body = body_of(answer)
        location = body["metadata"]["location"]
        config: dict[str, Any] = dict(self._endpoint_config())
        if "config" in self._parts:
            config.update(self._config(location))
        body["config"] = {**(body.get("config") or {}), **config}
        if "storage-credentials" in self._parts:
            body["storage-credentials"] = self._credentials(location)
        return with_body(answer, body)

    def _endpoint_config(self) -> Mapping[str, str]:
        return {
            "s3.endpoint": self._guard.endpoint,
            "s3.region": "us-east-1",
            "client.region": "us-east-1",
            "s3.path-style-access": "true",
        }

    def _config(self, location: str) -> Mapping[str, str]:
        with self._lock:
            self._number += 1
            session = f"table-{self._number}"
        made: TemporaryKeys = assume_role(self._endpoint, *self._keys, session)
        self._guard.allow(made.access_key, location, self._seconds)
        until = int((time.time() + self._seconds) * 1000)
        return {
            **self._endpoint_config(),
            "s3.access-key-id": made.access_key,
            "s3.secret-access-key": made.secret_key,
            "s3.session-token": made.session_token,
            "s3.session-token-expires-at-ms": str(until),
        }

    def _credentials(self, location: str) -> list[dict[str, object]]:
        """Return keys for the table, and useless ones for what is around it."""
        around = location.rstrip("/").rpartition("/")[0] + "/"
        useless = {
            "s3.access-key-id": "AROUND",
            "s3.secret-access-key": "useless",
            "s3.session-token": "useless",
        }
        return [
            {"prefix": around, "config": {**self._endpoint_config(), **useless}},
            {"prefix": location, "config": self._config(location)},
        ]
