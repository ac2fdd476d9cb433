"""What is staged, as the store tells it: counts, columns and checksums of every type."""

from __future__ import annotations

from pathlib import Path

import attrs
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iceberg.test_iceberg_types import TYPES, copied
from seeknal_core.checksums import checksum_of
from seeknal_core.errors import BackendError, StaleStage
from seeknal_core.types import Mode
from seeknal_iceberg import plugin
from support.iceberg import Bench


@pytest.mark.parametrize("value", [value for value, _, _ in TYPES])
@pytest.mark.parametrize("exists", [False, True])
def test_each_type_is_summed_up_as_the_snapshot_is(
    bench: Bench, tmp_path: Path, value: str, exists: bool
) -> None:
    sql = (
        f"SELECT 1 AS id, {value} AS c UNION ALL SELECT 2, NULL UNION ALL SELECT 3, {value} "
        f"UNION ALL SELECT 4, {value} FROM range(3)"
    )
    with duckdb.connect() as duck:
        snapshot = copied(duck, sql, tmp_path / "s.parquet")
    target = bench.target()
    if exists:
        bench.write(target, snapshot)
    promotion = bench.promotion()
    staged = promotion.stage(target, snapshot)
    assert bench.count(staged) == 6
    assert [column.name for column in bench.inspect(staged).columns] == ["id", "c"]
    wanted = checksum_of(snapshot.reader())
    assert plugin.checksum(bench.context, staged) == wanted
    promotion.publish()
    assert plugin.checksum(bench.context, target) == wanted


def test_empty_strings_and_nulls_and_zeros_of_both_signs_differ(bench: Bench) -> None:
    sums = set()
    for number, values in enumerate(
        [{"s": [""], "f": [0.0]}, {"s": [None], "f": [0.0]}, {"s": [""], "f": [-0.0]}]
    ):
        rows = pa.table(values, schema=pa.schema([("s", pa.string()), ("f", pa.float64())]))
        staged = bench.promotion(f"p-{number}").stage(bench.target(f"sales.t{number}"), rows)
        found = plugin.checksum(bench.context, staged)
        assert found == checksum_of(bench.snapshot(rows).reader())
        sums.add(tuple(found.columns.values()))
    assert len(sums) == 3


@pytest.mark.parametrize("partition_by", [("day",), ("bucket(3, id)", "day")])
def test_only_the_rows_that_arrive_are_counted_and_summed_up(
    bench: Bench, partition_by: tuple[str, ...]
) -> None:
    upsert = bench.target(mode=Mode.UPSERT_BY_KEY, unique_keys=("id",), partition_by=partition_by)
    bench.write(upsert, {"id": list(range(30)), "day": [n % 4 for n in range(30)]})
    rows = {"id": [3, 4, 100], "day": [3, 0, 9]}
    promotion = bench.promotion()
    staged = promotion.stage(upsert, rows)
    for hands in (bench, bench.other()):  # the other has forgotten what the stage knew
        assert hands.count(staged) == 3
        found = plugin.checksum(hands.context, staged)
        assert found == checksum_of(bench.snapshot(rows).reader())
        hands.close()
    (published,) = promotion.publish().targets
    assert published.rows_after == bench.count(upsert) == 31


def test_columns_are_named_as_the_snapshot_names_them(bench: Bench) -> None:
    bench.write(bench.target(), {"Id": [1], "odd name.": ["x"]})
    staged = bench.promotion().stage(bench.target(), {"id": [2], "ODD name.": ["y"], "new": [1.5]})
    for hands in (bench, bench.other()):
        found = {column.name: column.type for column in hands.inspect(staged).columns}
        assert found == {"id": "long", "ODD name.": "string", "new": "double"}
        assert set(plugin.checksum(hands.context, staged).columns) == set(found)
        hands.close()


def test_what_is_staged_for_a_new_table_is_read_by_another_process(bench: Bench) -> None:
    rows = {"id": [2, None], "n": [{"a": 1}, None]}
    staged = bench.promotion().stage(bench.target(partition_by=("id",)), rows)
    other = bench.other()
    assert other.count(staged) == 2
    assert {c.name: c.type for c in other.inspect(staged).columns}["id"] == "long"
    assert plugin.checksum(other.context, staged) == checksum_of(bench.snapshot(rows).reader())
    other.close()


def test_a_staged_file_that_somebody_changes_is_noticed(bench: Bench) -> None:
    staged = bench.promotion().stage(bench.target(), {"id": [1, 2, 3]})
    (file,) = bench.data_files()
    snapshot = bench.snapshot({"id": [1, 2]})
    content = Path(snapshot.files[0]).read_bytes()
    file.write_bytes(content)
    with pytest.raises(BackendError, match="cannot be read as a file of its table"):
        plugin.checksum(bench.context, staged)
    schema = pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "1"})])
    pq.write_table(pa.table({"id": [1, 2]}, schema=schema), file)
    assert bench.count(staged) == 2
    assert attrs.asdict(plugin.checksum(bench.context, staged)) == attrs.asdict(
        checksum_of(snapshot.reader())
    )


def test_what_another_version_staged_in_another_form_is_refused(bench: Bench) -> None:
    bench.write(bench.target(), {"id": [1]})
    promotion = bench.promotion()
    staged = promotion.stage(bench.target(), {"id": [2]}).staged
    assert staged is not None
    assert staged.data["format"] == 1  # journals of earlier versions have it
    other = attrs.evolve(staged, data={**staged.data, "format": 2})
    promotion.targets = [attrs.evolve(target, staged=other) for target in promotion.targets]
    with pytest.raises(StaleStage, match="another version of seeknal-iceberg") as caught:
        promotion.publish()
    assert "promote again" in caught.value.hint
    assert bench.rows(bench.target()) == [{"id": 1}]
