"""A small project over any mix of stores, whose promotion can be watched and broken."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import attrs
import psycopg

from support.cli import Cli, Result, write
from support.journeys import postgres_connection

ROWS = 20
PROJECT = {
    "seeknal_project.yml": "name: shop\n",
    "seeknal/orders.yml": (
        "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
        "schema:\n  - {name: id, data_type: integer}\n  - {name: amount, data_type: integer}\n"
    ),
    "data/orders.csv": "id,amount\n" + "".join(f"{n},{n * 10}\n" for n in range(1, ROWS + 1)),
}


@attrs.frozen(kw_only=True)
class Place:
    """A store of the project: a database, or a catalog with its folder of files."""

    name: str
    dsn: Mapping[str, Any] | None = None
    warehouse: Path | None = None
    schema: str = "shop"

    @property
    def connection(self) -> dict[str, Any]:
        """The profile's connection."""
        if self.dsn is not None:
            return {**postgres_connection(dict(self.dsn)), "lock_wait": 5}
        return {"type": "iceberg", "warehouse": str(self.warehouse)}

    def target(self, table: str, more: str) -> str:
        """Return a target of a node, as YAML."""
        if self.dsn is not None:
            kind, name = "postgresql", f"{self.schema}.{table}"
        else:
            kind, name = "iceberg", f"{self.name}.{self.schema}.{table}"
        return f"  - {{type: {kind}, connection: {self.name}, table: {name}{more}}}\n"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database."""
        assert self.dsn is not None
        with psycopg.connect(**self.dsn, autocommit=True) as connection:
            return connection.execute(sql).fetchall()

    def execute(self, sql: str) -> None:
        """Change the database as somebody else would."""
        assert self.dsn is not None
        with psycopg.connect(**self.dsn, autocommit=True) as connection:
            connection.execute(sql)

    @contextlib.contextmanager
    def catalog(self) -> Iterator[Any]:
        """Open the catalog as somebody else would."""
        from pyiceberg.catalog.sql import SqlCatalog

        assert self.warehouse is not None
        uri = f"sqlite:///{self.warehouse}/catalog.db"
        catalog = SqlCatalog("default", uri=uri, warehouse=self.warehouse.as_uri())
        try:
            yield catalog
        finally:
            catalog.engine.dispose()

    def tables(self) -> dict[str, list[Any]]:
        """List every table of the store that is not the server's own, with its rows."""
        return self._database_tables() if self.dsn is not None else self._catalog_tables()

    def _database_tables(self) -> dict[str, list[Any]]:
        names = self.query(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN "
            "('pg_catalog', 'information_schema') ORDER BY 1, 2"
        )
        found = {}
        for schema, name in names:
            rows = self.query(f'SELECT to_jsonb(t)::text FROM "{schema}"."{name}" AS t')
            found[f"{schema}.{name}"] = sorted(
                (tuple(json.loads(row[0]).items()) for row in rows), key=str
            )
        return found

    def _catalog_tables(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        with self.catalog() as catalog:
            for namespace in sorted(catalog.list_namespaces()):
                for identifier in sorted(catalog.list_tables(namespace)):
                    data = catalog.load_table(identifier).scan().to_arrow()
                    rows = [tuple(row.items()) for row in data.to_pylist()]
                    found[".".join(identifier)] = sorted(rows, key=str)
        return found

    def seen(self) -> dict[str, list[Any]]:
        """Return what readers of production's tables see."""
        return {
            name: rows for name, rows in self.tables().items() if name.startswith(f"{self.schema}.")
        }

    def leftovers(self, *, undo: bool) -> list[str]:
        """List what only a promotion needs and is still there.

        Args:
            undo: whether what undoes the last promotion counts as well.
        """
        if self.dsn is not None:
            prefixes = ("stage_", "undo_") if undo else ("stage_",)
            return [
                name
                for name in self._database_tables()
                if name.startswith("_seeknal_") and name.split(".")[1].startswith(prefixes)
            ]
        return list(self._catalog_leftovers(undo=undo))

    def _catalog_leftovers(self, *, undo: bool) -> Iterator[str]:
        """Yield refs beside main, and files that no Iceberg snapshot of any table names."""
        assert self.warehouse is not None
        used: set[str] = set()
        with self.catalog() as catalog:
            for namespace in catalog.list_namespaces():
                for identifier in catalog.list_tables(namespace):
                    table = catalog.load_table(identifier)
                    for ref, held in table.metadata.refs.items():
                        if ref != "main" and (undo or held.snapshot_ref_type == "branch"):
                            yield f"{identifier} {held.snapshot_ref_type} {ref}"
                    for snapshot in table.metadata.snapshots:
                        used.add(snapshot.manifest_list)
                        for manifest in snapshot.manifests(table.io):
                            used.add(manifest.manifest_path)
                            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
                            used |= {entry.data_file.file_path for entry in entries}
        named = {urlparse(path).path for path in used}
        for path in self.warehouse.rglob("*"):
            if path.suffix in (".parquet", ".avro") and str(path) not in named:
                yield f"{self.name}: {path.relative_to(self.warehouse)}"


@attrs.frozen(kw_only=True)
class Shop:
    """The project, its stores, and the command."""

    root: Path
    seeknal: Cli
    places: Sequence[Place]

    @property
    def database(self) -> Place:
        """The first database."""
        return next(place for place in self.places if place.dsn is not None)

    @property
    def lake(self) -> Place:
        """The first catalog."""
        return next(place for place in self.places if place.warehouse is not None)

    def node(self, name: str, sql: str, more: str = "") -> dict[str, str]:
        """Return the file of a transform with a target in each store."""
        targets = "".join(place.target(name, more) for place in self.places)
        head = f"/* ---\nmaterializations:\n{targets}--- */\n"
        return {f"seeknal/{name}.sql": f"{head}{sql}\n"}

    def become(self, number: int) -> None:
        """Give the folder the definitions of a version, with other rows in every table.

        A table that is new with each version stands beside those that exist.
        """
        files = self.node("kept", f"SELECT id, amount + {number} AS amount FROM source.orders")
        files |= self.node(
            "keyed",
            f"SELECT id, amount * {number} AS amount FROM source.orders",
            ", mode: upsert_by_key, unique_keys: [id]",
        )
        for old in self.root.glob("seeknal/new*.sql"):
            old.unlink()
        if number > 1:
            files |= self.node(f"new{number}", f"SELECT id, {number} AS version FROM source.orders")
        write(self.root, files)

    def apply(self, environment: str = "dev") -> None:
        """Plan and apply."""
        self.seeknal("env", "plan", environment)
        self.seeknal("env", "apply", environment)

    def promote(self, *args: str, code: int | None = 0, **environ: str) -> Result:
        """Promote dev into production."""
        return self.seeknal("env", "promote", "dev", *args, code=code, **environ)

    def seen(self) -> dict[str, dict[str, list[Any]]]:
        """Return what readers of production's tables see, by store."""
        return {place.name: place.seen() for place in self.places}

    def expect(self, number: int) -> None:
        """Check that every store holds a version wholly."""
        for place in self.places:
            found, schema = place.seen(), place.schema
            ids = range(1, ROWS + 1)
            assert found[f"{schema}.kept"] == _sorted((n, n * 10 + number) for n in ids), place
            assert found[f"{schema}.keyed"] == _sorted((n, n * 10 * number) for n in ids), place
            if number > 1:
                assert len(found[f"{schema}.new{number}"]) == ROWS

    def leftovers(self, *, undo: bool = False) -> list[str]:
        """List what a promotion alone needed and what is still there, in stores and state."""
        found = [line for place in self.places for line in place.leftovers(undo=undo)]
        target = self.root / "target"
        found += [str(path) for path in target.glob("state/promotions/*.current.json")]
        for notes in ("iceberg-pending", "iceberg-staged", "iceberg-dropped"):
            found += [str(path) for path in target.glob(f"{notes}/**/*") if path.is_file()]
        return found


def _sorted(pairs: Any) -> list[Any]:
    return sorted(((("id", n), ("amount", amount)) for n, amount in pairs), key=str)


def make_shop(folder: Path, places: Sequence[Place], path: str, *, run: bool = True) -> Shop:
    """Make the project with version 1 in production.

    Args:
        path: what goes on ``PYTHONPATH``: further plugins.
        run: False leaves the stores empty.
    """
    root = folder / "shop"
    for place in places:
        if place.warehouse is not None:
            place.warehouse.mkdir()
    connections = {place.name: place.connection for place in places}
    write(root, PROJECT | {"profiles.yml": json.dumps({"connections": connections})})
    environ = {"HOME": str(folder / "home"), "PYTHONPATH": path}
    seeknal = Cli(cwd=root, environ=environ, warm=True)
    shop = Shop(root=root, seeknal=seeknal, places=tuple(places))
    shop.become(1)
    if run:
        shop.seeknal("run")
    return shop


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
