"""The settings that statements run under: ours, or those of the login.

Ours are fixed, so that no role's or database's settings change a value that is
converted. Code of users (triggers, defaults, checks, generated columns) runs under the
settings that the login would have in psql.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg import sql

from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.types import QualifiedName
from seeknal_postgres.connection.pool import Conn

#: How values are printed and parsed, independent of the settings of the role and the database.
FORMATS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    # Any value above 0 prints floats exactly since version 12, and 3 does before.
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "quote_all_identifiers": "off",
    "xmloption": "content",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
}
#: What a transaction that writes relies on. With ``row_security`` off the server refuses
#: what a policy would cut short.
_OURS = {**FORMATS, "search_path": "", "row_security": "off"}


def _setting(values: Mapping[str, str]) -> str:
    return ", ".join(f"set_config('{name}', '{value}', true)" for name, value in values.items())


_set = _setting(_OURS)
_FORMATS = {
    on: sql.SQL(f"SELECT {_setting({**FORMATS, 'row_security': 'on' if on else 'off'})}")
    for on in (False, True)
}
#: Sets what is ours for the rest of the transaction.
OURS = sql.SQL(f"SELECT {_set}")
#: Gives those settings the values that the session began with.
LOGIN = sql.SQL("; ".join(f"SET LOCAL {name} TO DEFAULT" for name in _OURS))


def formats(*, row_security: bool) -> sql.Composable:
    """Return the statement that fixes formats for the rest of a transaction.

    Args:
        row_security: whether policies choose rows; else the server refuses such a query.
    """
    return _FORMATS[row_security]


def settle(conn: Conn, lock_timeout_ms: int = 2000) -> None:
    """Set what a transaction of ours relies on, for that transaction only."""
    conn.execute(_settings(lock_timeout_ms))


@functools.cache
def _settings(lock_timeout_ms: int) -> bytes:
    # Without parameters it is one message to the server, and one answer.
    return f"SELECT {_set}, set_config('lock_timeout', '{lock_timeout_ms}', true)".encode()


@contextmanager
def users_own(conn: Conn) -> Iterator[None]:
    """Run the statements of a block under the login's own settings, then ours again.

    Statements that run code of users belong in such a block: changes of rows, checks of
    constraints. Its statements convert no text and name everything with its schema. They
    follow `refuse_hidden`: policies count inside the block.
    """
    conn.execute(LOGIN)
    yield
    conn.execute(OURS)


@contextmanager
def users_names(conn: Conn, wanted: bool) -> Iterator[None]:
    """Run a block's statements under our settings, but with the login's ``search_path``.

    Where rows are staged in columns of a domain, its checks may call a user's functions.

    Args:
        wanted: False leaves our settings as they are.
    """
    if wanted:
        conn.execute("SET LOCAL search_path TO DEFAULT")
    yield
    if wanted:
        conn.execute("SET LOCAL search_path TO ''")


def refuse_hidden(conn: Conn, oids: Mapping[QualifiedName, int]) -> None:
    """Refuse tables if row-level security hides some of their rows from the role.

    Raises:
        WriteRefused: naming one.
    """
    if not oids:
        return
    rows: list[Any] = conn.execute(
        "SELECT oid::bigint FROM pg_catalog.pg_class"
        " WHERE oid = ANY(%s::oid[]) AND relrowsecurity AND row_security_active(oid)",
        [list(oids.values())],
    ).fetchall()
    hidden = {row[0] for row in rows}
    for name, oid in oids.items():
        if oid in hidden:
            raise WriteRefused(
                f"{name}: row-level security hides rows from the role",
                f"write as the table's owner, or grant the role BYPASSRLS ({name})",
                target=str(name),
            )
