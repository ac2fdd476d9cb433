"""A snapshot store with an engine beside it, for tests of nodes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import attrs
import pyarrow as pa

from seeknal_core.contract.types import Cancellation, Location, Snapshot
from seeknal_core.engine import Engine, open_engine
from seeknal_core.engine.files.opened import ResolvedFiles
from seeknal_core.engine.snapshots import SnapshotStore, Staging
from seeknal_core.project.specs import ColumnSpec, EngineSettings, PythonNode, SourceNode

HERE = Location(file="seeknal/node.yml", line=3, column=1)


@attrs.frozen
class Variables:
    """The variables of a run."""

    today: date = date(2026, 1, 2)
    run_id: str = "run-1"
    env_name: str = "dev"
    vars: Mapping[str, object] = {"limit": 3}


@attrs.frozen
class Lab:
    """What a test works with."""

    root: Path
    store: SnapshotStore
    engine: Engine
    cancellation: Cancellation

    def sql(
        self, sql: str | Sequence[str], node: str = "transform.t", **inputs: Snapshot
    ) -> Snapshot:
        """Compute SQL over inputs given as ``kind_name=snapshot`` and store the result."""
        named = {key.replace("_", ".", 1): snapshot for key, snapshot in inputs.items()}
        statements = [sql] if isinstance(sql, str) else sql
        with self.store.staging() as staging:
            self.engine.compute_sql(node, statements, named, staging)
            return self.keep(staging, node)

    def stream(self, table: pa.Table, node: str = "source.s", batch: int = 1000) -> Snapshot:
        """Store a table as a stream of batches."""
        with self.store.staging() as staging:
            reader = table.to_reader(max_chunksize=batch)
            self.engine.store_stream(node, reader, staging, max_rows=None, max_bytes=None)
            return self.keep(staging, node)

    def python(self, node: PythonNode, **inputs: Snapshot) -> Snapshot:
        """Compute a Python node and store the result."""
        named = {key.replace("_", ".", 1): snapshot for key, snapshot in inputs.items()}
        with self.store.staging() as staging:
            self.engine.compute_python(node, named, staging, Variables())
            return self.keep(staging, node.id)

    def files(self, source: SourceNode, *files: Path) -> Snapshot:
        """Read a source's files and store them."""
        with self.store.staging() as staging:
            labels = tuple(os.path.relpath(file, self.root) for file in files)
            self.engine.read_files(source, ResolvedFiles(files=files, labels=labels), staging)
            return self.keep(staging, source.id)

    def digest(self, sql: str) -> str:
        """Return the content digest of a query's rows."""
        with self.store.staging() as staging:
            self.engine.compute_sql("transform.t", [sql], {}, staging)
            return self.engine.digest(staging.files())

    def former_digest(self, sql: str) -> str:
        """Return the content digest that earlier versions made of a query's rows."""
        with self.store.staging() as staging:
            self.engine.compute_sql("transform.t", [sql], {}, staging)
            return self.engine.former_digest(staging.files())

    def keep(self, staging: Staging, node: str) -> Snapshot:
        """Commit under a key of its own."""
        key = hashlib.sha256(str(staging.path).encode()).hexdigest()
        return self.store.commit(staging, node, key, "")


@contextlib.contextmanager
def open_lab(
    root: Path, settings: EngineSettings | None = None, *, untrusted: bool = False
) -> Iterator[Lab]:
    """Open a store and an engine under a folder, and close both."""
    store = SnapshotStore(root / "target" / "snapshots")
    cancellation = Cancellation()
    engine = open_engine(
        settings or EngineSettings(),
        project_root=root,
        snapshot_root=store.root,
        scratch=root / "target" / "tmp" / "run",
        cancellation=cancellation,
        untrusted=untrusted,
    )
    try:
        yield Lab(root, store, engine, cancellation)
    finally:
        engine.close()
        store.close()


def file_source(type: str, dtypes: Mapping[str, str] | None = None, **params: object) -> SourceNode:
    """Return a source of a file type, with declared columns."""
    columns = tuple(ColumnSpec(name=name, dtype=kind) for name, kind in (dtypes or {}).items())
    return SourceNode(name="s", location=HERE, type=type, params=params, columns=columns)


def rows(snapshot: Snapshot) -> list[dict[str, object]]:
    """Return a snapshot's rows as backends read them."""
    found: list[dict[str, object]] = snapshot.reader().read_all().to_pylist()
    return found
