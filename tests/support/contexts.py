"""Contexts and snapshots for tests that call a backend's hooks directly."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from seeknal_core.contract.types import (
    Cancellation,
    Connection,
    ConnectionSpec,
    Environment,
    ExecutionContext,
    Profile,
    Resources,
    Snapshot,
)


def make_context(
    connection: Connection | None = None,
    *,
    environment: str = "prod",
    prefix: str = "",
    project: str = "shop",
    root: Path | str = "/nonexistent",
    adopt: bool = False,
    full_refresh: bool = False,
    connections: Mapping[str, ConnectionSpec] | None = None,
    catalog_connection: str | None = None,
    resources: Resources | None = None,
    run_id: str = "run-1",
) -> ExecutionContext:
    """Make the context of a hook call; the caller closes its ``resources``.

    Args:
        environment: its canonical name; ``prod`` is production.
        prefix: what namespacing by convention puts before namespaces.
        root: the project's folder; ``target`` below it is where the tool writes.
        connections: the profile's, by name.
    """
    return ExecutionContext(
        project=project,
        project_root=str(root),
        target_dir=str(Path(root) / "target"),
        state_id="state-1",
        environment=Environment(
            name=environment, is_production=environment == "prod", prefix=prefix
        ),
        run_id=run_id,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        profile=Profile(
            path=None,
            reason="test",
            connections=connections or {},
            catalog_connection=catalog_connection,
        ),
        resources=resources if resources is not None else Resources(),
        cancellation=Cancellation(),
        connection=connection,
        adopt=adopt,
        full_refresh=full_refresh,
    )


def make_snapshot(
    table: pa.Table,
    folder: Path,
    *,
    content_key: str | None = None,
    node: str = "transform.orders",
    files: int = 1,
) -> Snapshot:
    """Store a table as a snapshot would be stored, in one or more Parquet files.

    Args:
        content_key: by default a digest of the rows, so that equal rows have one key.
    """
    key = content_key or hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    step = max(1, -(-table.num_rows // files))
    unique = uuid.uuid4().hex  # several threads of a test may store equal rows at one time
    for index, offset in enumerate(range(0, max(table.num_rows, 1), step)):
        path = folder / f"{key[:16]}-{unique}-{index}.parquet"
        pq.write_table(table.slice(offset, step), path, store_decimal_as_integer=True)
        paths.append(str(path))
    return snapshot_of(paths, content_key=key, node=node)


def snapshot_of(
    paths: Sequence[str], *, content_key: str, node: str = "transform.orders"
) -> Snapshot:
    """Make a snapshot of Parquet files that are there already."""
    footers = [pq.read_metadata(path) for path in paths]
    return Snapshot(
        node=node,
        content_key=content_key,
        schema=pq.read_schema(paths[0]).remove_metadata(),
        row_count=sum(footer.num_rows for footer in footers),
        files=tuple(paths),
        bytes=sum(Path(path).stat().st_size for path in paths),
    )
