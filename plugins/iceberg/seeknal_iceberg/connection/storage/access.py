"""Access to the storage: by whose keys, and at which endpoint, a table's files are opened.

Keys are taken as one unit from the first that has them: the profile, the table's
credentials (the longest prefix of a file's location decides), the table's configuration,
the catalog's configuration. Where none has keys, AWS's own (``AWS_*``) count. Endpoint and
region are taken one by one in the same order, so that a profile can override one of them.
Nothing else that a catalog says decides how files are opened: a ``py-io-impl`` of its
would import anything, and requests that it signs itself can't list or write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import Secret

Properties = Mapping[str, Any]

#: Who may open files, by kind of storage: what of it is taken as one unit.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "s3": (
        "s3.access-key-id", "s3.secret-access-key", "s3.session-token",
        "s3.session-token-expires-at-ms", "s3.anonymous", "s3.role-arn", "s3.role-session-name",
        "client.access-key-id", "client.secret-access-key", "client.session-token",
        "client.role-arn", "client.role-session-name",
    ),
    "adls": (
        "adls.account-key", "adls.sas-token", "adls.sas-token-expires-at-ms",
        "adls.connection-string", "adls.credential", "adls.tenant-id", "adls.client-id",
        "adls.client-secret", "adls.token", "adls.anon",
    ),
    "gcs": ("gcs.oauth2.token", "gcs.oauth2.token-expires-at", "gcs.no-auth"),
}  # fmt: skip
#: What a catalog may say besides, by kind of storage. Names in one group mean the same.
_SETTINGS: tuple[tuple[str, ...], ...] = (
    ("s3.endpoint",), ("s3.region", "client.region"), ("s3.force-virtual-addressing",),
    ("s3.server-side-encryption",), ("s3.sse-kms-key-id",), ("adls.account-name",),
    ("adls.account-host",), ("adls.blob-storage-authority",), ("adls.dfs-storage-authority",),
    ("adls.blob-storage-scheme",), ("adls.dfs-storage-scheme",), ("gcs.project-id",),
    ("gcs.service.host",), ("gcs.default-bucket-location",),
)  # fmt: skip
_SCHEMES = {
    "s3": "s3", "s3a": "s3", "s3n": "s3", "abfs": "adls", "abfss": "adls", "wasb": "adls",
    "wasbs": "adls", "gs": "gcs", "gcs": "gcs",
}  # fmt: skip
#: Variables by which AWS's own keys are found, but on its machines.
_AWS = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
_EXPIRES = (
    "s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at",
    "adls.sas-token-expires-at-ms",
)  # fmt: skip
_SECRETS = (
    "s3.secret-access-key", "s3.session-token", "client.secret-access-key",
    "client.session-token", "adls.account-key", "adls.sas-token", "gcs.oauth2.token", "token",
)  # fmt: skip


@attrs.frozen(kw_only=True)
class Offer:
    """What a catalog's answer offers for the files of one table.

    ``config`` is the answer's configuration, ``credentials`` pairs a prefix of locations
    with what opens the files there.
    """

    config: Properties = attrs.field(factory=dict, repr=False)
    credentials: tuple[tuple[str, Properties], ...] = attrs.field(default=(), repr=False)

    @classmethod
    def of(cls, config: Properties, credentials: Iterable[tuple[str, Properties]]) -> Offer:
        """Parse an answer's offer; its secrets are masked from here on."""
        found = tuple((prefix, dict(each)) for prefix, each in credentials)
        for each in (config, *(config for _, config in found)):
            for name, value in each.items():
                if name.startswith(_SECRETS) and isinstance(value, str):
                    Secret(value)
        return cls(config=dict(config), credentials=found)

    def at(self, location: str) -> Properties:
        """Return the credentials for a location: those of its longest prefix."""
        place = _plain(location)
        fitting = [
            (len(prefix), config)
            for prefix, config in self.credentials
            if place.startswith(_plain(prefix))
        ]
        return max(fitting, key=lambda pair: pair[0])[1] if fitting else {}


@attrs.frozen(kw_only=True)
class Access:
    """How the files at a location are opened.

    ``vended`` tells that the keys are a catalog's, ``expires`` until when they are good,
    in seconds since 1970. ``signed_only`` tells that the catalog offers to sign requests,
    and nobody has keys.
    """

    properties: Properties = attrs.field(repr=False)
    vended: bool = False
    expires: float | None = None
    signed_only: bool = False


def has_keys(properties: Properties, kind: str = "") -> bool:
    """Return whether properties hold keys to a kind of storage, or to any."""
    kinds = (kind,) if kind else tuple(_KEYS)
    return any(_HAS[each](properties) for each in kinds)


def _has_s3(properties: Properties) -> bool:
    pairs = any(
        properties.get(f"{head}.access-key-id") and properties.get(f"{head}.secret-access-key")
        for head in ("s3", "client")
    )
    anonymous = str(properties.get("s3.anonymous", "")).lower() == "true"
    return (
        pairs
        or anonymous
        or bool(properties.get("s3.role-arn") or properties.get("client.role-arn"))
    )


def _has_adls(properties: Properties) -> bool:
    names = ("account-key", "connection-string", "credential", "client-secret", "token")
    plain = any(properties.get(f"adls.{name}") for name in names)
    return plain or any(name.startswith("adls.sas-token") for name in properties)


def _has_gcs(properties: Properties) -> bool:
    return bool(properties.get("gcs.oauth2.token") or properties.get("gcs.no-auth"))


_HAS = {"s3": _has_s3, "adls": _has_adls, "gcs": _has_gcs}


def is_of_storage(name: str) -> bool:
    """Return whether a property decides how files are opened."""
    return name.startswith(("s3.", "client.", "adls.", "gcs.")) or name == "py-io-impl"


def is_kept_by_keys(location: str) -> bool:
    """Return whether a location is in a storage that wants keys."""
    return location.partition("://")[0] in _SCHEMES


def decide(profile: Properties, catalog: Properties, offer: Offer, location: str) -> Access:
    """Decide how the files at a location are opened.

    Args:
        profile: the connection's properties.
        catalog: what the catalog's configuration says.
        offer: what it offers for the table.
    """
    kind = _SCHEMES.get(location.partition("://")[0], "")
    offers = (_adls(offer.at(location), location), _adls(offer.config, location), catalog)
    made = dict(profile)
    for names in _SETTINGS:
        if any(made.get(name) for name in names):
            continue
        for each in offers:
            value = next((each[name] for name in names if each.get(name)), None)
            if value:
                made[names[0]] = str(value)
                break
    giver: Properties | None = None
    if kind and not has_keys(profile, kind):
        giver = next((each for each in offers if has_keys(each, kind)), None)
        for name in _KEYS[kind]:
            made.pop(name, None)
            if giver is not None and giver.get(name):
                made[name] = str(giver[name])
    signed = kind == "s3" and giver is None and not has_keys(profile, kind)
    return Access(
        properties=with_region(made),
        vended=giver is not None,
        expires=_expiry(giver or {}),
        signed_only=signed and any(map(_signs, offers)) and not has_aws_keys(),
    )


def has_aws_keys() -> bool:
    """Return whether AWS's own variables name keys."""
    return any(os.environ.get(name) for name in _AWS)


def _signs(offer: Properties) -> bool:
    enabled = str(offer.get("s3.remote-signing-enabled", "")).lower() == "true"
    return enabled or bool(offer.get("s3.signer") or offer.get("s3.signer.uri"))


def with_region(properties: dict[str, Any]) -> dict[str, Any]:
    """Name a region where an endpoint is named: pyiceberg would else ask AWS for it."""
    if properties.get("s3.endpoint") and not (
        properties.get("s3.region") or properties.get("client.region")
    ):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        properties["s3.region"] = region or "us-east-1"
    return properties


def _adls(offer: Properties, location: str) -> Properties:
    """Return an offer with Azure's keys named as pyarrow takes them: by account in none."""
    by_account = [name for name in offer if name.startswith("adls.sas-token.")]
    if not by_account:
        return offer
    host = location.partition("://")[2].partition("/")[0].rpartition("@")[2]
    account = host.partition(".")[0]
    for name in by_account:
        if name.removeprefix("adls.sas-token.").partition(".")[0] == account:
            return {"adls.account-name": account, **offer, "adls.sas-token": offer[name]}
    return offer


def _expiry(offer: Properties) -> float | None:
    for name in _EXPIRES:
        value = str(offer.get(name, ""))
        if value.isdigit():
            return int(value) / 1000
    return None


def _plain(location: str) -> str:
    """Return a location whose scheme is S3's one name."""
    scheme, mark, rest = location.partition("://")
    return f"s3{mark}{rest}" if scheme in ("s3a", "s3n") else location


def refusal(connection: str, uri: str, target: str) -> BackendError:
    """Return the error of a table whose files only requests signed by the catalog open."""
    return BackendError(
        f"{target or connection}: the catalog {uri} only offers to sign requests to the storage "
        "(remote signing), by which files can't be listed or written",
        f"write the storage's keys into connections.{connection}.catalog (s3.access-key-id and "
        "s3.secret-access-key), or switch on STS for the warehouse in the catalog",
        target=target,
    )


def no_keys(connection: str, location: str) -> BackendError:
    """Return the error of files that a catalog gives no keys for."""
    return BackendError(
        f"{connection}: the catalog gives no keys for the files at {location}: no table is there",
        f"write the storage's keys into connections.{connection}.catalog (s3.access-key-id and "
        "s3.secret-access-key)",
    )
