"""Files behind ``https://``, downloaded before they are read.

``http://`` works on this machine's own address only: elsewhere nobody could say that
the file is the one that was asked for. Certificates are checked against the system's
authorities (``SSL_CERT_FILE`` names others).
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.disk import disk_full, disk_guard
from seeknal_core.engine.files.https_seen import Seen, url_digest
from seeknal_core.files.own import make_folder

#: What is downloaded at most where the source has no ``max_bytes``.
DEFAULT_MAX_BYTES = 1_000_000_000
#: Seconds that the server may take for the connection, and between two answers.
TIMEOUT = 30.0
#: Seconds before the one repetition, unless the server says another number.
PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_CHUNK = 1024 * 1024
_REDIRECTS = 5
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 500, 502, 503, 504})
_WRONG_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class _Again(Exception):
    """It may work in a moment."""

    def __init__(self, message: str, pause: float = PAUSE) -> None:
        super().__init__(message)
        self.message = message
        self.pause = pause


#: Hears where redirects led, and the answer's headers.
Heard = Callable[[str, Message], None]


def download(
    node: str, url: str, scratch: Path, max_bytes: int | None, heard: Heard | None = None
) -> dict[str, Path]:
    """Download one file; return its URL without user, query and fragment -> the local file.

    Args:
        max_bytes: None for `DEFAULT_MAX_BYTES`.
        heard: hears of the answer that the whole file came with.

    Raises:
        EngineError: the URL is not allowed, the server refuses or does not answer, the
            file is too large or did not arrive as a whole.
    """
    shown = shown_url(url)
    _check_url(node, url)
    folder = scratch / "https" / hashlib.sha256(url.encode()).hexdigest()[:16]
    with disk_guard(node):
        make_folder(folder)
    name = _WRONG_NAME.sub("-", urlsplit(url).path.rpartition("/")[2])[-100:] or "file"
    local = folder / name
    limit = max_bytes or DEFAULT_MAX_BYTES
    try:
        try:
            _fetch(node, url, local, limit, heard)
        except _Again as first:
            time.sleep(first.pause)
            _fetch(node, url, local, limit, heard)
    except _Again as again:
        raise EngineError(f"{node}: {shown}: {again.message}", "try again later") from None
    return {shown: local}


def is_unchanged(node: str, url: str, seen: Seen) -> bool:
    """Ask the server whether a file is still the one that was downloaded.

    Whatever else it answers, or that it doesn't, is left to `download`.

    Raises:
        EngineError: the URL is not allowed.
    """
    _check_url(node, url)
    opener = _opener()
    for _ in range(_REDIRECTS + 1):
        # Two files may have one ETag: it means something for the URL that gave it.
        conditions = seen.conditions if url_digest(url) == seen.url else {}
        try:
            with opener.open(_request(url, conditions), timeout=TIMEOUT):
                return False
        except urllib.error.HTTPError as error:
            with error:
                target = error.headers.get("Location")
                if error.code not in _REDIRECTED or not target:
                    return error.code == 304 and bool(conditions)
                url = _redirected(node, url, target)
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            return False
    return False


def shown_url(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _check_url(node: str, url: str) -> None:
    parts = urlsplit(url)
    shown = shown_url(url)
    if not parts.hostname:
        raise EngineError(f"{node}: {shown} names no host", "write https://host/path/file.csv")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise EngineError(
            f"{node}: {shown} is not encrypted: anybody on the way can change the file",
            f"write https://{parts.hostname}{parts.path}",
        )
    if "*" in parts.path:
        raise EngineError(
            f"{node}: {shown} is a pattern, and https:// can't list files",
            "name one file, or use s3://",
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Leave redirects to `_fetch`, which checks where they lead."""
        return


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=ssl.create_default_context()), _NoRedirects()
    )


def _request(url: str, more: Mapping[str, str]) -> urllib.request.Request:
    headers = {"Accept-Encoding": "identity", "User-Agent": "seeknal", **more}
    return urllib.request.Request(url, headers=headers)


def _fetch(node: str, url: str, local: Path, limit: int, heard: Heard | None) -> None:
    opener = _opener()
    shown = shown_url(url)
    for _ in range(_REDIRECTS + 1):
        try:
            with opener.open(_request(url, {}), timeout=TIMEOUT) as response:
                _save(node, shown, response, local, limit)
                if heard is not None:
                    heard(url, response.headers)
                return
        except urllib.error.HTTPError as error:
            with error:
                target = error.headers.get("Location")
                if error.code in _REDIRECTED and target:
                    url = _redirected(node, url, target)
                    continue
                raise _answered(node, shown, error) from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise _failed(node, shown, error) from None
    raise EngineError(f"{node}: {shown}: more than {_REDIRECTS} redirects", "write the last URL")


def _redirected(node: str, url: str, target: str) -> str:
    """Return where a redirect leads, if it may."""
    found = urljoin(url, target)
    old, new = urlsplit(url), urlsplit(found)
    host, before = new.hostname or "", old.hostname or ""
    if new.scheme != old.scheme or not host:
        raise EngineError(
            f"{node}: {shown_url(url)} leads to another scheme, {new.scheme}://",
            "write the URL of the file itself",
        )
    if _is_private(host) and not _is_private(before):
        raise EngineError(
            f"{node}: {shown_url(url)} leads to a private address, {host}",
            "write the URL of the file itself",
        )
    return found


def _is_private(host: str) -> bool:
    if _is_loopback(host):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _answered(node: str, shown: str, error: urllib.error.HTTPError) -> EngineError | _Again:
    said = f"the server answered {error.code} {error.reason}"
    if error.code in _BUSY:
        pause = _retry_after(error.headers)
        if pause <= _LONGEST_PAUSE:
            return _Again(said, pause)
        said += f" and wants {pause:.0f} s of patience"
        return EngineError(f"{node}: {shown}: {said}", "try again later")
    hints = {401: "access", 403: "access", 404: "the path", 410: "the path"}
    return EngineError(
        f"{node}: {shown}: {said}", f"check {hints.get(error.code, 'the URL')} and try again"
    )


def _retry_after(headers: Message) -> float:
    written = str(headers.get("Retry-After", "")).strip()
    if written.isdecimal():
        return float(written)
    try:
        moment = parsedate_to_datetime(written)
    except ValueError:
        return PAUSE
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _failed(node: str, shown: str, error: BaseException) -> EngineError | _Again:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return EngineError(
            f"{node}: {shown}: the server's certificate is not trusted: {reason.verify_message}",
            "set SSL_CERT_FILE to the file of your certificate authority",
        )
    if isinstance(reason, TimeoutError):
        return _Again(f"no answer within {TIMEOUT:.0f} s")
    if isinstance(error, http.client.IncompleteRead):
        return _Again("the connection ended before the file did")
    text = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return _Again(text[:200])


def _save(
    node: str, shown: str, response: http.client.HTTPResponse, local: Path, limit: int
) -> None:
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise EngineError(
            f"{node}: {shown}: the server sends {encoding} though it was asked not to",
            "download the file, and name the copy",
        )
    length = response.headers.get("Content-Length")
    expected = int(length) if length is not None and length.isdecimal() else None
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    if expected is None and not chunked:
        raise EngineError(
            f"{node}: {shown}: the server does not say how long the file is, so that a part of"
            " it could pass for the whole",
            "download the file, and name the copy",
        )
    if expected is not None and expected > limit:
        raise _too_large(node, shown, f"{expected:,}", limit)
    if expected is not None and expected > shutil.disk_usage(local.parent).free:
        raise disk_full(node)
    with disk_guard(node), local.open("wb") as file:
        size = _copy(node, shown, response, file, limit)
    if expected is not None and size < expected:
        raise _Again(f"the connection ended after {size:,} of {expected:,} bytes")


def _copy(
    node: str, shown: str, response: http.client.HTTPResponse, file: IO[bytes], limit: int
) -> int:
    size = 0
    while chunk := response.read(_CHUNK):
        size += len(chunk)
        if size > limit:
            raise _too_large(node, shown, f"more than {limit:,}", limit)
        file.write(chunk)
    return size


def _too_large(node: str, shown: str, size: str, limit: int) -> EngineError:
    return EngineError(
        f"{node}: {shown} has {size} bytes, the limit is {limit:,} (max_bytes)",
        "write max_bytes: beside params, if that is what you want",
    )
