"""Answers of REST catalogs, read tolerantly: null, absent and empty are one.

pyiceberg refuses ``"storage-credentials": null``, which Lakekeeper up to 0.7 puts beside
every table. Before it reads an answer, what is null is taken out, and so are optional
fields that are empty, of any type. Lists that it demands and the specification
does not are put in.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json
from pyiceberg.catalog.rest import Endpoint, HttpMethod
from requests import Response

#: Optional fields of answers that mean the same when they are empty, of any type.
_OPTIONAL = frozenset(
    {
        "config", "storage-credentials", "next-page-token", "endpoints", "defaults",
        "overrides", "properties", "metadata-location",
    }
)  # fmt: skip
_EMPTY = re.compile(
    rb'"(?:%s)"\s*:\s*(?:""|\{\s*\}|\[\s*\])' % "|".join(sorted(_OPTIONAL)).encode()
)
#: Lists that pyiceberg demands, by method and last part of the path.
_LISTS = {
    ("GET", "namespaces"): ("namespaces",),
    ("GET", "tables"): ("identifiers",),
    ("GET", "views"): ("identifiers",),
    ("GET", "credentials"): ("storage-credentials",),
    ("POST", "properties"): ("removed", "updated", "missing"),
}


def tolerate(response: Response, *_: Any, **__: Any) -> None:
    """Remove fields without meaning from an answer; a hook of `requests.Session`."""
    content = response.content
    if not response.ok or content[:1] != b"{":
        return
    last = urlsplit(response.url).path.rstrip("/").rpartition("/")[2]
    lists = _LISTS.get((response.request.method or "", last), ())
    if not lists and b"null" not in content and not _EMPTY.search(content):
        return
    try:
        body = from_json(content)
    except ValueError:
        return  # who reads it says so
    body = without_nothing(body, lists)
    response._content = to_json(body, inf_nan_mode="constants")
    response.encoding = "utf-8"


def without_nothing(body: dict[str, Any], lists: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return an answer without nulls and empty optional fields.

    Args:
        lists: fields that have to be lists, made empty if they are not there.
    """
    found: dict[str, Any] = {
        key: _without_nulls(value)
        for key, value in body.items()
        if value is not None and not (key in _OPTIONAL and value in ("", [], {}))
    }
    for name in lists:
        if not found.get(name):
            found[name] = []
    return found


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def endpoints_of(listed: object) -> frozenset[Endpoint] | None:
    """Return the endpoints that a catalog lists, None if it lists none.

    Entries in another form than the specification's are converted to its form: paths
    before ``/v1``, a missing ``{prefix}``, other names in braces. What cannot be read is
    left out.
    """
    if not isinstance(listed, list):
        return None
    found = {endpoint for each in listed if (endpoint := _endpoint(str(each))) is not None}
    return frozenset(found) or None


def _endpoint(text: str) -> Endpoint | None:
    method, _, path = text.strip().partition(" ")
    if method.upper() not in HttpMethod.__members__:
        return None
    _, version, rest = f"/{path.strip().strip('/')}".partition("/v1/")
    if not version:
        return None
    if rest not in ("config", "oauth/tokens") and not rest.startswith("{prefix}"):
        rest = f"{{prefix}}/{rest}"
    names = iter(("namespace", "table"))
    if "views/{" in rest:
        names = iter(("namespace", "view"))
    head, _, tail = rest.partition("/")
    tail = re.sub(r"\{([^}]*)\}", lambda found: f"{{{next(names, found[1])}}}", tail)
    return Endpoint(http_method=HttpMethod[method.upper()], path=f"/v1/{head}/{tail}".rstrip("/"))
