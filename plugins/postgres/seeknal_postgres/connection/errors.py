"""Translates the driver's exceptions into those of the core, without a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from seeknal_core.contract.errors import (
    BackendError,
    Interrupted,
    Unreachable,
    WriteRefused,
)
from seeknal_core.contract.types import ExecutionContext, redact
from seeknal_postgres.connection.profile import PostgresConnection

CHECK = "seeknal check --connections"


def said(error: psycopg.Error) -> str:
    """Return the server's own message, on one line, without a secret."""
    diag = error.diag
    text = diag.message_primary or str(error).strip() or type(error).__name__
    if diag.message_detail:
        text += f" ({diag.message_detail})"
    return redact(" ".join(text.split()))


def connect_failure(error: psycopg.Error, connection: PostgresConnection) -> BackendError:
    """Turn a failed log-in into `Unreachable`, naming the place and never the password."""
    return Unreachable(
        f"cannot connect to PostgreSQL at {connection.place} "
        f"(connection {connection.name!r}): {said(error)}",
        CHECK,
        target=connection.name,
    )


_LOST = (
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.IdleInTransactionSessionTimeout,
)
_REFUSED = (
    psycopg.IntegrityError,
    psycopg.DataError,
    pg.InsufficientPrivilege,
    pg.ObjectNotInPrerequisiteState,
    pg.DependentObjectsStillExist,
    pg.FeatureNotSupported,
    pg.LockNotAvailable,
    pg.DeadlockDetected,
    pg.ReadOnlySqlTransaction,
    pg.TooManyColumns,
    pg.ProgramLimitExceeded,
    pg.RaiseException,
    pg.NameTooLong,
)


def _hint(error: psycopg.Error, what: str, *, writing: bool) -> str:
    message = error.diag.message_primary or ""
    if "replica identity" in message:
        return f"ALTER TABLE {what} REPLICA IDENTITY FULL, or give it a primary key"
    if "row-level security" in message:
        return f"write as the table's owner, or grant the role BYPASSRLS ({what})"
    if isinstance(error, pg.InsufficientPrivilege):
        return _missing_right(message, what, writing=writing)
    if isinstance(error, pg.NameTooLong):
        return "a column of type name holds 63 bytes: shorten the value, or make the column text"
    if isinstance(error, pg.DiskFull):
        return "free space on the server, then run again"
    if isinstance(error, pg.FeatureNotSupported) and "view" in (error.diag.message_detail or ""):
        return "drop the view, run again, and make the view anew"
    if isinstance(error, (pg.UndefinedTable, pg.InvalidSchemaName)):
        return "check the name, and that the connection leads to the right database"
    return error.diag.message_hint or ""


#: How the server names what a role has no right to, in English (aclchk.c, "aclcheck_error").
_DENIED = re.compile(r"permission denied for (?P<kind>[a-z ]+?) (?P<name>\S.*)")
_NOT_OWNER = re.compile(r"must be owner of (?P<kind>[a-z ]+?) (?P<name>\S.*)")


def _missing_right(message: str, what: str, *, writing: bool) -> str:
    """Return the grant that is missing, naming the object that the server refused.

    The object is often another one than `what`: a schema, a ledger, a sequence. The server
    names a table without its schema.
    """
    found = _NOT_OWNER.fullmatch(message)
    if found:
        owned = _named(found, what)
        return f"let the role own {owned}, or make it a member of the owner, then run again"
    found = _DENIED.fullmatch(message)
    kind = found["kind"] if found else ""
    name = _named(found, what) if found else what
    if kind == "schema":
        return f"GRANT USAGE{', CREATE' if writing else ''} ON {name} to the role, then run again"
    if kind == "database":
        return f"GRANT CREATE ON {name} to the role, then run again"
    if found and kind in ("function", "procedure", "aggregate"):
        return f"do without it, or GRANT EXECUTE ON {kind.upper()} {found['name']} to the role"
    if not writing:
        return f"GRANT SELECT ON {name} to the role, then run again"
    return f"grant the role what is missing on {name}, then run again"


def _named(found: re.Match[str], what: str) -> str:
    kind, name = found["kind"], found["name"]
    if kind in ("table", "view", "materialized view", "relation"):
        return what if what.rpartition(".")[2].strip('"') == name else f"{kind} {name}"
    return f"{kind.upper()} {name}" if kind in ("schema", "database") else f"{kind} {name}"


def translate(error: psycopg.Error, what: str, *, writing: bool = False) -> BackendError:
    """Return the core's exception for a failure while working on `what`.

    Args:
        what: the table's printed name, or a few words for a query.
        writing: whether a transaction of ours was under way.
    """
    text, hint = said(error), _hint(error, what, writing=writing)
    lost = isinstance(error, _LOST) or (
        isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    )
    if lost or (error.sqlstate or "").startswith("08"):
        tail = "; the transaction was not finished, run again" if writing else ""
        return Unreachable(f"{what}: the connection was lost: {text}{tail}", CHECK, target=what)
    if isinstance(error, pg.ProgramLimitExceeded) and "row is too big" in text:
        text = f"a row is longer than one page of the server can hold ({text})"
        hint = "put some columns into one JSON column: to_json(struct_pack(…)), or split the table"
    if isinstance(error, pg.TooManyColumns):
        text += "; columns that were dropped from the table count among its 1600 columns"
        hint = "select fewer columns, or put some into one JSON column"
    if writing and isinstance(error, _REFUSED):
        return WriteRefused(f"{what}: {text}", hint, target=what)
    return BackendError(f"{what}: {text}", hint, target=what)


@contextmanager
def translated(context: ExecutionContext, what: str, *, writing: bool = False) -> Iterator[None]:
    """Translate the driver's exceptions of a block; a cancelled query is `Interrupted`."""
    try:
        yield
    except psycopg.Error as error:
        if context.cancellation.requested:
            raise Interrupted("stopped by the user") from error
        raise translate(error, what, writing=writing) from error
