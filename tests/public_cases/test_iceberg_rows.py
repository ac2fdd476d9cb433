"""Rows and columns of Iceberg tables: what public reports of other tools describe, tried here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import duckdb
import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from seeknal_core.contract.types import Mode, Source
from seeknal_iceberg import plugin
from seeknal_iceberg.source.options import IcebergSourceOptions
from support.contexts import snapshot_of
from support.iceberg import Bench
from support.parquet import field_ids
from support.readers import by_polars, by_pyiceberg


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An embedded catalog that nobody has made yet."""
    made = Bench({"warehouse": "./warehouse"}, tmp_path)
    yield made
    made.close()


def test_a_dropped_column_does_not_come_back_with_a_new_one_of_its_name(bench: Bench) -> None:
    """apache/iceberg#4930: files without field ids are read by the names a table has now."""
    target = bench.target()
    bench.write(target, {"id": [1], "email": ["a@example.org"]})
    with bench.table(target).update_schema() as update:
        update.delete_column("email")
    with bench.table(target).update_schema() as update:
        update.add_column("email", StringType())
    for found in (
        bench.read(target),
        by_pyiceberg(bench.table(target)),
        by_polars(bench.table(target)),
    ):
        assert found.to_pylist() == [{"id": 1, "email": None}]


def test_files_that_a_query_made_have_field_ids(bench: Bench, tmp_path: Path) -> None:
    """Eventual-Inc/Daft#7445: columns of files without field ids are NULL."""
    path = tmp_path / "s.parquet"
    with duckdb.connect() as duck:
        duck.execute(f"COPY (SELECT 1 AS id, [1] AS l, {{'a': 1}} AS s) TO '{path}'")
    bench.write(bench.target(), snapshot_of([str(path)], content_key="k"))
    (stored,) = bench.data_files()
    assert sorted(map(str, field_ids(stored))) == ["1", "2", "3", "4", "5"]


def test_a_read_after_an_alter_has_the_tables_schema(bench: Bench) -> None:
    """apache/iceberg-python#2467: a scan of the current snapshot has that snapshot's schema."""
    target = bench.target()
    bench.write(target, {"id": [1], "secret": ["x"]})
    with bench.table(target).update_schema() as update:
        update.delete_column("secret").rename_column("id", "key")
    assert bench.read(target).to_pylist() == [{"key": 1}]
    source = Source(node="s", type="iceberg", parts=target.name.parts)
    before = plugin.read_source(bench.context, source).version
    with bench.table(target).update_schema() as update:
        update.add_column("more", StringType())
    assert plugin.read_source(bench.context, source).version != before


def test_a_named_snapshot_is_read_by_its_own_schema(bench: Bench) -> None:
    """trinodb/trino#23601: time travel over a changed schema."""
    target = bench.target(mode=Mode.APPEND)
    first = bench.write(target, {"id": [1], "old": ["x"]})
    with bench.table(target).update_schema() as update:
        update.rename_column("old", "new")
    bench.write(attrs.evolve(target), pa.table({"id": [2], "new": ["y"]}))
    past = IcebergSourceOptions(snapshot_id=int(first.version), filter="old = 'x'")
    assert bench.read(target, columns=("old",), options=past).to_pylist() == [{"old": "x"}]
    now = IcebergSourceOptions(filter="new = 'x'")
    assert bench.read(target, options=now).to_pylist() == [{"id": 1, "new": "x"}]
