"""The file as one transaction sees it: its tables, what modes do to them, and the ledger.

The ledger is one table of JSON documents in the schema ``_seeknal``. It is written in the
transaction whose story it tells, and goes with its last entry. Its kinds of entries are
``table`` and ``schema`` (whose it is), ``generation`` and ``stage``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seeknal_core.errors import WriteRefused
from seeknal_core.types import ExecutionContext, Mode, SchemaChange, Snapshot, Target
from seeknal_duckdb import arrow
from seeknal_duckdb.connection import File

OWN = "_seeknal"
_LEDGER = f"{OWN}.ledger"
#: Where rows wait that are written at once.
ARRIVED = "temp._seeknal_arrived"


def quote(*parts: str) -> str:
    """Return a name as SQL text."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


class Store(File):
    """The file in one open transaction of one call."""

    @property
    def place(self) -> tuple[str, str]:
        """Whose a call's tables are: project and environment."""
        return (self.context.project, self.context.environment.name)

    def count(self, table: str) -> int:
        """Count the rows of a table, or of what stands behind FROM."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def exists(self, *parts: str) -> bool:
        """Tell whether there is a schema, or a table or view, of a name."""
        catalog = "duckdb_schemas()" if len(parts) == 1 else "duckdb_columns()"
        names = ("schema_name", "table_name")[: len(parts)]
        same = " AND ".join(f"lower({name}) = lower(?)" for name in names)
        here = f"{catalog} WHERE database_name = current_database()"
        return bool(self.rows(f"SELECT 1 FROM {here} AND {same} LIMIT 1", *parts))

    def columns(self, table: str) -> dict[str, str]:
        """Return a table's columns with their types."""
        return {row[0]: row[1] for row in self.rows(f"DESCRIBE {table}")}

    def digest(self, table: str) -> str:
        """Return what changes with a table's rows and columns.

        DuckDB numbers no versions of a table, so its rows are read: a sum of hashes.
        """
        there = self.columns(table)
        hashes = f"sum(hash({', '.join(map(quote, there))}))"
        found = self.rows(f"SELECT count(*), {hashes} FROM {table}")
        return hashlib.sha256(repr((list(there.items()), found)).encode()).hexdigest()[:24]

    def version(self, target: Target) -> str | None:
        """Return a target's version: our last write of it, and its rows as they are."""
        if not self.exists(*target.name.parts):
            return None
        entry = self.entries("table").get(target.name.parts)
        return f"{entry['token'] if entry else ''}-{self.digest(str(target.name))}"

    def entries(self, kind: str) -> dict[tuple[str, ...], Any]:
        """Return the ledger's entries of a kind."""
        if not self.exists(OWN, "ledger"):
            return {}
        found = self.rows(f"SELECT key, document FROM {_LEDGER} WHERE kind = ? ORDER BY 1", kind)
        return {tuple(json.loads(key)): json.loads(document) for key, document in found}

    def put(self, kind: str, *key: str, document: object) -> None:
        """Write an entry of the ledger; None removes it."""
        columns = "kind VARCHAR, key VARCHAR, document VARCHAR"
        self.rows(f"CREATE SCHEMA IF NOT EXISTS {OWN}")
        self.rows(f"CREATE TABLE IF NOT EXISTS {_LEDGER} ({columns})")
        self.rows(f"DELETE FROM {_LEDGER} WHERE kind = ? AND key = ?", kind, json.dumps(key))
        if document is not None:
            values = kind, json.dumps(key), json.dumps(document)
            self.rows(f"INSERT INTO {_LEDGER} VALUES (?, ?, ?)", *values)

    def is_ours(self, entry: Any) -> bool:
        """Tell whether an entry is of the call's project and environment."""
        owner = entry and entry["owner"]
        return bool(owner) and (owner["project"], owner["environment"]) == self.place

    def owner(self, content_key: str) -> dict[str, str]:
        """Return what the ledger keeps of a call."""
        by, (project, environment) = self.context, self.place
        place = {"project": project, "environment": environment, "state_id": by.state_id}
        return {**place, "run_id": by.run_id, "content_key": content_key}

    def tidy(self) -> None:
        """Drop the ledger where it is empty."""
        if self.exists(OWN, "ledger") and not self.count(_LEDGER):
            self.rows(f"DROP TABLE {_LEDGER}")
            self.drop_schema(OWN)

    def drop_schema(self, schema: str) -> bool:
        """Drop a schema unless something stands in it."""
        for kind in ("tables", "views", "sequences", "types", "functions"):
            if self.rows(f"SELECT 1 FROM duckdb_{kind}() WHERE schema_name = ?", schema):
                return False
        self.rows(f"DROP SCHEMA {quote(schema)}")
        return True

    def take(self, target: Target, snapshot: Snapshot, into: str) -> None:
        """Bring a snapshot's rows into a table, if the target may take them.

        Raises:
            WriteRefused: a rule is against it, or the table is somebody else's.
        """
        if not snapshot.schema.names:
            raise WriteRefused(f"{target.name} needs columns", "select at least one column")
        for field in snapshot.schema:
            if problem := arrow.unfit(field.type):
                hint = f"give it another type: CAST({field.name} AS ...)"
                raise WriteRefused(f"column {field.name!r} {problem}", hint)
        there, entry = self.exists(*target.name.parts), self.entries("table").get(target.name.parts)
        if there and not self.context.adopt and not self.is_ours(entry):
            message = f"{target.name} exists and is not this project's {self.place[1]}"
            hint = "take it over with: seeknal run --adopt"
            raise WriteRefused(message, hint, target=str(target.name))
        known = entry["appended"] if there and entry and not self.context.full_refresh else []
        again = target.mode is Mode.APPEND and snapshot.content_key in known
        table = f"{'TEMP ' if into == ARRIVED else ''}TABLE {into}"
        self.database.register("_seeknal_arriving", arrow.plain(snapshot.reader()))
        limit = "LIMIT 0" if again else ""
        self.rows(f"CREATE OR REPLACE {table} AS FROM _seeknal_arriving {limit}")
        self.database.unregister("_seeknal_arriving")
        self._check(target, self.columns(str(target.name)) if there else {}, into)

    def _check(self, target: Target, old: dict[str, str], rows: str) -> None:
        new, keys = self.columns(rows), ", ".join(map(quote, target.unique_keys))
        if target.on_schema_change is SchemaChange.FAIL and old and old != new:
            raise WriteRefused(f"the columns of {target.name} changed", "on_schema_change: evolve")
        for name in old if target.mode is not Mode.FULL and not self.context.full_refresh else ():
            if new.get(name) != old[name]:
                message = f"column {name!r} of {target.name} is {old[name]}, not {new.get(name)}"
                hint = "select it with that type, or replace the rows: --full-refresh"
                raise WriteRefused(message, hint)
        if target.mode is Mode.UPSERT_BY_KEY:
            null = " OR ".join(f"{quote(key)} IS NULL" for key in target.unique_keys)
            if self.count(f"{rows} WHERE {null}"):
                raise WriteRefused(f"a key ({keys}) of {target.name} is NULL")
            if self.count(f"(SELECT 1 FROM {rows} GROUP BY {keys} HAVING count(*) > 1)"):
                raise WriteRefused(f"a key ({keys}) of {target.name} is there twice")
        null = f"{quote(str(target.time_column))} IS NULL"
        if target.mode is Mode.INCREMENTAL_BY_TIME and self.count(f"{rows} WHERE {null}"):
            raise WriteRefused(f"{target.time_column!r} holds NULL, which is in no interval")

    def write(self, target: Target, rows: str, key: str, *, refresh: bool) -> dict[str, Any]:
        """Write rows that `take` brought in, and the ledger; return what a publish tells."""
        table, created = str(target.name), not self.exists(*target.name.parts)
        if not self.exists(target.name.parts[0]):
            self.rows(f"CREATE SCHEMA {quote(target.name.parts[0])}")
            self.put(
                "schema", target.name.parts[0], document={"owner": self.owner(""), "made": True}
            )
        before = None if created else self.entries("table").get(target.name.parts)
        known = before["appended"] if before else []
        if created or refresh or target.mode is Mode.FULL:
            known = []
            self.rows(f"CREATE OR REPLACE TABLE {table} AS FROM {rows}")
        else:
            self._merge(target, table, rows)
        made = created or bool(before and self.is_ours(before) and before["made"])
        fields = {"made": made, "token": uuid.uuid4().hex[:12], "appended": [*known, key]}
        self.put("table", *target.name.parts, document={"owner": self.owner(key), **fields})
        version, count = self.version(target), self.count(table)
        return {"version": version, "rows_after": count, "created": created}

    def _merge(self, target: Target, table: str, rows: str) -> None:
        there = self.columns(table)
        for name, kind in self.columns(rows).items():
            if name not in there:
                self.rows(f"ALTER TABLE {table} ADD COLUMN {quote(name)} {kind}")
        if target.mode is Mode.UPSERT_BY_KEY:
            same = " AND ".join(f"new.{quote(k)} = old.{quote(k)}" for k in target.unique_keys)
            found = f"SELECT 1 FROM {rows} AS new WHERE {same}"
            self.rows(f"DELETE FROM {table} AS old WHERE EXISTS ({found})")
        elif target.mode is Mode.INCREMENTAL_BY_TIME:
            time = quote(str(target.time_column))
            first = f"SELECT date_trunc('day', min({time}) - CAST(? AS INTERVAL)) FROM {rows}"
            interval = f"({first}) AND (SELECT max({time}) FROM {rows})"
            self.rows(f"DELETE FROM {table} WHERE {time} BETWEEN {interval}", target.lookback)
        self.rows(f"INSERT INTO {table} BY NAME FROM {rows}")


@contextmanager
def opened(context: ExecutionContext, *, writes: bool = False) -> Iterator[Store]:
    """Give the file in a transaction, committed unless an exception leaves the block."""
    store = Store(context, writes=writes)
    try:
        with store.failures():
            yield store
            store.rows("COMMIT")
    finally:
        store.close()
