"""What servers said of files behind ``https://`` that were read before.

A server that gives a file an ETag, or the time of its last change, is asked whether the file
is still the same before it is downloaded again. Only what names the very bytes counts: a weak
ETag does not, and a time does once it is a minute old (RFC 9110, 8.8).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path

import attrs

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.files.sealed import read_sealed, write_sealed

_VERSION = 1
#: A file may change again within the second that its time names.
_OLD_ENOUGH = timedelta(minutes=1)
_lock = threading.Lock()


@attrs.frozen(kw_only=True)
class Seen:
    """One file as it was downloaded. ``url`` is a digest of where redirects led."""

    url: str
    digest: str
    size: int
    etag: str = ""
    modified: str = ""

    @property
    def conditions(self) -> dict[str, str]:
        """The headers of a request that is answered by 304 where nothing changed."""
        if self.etag:
            return {"If-None-Match": self.etag}
        return {"If-Modified-Since": self.modified}


def of_answer(url: str, headers: Message, *, digest: str, size: int) -> Seen | None:
    """Return what a server's answer says of its file; None where that names no bytes."""
    etag = headers.get("ETag", "")
    modified = headers.get("Last-Modified", "")
    if not etag.startswith('"'):
        etag = ""
        try:
            age = parsedate_to_datetime(headers.get("Date", "")) - parsedate_to_datetime(modified)
        except (TypeError, ValueError):
            return None
        if age < _OLD_ENOUGH:
            return None
    return Seen(url=url_digest(url), digest=digest, size=size, etag=etag, modified=modified)


def url_digest(url: str) -> str:
    """Digest a URL, which may hold a secret."""
    return hashlib.sha256(url.encode()).hexdigest()


def recall(cache: Path, url: str) -> Seen | None:
    """Return what is remembered of a URL's file. What can't be read costs a download."""
    try:
        held = _load(cache)[url_digest(url)]
        texts = {name: str(held[name]) for name in ("url", "digest", "etag", "modified")}
        return Seen(**texts, size=int(str(held["size"])))
    except (KeyError, TypeError, ValueError):
        return None


def remember(cache: Path, url: str, seen: Seen | None, write: Callable[[Path, str], None]) -> None:
    """Remember what a server said of a file, or forget it.

    Args:
        write: replaces a file's content, atomically.
    """
    key = url_digest(url)
    with _lock:
        known = _load(cache)
        if seen is None and key not in known:
            return
        known.pop(key, None)
        if seen is not None:
            known[key] = attrs.asdict(seen)
        try:
            write_sealed(cache, json.dumps({"version": _VERSION, "files": known}), write)
        except (SeeknalError, OSError):
            return  # Only the next download is not spared.


def _load(cache: Path) -> dict[str, dict[str, object]]:
    try:
        document = json.loads(read_sealed(cache) or b"null")
        files = document["files"] if document["version"] == _VERSION else {}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return dict(files) if isinstance(files, dict) else {}
