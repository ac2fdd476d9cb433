"""A project in one or two stores that stop doing what they are asked, and come back.

The stores are a REST catalog behind a proxy, and a database behind another one, by a role that
is no superuser. Each can refuse every change, or be gone::

    project.stores["lake"].refuse("403")
    project.seeknal("env", "rollback", "prod", code=5)
    project.heal()
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from support.catalog_proxy import CatalogProxy, answer, drop, path, silence
from support.cli import Cli, Result, write
from support.distributions import install
from support.journeys import postgres_connection
from support.postgres import PostgresStore
from support.rest_server import RestServer
from support.silent_proxy import SilentProxy

#: What a promotion of version 2 brings: two tables that exist, and a new one.
TABLES = ("a", "b", "fresh")


class Store(Protocol):
    """A store that can stop doing what it is asked."""

    name: str
    schema: str

    @property
    def connection(self) -> Mapping[str, Any]:
        """The profile's connection."""

    def refuse(self, how: str) -> None:
        """Refuse every change; ``gone`` and ``silent`` is no answer at all."""

    def heal(self) -> None:
        """Do what is asked, as at first."""

    def target(self, table: str) -> str:
        """Return a target in YAML."""

    def ids(self, table: str, prefix: str = "") -> list[int] | None:
        """Return a table's ids, read past all proxies; None where there is no table."""

    def overwrite(self, table: str) -> None:
        """Put a row of somebody else's into a table."""


class Catalog:
    """An Iceberg catalog over HTTP."""

    name = "lake"

    def __init__(self, server: RestServer) -> None:
        self._server = server
        self.schema = f"s{uuid.uuid4().hex[:8]}"
        self.proxy = CatalogProxy(server.uri)
        self._uri = self.proxy.uri

    @property
    def connection(self) -> Mapping[str, Any]:
        """The profile's connection."""
        options = {**self._server.catalog_options(), "uri": self._uri}
        return {"type": "iceberg", "catalog": options}

    def refuse(self, how: str) -> None:
        """Refuse every change; ``gone`` and ``silent`` is no answer at all."""
        if how == "gone":
            self.proxy.close()
        elif how == "silent":
            self.proxy.rule(path(""), silence)
        elif how == "cut":
            self.proxy.rule(path("", "POST", "DELETE"), drop(landed=False))
        else:
            self.proxy.rule(path("", "POST", "DELETE"), answer(int(how)))

    def heal(self) -> None:
        """Do what is asked, as at first."""
        if self.proxy.closed.is_set():
            port = int(self._uri.rstrip("/").rpartition(":")[2])
            self.proxy = CatalogProxy(self._server.uri, port=port)
        self.proxy.heal()

    def close(self) -> None:
        """Stop listening."""
        if not self.proxy.closed.is_set():
            self.proxy.close()

    def target(self, table: str) -> str:
        """Return a target in YAML."""
        return f"{{type: iceberg, connection: lake, table: {self.schema}.{table}}}"

    def ids(self, table: str, prefix: str = "") -> list[int] | None:
        """Return a table's ids, read past all proxies; None where there is no table."""
        name = (f"{prefix}{self.schema}", table)
        if not self._server.catalog.table_exists(name):
            return None
        rows = self._server.catalog.load_table(name).scan().to_arrow()
        return sorted(rows["id"].to_pylist())

    def overwrite(self, table: str) -> None:
        """Put a row of somebody else's into a table."""
        found = self._server.catalog.load_table((self.schema, table))
        row = found.scan().to_arrow().slice(0, 1)
        column = row.schema.get_field_index("id")
        found.append(row.set_column(column, row.schema.field("id"), [[99]]))

    def elsewhere(self) -> tuple[str, str]:
        """Return what of the profile says where the tables are, and the same of another place."""
        return self._server.warehouse, f"{self._server.warehouse}-2"

    def references(self) -> list[str]:
        """Return the names of all references of production's tables."""
        catalog = self._server.catalog
        return [
            name
            for table in catalog.list_tables((self.schema,))
            for name in catalog.load_table(table).metadata.refs
        ]

    def data_files(self, prefix: str) -> list[Path]:
        """Return the data files below a namespace."""
        folder = Path(self._server.warehouse.removeprefix("file://"))
        return list(folder.glob(f"{prefix}{self.schema}/**/*.parquet"))


class Database:
    """A PostgreSQL database, and the role that writes it."""

    name = "warehouse"

    def __init__(self, dsn: Mapping[str, Any]) -> None:
        self._dsn = dict(dsn)
        self.schema = f"s{uuid.uuid4().hex[:8]}"
        self.role = f"etl_{uuid.uuid4().hex[:8]}"
        self.proxy = SilentProxy(int(dsn["port"]))
        self._port = self.proxy.port
        self._taken: list[tuple[str, str]] = []
        self._execute(f"CREATE ROLE {self.role} LOGIN PASSWORD '{dsn['password']}'")
        self._execute(f"GRANT CREATE ON DATABASE {dsn['dbname']} TO {self.role}")

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(**self._dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    @property
    def connection(self) -> Mapping[str, Any]:
        """The profile's connection."""
        dsn = {**self._dsn, "user": self.role, "host": "127.0.0.1", "port": self._port}
        waits = {"lock_wait": 2, "silence_timeout": 2, "connect_timeout": 2}
        return {**postgres_connection(dsn), **waits}

    def refuse(self, how: str) -> None:
        """Refuse every change; ``gone`` and ``silent`` is no answer at all."""
        if how == "gone":
            self.proxy.stop()
        elif how == "silent":
            self.proxy.silent.set()
        elif how == "read-only":
            self._execute(f"ALTER ROLE {self.role} SET default_transaction_read_only = on")
        elif how == "tables":
            self._take(lambda schema, _: schema == self.schema)
        else:
            self._take(lambda *_: True)
            self._execute(f"REVOKE CREATE ON DATABASE {self._dsn['dbname']} FROM {self.role}")

    def _take(self, chosen: Callable[[str, str], bool]) -> None:
        """Let the role own some things no more; it may read what it owned."""
        with psycopg.connect(**self._dsn, autocommit=True) as connection:
            owned = connection.execute(
                "SELECT nspname, '' FROM pg_namespace n"
                " JOIN pg_roles r ON r.oid = nspowner WHERE rolname = %s"
                " UNION ALL SELECT nspname, relname FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = relnamespace"
                " JOIN pg_roles r ON r.oid = relowner WHERE rolname = %s AND relkind = 'r'",
                [self.role, self.role],
            ).fetchall()
        for schema, table in owned:
            if not chosen(schema, table):
                continue
            kind, name = ("TABLE", f'"{schema}"."{table}"') if table else ("SCHEMA", f'"{schema}"')
            self._taken.append((kind, name))
            right = "SELECT" if table else "USAGE"
            self._execute(
                f"ALTER {kind} {name} OWNER TO CURRENT_USER",
                f"REVOKE ALL ON {kind} {name} FROM {self.role}",
                f"GRANT {right} ON {kind} {name} TO {self.role}",
            )

    def take_stage(self) -> None:
        """Let the role drop no more what is staged, as it could by owning the schema."""
        self._take(lambda schema, table: table.startswith("stage_"))
        self._taken.append(("SCHEMA", "_seeknal_prod"))
        self._execute(
            "ALTER SCHEMA _seeknal_prod OWNER TO CURRENT_USER",
            f"GRANT ALL ON SCHEMA _seeknal_prod TO {self.role}",
        )

    def staged(self) -> list[str]:
        """Return the names of tables that are staged."""
        with psycopg.connect(**self._dsn, autocommit=True) as connection:
            found = connection.execute(
                "SELECT tablename FROM pg_tables WHERE tablename LIKE 'stage\\_%'"
            )
            return [row[0] for row in found.fetchall()]

    def elsewhere(self) -> tuple[str, str]:
        """Return what of the profile says where the tables are, and the same of another place."""
        return f'"database": "{self._dsn["dbname"]}"', '"database": "postgres"'

    def heal(self) -> None:
        """Do what is asked, as at first."""
        if self.proxy.stopped:
            self.proxy = SilentProxy(int(self._dsn["port"]), port=self._port)
        self.proxy.silent.clear()
        self._execute(f"ALTER ROLE {self.role} RESET default_transaction_read_only")
        for kind, name in self._taken:
            self._execute(f"ALTER {kind} {name} OWNER TO {self.role}")
        self._taken = []
        self._execute(f"GRANT CREATE ON DATABASE {self._dsn['dbname']} TO {self.role}")

    def close(self) -> None:
        """Drop all that the role has, and the role."""
        self.proxy.stop()
        self._execute(f"DROP OWNED BY {self.role} CASCADE", f"DROP ROLE {self.role}")

    def target(self, table: str) -> str:
        """Return a target in YAML."""
        return f"{{type: postgresql, connection: warehouse, table: {self.schema}.{table}}}"

    def ids(self, table: str, prefix: str = "") -> list[int] | None:
        """Return a table's ids, read past all proxies; None where there is no table."""
        name = sql.Identifier(f"{prefix}{self.schema}", table)
        with psycopg.connect(**self._dsn, autocommit=True) as connection:
            try:
                found = connection.execute(sql.SQL("SELECT id FROM {} ORDER BY 1").format(name))
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                return None
            return [row[0] for row in found.fetchall()]

    def overwrite(self, table: str) -> None:
        """Put a row of somebody else's into a table."""
        self._execute(f"INSERT INTO {self.schema}.{table} (id) VALUES (99)")


class Project:
    """A project with the same three tables in each of its stores."""

    #: Whether walks go on to promote and roll back when they are out.
    thorough = False

    def __init__(self, root: Path, stores: Sequence[Any], killer: Path) -> None:
        self.root = root
        self.stores = {store.name: store for store in stores}
        connections = {store.name: store.connection for store in stores}
        write(
            root,
            {
                "seeknal_project.yml": f"name: p{uuid.uuid4().hex[:8]}\n",
                "profiles.yml": json.dumps({"connections": connections}),
                "data/orders.csv": "id\n1\n2\n",
                "seeknal/orders.yml": (
                    "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
                    "schema:\n  - {name: id, data_type: integer}\n"
                ),
            },
        )
        environ = {"HOME": str(root.parent / "home"), "PYTHONPATH": str(killer)}
        self.seeknal = Cli(cwd=root, environ=environ, warm=True)

    def become(self, number: int) -> None:
        """Give the tables other rows; from version 2 on there is a new one."""
        (self.root / "seeknal" / "fresh.sql").unlink(missing_ok=True)
        for name in TABLES if number > 1 else TABLES[:2]:
            lines = "".join(f"  - {store.target(name)}\n" for store in self.stores.values())
            sql = f"SELECT id + {number} AS id FROM source.orders"
            write(
                self.root,
                {f"seeknal/{name}.sql": f"/* ---\nmaterializations:\n{lines}--- */\n{sql}\n"},
            )

    def prepare(self) -> None:
        """Bring version 1 into production, and version 2 into dev."""
        self.become(1)
        self.seeknal("run")
        self.become(2)
        self.seeknal("run", "--env", "dev")

    def refuse(self, how: Mapping[str, str]) -> None:
        """Let stores refuse, each in its way."""
        for name, one in how.items():
            self.stores[name].refuse(one)

    def heal(self) -> None:
        """Let all stores do what they are asked."""
        for store in self.stores.values():
            store.heal()

    def killed(self, *command: str, hook: str, at: str) -> None:
        """Run a command that is killed at a call of a hook, such as ``after:1``."""
        dies = {"SEEKNAL_KILL_HOOKS": hook, "SEEKNAL_KILL_AT": at}
        self.seeknal(*command, code=-9, **dies)

    def close(self) -> None:
        """Close all stores."""
        for store in self.stores.values():
            store.close()

    def seen(self) -> dict[str, Mapping[str, list[int] | None]]:
        """Return the rows of production's tables, by store and table."""
        return {
            name: {table: store.ids(table) for table in TABLES}
            for name, store in self.stores.items()
        }

    def expect(
        self, number: int, left: Mapping[str, Mapping[str, list[int] | None]] | None = None
    ) -> None:
        """Check that every store holds a version wholly.

        Args:
            left: what was seen before; a table that is new in version 2 stays then.
        """
        rows = [1 + number, 2 + number]
        wanted = {}
        for name in self.stores:
            there = (left or {}).get(name, {}).get("fresh")
            wanted[name] = {"a": rows, "b": rows, "fresh": rows if number > 1 else there}
        assert self.seen() == wanted


def said_and(result: Result, *words: str) -> Result:
    """Check that a command said some words; return what it said."""
    for word in words:
        assert word in result.said, (word, result.said)
    return result


@contextlib.contextmanager
def projects(folder: Path, server: PostgresStore) -> Iterator[Callable[..., Project]]:
    """Give a function that makes a project in the stores of some names; close them in the end."""
    killer = install(
        folder / "site",
        distribution="seeknal-killer",
        module="seeknal_killer",
        source=(Path(__file__).parent / "seeknal_killer.py").read_text("utf-8"),
        entry_points={"seeknal.plugins": {"killer": "seeknal_killer"}},
    )
    with contextlib.ExitStack() as closing:
        rest = closing.enter_context(RestServer(folder / "rest"))

        def make(*names: str) -> Project:
            stores: list[Catalog | Database] = []
            for name in names:
                if name == "lake":
                    stores.append(Catalog(rest))
                else:
                    dsn = server.create_database()
                    closing.callback(server.drop_database, dsn)
                    stores.append(Database(dsn))
            project = Project(folder / uuid.uuid4().hex[:8] / "shop", stores, killer)
            closing.callback(project.close)
            return project

        yield make
