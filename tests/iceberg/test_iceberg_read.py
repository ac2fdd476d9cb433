"""Reading: projection, filter, one view, bounded memory, mistakes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError
from seeknal_core.types import Source
from seeknal_iceberg import plugin
from seeknal_iceberg.source.options import IcebergSourceOptions
from support.iceberg import Bench


def test_columns_come_in_the_order_asked_for(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"a": [1], "b": [2], "c": [3]})
    assert bench.read(target, columns=("c", "a")).to_pydict() == {"c": [3], "a": [1]}


def test_a_filter_chooses_rows_also_by_a_column_not_read(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1, 2, 3], "s": ["x", "y", None]})
    options = IcebergSourceOptions(filter="id >= 2 and s is null")
    assert bench.read(target, columns=("id",), options=options).to_pydict() == {"id": [3]}


def test_the_version_is_the_iceberg_snapshot_and_changes_with_it(bench: Bench) -> None:
    target = bench.target()
    source = Source(node="s", type="iceberg", parts=target.name.parts)
    first = bench.write(target, {"id": [1]})
    one = plugin.read_source(bench.context, source)
    assert one.version is not None
    assert one.version.startswith(first.version)
    assert plugin.read_source(bench.context, source).version == one.version
    bench.write(target, {"id": [1]})
    assert plugin.read_source(bench.context, source).version != one.version
    assert one.identity == bench.inspect(target).identity


def test_an_older_iceberg_snapshot_is_read_by_its_id(bench: Bench) -> None:
    target = bench.target()
    first = bench.write(target, {"id": [1]})
    bench.write(target, {"id": [2], "new": [3]})
    options = IcebergSourceOptions(snapshot_id=int(first.version))
    assert bench.read(target, options=options).to_pydict() == {"id": [1]}


def test_a_table_without_any_iceberg_snapshot_is_empty(bench: Bench) -> None:
    from pyiceberg.schema import Schema
    from pyiceberg.types import LongType, NestedField

    from seeknal_iceberg.connection.catalog import open_catalog

    catalog = open_catalog(bench.context)
    catalog.create_namespace("sales")
    catalog.create_table("sales.orders", Schema(NestedField(1, "id", LongType())))
    target = bench.target()
    assert bench.read(target).num_rows == 0
    assert bench.count(target) == 0
    assert (bench.inspect(target).version or "").startswith("empty-")


def test_what_cannot_be_read_is_named(bench: Bench) -> None:
    target = bench.target()
    with pytest.raises(BackendError, match=r"no table sales\.orders"):
        bench.read(target)
    with pytest.raises(BackendError, match=r"no table sales\.orders"):
        bench.count(target)
    assert list(bench.root.iterdir()) == []
    bench.write(target, {"id": [1]})
    with pytest.raises(BackendError, match="no column 'idd'") as caught:
        bench.read(target, columns=("idd",))
    assert "did you mean 'id'" in caught.value.hint
    for text in ("id >", "idd = 1", "id = 'x'"):
        with pytest.raises(BackendError, match="the filter"):
            bench.read(target, options=IcebergSourceOptions(filter=text))
    with pytest.raises(BackendError, match="no iceberg_snapshot_id 5"):
        bench.read(target, options=IcebergSourceOptions(snapshot_id=5))


def test_null_lists_and_maps_of_structs_are_not_empty_ones(bench: Bench) -> None:
    rows = pa.table(
        {
            "l": pa.array([[{"a": 1}], None, []], pa.list_(pa.struct([("a", pa.int64())]))),
            "m": pa.array(
                [None, [("k", {"a": 1})], []], pa.map_(pa.string(), pa.struct([("a", pa.int64())]))
            ),
        }
    )
    target = bench.target()
    bench.write(target, rows)
    assert bench.read(target).to_pylist() == rows.to_pylist()


def test_the_embedded_catalog_is_told_from_an_absent_one(bench: Bench) -> None:
    assert "made on first write" in plugin.check_connection(bench.context)
    bench.write(bench.target(), {"id": [1]})
    assert plugin.check_connection(bench.context) == "embedded catalog, 1 namespace"


MEMORY = """
import resource, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
sys.path.insert(0, {tests!r})
from seeknal_core.types import Mode, Source
from seeknal_iceberg import plugin
from support.contexts import snapshot_of
from support.iceberg import Bench

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

root = Path({root!r})
path = root / "big.parquet"
schema = pa.schema([("id", pa.int64()), ("p", pa.int32()), ("s", pa.string()), ("t", pa.timestamp("ms"))])
with pq.ParquetWriter(path, schema) as writer:
    for part in range(40):
        ids = pa.array(range(part * 100_000, (part + 1) * 100_000), pa.int64())
        writer.write_table(pa.table([ids, pa.array([i % 20 for i in range(100_000)], pa.int32()),
            pa.array([f"{{i:0100d}}" for i in range(100_000)]), ids.cast(pa.timestamp("ms"))], schema=schema))
snapshot = snapshot_of([str(path)], content_key="big")
bench = Bench({{"warehouse": "./wh"}}, root)
bench.write(bench.target("a.small"), {{"id": [1]}})
base = peak()
{action}
print(peak() - base)
"""


@pytest.mark.parametrize(
    ("action", "limit"),
    [
        ("bench.write(bench.target(), snapshot)", 450),
        ('bench.write(bench.target(partition_by=("p",)), snapshot)', 700),
        (
            "bench.write(bench.target(), snapshot)\n"
            "source = Source(node='s', type='iceberg', parts=('sales', 'orders'))\n"
            "rows = sum(b.num_rows for b in plugin.read_source(bench.context, source).open())\n"
            "assert rows == 4_000_000",
            450,
        ),
    ],
    ids=["re-encoding", "partitioning", "reading"],
)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, action: str, limit: int) -> None:
    # 4 million rows, 0.5 GB in Arrow.
    code = textwrap.dedent(MEMORY).format(
        tests=str(Path(__file__).parents[1]), root=str(tmp_path), action=action
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < limit


def test_a_column_named_twice_is_refused(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    with pytest.raises(BackendError, match="names 'id' twice"):
        bench.read(target, columns=("id", "id"))
