"""The embedded server's role is no superuser, in clusters of before as well."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from seeknal_postgres.connection.embedded import binaries
from seeknal_postgres.connection.embedded import role as embedded_role
from seeknal_postgres.connection.embedded import server as embedded
from support.cli import Cli, write

PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "profiles.yml": "connections:\n  own: {type: postgresql, embedded: true}\n",
    "seeknal/orders.yml": """\
kind: source
name: orders
source: csv
table: data/orders.csv
schema:
  - {name: id, data_type: integer}
""",
    "seeknal/totals.yml": """\
kind: transform
name: totals
transform: SELECT * FROM source.orders
materializations:
  - {type: postgresql, connection: own, table: shop.full}
  - {type: postgresql, connection: own, table: shop.log, mode: append}
  - {type: postgresql, connection: own, table: shop.keyed, mode: upsert_by_key, unique_keys: [id]}
""",
    "data/orders.csv": "id,price\n1,2.5\n2,3.5\n",
}
#: One of each kind that a user may have made beside what Seeknal makes.
MADE = [
    "CREATE SCHEMA app",
    "CREATE TYPE app.mood AS ENUM ('glad')",
    "CREATE TYPE app.pair AS (a int, b int)",
    "CREATE TYPE app.span AS RANGE (subtype = int4)",
    "CREATE DOMAIN app.small AS int CHECK (VALUE < 10)",
    "CREATE TABLE app.kept (id serial PRIMARY KEY, m app.mood, other int GENERATED ALWAYS AS IDENTITY)",
    "INSERT INTO app.kept (m) VALUES ('glad')",
    "CREATE TABLE app.parts (d date) PARTITION BY RANGE (d)",
    "CREATE TABLE app.parts_2026 PARTITION OF app.parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE VIEW app.seen AS SELECT id FROM app.kept",
    "CREATE MATERIALIZED VIEW app.stored AS SELECT id FROM app.kept",
    "CREATE SEQUENCE app.counter",
    "CREATE FUNCTION app.twice(x int) RETURNS int LANGUAGE sql AS 'SELECT 2 * x'",
    "CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE app.added(int) (SFUNC = int4pl, STYPE = int)",
    "CREATE OPERATOR app.### (FUNCTION = app.twice, RIGHTARG = int)",
    "CREATE STATISTICS app.known ON id, m FROM app.kept",
    "CREATE COLLATION app.plain (provider = builtin, locale = 'C')",
    "CREATE TEXT SEARCH CONFIGURATION app.words (COPY = simple)",
    'CREATE TABLE app."odd ""name" (id int)',
    "CREATE ROLE reader NOLOGIN",
    "CREATE TABLE app.theirs AS SELECT 1 AS id",
    "ALTER TABLE app.theirs OWNER TO reader",
    "GRANT SELECT ON app.kept TO reader",
    "SELECT lo_create(0)",
]


@pytest.fixture
def shop() -> Iterator[Path]:
    """A project in a folder that the server's account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="seeknal-embedded-"))
    folder.chmod(0o755)
    write(folder, PROJECT)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def seeknal(shop: Path, tmp_path: Path) -> Cli:
    return Cli(cwd=shop, environ={"HOME": str(tmp_path)})


def _home(shop: Path) -> Path:
    return embedded._home(shop / "target", binaries.server_account(), "the server")


def _older_cluster(shop: Path) -> None:
    """Make the cluster that was made before: initdb's role is the one that commands use."""
    account = binaries.server_account()
    home = _home(shop)
    (home / "password").write_text("of an older cluster")
    installation = binaries.reachable_installation(account, home)
    data = home / "data"
    data.mkdir(mode=0o700)
    binaries.initialize(
        installation,
        data,
        user=embedded_role.USER,
        password="of an older cluster",
        account=account,
        sync=False,
    )


class Using:
    """The server of a project, and a connection to it."""

    def __init__(self, shop: Path) -> None:
        self.home = _home(shop)
        self.server = embedded.ensure_server(str(shop / "target"), str(shop))

    def rows(self, query: str, database: str = "") -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.user,
            password=self.server.password.reveal(),
            dbname=database or self.server.database,
            autocommit=True,
        ) as conn:
            found = conn.execute(query)
            return found.fetchall() if found.description else []

    def __enter__(self) -> Using:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.release()
        deadline = time.monotonic() + 30
        while embedded._kept(self.home):
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.05)


WHO = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"


def _assert_plain(use: Using) -> None:
    assert use.rows(WHO) == [(False,) * 5]
    for statement in (
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/seeknal-not-written'",
        "SELECT pg_read_file('postgresql.conf')",
        "CREATE ROLE other SUPERUSER",
        "SET ROLE seeknal_owner",
        "ALTER SYSTEM SET fsync = off",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            use.rows(statement)


def test_the_role_of_a_new_cluster_is_no_superuser(shop: Path, seeknal: Cli) -> None:
    seeknal("run")
    with Using(shop) as use:
        _assert_plain(use)
        assert use.rows("SELECT count(*) FROM shop.full") == [(2,)]


def test_the_server_sees_none_of_the_commands_environment(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for the server")
    with Using(shop):
        pid = int((_home(shop) / "server.pid").read_text())
        keeper = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        for each in (str(pid), keeper):
            names = {
                line.partition(b"=")[0].decode()
                for line in Path(f"/proc/{each}/environ").read_bytes().split(b"\0")
                if line
            }
            assert names <= {*binaries._NEEDED, "LC_CTYPE"} and "PATH" in names


def test_an_older_cluster_keeps_its_rows_and_loses_its_superuser(
    shop: Path, seeknal: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _older_cluster(shop)
    with monkeypatch.context() as before:
        before.setattr(embedded_role, "is_plain", lambda data: True)
        with Using(shop) as use:
            assert use.rows(WHO) == [(True,) * 5]
            seeknal("run")
            seeknal("run", "--env", "dev")
            use.rows("CREATE DATABASE more")
            for statement in MADE:
                use.rows(statement)
            use.rows("CREATE TABLE here AS SELECT 1 AS id", "more")
            oids = use.rows("SELECT oid, relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY 1")
    with Using(shop) as use:
        _assert_plain(use)
        assert (
            use.rows("SELECT oid, relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY 1") == oids
        )
        assert use.rows("SELECT id FROM here", "more") == [(1,)]
        use.rows("INSERT INTO app.kept (m) VALUES ('glad')")
        use.rows("REFRESH MATERIALIZED VIEW app.stored")
        assert use.rows("SELECT id FROM app.theirs") == [(1,)]
        assert _owned_by_the_superuser(use) == []
        use.rows("DROP SCHEMA app CASCADE")
        use.rows("DROP TABLE here", "more")
        rerun = seeknal("run")
        assert "unchanged" in rerun.out, rerun.out
        seeknal("run", "--env", "dev")
        assert use.rows("SELECT count(*) FROM shop.log") == [(2,)]
        node = shop / "seeknal/totals.yml"
        node.write_text(node.read_text().replace("SELECT *", "SELECT id, price * 2 AS price"))
        seeknal("run", "--env", "dev")
        seeknal("env", "promote", "dev", "--yes", "--ship")
        assert use.rows("SELECT sum(price) FROM shop.full") == [(12.0,)]
        seeknal("env", "rollback", "prod", "--yes")
        assert use.rows("SELECT sum(price) FROM shop.full") == [(6.0,)]


def _owned_by_the_superuser(use: Using) -> list[Any]:
    return use.rows(
        "SELECT classid::regclass, objid FROM pg_shdepend WHERE refobjid = 10"
        " UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE oid >= 16384 AND relowner = 10"
        "  AND relnamespace <> 'pg_toast'::regnamespace"
        " UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc p WHERE oid >= 16384 AND proowner = 10"
        # A range's own functions are the server's.
        "  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'i')"
        " UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE oid >= 16384 AND typowner = 10"
        " UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace WHERE oid >= 16384 AND nspowner = 10"
        " UNION ALL SELECT 'pg_database'::regclass, oid FROM pg_database WHERE oid >= 16384 AND datdba = 10"
    )


def test_a_killed_change_of_roles_is_done_again(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _older_cluster(shop)
    with monkeypatch.context() as before:
        before.setattr(embedded_role, "is_plain", lambda data: True)
        with Using(shop) as use:
            use.rows("CREATE TABLE kept AS SELECT 1 AS id")
    with monkeypatch.context() as killed:
        killed.setattr(embedded_role, "_TAKE_OVER", "SELECT no_such_function()")
        with pytest.raises(Exception, match="could not be set up"):
            embedded.ensure_server(str(shop / "target"), str(shop))
    with Using(shop) as use:
        _assert_plain(use)
        use.rows("INSERT INTO kept VALUES (2)")
        assert os.path.exists(_home(shop) / "data" / embedded_role._MARK)
