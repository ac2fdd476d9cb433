"""A promotion into a PostgreSQL database, by the hooks as the core calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.checksums import checksum_of
from seeknal_core.types import (
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
