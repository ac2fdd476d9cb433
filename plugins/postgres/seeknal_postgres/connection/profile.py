"""A PostgreSQL connection of a profile, resolved.

The options are libpq's own words where libpq has one
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
Missing options come from libpq's ``PG*`` environment variables, as with psql.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from seeknal_core.contract.errors import OptionError, Problem
from seeknal_core.contract.options import structure
from seeknal_core.contract.types import Connection, ConnectionSpec, Secret
from seeknal_postgres.connection.session import decides, parse_options, service_of

#: The type of this backend, as users write it.
TYPE = "postgresql"

#: Options that libpq gets as they are.
_PASSED = ("sslmode", "sslrootcert", "sslcert", "sslkey", "options", "service")
_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _doc(text: str, *, node: bool = False) -> dict[str, object]:
    """Return a field's metadata; `node` tells that it says nothing of where to connect."""
    return {"doc": text, "node": True} if node else {"doc": text}


@attrs.frozen(kw_only=True)
class PostgresOptions:
    """What a profile may say about a connection of type ``postgresql``."""

    host: str | None = attrs.field(default=None, metadata=_doc("server name, or a socket's folder"))
    port: int | None = attrs.field(default=None, metadata=_doc("TCP port, default 5432"))
    user: str | None = attrs.field(default=None, metadata=_doc("role to log in as"))
    password: Secret | None = attrs.field(default=None, metadata=_doc("the role's password"))
    database: str | None = attrs.field(default=None, metadata=_doc("database name"))
    dbname: str | None = attrs.field(default=None, metadata=_doc("the same as database"))
    url: Secret | None = attrs.field(
        default=None, metadata=_doc("a libpq URI; the other options win over its parts")
    )
    schema: str | None = attrs.field(
        default=None,
        metadata=_doc("schema of tables written without one, default public", node=True),
    )
    sslmode: str | None = attrs.field(default=None, metadata=_doc(", ".join(_SSLMODES)))
    sslrootcert: str | None = attrs.field(default=None, metadata=_doc("CA certificate's file"))
    sslcert: str | None = attrs.field(default=None, metadata=_doc("client certificate's file"))
    sslkey: str | None = attrs.field(default=None, metadata=_doc("client key's file"))
    connect_timeout: int = attrs.field(
        default=10, metadata=_doc("seconds to wait for a server", node=True)
    )
    application_name: str = attrs.field(
        default="seeknal", metadata=_doc("what pg_stat_activity shows", node=True)
    )
    options: str | None = attrs.field(
        default=None, metadata=_doc("command-line options for the server's session")
    )
    state_schema: str = attrs.field(
        default="_seeknal", metadata=_doc("stem of the schemas that hold Seeknal's records")
    )
    lock_wait: int = attrs.field(
        default=60, metadata=_doc("seconds to try for a table's lock before giving up", node=True)
    )
    silence_timeout: int = attrs.field(
        default=60,
        metadata=_doc(
            "seconds without a sign of life after which a connection is given up", node=True
        ),
    )
    row_security: bool = attrs.field(
        default=False,
        metadata=_doc(
            "let policies choose the rows that a source reads, instead of refusing", node=True
        ),
    )
    allow_publication: bool = attrs.field(
        default=False,
        metadata=_doc("make our tables although a publication of all tables takes them along"),
    )
    service: str | None = attrs.field(
        default=None, metadata=_doc("a service of libpq's service file")
    )
    embedded: bool = attrs.field(
        default=False, metadata=_doc("a private server of this project, from a wheel")
    )


@attrs.frozen(kw_only=True)
class PostgresConnection(Connection):
    """A resolved connection. ``default_schema`` is where a bare table name lives.

    ``settings`` are libpq keywords beside those that have a field, without a
    secret. ``schema_given`` says whether the profile named the schema.
    """

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: Secret | None = None
    database: str | None = None
    url: Secret | None = None
    default_schema: str = "public"
    schema_given: bool = False
    settings: tuple[tuple[str, str], ...] = ()
    connect_timeout: int = 10
    application_name: str = "seeknal"
    state_schema: str = "_seeknal"
    lock_wait: int = 60
    silence_timeout: int = 60
    row_security: bool = False
    hostaddr: str = ""
    options: str = ""
    allow_publication: bool = False
    embedded: bool = False

    def describe(self) -> Mapping[str, str]:
        """Return type, place, role and schema; never the password."""
        shown = {"type": self.type}
        if self.embedded:
            shown["embedded"] = "true"
        else:
            shown |= {"host": self.host or "(default)", "port": str(self.port or 5432)}
            shown["database"] = self.database or self.user or "(default)"
            if self.user:
                shown["user"] = self.user
            shown |= {key: value for key, value in self.settings if key == "sslmode"}
        shown["schema"] = self.default_schema
        return shown

    def bindings(self) -> Mapping[str, str]:
        """Return what decides which tables are meant: server, database, schema."""
        return {
            "type": self.type,
            "host": "(embedded)" if self.embedded else self.host or "",
            "port": "" if self.embedded else str(self.port or 5432),
            "database": "" if self.embedded else self.database or self.user or "",
            "schema": self.default_schema,
            "state_schema": self.state_schema,
            # Not among those of older records, which stay valid where there is none.
            **({"hostaddr": self.hostaddr} if self.hostaddr else {}),
        }

    def reads(self) -> Mapping[str, str]:
        """Return the session's settings that decide which rows it sees, and the role.

        The role is among them where policies count: otherwise one that they hide rows from
        is refused.
        """
        found = {
            name: value for name, value in parse_options(self.options).items() if decides(name)
        }
        if self.row_security:
            found |= {"row_security": "on", "user": self.user or ""}
        return found

    @property
    def place(self) -> str:
        """Where this leads, for messages: ``host:port/database``."""
        if self.embedded:
            return "the embedded server"
        return f"{self.host or 'localhost'}:{self.port or 5432}/{self.database or self.user or ''}"


def resolve(spec: ConnectionSpec) -> PostgresConnection:
    """Turn a profile's mapping into a typed connection. Pure.

    Raises:
        OptionError: with every mistake and its path.
    """
    given = structure(spec.options, PostgresOptions)
    problems = list(_contradictions(given))
    parts = _url_parts(given, problems)
    if problems:
        raise OptionError(problems)
    if ":" in (given.sslkey or parts.get("sslkey", "")):
        raise OptionError(
            [
                Problem(
                    "names an engine of OpenSSL's, which is a program, not a file",
                    path="sslkey" if given.sslkey else "url",
                    hint="write the path of a key's file",
                )
            ]
        )
    service = given.service or parts.pop("service", None) or os.environ.get("PGSERVICE")
    if service:
        parts = {**service_of(service), **parts}
    password = given.password
    if password is None and parts.get("password"):
        password = Secret(parts["password"])
    if password is None and os.environ.get("PGPASSWORD"):
        password = Secret(os.environ["PGPASSWORD"])
    port = given.port or _number(parts.get("port") or os.environ.get("PGPORT"))
    settings = {
        key: value
        for key, value in attrs.asdict(given).items()
        if key in _PASSED and value is not None
    }
    options = given.options or parts.get("options") or os.environ.get("PGOPTIONS") or ""
    return PostgresConnection(
        name=spec.name,
        type=spec.type,
        host=given.host or parts.get("host") or os.environ.get("PGHOST"),
        port=port,
        user=given.user or parts.get("user") or os.environ.get("PGUSER"),
        password=password,
        database=given.database
        or given.dbname
        or parts.get("dbname")
        or os.environ.get("PGDATABASE"),
        url=given.url,
        default_schema=given.schema or "public",
        schema_given=given.schema is not None,
        settings=tuple(settings.items()),
        connect_timeout=given.connect_timeout,
        application_name=given.application_name,
        state_schema=given.state_schema,
        allow_publication=given.allow_publication,
        lock_wait=given.lock_wait,
        silence_timeout=given.silence_timeout,
        row_security=given.row_security,
        hostaddr=parts.get("hostaddr", ""),
        options=options,
        embedded=given.embedded,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _contradictions(given: PostgresOptions) -> list[Problem]:
    problems = []
    if given.database and given.dbname and given.database != given.dbname:
        problems.append(Problem("differs from database, of which it is an alias", path="dbname"))
    if given.sslmode is not None and given.sslmode not in _SSLMODES:
        problems.append(
            Problem(f"{given.sslmode!r} is none of {', '.join(_SSLMODES)}", path="sslmode")
        )
    if given.port is not None and not 0 < given.port < 65536:
        problems.append(Problem(f"{given.port} is no port", path="port", hint="1 to 65535"))
    for path in ("connect_timeout", "lock_wait", "silence_timeout"):
        if getattr(given, path) < 1:
            problems.append(Problem("less than one second", path=path))
    for path in ("schema", "state_schema"):
        value = getattr(given, path)
        if value is not None and (not value or "\0" in value):
            problems.append(Problem("is empty or holds a NUL character", path=path))
    if given.embedded:
        for path in ("host", "port", "user", "password", "database", "dbname", "url"):
            if getattr(given, path) is not None:
                problems.append(
                    Problem("has no meaning with embedded: true", path=path, hint="remove it")
                )
    return problems


def _url_parts(given: PostgresOptions, problems: list[Problem]) -> dict[str, str]:
    if given.url is None:
        return {}
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        found = conninfo_to_dict(given.url.reveal())
    except psycopg.Error:
        # libpq's message would quote the URL, and with it the password.
        problems.append(
            Problem(
                "is no PostgreSQL URI", path="url", hint="postgresql://user:password@host/database"
            )
        )
        return {}
    return {key: str(value) for key, value in found.items() if value is not None}
