"""Tables of format version 3 are read, deletion vectors and all, and never written."""

from __future__ import annotations

import attrs
import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import Mode, Target
from seeknal_iceberg.connection.catalog import open_catalog
from support.iceberg import Bench
from support.iceberg_v3 import upgrade

MODES = [Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY, Mode.INSERT_OVERWRITE]


def made(bench: Bench, **how: object) -> Target:
    """Write rows, and make the table one of version 3."""
    target = bench.target()
    bench.write(target, {"id": list(range(10)), "s": [f"v{number}" for number in range(10)]})
    upgrade(open_catalog(bench.context), "sales.orders", **how)  # type: ignore[arg-type]
    assert bench.table(target).metadata.format_version == 3
    return target


def test_rows_of_a_deletion_vector_are_not_read(bench: Bench) -> None:
    target = made(bench, deleted=(0, 3, 9))
    assert bench.read(target)["id"].to_pylist() == [1, 2, 4, 5, 6, 7, 8]
    assert bench.count(target) == 7
    assert bench.read(target, columns=("s",)).num_rows == 7


def test_a_column_of_version_3_has_its_default_and_its_nanoseconds(bench: Bench) -> None:
    columns = [
        {"id": 8, "name": "d", "type": "string", "required": False, "initial-default": "new"},
        {"id": 9, "name": "ns", "type": "timestamp_ns", "required": False},
    ]
    target = made(bench, columns=columns)
    found = bench.read(target)
    assert found.schema.field("ns").type == pa.timestamp("ns")
    assert set(found["d"].to_pylist()) == {"new"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("staged", [False, True])
def test_a_table_of_version_3_is_not_written(bench: Bench, mode: Mode, staged: bool) -> None:
    target = attrs.evolve(made(bench), mode=mode, unique_keys=("id",))
    before = bench.files()
    write = bench.promotion().stage if staged else bench.write
    with pytest.raises(WriteRefused, match="format version 3, which is read here but not written"):
        write(target, {"id": [1], "s": ["x"]})
    assert bench.files() == before
    assert bench.count(target) == 10


@pytest.mark.parametrize("type", ["variant", "geometry(srid:0)"])
def test_a_type_that_cannot_be_read_is_named(bench: Bench, type: str) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    columns = [{"id": 8, "name": "v", "type": type, "required": False}]
    upgrade(open_catalog(bench.context), "sales.orders", columns=columns)
    with pytest.raises(BackendError, match=f"metadata cannot be read.*{type[:7]}"):
        bench.read(target)
    with pytest.raises(BackendError, match="metadata cannot be read"):
        bench.write(target, {"id": [2]})


def test_a_column_of_unknown_type_is_null(bench: Bench) -> None:
    columns = [{"id": 8, "name": "v", "type": "unknown", "required": False}]
    assert set(bench.read(made(bench, columns=columns))["v"].to_pylist()) == {None}
