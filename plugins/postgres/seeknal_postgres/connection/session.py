"""The settings of a login that decide which rows it sees.

Command-line options (``options``, ``PGOPTIONS``), a service file, and the settings that the
server keeps for roles and databases.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    import psycopg

    Conn = psycopg.Connection[tuple[Any, ...]]

#: Settings, beside those of extensions and applications (``app.tenant``), that decide
#: which table a name means and which rows a role sees.
_DECISIVE = ("search_path", "role", "session_authorization", "row_security")


def decides(name: str) -> bool:
    """Whether a setting may decide which rows are seen. Timeouts, say, never do."""
    return name in _DECISIVE or "." in name


def parse_options(text: str) -> dict[str, str]:
    """Return the settings of a command line for a session, names in lower case.

    ``-c name=value``, ``-cname=value`` and ``--name=value``; a backslash keeps what follows
    (https://www.postgresql.org/docs/current/libpq-connect.html, ``options``).
    """
    words, word, kept = [], "", False
    for character in text:
        if kept or not (character == "\\" or character.isspace()):
            word, kept = word + character, False
        elif character == "\\":
            kept = True
        elif word:
            words.append(word)
            word = ""
    words += [word] if word else []
    found: dict[str, str] = {}
    after_c = False
    for each in words:
        if each == "-c":
            after_c = True
            continue
        given = each if after_c else each.removeprefix("--" if each.startswith("--") else "-c")
        name, equals, value = given.partition("=")
        if equals and (after_c or given != each):
            found[name.replace("-", "_").lower()] = value
        after_c = False
    return found


def service_of(name: str) -> dict[str, str]:
    """Return the parameters of a service, empty if no service file has it.

    ``PGSERVICEFILE``, else ``~/.pg_service.conf``, then ``pg_service.conf`` in
    ``PGSYSCONFDIR`` (https://www.postgresql.org/docs/current/libpq-pgservice.html).
    """
    import configparser  # few connections name a service

    own = os.environ.get("PGSERVICEFILE")
    places = [Path(own) if own else Path.home() / ".pg_service.conf"]
    if os.environ.get("PGSYSCONFDIR"):
        places.append(Path(os.environ["PGSYSCONFDIR"]) / "pg_service.conf")
    for place in places:
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
        try:
            parser.read_string(place.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        if parser.has_section(name):
            return dict(parser.items(name))
    return {}


_KEPT: LiteralString = """
SELECT setting FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) AS setting
WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                            WHERE datname = pg_catalog.current_database()))
  AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
ORDER BY s.setrole <> 0, s.setdatabase <> 0
"""


def seen_by(conn: Conn, reads: Mapping[str, str]) -> str:
    """Return a digest of what decides which rows the session sees, empty if nothing does.

    Args:
        reads: the settings of the connection itself.
    """
    kept = {}
    # The later one wins: a database's, a role's, a role's in a database.
    for (text,) in conn.execute(_KEPT):
        name, _, value = str(text).partition("=")
        if decides(name):
            kept[name] = value
    if not kept and not reads:
        return ""
    text = json.dumps([kept, dict(reads)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
