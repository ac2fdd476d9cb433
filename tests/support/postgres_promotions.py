"""A promotion into a PostgreSQL database, by the hooks as the core calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.contract.checksums import checksum_of
from seeknal_core.contract.types import (
    Batch,
    ExecutionContext,
    Published,
    Snapshot,
    Staged,
    Target,
)
from seeknal_postgres import plugin
from support.postgres_hooks import Database


def thawed(target: Target) -> Target:
    """Return a target whose staged write went through a file, as the core's journal does."""
    if target.staged is None:
        return target
    document = json.loads(json.dumps(attrs.asdict(target.staged)))
    return attrs.evolve(target, staged=Staged(**document))


@attrs.frozen(kw_only=True)
class Promotion:
    """Targets and the snapshots they are to hold; each step may be repeated."""

    db: Database
    context: ExecutionContext
    wanted: Sequence[tuple[Target, Snapshot]]
    id: str = "p-1"

    def stage(self) -> Promotion:
        """Stage all targets."""
        return attrs.evolve(
            self,
            wanted=tuple(
                (
                    thawed(
                        attrs.evolve(
                            target,
                            staged=plugin.stage(
                                self.context, attrs.evolve(target, staged=None), snapshot, self.id
                            ),
                        )
                    ),
                    snapshot,
                )
                for target, snapshot in self.wanted
            ),
        )

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, staged or not."""
        return tuple(target for target, _ in self.wanted)

    def batch(self, generation: int | None = None) -> Batch:
        """Return the batch, by default of the generation that is due."""
        if generation is None:
            state = plugin.inspect_target(self.context, attrs.evolve(self.targets[0], staged=None))
            generation = state.generation + 1
        return Batch(
            promotion=self.id,
            generation=generation,
            targets=self.targets,
            content_keys={target.key: snapshot.content_key for target, snapshot in self.wanted},
        )

    def verify(self) -> None:
        """Compare what is staged with the snapshots, as the core does."""
        for target, snapshot in self.wanted:
            assert target.staged is not None
            assert plugin.count_rows(self.context, target) == snapshot.row_count
            assert target.staged.rows == snapshot.row_count
            state = plugin.inspect_target(self.context, target)
            assert state.exists
            assert {column.name for column in state.columns} == set(snapshot.schema.names)
            assert plugin.checksum(self.context, target) == checksum_of(snapshot.reader())

    def unstaged(self) -> Promotion:
        """Return the promotion as a journal has it whose `stage` died."""
        return attrs.evolve(
            self,
            wanted=tuple((attrs.evolve(target, staged=None), s) for target, s in self.wanted),
        )


def promotion(
    db: Database,
    wanted: Mapping[str, pa.Table] | Sequence[tuple[Target, pa.Table]],
    *,
    id: str = "p-1",
    context: ExecutionContext | None = None,
    **fields: Any,
) -> Promotion:
    """Make a promotion of rows into tables; `fields` are the targets'."""
    pairs = (
        [(target_of(db, table, **fields), rows) for table, rows in wanted.items()]
        if isinstance(wanted, Mapping)
        else wanted
    )
    return Promotion(
        db=db,
        context=context or db.context(),
        wanted=tuple((target, db.snapshot(rows)) for target, rows in pairs),
        id=id,
    )


def target_of(db: Database, table: str, **fields: Any) -> Target:
    """Return the target of a table, with a key of its own."""
    target = db.target(table, **fields)
    return attrs.evolve(target, key=f"transform.t > postgresql:warehouse:{table}")


def versions(published: Published) -> dict[str, str]:
    """Return what a publish gave, by target key."""
    return {one.key: one.version for one in published.targets}


def leftovers(db: Database) -> list[str]:
    """List what a promotion alone needs and what is still there."""
    found = db.rows(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE nspname = '_seeknal_prod' AND relkind = 'r'"
        " AND (relname LIKE 'stage\\_%' OR relname LIKE 'undo\\_%') ORDER BY 1"
    )
    return [row[0] for row in found]


_CATALOG = {
    "schemas": "SELECT n.nspname::text, n.nspowner, n.nspacl::text FROM pg_namespace n WHERE {ours}",
    "relations": (
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relowner,"
        " c.relacl::text, c.reloptions::text, c.relrowsecurity, c.relreplident::text"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours}"
    ),
    "columns": (
        "SELECT a.attrelid, a.attname::text, a.attnum, format_type(a.atttypid, a.atttypmod),"
        " a.attnotnull, a.attidentity::text, a.attgenerated::text, a.attacl::text,"
        " pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " WHERE {ours} AND a.attnum > 0 AND NOT a.attisdropped"
    ),
    "constraints": (
        "SELECT f.oid, f.conname::text, pg_get_constraintdef(f.oid), f.convalidated"
        " FROM pg_constraint f JOIN pg_namespace n ON n.oid = f.connamespace WHERE {ours}"
    ),
    "indexes": (
        "SELECT i.indexrelid, i.indisvalid, pg_get_indexdef(i.indexrelid) FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE {ours}"
    ),
    "views": (
        "SELECT c.oid, pg_get_viewdef(c.oid) FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {ours} AND c.relkind IN ('v', 'm')"
    ),
    "policies": "SELECT polrelid, polname::text, pg_get_expr(polqual, polrelid) FROM pg_policy",
    "triggers": (
        "SELECT t.oid, t.tgname::text, t.tgenabled::text FROM pg_trigger t"
        " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE {ours}"
    ),
    "comments": "SELECT objoid, objsubid, description FROM pg_description WHERE objoid >= 16384",
    "published": "SELECT prpubid, prrelid FROM pg_publication_rel",
    "statistics": "SELECT stxrelid, stxname::text FROM pg_statistic_ext",
    "grants by default": "SELECT oid, defaclacl::text FROM pg_default_acl",
}
_OURS = "n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', '_seeknal_prod')"


def catalog(db: Database) -> dict[str, list[Any]]:
    """Return all that the catalogs say of what is not Seeknal's own."""
    return {
        what: sorted(db.rows(query.replace("{ours}", _OURS)), key=repr)
        for what, query in _CATALOG.items()
    }


def contents(db: Database) -> dict[str, list[str]]:
    """Return the rows of every table and materialized view that is not Seeknal's own."""
    found = db.rows(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c"
        f" JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_OURS} AND c.relkind IN ('r', 'm')"
    )
    return {
        name: sorted(row[0] for row in db.rows(f"SELECT t::text FROM {name} AS t"))
        for (name,) in found
    }


def ledger(db: Database) -> dict[str, list[Any]]:
    """Return what the ledger says of targets; versions follow the rows that they are of."""
    return {
        table: sorted(
            db.rows(f"SELECT (to_jsonb(t) - 'version')::text FROM _seeknal_prod.{table} AS t")
        )
        for table in ("targets", "appended", "schemas")
    }


def everything(db: Database) -> dict[str, Any]:
    """Return catalogs, rows and records."""
    return {**catalog(db), "rows": contents(db), **ledger(db)}
