"""A database, and the PostgreSQL backend's hooks called on it as the core calls them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pyarrow as pa

from seeknal_core.contract.types import (
    ConnectionSpec,
    ExecutionContext,
    Mode,
    Resources,
    Snapshot,
    Source,
    Target,
    TargetSpec,
    WriteResult,
)
from seeknal_postgres import plugin
from support.contexts import make_context, make_snapshot

Row = tuple[Any, ...]


@attrs.frozen(kw_only=True)
class Database:
    """A test's database. ``admin`` is a superuser's connection in autocommit mode."""

    dsn: Mapping[str, object]
    admin: psycopg.Connection[Row]
    folder: Path
    resources: Resources

    def context(
        self, *, options: Mapping[str, object] | None = None, **given: Any
    ) -> ExecutionContext:
        """Return a context on this database; `options` are added to the connection's."""
        found = {**self.dsn, **(options or {})}
        spec = ConnectionSpec(name="warehouse", type="postgresql", options=found)
        context = make_context(
            root=self.folder,
            connections={"warehouse": spec},
            resources=given.pop("resources", self.resources),
            **given,
        )
        return context.connected(plugin.resolve_profile(context, spec))

    def target(
        self,
        table: str,
        mode: Mode = Mode.FULL,
        *,
        context: ExecutionContext | None = None,
        **fields: Any,
    ) -> Target:
        """Return the target of a table as the dispatcher makes it."""
        context = context or self.context()
        spec = TargetSpec(node="transform.t", type="postgresql", table=table)
        bound = attrs.evolve(spec, parts=plugin.bind_target(context, spec).parts)
        return Target(
            key=spec.key,
            node=spec.node,
            type=spec.type,
            name=plugin.namespace_for(context, bound),
            mode=mode,
            **fields,
        )

    def snapshot(self, table: pa.Table, content_key: str | None = None) -> Snapshot:
        """Store rows as a snapshot; equal tables get one content key."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        key = content_key or hashlib.sha256(sink.getvalue()).hexdigest()
        return make_snapshot(table, self.folder / "snapshots", content_key=key)

    def write(
        self,
        target: Target,
        table: pa.Table,
        *,
        context: ExecutionContext | None = None,
        content_key: str | None = None,
    ) -> WriteResult:
        """Materialize rows into a target."""
        snapshot = self.snapshot(table, content_key=content_key)
        return plugin.materialize(context or self.context(), target, snapshot)

    def read(self, *, context: ExecutionContext | None = None, **fields: Any) -> pa.Table:
        """Read a source wholly."""
        source = Source(node="source.s", type="postgresql", **fields)
        with plugin.read_source(context or self.context(), source) as stream:
            return stream.open().read_all()

    def execute(self, *statements: str) -> None:
        """Run statements as the superuser."""
        for statement in statements:
            self.admin.execute(statement)

    def rows(self, query: str) -> list[Row]:
        """Return the rows of a query as the superuser sees them."""
        return self.admin.execute(query).fetchall()

    def value(self, query: str) -> Any:
        """Return the one value of a query."""
        return self.rows(query)[0][0]

    @contextmanager
    def reader(self, *touched: str) -> Iterator[psycopg.Connection[Row]]:
        """Open a REPEATABLE READ transaction whose view is fixed now.

        It has read `touched`, and no other table, so that it holds a lock on those alone.
        """
        with psycopg.connect(**self.dsn) as conn:  # type: ignore[arg-type]
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            conn.execute("SELECT 1 FROM pg_catalog.pg_class LIMIT 1")
            for query in touched:
                conn.execute(query)
            yield conn
            conn.rollback()
