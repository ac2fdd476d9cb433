"""Promotions: rows staged in the schema ``_seeknal``, and published in one transaction.

A stage's entry in the ledger says how it was staged and, once published, what the publish
did and what the ledger said before; a table ``undo_...`` holds what it replaced.
"""

from __future__ import annotations

import hashlib
from typing import Any

from seeknal_core.errors import BackendError, StaleStage
from seeknal_core.types import Batch, Published, PublishedTarget, Snapshot, Staged, Target
from seeknal_duckdb.store import OWN, Store


def kept(kind: str, promotion: str, target: Target) -> str:
    """Return the name of a table that a promotion keeps for a target: rows, or undo."""
    place = hashlib.sha256(f"{promotion}\0{target.key}".encode()).hexdigest()[:32]
    return f"{OWN}.{kind}_{place}"


def entry_of(store: Store, promotion: str, target: Target) -> dict[str, Any]:
    """Return what the ledger says of a staged write."""
    found: dict[str, Any] | None = store.entries("stage").get((promotion, target.key))
    if found is None:
        raise BackendError(f"nothing is staged for {target.name}", target=str(target.name))
    return found


def stage(store: Store, target: Target, snapshot: Snapshot, promotion: str) -> Staged:
    """Stage a snapshot's rows for a target."""
    document = {"refresh": store.context.full_refresh, "published": None}
    store.put("stage", promotion, target.key, document=document)
    rows = kept("rows", promotion, target)
    store.take(target, snapshot, rows)
    return Staged(promotion=promotion, base=store.version(target), rows=store.count(rows))


def publish(store: Store, batch: Batch) -> bool:
    """Write a batch into its tables, keeping what they held; False where that was done."""
    entries = [entry_of(store, batch.promotion, target) for target in batch.targets]
    if all(entry["published"] for entry in entries):
        return False
    generation = store.entries("generation").get(store.place, 0)
    if generation != batch.generation - 1:
        raise StaleStage(f"generation {generation} is there, not {batch.generation - 1}")
    for target, entry in zip(batch.targets, entries, strict=True):
        base, found = target.staged and target.staged.base, store.version(target)
        if found != base:
            raise StaleStage(f"{target.name} was {base} when it was staged, and is {found}")
        if found is not None:
            undo = kept("undo", batch.promotion, target)
            store.rows(f"CREATE OR REPLACE TABLE {undo} AS FROM {target.name}")
        entry["before"] = store.entries("table").get(target.name.parts)
        rows, key = kept("rows", batch.promotion, target), batch.content_keys[target.key]
        entry["published"] = store.write(target, rows, key, refresh=entry["refresh"])
        store.rows(f"DROP TABLE {rows}")
        store.put("stage", batch.promotion, target.key, document=entry)
    store.put("generation", *store.place, document=batch.generation)
    return True


def published(store: Store, batch: Batch) -> Published:
    """Return what the publish of a batch did."""
    found = [(one.key, entry_of(store, batch.promotion, one)) for one in batch.targets]
    done = (PublishedTarget(key=key, **entry["published"]) for key, entry in found)
    return Published(targets=tuple(done))


def revert(store: Store, batch: Batch, overwrite: bool) -> bool:
    """Undo the publish of a batch; False where it was not published."""
    stages = store.entries("stage")
    found = [(one, stages.get((batch.promotion, one.key))) for one in batch.targets]
    done = [(target, entry) for target, entry in found if entry and entry["published"]]
    for target, entry in done:
        wanted, version = entry["published"]["version"], store.version(target)
        if version != wanted and not overwrite:
            raise StaleStage(f"{target.name} was published as {wanted}, and is {version}")
    for target, entry in done:
        schema = target.name.parts[0]
        if not entry["published"]["created"]:
            store.rows(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            undo = kept("undo", batch.promotion, target)
            store.rows(f"CREATE OR REPLACE TABLE {target.name} AS FROM {undo}")
        elif store.exists(*target.name.parts):
            store.rows(f"DROP TABLE {target.name}")
            if store.is_ours(store.entries("schema").get((schema,))) and store.drop_schema(schema):
                store.put("schema", schema, document=None)
        store.put("table", *target.name.parts, document=entry["before"])
        store.put("stage", batch.promotion, target.key, document={**entry, "published": None})
    if done:
        store.put("generation", *store.place, document=batch.generation - 1 or None)
    return bool(done)


def discard(store: Store, batch: Batch) -> None:
    """Drop all that is kept for a batch."""
    for target in batch.targets:
        store.put("stage", batch.promotion, target.key, document=None)
        for kind in ("rows", "undo"):
            store.rows(f"DROP TABLE IF EXISTS {kept(kind, batch.promotion, target)}")
    store.tidy()
