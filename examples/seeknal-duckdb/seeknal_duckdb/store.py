"""The file as one transaction sees it: its tables, what modes do to them, and the ledger.

The ledger is a table of JSON documents in the schema ``_seeknal``, where staged rows and
undo data are, too. The schema goes with the last thing in it.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.contract import rules, types
from seeknal_core.contract.errors import WriteRefused
from seeknal_core.contract.rules import Name, Write
from seeknal_core.contract.types import OwnedKind, PublishedTarget, QualifiedName, Snapshot, Target
from seeknal_duckdb.connection import File

OWN = "_seeknal"
LEDGER = f"{OWN}.ledger"


def quote(*parts: str) -> str:
    """Return a name as SQL text."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def named(*parts: str) -> QualifiedName:
    """Return a name, which prints as SQL text."""
    return QualifiedName(parts=parts, quoted=quote(*parts))


def kept(kind: str, promotion: str, target: Target) -> QualifiedName:
    """Return the name of a table that a promotion keeps for a target: rows, or undo."""
    place = hashlib.sha256(f"{promotion}\0{target.key}".encode()).hexdigest()[:32]
    return named(OWN, f"{kind}_{place}")


def stamp(target: Target) -> str:
    """Return a target's time as SQL: in UTC, without a zone (the session's is UTC)."""
    return f"CAST({quote(str(target.time_column))} AS TIMESTAMP)"


def within(target: Target, interval: types.Interval) -> str:
    """Return the condition that a target's time is in an interval."""
    start, end = (f"TIMESTAMP '{one}'" for one in (interval.start, interval.end))
    return f"{stamp(target)} >= {start} AND {stamp(target)} < {end}"


def unfit(type: pa.DataType) -> str:
    """Return why an Arrow type has no counterpart, in no words where it has one."""
    if pa.types.is_null(type):
        return "has no type"
    if getattr(type, "unit", "") == "ns" and (not pa.types.is_timestamp(type) or type.tz):
        return f"holds nanoseconds ({type}), which DuckDB would cut off"
    inner = (unfit(type.field(index).type) for index in range(type.num_fields))
    return next(filter(None, inner), "")


class Store(File, rules.Transaction):
    """The file in one open transaction of one call."""

    def count(self, table: object) -> int:
        """Count the rows of a table, or of what stands behind FROM."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])

    def exists(self, *parts: str) -> bool:
        """Return whether there is a schema, or a table or view, of a name."""
        catalog = "duckdb_schemas()" if len(parts) == 1 else "duckdb_columns()"
        names = ("schema_name", "table_name")[: len(parts)]
        same = " AND ".join(f"lower({name}) = lower(?)" for name in names)
        here = f"{catalog} WHERE database_name = current_database()"
        return bool(self.rows(f"SELECT 1 FROM {here} AND {same} LIMIT 1", *parts))

    def columns(self, table: object) -> dict[str, str]:
        """Return a table's columns with their types."""
        return {row[0]: row[1] for row in self.rows(f"DESCRIBE {table}")}

    def digest(self, table: object) -> str:
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
        record = self.record(target.name.parts)
        return f"{record.token if record else ''}-{self.digest(target.name)}"

    def documents(self, kind: str, key: Name | None = None) -> dict[Name, Any]:
        """Return the ledger's documents of a kind, or the one of a key."""
        if not self.exists(OWN, "ledger"):
            return {}
        wanted = f"SELECT key, document FROM {LEDGER} WHERE kind = ? AND ? IN (key, 'null')"
        found = self.rows(wanted, kind, json.dumps(key))
        return {tuple(json.loads(name)): json.loads(document) for name, document in found}

    def put(self, kind: str, key: Name, document: object) -> None:
        """Write a document of the ledger; None removes it."""
        self.rows(f"CREATE SCHEMA IF NOT EXISTS {OWN}")
        self.rows(f"CREATE TABLE IF NOT EXISTS {LEDGER} (kind TEXT, key TEXT, document TEXT)")
        self.rows(f"DELETE FROM {LEDGER} WHERE kind = ? AND key = ?", kind, json.dumps(key))
        if document is not None:
            values = kind, json.dumps(key), json.dumps(document)
            self.rows(f"INSERT INTO {LEDGER} VALUES (?, ?, ?)", *values)
        elif not self.count(LEDGER):
            self.rows(f"DROP TABLE {LEDGER}")
            self.drop_schema(OWN)

    def drop_schema(self, schema: str) -> bool:
        """Drop a schema unless something stands in it."""
        for kind in ("tables", "views", "sequences", "types", "functions"):
            if self.rows(f"SELECT 1 FROM duckdb_{kind}() WHERE schema_name = ?", schema):
                return False
        self.rows(f"DROP SCHEMA {quote(schema)}")
        return True

    def arrive(self, promotion: str, target: Target, snapshot: Snapshot) -> tuple[Write, int]:
        """Bring a snapshot's rows into a table of their own, and count them.

        Raises:
            WriteRefused: a rule is against it, or the table is somebody else's.
        """
        rules.check_snapshot(target, snapshot, unfit)
        write, rows = self.plan(target, snapshot), kept("rows", promotion, target)
        self.rows(f"CREATE SCHEMA IF NOT EXISTS {OWN}")
        self.database.register("_seeknal_arriving", rules.plain(snapshot.reader()))
        limit = "LIMIT 0" if write.repeated else ""
        self.rows(f"CREATE OR REPLACE TABLE {rows} AS FROM _seeknal_arriving {limit}")
        self.database.unregister("_seeknal_arriving")
        old = self.columns(target.name) if self.exists(*target.name.parts) else {}
        rules.check_columns(target, old, self.columns(rows), replaces=write.replaces)
        rules.check_rows_in_sql(target, str(rows), self.count, quote)
        if target.mode is types.Mode.INCREMENTAL_BY_TIME:
            notes = self._check_times(target, rows, target.name if not write.replaces else None)
            write = attrs.evolve(write, notes=notes)
        return write, self.count(rows)

    def _check_times(
        self, target: Target, rows: QualifiedName, table: QualifiedName | None
    ) -> tuple[str, ...]:
        """Refuse rows that the mode has no place for; return what the user should hear."""

        def outside(covers: types.Interval) -> int:
            return self.count(f"{rows}") - self.count(f"{rows} WHERE {within(target, covers)}")

        rules.check_covers(target, outside)
        there = self.days(target, table) if table is not None else {}
        return rules.check_days(target, self.days(target, rows), there)

    def days(self, target: Target, table: QualifiedName) -> dict[date, int]:
        """Count a table's rows of each day in UTC."""
        day = f"CAST({stamp(target)} AS DATE)"
        counted = f"SELECT {day}, count(*) FROM {table} WHERE {day} IS NOT NULL GROUP BY ALL"
        return dict(self.rows(counted))

    def apply(self, promotion: str, target: Target, write: Write) -> PublishedTarget:
        """Bring the rows of `arrive` into the target, by its mode."""
        name, schema = target.name.parts, target.name.parts[:1]
        rows, created = kept("rows", promotion, target), not self.exists(*name)
        if promotion and not created:
            undo = kept("undo", promotion, target)
            self.rows(f"CREATE OR REPLACE TABLE {undo} AS FROM {target.name}")
        if not self.exists(*schema):
            self.rows(f"CREATE SCHEMA {quote(*schema)}")
            self.put_record(schema, attrs.evolve(write.record, made=True), OwnedKind.NAMESPACE)
        if write.replaces:
            self.rows(f"CREATE OR REPLACE TABLE {target.name} AS FROM {rows}")
        else:
            self._merge(target, rows)
        self.rows(f"DROP TABLE {rows}")
        self.put_record(name, write.record)
        version, count = str(self.version(target)), self.count(target.name)
        return PublishedTarget(key=target.key, version=version, rows_after=count, created=created)

    def _merge(self, target: Target, rows: QualifiedName) -> None:
        table, old, new = target.name, self.columns(target.name), self.columns(rows)
        for name, kind in rules.check_columns(target, old, new, replaces=False).items():
            self.rows(f"ALTER TABLE {table} ADD COLUMN {quote(name)} {kind}")
        if target.mode is types.Mode.UPSERT_BY_KEY:
            same = " AND ".join(f"new.{quote(k)} = old.{quote(k)}" for k in target.unique_keys)
            found = f"SELECT 1 FROM {rows} AS new WHERE {same}"
            self.rows(f"DELETE FROM {table} AS old WHERE EXISTS ({found})")
        elif target.mode is types.Mode.INCREMENTAL_BY_TIME:
            for interval in rules.intervals(target, self.days(target, rows)):
                self.rows(f"DELETE FROM {table} WHERE {within(target, interval)}")
        self.rows(f"INSERT INTO {table} BY NAME FROM {rows}")

    def restore(self, promotion: str, target: Target, published: PublishedTarget) -> None:
        """Put back what `apply` kept, or drop what it made."""
        schema = target.name.parts[:1]
        if not published.created:
            self.rows(f"CREATE SCHEMA IF NOT EXISTS {quote(*schema)}")
            undo = kept("undo", promotion, target)
            self.rows(f"CREATE OR REPLACE TABLE {target.name} AS FROM {undo}")
        else:
            self.rows(f"DROP TABLE IF EXISTS {target.name}")
            if schema in self.made(OwnedKind.NAMESPACE) and self.drop_schema(*schema):
                self.put_record(schema, None, OwnedKind.NAMESPACE)

    def drop_kept(self, promotion: str, target: Target) -> None:
        """Drop what `arrive` and `apply` have kept."""
        for kind in ("rows", "undo") if self.exists(OWN) else ():
            self.rows(f"DROP TABLE IF EXISTS {kept(kind, promotion, target)}")

    def drop(self, owned: types.Owned) -> None:
        """Drop a table, or a schema if nothing stands in it."""
        if owned.kind is OwnedKind.TABLE:
            self.rows(f"DROP TABLE {owned.name}")
        elif not self.drop_schema(*owned.name.parts):
            raise WriteRefused(f"{owned.name} holds what is not this environment's")
