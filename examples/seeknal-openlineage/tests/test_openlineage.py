"""What needs no run: names of data sets, and events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pyarrow as pa
import pytest

from seeknal_core.contract.errors import BackendError
from seeknal_core.contract.types import (
    Cancellation,
    Connection,
    Environment,
    ExecutionContext,
    Mode,
    Profile,
    QualifiedName,
    Resources,
    Snapshot,
    Source,
    Target,
    WriteResult,
)
from seeknal_openlineage import plugin
from seeknal_openlineage.command import configured
from seeknal_openlineage.datasets import source_dataset
from seeknal_openlineage.facts import DatasetName


@attrs.frozen(kw_only=True)
class Store(Connection):
    """A connection with any bindings."""

    found: Mapping[str, str]

    def bindings(self) -> Mapping[str, str]:
        """Return them."""
        return self.found


def context_of(type: str, **bindings: str) -> ExecutionContext:
    """Return a hook's context on a connection with these bindings."""
    return ExecutionContext(
        project="shop",
        project_root="/shop",
        target_dir="/shop/target",
        state_id="s",
        environment=Environment(name="dev", is_production=False),
        run_id="r",
        started_at=datetime.now(UTC),
        profile=Profile(path=None, reason="test"),
        resources=Resources(),
        cancellation=Cancellation(),
        connection=Store(name="there", type=type, found={"type": type, **bindings}),
    )


POSTGRES = {"host": "db", "port": "5432", "database": "shop", "schema": "public"}


@pytest.mark.parametrize(
    ("context", "parts", "name"),
    [
        (context_of("postgresql", **POSTGRES), ("raw", "t"), ("postgres://db:5432", "shop.raw.t")),
        (context_of("postgresql", **POSTGRES), ("t",), ("postgres://db:5432", "shop.public.t")),
        (
            context_of("iceberg", uri="https://me:word@cat:8181/api?x=y", warehouse="w"),
            ("sales", "t"),
            ("https://cat:8181/api", "sales.t"),
        ),
        (context_of("iceberg", warehouse="lake"), ("sales", "t"), ("file:///shop/lake", "sales.t")),
        (context_of("other", account="a1"), ("t",), ("other://a1", "t")),
        (context_of("other"), ("t",), ("other://there", "t")),
    ],
)
def test_a_table_is_named_by_its_store(
    context: ExecutionContext, parts: tuple[str, ...], name: tuple[str, str]
) -> None:
    """By OpenLineage's conventions where there are any."""
    source = Source(node="source.t", type="x", parts=parts)
    assert source_dataset(context, source) == DatasetName(*name)


def test_a_query_is_one_input() -> None:
    """Named by its text's digest, in the database that answers it."""
    source = Source(node="source.t", type="postgresql", query="SELECT 1")
    found = source_dataset(context_of("postgresql", **POSTGRES), source)
    assert found.name.startswith("shop.query:")


def test_a_merely_installed_plugin_is_not_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor is one that is switched off."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert not configured()
    (tmp_path / "openlineage.yml").write_text("transport: {type: console}\n")
    assert configured()
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert not configured()


def test_targets_that_are_written_together_are_told_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A first and a last event each, after the call; nothing of a call that fails."""
    log = tmp_path / "events.ndjson"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(log))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    targets = tuple(
        Target(
            key=f"k{place}",
            node=f"transform.n{place}",
            type="other",
            name=QualifiedName(parts=("s", f"t{place}"), quoted=f"s.t{place}"),
            mode=Mode.FULL,
        )
        for place in range(2)
    )
    schema = pa.schema([("id", pa.int64())])
    snapshots = tuple(
        Snapshot(node=one.node, content_key="k-1", row_count=3, files=(), schema=schema)
        for one in targets
    )
    result = WriteResult(rows_written=3, rows_after=3, version="1", created=True)
    for fails in (True, False):
        context = context_of("other", account="a1")
        call = plugin.materialize_targets(context, targets, snapshots)
        next(call)
        with pytest.raises(BackendError if fails else StopIteration):
            call.throw(BackendError("no")) if fails else call.send((result, result))
        context.resources.close()
        assert log.exists() is not fails
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    told = sorted(
        (event["run"]["facets"]["seeknal"]["node"], event["eventType"]) for event in events
    )
    assert told == [
        (f"transform.n{place}", what) for place in range(2) for what in ("COMPLETE", "START")
    ]
