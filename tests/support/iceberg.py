"""A hand on the hooks of the Iceberg backend, for its tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.types import (
    ConnectionSpec,
    ExecutionContext,
    Mode,
    Snapshot,
    Source,
    Target,
    TargetSpec,
    TargetState,
    WriteResult,
)
from seeknal_iceberg import plugin
from support.contexts import make_context, make_snapshot


class Bench:
    """One connection, its context, and short words for the hooks.

    Args:
        options: the connection's, as in a profile.
        root: the project's folder.
    """

    def __init__(self, options: Mapping[str, object], root: Path, **context: Any) -> None:
        self.root = root
        self.options = options
        self._numbers = itertools.count()
        spec = ConnectionSpec(name="lake", type="iceberg", options=options)
        made = make_context(root=root, connections={"lake": spec}, **context)
        self.context: ExecutionContext = made.connected(plugin.resolve_profile(made, spec))

    def other(self, **context: Any) -> Bench:
        """Return a bench on the same connection with another context and its own catalogs."""
        return Bench(self.options, self.root, **context)

    def close(self) -> None:
        """Close what the hooks opened."""
        self.context.resources.close()

    def target(self, table: str = "sales.orders", mode: Mode = Mode.FULL, **fields: Any) -> Target:
        """Return a target as the core would hand it to a hook."""
        spec = TargetSpec(node="transform.orders", type="iceberg", table=table)
        spec = attrs.evolve(spec, parts=plugin.bind_target(self.context, spec).parts)
        return Target(
            key=spec.key,
            node=spec.node,
            type=spec.type,
            name=plugin.namespace_for(self.context, spec),
            mode=mode,
            **fields,
        )

    def snapshot(self, table: pa.Table | Mapping[str, Any], **fields: Any) -> Snapshot:
        """Store rows as a snapshot."""
        if not isinstance(table, pa.Table):
            table = pa.table(dict(table))
        folder = self.root / "snapshots" / str(next(self._numbers))
        return make_snapshot(table, folder, **fields)

    def write(self, target: Target, rows: Snapshot | pa.Table | Mapping[str, Any]) -> WriteResult:
        """Materialize rows."""
        snapshot = rows if isinstance(rows, Snapshot) else self.snapshot(rows)
        return plugin.materialize(self.context, target, snapshot)

    def read(self, target: Target, **fields: Any) -> pa.Table:
        """Read a target's table as a source."""
        source = Source(node="source.x", type="iceberg", parts=target.name.parts, **fields)
        with plugin.read_source(self.context, source) as stream:
            return stream.open().read_all()

    def rows(self, target: Target) -> list[dict[str, Any]]:
        """Read a target's rows, sorted."""
        return sorted(self.read(target).to_pylist(), key=repr)

    def inspect(self, target: Target) -> TargetState:
        """Inspect a target."""
        return plugin.inspect_target(self.context, target)

    def count(self, target: Target) -> int:
        """Count a target's rows."""
        return plugin.count_rows(self.context, target)

    def table(self, target: Target) -> Any:
        """Load a target's table with pyiceberg."""
        from seeknal_iceberg.catalog import open_catalog

        return open_catalog(self.context).load_table(target.name.parts)

    def data_files(self) -> Iterator[Path]:
        """Return the data files below the project's folder, snapshots left out."""
        yield from sorted(path for path in self.root.glob("**/data/**/*.parquet") if path.is_file())
