"""The configuration that a REST catalog answers with, checked before anything follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from requests import Response

from seeknal_core.contract.errors import BackendError
from seeknal_iceberg.connection.rest.answers import without_nothing
from seeknal_iceberg.connection.storage import access as accesses

if TYPE_CHECKING:
    pass

#: What a catalog's configuration may say besides how files are opened, and headers.
_SERVER_MAY = frozenset(
    {
        # Which catalog it is; see `commit.capabilities`.
        "nessie.is-nessie-catalog",
        "uri", "prefix", "warehouse", "namespace-separator", "view-endpoints-supported",
        "rest-page-size", "snapshot-loading-mode",
    }
)  # fmt: skip


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


def is_iceberg_error(response: Response) -> bool:
    """Return whether an answer is a refusal as Iceberg catalogs word them."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    error = body.get("error") if isinstance(body, Mapping) else None
    return isinstance(error, Mapping) and bool(error.get("message") or error.get("type"))


def as_config(response: Response, name: str, base: str) -> Mapping[str, Any]:
    """Read a catalog's configuration.

    Args:
        name: the connection's.
        base: the address that answered.

    Raises:
        BackendError: it is none.
    """
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
