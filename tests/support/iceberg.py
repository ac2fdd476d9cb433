"""A hand on the hooks of the Iceberg backend, for its tests."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from seeknal_core.contract.types import (
    Batch,
    ConnectionSpec,
    ExecutionContext,
    Mode,
    Published,
    Snapshot,
    Source,
    Target,
    TargetSpec,
    TargetState,
    WriteResult,
)
from seeknal_iceberg import plugin
from support.contexts import make_context, make_snapshot


class Promotion:
    """The hooks of one promotion, with everything through JSON between two calls."""

    def __init__(self, bench: Bench, name: str, generation: int) -> None:
        self.bench = bench
        self.name = name
        self.generation = generation
        self.targets: list[Target] = []
        self.content_keys: dict[str, str] = {}

    def stage(self, target: Target, rows: Snapshot | pa.Table | Mapping[str, Any]) -> Target:
        """Stage rows for a target, and return it as the other hooks receive it."""
        snapshot = rows if isinstance(rows, Snapshot) else self.bench.snapshot(rows)
        staged = plugin.stage(self.bench.context, target, snapshot, self.name)
        data = json.loads(json.dumps(staged.data))
        target = attrs.evolve(target, staged=attrs.evolve(staged, data=data))
        self.targets = [other for other in self.targets if other.key != target.key] + [target]
        self.content_keys[target.key] = snapshot.content_key
        return target

    def forget(self) -> None:
        """Forget what was staged, as a process does that died before it could note it."""
        self.targets = [attrs.evolve(target, staged=None) for target in self.targets]

    @property
    def batch(self) -> Batch:
        """What publish, revert and discard receive."""
        return Batch(
            promotion=self.name,
            generation=self.generation,
            targets=tuple(self.targets),
            content_keys=self.content_keys,
        )

    def publish(self, bench: Bench | None = None) -> Published:
        """Publish all."""
        return plugin.publish((bench or self.bench).context, self.batch)

    def revert(self, bench: Bench | None = None, *, overwrite: bool = False) -> bool:
        """Undo all."""
        return plugin.revert((bench or self.bench).context, self.batch, overwrite)

    def discard(self, bench: Bench | None = None) -> None:
        """Throw away what is kept."""
        plugin.discard((bench or self.bench).context, self.batch)


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

    def promotion(self, name: str = "p-1", generation: int = 1) -> Promotion:
        """Begin a promotion."""
        return Promotion(self, name, generation)

    def table(self, target: Target) -> Any:
        """Load a target's table with pyiceberg."""
        from seeknal_iceberg.connection.catalog import open_catalog

        return open_catalog(self.context).load_table(target.name.parts)

    def files(self) -> list[str]:
        """List all files and folders of the warehouse but the metadata.json of tables."""
        root = self.root / "warehouse"
        found = [path.relative_to(self.root) for path in [root, *root.rglob("*")] if path.exists()]
        return sorted(str(path) for path in found if not path.name.endswith(".metadata.json"))

    def metadata_files(self) -> dict[str, bytes]:
        """Return the metadata.json of all tables."""
        found = (self.root / "warehouse").rglob("*.metadata.json")
        return {str(path): path.read_bytes() for path in found}

    def notes(self) -> list[str]:
        """List what the backend remembers in the tool's own folder."""
        root = self.root / "target"
        found = [path for path in root.rglob("*") if path.is_file() or "staged" in path.name]
        return sorted(str(path.relative_to(root)) for path in found)

    def data_files(self) -> Iterator[Path]:
        """Return the data files below the project's folder, snapshots left out."""
        yield from sorted(path for path in self.root.glob("**/data/**/*.parquet") if path.is_file())
