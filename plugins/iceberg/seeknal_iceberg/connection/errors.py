"""Translates exceptions of libraries into the errors that a user sees.

A catalog answers in the words of a dozen libraries: pyiceberg's own exceptions
(which share no root), requests, SQLAlchemy, pyarrow's file systems. What is
known here becomes one sentence and a hint; anything else passes as it is, and
the core reports it as this plugin's defect.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
from collections.abc import Iterator

import pyarrow as pa
import pydantic
import requests
from pyiceberg import exceptions as ice
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from seeknal_core.contract.errors import BackendError, SeeknalError, Unreachable, WriteRefused
from seeknal_core.contract.types import redact
from seeknal_iceberg.connection.profile import IcebergConnection

#: Exceptions that are raised before a file is opened.
_NOT_REACHED = (
    SeeknalError, ice.RESTError, ice.NotInstalledError, ImportError, requests.RequestException,
)  # fmt: skip
_REFUSED_CREDENTIALS = (ice.UnauthorizedError, ice.OAuthError, ice.AuthorizationExpiredError)
_NOT_NOW = (
    ice.ServiceUnavailableError, ice.TooManyRequestsError, ice.ServerError,
    ice.CommitStateUnknownException,
)  # fmt: skip
#: What pyiceberg says of a type that it doesn't know, inside longer texts.
_UNKNOWN_TYPE = re.compile(r"Unsupported field type: '[^']*'|Could not parse .* into an? \w+")
_NETWORK_WORDS = ("NETWORK_CONNECTION", "curlCode", "timed out", "timeout", "Connection refused")
_DENIED_WORDS = (
    "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_SIGNATURE", "SIGNATURE_DOES_NOT_MATCH",
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "HTTP response code 403",
)  # fmt: skip

#: Keys to a storage, and its address, as the profile has them.
_STORAGE_KEYS = (
    "s3.access-key-id", "s3.secret-access-key", "s3.session-token", "s3.role-arn",
    "client.access-key-id", "client.secret-access-key", "client.session-token", "client.role-arn",
    "adls.account-key", "adls.client-secret", "gcs.oauth2.token",
)  # fmt: skip
_STORAGE_ADDRESSES = ("s3.endpoint", "adls.account-host", "gcs.service.host")

#: pyiceberg's words for an error's body that is not an Iceberg error.
_NOT_ICEBERG = re.compile(r"RESTError (?P<code>\d+): (Could not decode|Received unexpected) ")
#: Requests to a catalog, by pyiceberg's class for the answer.
_ASKED = {
    "TableResponse": "the request for a table",
    "CommitTableResponse": "a commit",
    "ConfigResponse": "the request for its configuration",
    "ListTablesResponse": "the request for the tables of a namespace",
    "ListNamespaceResponse": "the request for its namespaces",
    "NamespaceResponse": "the request for a namespace",
    "TokenResponse": "the request for a token",
    "LoadCredentialsResponse": "the request for a table's credentials",
    "UpdateNamespacePropertiesResponse": "a change of a namespace",
}


class Elsewhere(requests.RequestException):
    """A request would have gone to a host that the profile does not name."""


def sentence(error: BaseException) -> str:
    """Return an exception's own words: its first line, short, without a secret."""
    text = str(error).strip() or type(error).__name__
    if page := _NOT_ICEBERG.match(text):
        return f"HTTP {page['code']}"  # a proxy's page
    line = redact(text.splitlines()[0]).rstrip(".")
    return line if len(line) <= 300 else line[:297] + "..."


def check_hint(connection: IcebergConnection) -> str:
    """Return the hint for a connection that does not work."""
    return f"check connections.{connection.name} in the profile: seeknal check --connections"


def translate(
    error: Exception, connection: IcebergConnection, target: str = ""
) -> SeeknalError | None:
    """Return the user's error for a library's exception, or None if it is not known."""
    for known in (_of_access, _of_answers, _of_others):
        found = known(error, connection, target)
        if found is not None:
            return found
    return None


def _of_access(error: Exception, connection: IcebergConnection, target: str) -> SeeknalError | None:
    """Translate what a catalog refuses, and TLS that fails."""
    where = target or connection.name
    address = connection.uri or connection.catalog_type
    hint = check_hint(connection)
    words = sentence(error)
    if isinstance(error, _REFUSED_CREDENTIALS):
        return BackendError(
            f"{where}: the catalog {address} refuses the credentials: {words}",
            _credentials_hint(connection),
            target=target,
        )
    if isinstance(error, ice.ForbiddenError):
        return WriteRefused(f"{where}: the catalog forbids it: {words}", hint, target=target)
    if isinstance(error, NotImplementedError):
        return WriteRefused(
            f"{where}: the catalog {address} can't do that: {words}", hint, target=target
        )
    if isinstance(error, requests.exceptions.SSLError) and not _is_of_certificate(error):
        return BackendError(
            f"{where}: no TLS connection can be made to the catalog {address}",
            f"where the catalog is served without TLS, write http:// into connections."
            f"{connection.name}.catalog.uri; else check its port",
            target=target,
        )
    if isinstance(error, requests.exceptions.SSLError):
        return BackendError(
            f"{where}: the certificate of {address} is not trusted",
            "set catalog.verify_tls to the path of a CA bundle, or to false",
            target=target,
        )
    return None


def _of_answers(
    error: Exception, connection: IcebergConnection, target: str
) -> SeeknalError | None:
    """Translate what came instead of an answer, and missing answers."""
    where = target or connection.name
    address = connection.uri or connection.catalog_type
    hint = check_hint(connection)
    words = sentence(error)
    if isinstance(error, pydantic.ValidationError | ice.ValidationError):
        unknown = _UNKNOWN_TYPE.search(str(error))
        if unknown is not None:
            return BackendError(
                f"{where}: the table's metadata cannot be read: {unknown.group(0)}",
                "pyiceberg 0.12 reads no table with such a column: use another table",
                target=target,
            )
    if isinstance(error, pydantic.ValidationError):
        return Unreachable(
            f"{where}: the catalog {address} answers "
            f"{_ASKED.get(error.title, 'a request')} with what is no answer of an Iceberg "
            f"catalog: {_first_flaw(error)}",
            hint,
            target=target,
        )
    if isinstance(error, Elsewhere):
        return BackendError(
            f"{where}: {words}",
            f"write the right address into connections.{connection.name}.catalog.uri",
            target=target,
        )
    if isinstance(error, requests.exceptions.InvalidHeader):
        return BackendError(
            f"{where}: the token, or another header, has characters that can't be sent",
            f"write connections.{connection.name}.catalog.token, and header.*, on one line",
            target=target,
        )
    if isinstance(error, requests.RequestException):
        return Unreachable(f"{where}: the catalog {address} does not answer", hint, target=target)
    if isinstance(error, _NOT_NOW):
        return Unreachable(f"{where}: the catalog {address} fails: {words}", hint, target=target)
    return None


def _of_others(error: Exception, connection: IcebergConnection, target: str) -> SeeknalError | None:
    """Translate what remains: absent tables, databases, missing packages, files."""
    where = target or connection.name
    address = connection.uri or connection.catalog_type
    hint = check_hint(connection)
    words = sentence(error)
    if isinstance(error, ice.NoSuchTableError | ice.NoSuchNamespaceError):
        return BackendError(f"{where}: there is no such table", "check its name", target=target)
    if isinstance(error, SQLAlchemyError):
        cause = sentence(error.orig) if isinstance(error, DBAPIError) and error.orig else words
        return Unreachable(
            f"{where}: the catalog's database {address} fails: {cause}", hint, target=target
        )
    if isinstance(error, ice.NotInstalledError | ImportError):
        return BackendError(f"{where}: {words}", _to_install(error, connection), target=target)
    if type(error).__module__ == "botocore.exceptions":
        return BackendError(f"{where}: requests can't be signed: {words}", hint, target=target)
    if type(error).__module__ == "pyiceberg.exceptions":
        return BackendError(f"{where}: {words}", hint, target=target)
    if isinstance(error, EOFError | SystemError):  # of pyiceberg's reader of Avro
        return BackendError(
            f"{where}: a file of the table's metadata is damaged: {words}",
            "where it is a target of yours, --full-refresh replaces it by the node's rows",
            target=target,
        )
    if isinstance(error, OSError | pa.ArrowException):
        return _storage(error, where, _storage_hint(error, connection), words, target)
    return None


def _is_of_certificate(error: Exception) -> bool:
    """Return whether TLS failed for a certificate, not because the other side speaks none."""
    text = str(error).lower()
    return "certificate" in text or "hostname" in text


def _storage_hint(error: Exception, connection: IcebergConnection) -> str:
    """Return the hint that names the options of the profile by which the storage is reached."""
    there = {name for name, _ in connection.properties}
    place = f"connections.{connection.name}.catalog"
    if is_denied(error):
        keys = [name for name in _STORAGE_KEYS if name in there]
        if keys:
            return (
                f"correct {place} in the profile ({', '.join(keys)}), or let these keys read, "
                "write, list and delete the files"
            )
    elif any(word in str(error) for word in _NETWORK_WORDS):
        named = next((name for name in _STORAGE_ADDRESSES if name in there), "")
        if named:
            return f"check {place}.{named} in the profile, or start the storage"
    return check_hint(connection)


def _credentials_hint(connection: IcebergConnection) -> str:
    """Return the hint that names the option of the profile which holds the credentials."""
    there = {name for name, _ in connection.properties}
    place = f"connections.{connection.name}.catalog"
    for name, what in (("credential", "client id and secret"), ("token", "the token")):
        if name in there:
            return f"correct {place}.{name} in the profile: {what}, or what it takes from ${{NAME}}"
    if any(name.startswith("auth.") for name in there):
        return f"correct {place}.auth in the profile"
    if str(dict(connection.properties).get("rest.sigv4-enabled", "")).lower() == "true":
        return "check AWS's keys (AWS_*, a role), rest.signing-name and rest.signing-region"
    return f"write token, or credential (client id and secret), under {place} in the profile"


#: The extra that brings a package, by a word of what pyiceberg says of its absence.
_EXTRAS = (
    ("boto", "sigv4"), ("google-auth", "google"), ("google.auth", "google"),
    ("Google Auth", "google"), ("azure", "entra"), ("Azure", "entra"), ("thrift", "hive"),
    ("psycopg", "sql-postgres"), ("bigquery", "bigquery"),
)  # fmt: skip


def _to_install(error: Exception, connection: IcebergConnection) -> str:
    """Return the hint that installs a package which is missing."""
    kind = connection.catalog_type
    if kind in ("glue", "hive", "dynamodb", "bigquery"):
        return f"pip install 'seeknal-iceberg[{kind}]'"
    extra = next((extra for word, extra in _EXTRAS if word in str(error)), "")
    if extra:
        return f"pip install 'seeknal-iceberg[{extra}]'"
    package = str(getattr(error, "name", None) or "").partition(".")[0]
    return f"install the package {package}" if package else "install the package that is missing"


def wait_of(error: BaseException | None, otherwise: float, most: float = 30.0) -> float:
    """Return the seconds that an answer asks to wait (Retry-After), at most `most`.

    Args:
        otherwise: where it asks for nothing.
    """
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response):
            return min(seconds_of(response.headers.get("Retry-After"), otherwise), most)
        error = error.__cause__
    return otherwise


def is_busy(error: Exception) -> bool:
    """Return whether a catalog answered that it has too much to do (429, 503)."""
    response = getattr(error.__cause__, "response", None)
    return isinstance(response, requests.Response) and response.status_code in (429, 503)


def seconds_of(header: str | None, otherwise: float) -> float:
    """Return the seconds of a Retry-After header: a number, or a date (RFC 9110, 10.2.3)."""
    if not header:
        return otherwise
    with contextlib.suppress(ValueError):
        return max(0.0, float(header))
    with contextlib.suppress(ValueError, TypeError):
        when = email.utils.parsedate_to_datetime(header)
        return max(0.0, when.timestamp() - time.time())
    return otherwise


def is_unanswered(error: Exception, connection: IcebergConnection) -> bool:
    """Return whether a commit that failed so may still land, or has landed."""
    return isinstance(error, Unreachable) or isinstance(translate(error, connection), Unreachable)


def refused_name(parts: tuple[str, ...], what: str, target: str, error: Exception) -> WriteRefused:
    """Return the error for a name that the catalog refuses, with what may be odd about it.

    Args:
        what: ``namespace`` or ``table``.
    """
    levels = parts if what == "namespace" else parts[:-1]
    odd = []
    if any(part != part.lower() for part in parts):
        odd.append("in lower case")
    if any(re.fullmatch(r"\w+", part, re.ASCII) is None for part in parts):
        odd.append("of letters, digits and underscores")
    if len(levels) > 1:
        odd.append("with a namespace of one level")
    return WriteRefused(
        f"{target}: the catalog refuses to make the {what} {'.'.join(parts)}: {sentence(error)}",
        f"write a name {', '.join(odd)}" if odd else "look at what the catalog says",
        target=target,
    )


def refused_size(error: Exception) -> int | None:
    """Return the bytes of a request that a catalog refused as too large, None for another error."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, requests.Response) or response.status_code != 413:
        return None
    sent = response.request.body
    return len(sent) if isinstance(sent, bytes | str) else 0


def too_large(target: str, size: int) -> WriteRefused:
    """Return the error for a table whose columns make a request too large."""
    return WriteRefused(
        f"{target}: its columns make a request of {size:,} bytes, more than the catalog takes "
        "(HTTP 413)",
        "write fewer columns, or give them shorter names",
        target=target,
    )


def is_no(error: Exception) -> bool:
    """Return whether a catalog refused a request itself: 4xx but 401, 404, 409 and 429, or 501."""
    refusals = (ice.RESTError, ice.BadRequestError, ice.ForbiddenError, NotImplementedError)
    return type(error) in refusals


def is_denied(error: Exception) -> bool:
    """Return whether the storage denies access."""
    return isinstance(error, PermissionError) or any(word in str(error) for word in _DENIED_WORDS)


def is_refused(error: Exception, connection: IcebergConnection) -> bool:
    """Return whether files were not reached at all: nothing is known of how they are.

    Their storage does not answer or denies access, or the catalog gives no keys for it.
    """
    if isinstance(error, _NOT_REACHED):
        return True
    return is_denied(error) or isinstance(translate(error, connection), Unreachable)


def _first_flaw(error: pydantic.ValidationError) -> str:
    """Return the first field that is wrong, and why."""
    flaw = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in flaw["loc"])
    said = flaw["msg"].partition("\n")[0].rstrip(".")
    return redact(f"{place}: {said}" if place else said)


def _storage(
    error: Exception, where: str, hint: str, words: str, target: str
) -> SeeknalError | None:
    text = str(error)
    if is_denied(error):
        return BackendError(f"{where}: the storage denies access: {words}", hint, target=target)
    if any(word in text for word in _NETWORK_WORDS):
        return Unreachable(f"{where}: the storage does not answer: {words}", hint, target=target)
    if isinstance(error, OSError | pa.ArrowInvalid):
        return BackendError(f"{where}: the storage fails: {words}", hint, target=target)
    return None


@contextlib.contextmanager
def translating(connection: IcebergConnection, target: str = "") -> Iterator[None]:
    """Turn libraries' exceptions of the block into errors of the core's hierarchy."""
    try:
        yield
    except SeeknalError:
        raise
    # The catalog's libraries share no root exception; unknown ones are raised on.
    except Exception as error:
        known = translate(error, connection, target)
        if known is None:
            raise
        raise known from error
