"""What needs no run: names of data sets, and events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest

from seeknal_core.types import (
    Cancellation,
    Connection,
    Environment,
    ExecutionContext,
    Profile,
    Resources,
    Source,
)
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
