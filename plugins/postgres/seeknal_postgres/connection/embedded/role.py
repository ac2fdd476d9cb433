"""The role that commands log in as on an embedded server: it has no right but its own objects.

``initdb`` makes a superuser, who can read and write files and run programs as the server's
account. That role is called `OWNER`; its password is deleted, so that nobody logs in as it.
Commands log in as `USER`, which owns the database and has no other right.

Older clusters had one role, `USER`, the superuser of ``initdb``. PostgreSQL lets nobody take
that right from it, so `demote` gives it the name `OWNER` and makes a plain `USER` that takes over
its password and its objects.

Both are done with no server running, in PostgreSQL's single-user mode (``postgres --single``),
which asks for no password.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from seeknal_core.contract.errors import BackendError
from seeknal_postgres.connection.embedded import binaries

OWNER = "seeknal_owner"
USER = "seeknal"
DATABASE = "postgres"

#: A file in the cluster's folder that says that `USER` is a plain role.
_MARK = "seeknal-plain-role"

#: The catalogs of what has an owner that can be changed, and their owner's column.
_OWNED = {
    "pg_namespace": "nspowner",
    "pg_class": "relowner",
    "pg_proc": "proowner",
    "pg_type": "typowner",
    "pg_collation": "collowner",
    "pg_conversion": "conowner",
    "pg_operator": "oprowner",
    "pg_opclass": "opcowner",
    "pg_opfamily": "opfowner",
    "pg_ts_dict": "dictowner",
    "pg_ts_config": "cfgowner",
    "pg_statistic_ext": "stxowner",
    "pg_foreign_server": "srvowner",
    "pg_largeobject_metadata": "lomowner",
}
#: Objects that get their owner from a table, a type or an extension, or have none of their own.
_OF_ITSELF = {
    "pg_class": "o.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')",
    "pg_type": "(o.typtype IN ('d', 'e', 'r') OR o.typrelid IN"
    " (SELECT oid FROM pg_class WHERE relkind = 'c'))",
}
# 10 is the role of initdb, and 16384 the first object that a user made (transam.h,
# BOOTSTRAP_SUPERUSERID and FirstNormalObjectId).
_FOUND = " UNION ALL ".join(
    # Large objects go by the catalog that holds their bytes.
    f"SELECT '{catalog.removesuffix('_metadata')}'::regclass AS class, o.oid FROM {catalog} o"
    f" WHERE o.{owner} = 10 AND o.oid >= 16384 AND {_OF_ITSELF.get(catalog, 'true')}"
    for catalog, owner in _OWNED.items()
)
_TAKE_OVER = f"""DO $$ DECLARE found record; BEGIN
FOR found IN
  SELECT i.type, i.identity FROM ({_FOUND}) o, pg_identify_object(o.class, o.oid, 0) i
  WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid
    AND d.objsubid = 0 AND (d.deptype IN ('e', 'i') OR (d.deptype = 'a' AND i.type = 'sequence')))
LOOP
  EXECUTE format('ALTER %s %s OWNER TO {USER}',
    CASE found.type WHEN 'statistics object' THEN 'statistics'
    ELSE found.type END, found.identity);
END LOOP;
FOR found IN SELECT datname FROM pg_database
  WHERE datdba = 10 AND (oid >= 16384 OR datname = '{DATABASE}')
LOOP
  EXECUTE format('ALTER DATABASE %I OWNER TO {USER}', found.datname);
END LOOP; END $$"""

#: Roles that the superuser could use by default: `USER` becomes a member of them.
_MEMBER = f"""DO $$ DECLARE found record; BEGIN
FOR found IN SELECT rolname FROM pg_roles WHERE oid >= 16384 AND NOT rolsuper AND rolname <> '{USER}'
LOOP EXECUTE format('GRANT %I TO {USER}', found.rolname); END LOOP; END $$"""

_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template1'"
#: How single-user mode prints a value.
_NAME = re.compile(r'datname = "(.*)"\t\(typeid = ')


def is_plain(data: Path) -> bool:
    """Return whether commands log in to the cluster in `data` as a plain role."""
    return (data / _MARK).exists()


def create(installation: Path, data: Path, password: str, account: binaries.Account | None) -> None:
    """Make the plain role in a new cluster, and give it the database.

    Raises:
        BackendError: the server's programs failed.
    """
    statements = [
        f"CREATE ROLE {USER} LOGIN PASSWORD {_literal(password)}",
        f"ALTER DATABASE {DATABASE} OWNER TO {USER}",
        f"ALTER ROLE {OWNER} PASSWORD NULL",
    ]
    _run(installation, data, account, DATABASE, statements)
    _mark(data)


def demote(installation: Path, data: Path, password: str, account: binaries.Account | None) -> None:
    """Replace the superuser that an older cluster's commands logged in as by a plain role.

    If a command is killed in the middle, the next one repeats it: each step may be repeated.

    Raises:
        BackendError: the server's programs failed.
    """
    # ALTER ROLE doesn't rename the session's own role, and single-user mode has no other.
    rename = f"""DO $$ BEGIN
IF EXISTS (SELECT FROM pg_authid WHERE oid = 10 AND rolname = '{USER}') THEN
  UPDATE pg_authid SET rolname = '{OWNER}' WHERE oid = 10;
  CREATE ROLE {USER} LOGIN PASSWORD {_literal(password)};
  ALTER ROLE {OWNER} PASSWORD NULL;
END IF; END $$"""
    printed = _run(installation, data, account, DATABASE, [rename, _MEMBER, _DATABASES])
    for database in _NAME.findall(printed):
        _run(installation, data, account, database, [_TAKE_OVER])
    _mark(data)


def _mark(data: Path) -> None:
    os.close(os.open(data / _MARK, os.O_WRONLY | os.O_CREAT, 0o600))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _run(
    installation: Path,
    data: Path,
    account: binaries.Account | None,
    database: str,
    statements: Sequence[str],
) -> str:
    """Run statements in single-user mode and return what was printed.

    With ``-j`` a statement ends with a semicolon and an empty line, so that it may have lines.
    """
    done = subprocess.run(
        [
            *(str(installation / "bin" / "postgres"), "--single", "-j", "-D", str(data)),
            *("-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", database),
        ],
        check=False,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        input="".join(f"{statement};\n\n" for statement in statements),
        cwd="/",
        env=binaries.server_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        words = [line for line in lines if "ERROR:" in line or "FATAL:" in line] or lines[-3:]
        raise BackendError(
            f"the embedded server's role could not be set up in {data}: {' '.join(words)}",
            f"look into {data}, or begin with an empty server: rm -r {shlex.quote(str(data.parent))}",
        )
    return done.stdout
