"""Every data file has the table's field ids, so that its values stay in their columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

from seeknal_core.types import Mode
from seeknal_iceberg.files import footers
from seeknal_iceberg.source.options import IcebergSourceOptions
from seeknal_iceberg.types.schema import columns_of, new_schema
from support.contexts import snapshot_of
from support.iceberg import Bench
from support.parquet import before_footer, field_ids
from support.random_tables import KINDS, random_table, sorted_rows
from support.readers import by_polars

#: A column's kinds that are copied as they are.
COPIED = ("bool", "int32", "int64", "float64", "decimal", "text", "blob", "date", "timestamp")


def identified(path: Path, columns: Mapping[str, NestedField]) -> footers.Identified:
    """Return what gives a file's columns their ids."""
    with path.open("rb") as file:
        return footers.identify(file, columns)


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace that nobody else uses."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def test_values_stay_in_their_columns_after_others_rename_drop_and_add(
    any_bench: tuple[Bench, str],
) -> None:
    """apache/iceberg#4930: files without ids are read by whatever names a table has now."""
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t")
    first = bench.write(target, {"id": [1], "a": ["a1"], "b": ["b1"], "s": [{"x": 1, "y": 2}]})
    table = bench.table(target)
    with table.update_schema() as update:
        update.rename_column("a", "tmp").rename_column("s.x", "tmp")
    with table.update_schema() as update:
        update.rename_column("b", "a").rename_column("s.y", "x")
    with table.update_schema() as update:
        update.rename_column("tmp", "b").delete_column("s.tmp")
    with table.update_schema() as update:
        update.delete_column("a").add_column(("s", "y"), LongType())
    with table.update_schema() as update:
        update.add_column("a", StringType())
    expected = {"id": 1, "b": "a1", "s": {"x": 2, "y": None}, "a": None}
    assert bench.rows(target) == [expected]
    table = bench.table(target)
    assert table.scan().to_arrow().to_pylist() == [expected]
    assert by_polars(table).to_pylist() == [expected]
    # What was written before the changes is read as it was.
    past = {"id": 1, "a": "a1", "b": "b1", "s": {"x": 1, "y": 2}}
    assert table.scan(snapshot_id=int(first.version)).to_arrow().to_pylist() == [past]
    assert by_polars(table, int(first.version)).to_pylist() == [past]
    # The next file has the ids of the table as it is.
    more = {"id": 2, "a": "new", "b": "bb", "s": {"x": 3, "y": 4}}
    bench.write(attrs.evolve(target, mode=Mode.APPEND), pa.Table.from_pylist([more]))
    assert bench.rows(target) == [expected, more]
    found = by_polars(bench.table(target)).to_pylist()
    assert sorted(found, key=lambda row: int(row["id"])) == [expected, more]


def test_a_snapshot_fits_byte_for_byte_also_after_an_evolution(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"a": [1], "b": [2]})
    with bench.table(target).update_schema() as update:
        update.delete_column("a").add_column("a", LongType())
    snapshot = bench.snapshot({"a": [3], "b": [4]})
    old = set(bench.data_files())
    bench.write(target, snapshot)
    (new,) = set(bench.data_files()) - old
    assert before_footer(new) == before_footer(Path(snapshot.files[0]))
    assert field_ids(new) == ["3", "2"]
    assert bench.rows(target) == [{"a": 3, "b": 4}]


def test_a_table_that_leans_on_its_name_mapping_gets_ids_with_the_next_files(
    bench: Bench,
) -> None:
    from seeknal_iceberg.connection.catalog import open_catalog

    catalog = open_catalog(bench.context)
    catalog.create_namespace("sales")
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "n-m", StringType()))
    table = catalog.create_table("sales.orders", schema)
    path = bench.root / "old.parquet"
    pq.write_table(pa.table({"id": [1], "n-m": ["old"]}), path)
    table.add_files([f"file://{path}"])
    assert table.properties["schema.name-mapping.default"]
    adopting = bench.other(adopt=True)
    target = adopting.target(mode=Mode.APPEND)
    adopting.write(target, {"id": [2], "n-m": ["new"]})
    expected = [{"id": 1, "n-m": "old"}, {"id": 2, "n-m": "new"}]
    assert adopting.rows(target) == expected
    assert sorted(map(str, bench.table(target).scan().to_arrow().to_pylist())) == sorted(
        map(str, expected)
    )
    adopting.write(attrs.evolve(target, mode=Mode.FULL), {"id": [3], "n-m": ["all"]})
    (task,) = bench.table(target).scan().plan_files()
    assert field_ids(Path(task.file.file_path.removeprefix("file://"))) == ["1", "2"]
    adopting.close()


def test_new_files_are_read_without_a_name_mapping(bench: Bench) -> None:
    target = bench.target()
    bench.write(target, {"id": [1]})
    assert bench.table(target).metadata.name_mapping() is None


def test_history_is_read_by_its_own_names(bench: Bench) -> None:
    target = bench.target()
    first = bench.write(target, {"id": [1, 2], "old": ["x", "y"]})
    with bench.table(target).update_schema() as update:
        update.rename_column("old", "new")
    options = IcebergSourceOptions(snapshot_id=int(first.version), filter="old = 'y'")
    assert bench.read(target, columns=("old",), options=options).to_pydict() == {"old": ["y"]}
    current = IcebergSourceOptions(filter="new = 'x'")
    assert bench.read(target, options=current).to_pylist() == [{"id": 1, "new": "x"}]


def test_a_new_footer_changes_nothing_but_the_ids(tmp_path: Path) -> None:
    """Over random tables, as DuckDB and as pyarrow write them."""
    with duckdb.connect() as duck:
        for seed in range(60):
            made = random_table(seed, kinds=COPIED, nested=("list", "struct", "map"))
            path = tmp_path / f"{seed}.parquet"
            if seed % 2:
                pq.write_table(made.table, path, row_group_size=7)
            else:
                duck.register("made", made.table)
                duck.execute(f"COPY made TO '{path}' (COMPRESSION zstd, ROW_GROUP_SIZE 2048)")
            snapshot = snapshot_of([str(path)], content_key=str(seed))
            schema = new_schema(columns_of(snapshot, "t"))
            columns = {field.name: field for field in schema.fields}
            found = identified(path, columns)
            copy = tmp_path / "copy.parquet"
            copy.write_bytes(path.read_bytes()[: found.kept] + found.end)
            assert before_footer(copy) == before_footer(path)
            assert None not in field_ids(copy), made.describe()
            one, two = pq.read_table(path), pq.read_table(copy)
            assert one.schema.equals(two.schema, check_metadata=False)
            assert sorted_rows(one) == sorted_rows(two)
            groups = [pq.read_metadata(file).to_dict()["row_groups"] for file in (path, copy)]
            assert groups[0] == groups[1]
            read = duck.sql(f"SELECT * FROM read_parquet('{copy}')").to_arrow_table()
            assert read.num_rows == made.table.num_rows


def test_lists_and_maps_have_the_newer_of_parquets_words(tmp_path: Path) -> None:
    """Eventual-Inc/Daft#7445: DuckDB writes the older word alone, by which Daft finds no element."""
    path = tmp_path / "s.parquet"
    with duckdb.connect() as duck:
        duck.execute(f"COPY (SELECT [1] AS l, MAP {{'k': [1]}} AS m) TO '{path}'")
    schema = new_schema(columns_of(snapshot_of([str(path)], content_key="k"), "t"))
    found = identified(path, {field.name: field for field in schema.fields})
    _, _, elements = footers._schema(found.end[:-8])
    words = {element.name: element.fields.get(10) for element in elements}
    as_list, as_map = (12, b"\x3c\x00\x00"), (12, b"\x2c\x00\x00")
    assert (words["l"], words["m"], words["value"]) == (as_list, as_map, as_list)


def _shapes() -> list[tuple[pa.DataType, pa.DataType]]:
    one, two = pa.struct([("a", pa.int64())]), pa.struct([("b", pa.int64())])
    return [
        (pa.int64(), one),
        (one, two),
        (one, pa.struct([("a", pa.int64()), ("b", pa.int64())])),
        (pa.list_(pa.int64()), pa.int64()),
        (pa.list_(pa.int64()), pa.list_(one)),
        (pa.map_(pa.string(), pa.int64()), pa.list_(pa.int64())),
    ]


@pytest.mark.parametrize(("there", "here"), _shapes(), ids=str)
def test_a_file_of_another_shape_is_not_given_ids(
    tmp_path: Path, there: pa.DataType, here: pa.DataType
) -> None:
    path, other = tmp_path / "s.parquet", tmp_path / "t.parquet"
    pq.write_table(pa.table({"c": pa.array([None], here)}), path)
    pq.write_table(pa.table({"c": pa.array([None], there)}), other)
    (field,) = new_schema(columns_of(snapshot_of([str(other)], content_key="k"), "t")).fields
    with pytest.raises(footers.Unfit):
        identified(path, {"c": field})


def test_a_footer_that_is_not_understood_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"c": [1]}), path)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"PARE")
    field = NestedField(1, "c", LongType())
    with pytest.raises((footers.Unfit, OSError)):
        identified(path, {"c": field})


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"timestamp_ns_fine"}))
def test_polars_reads_every_kind(bench: Bench, kind: str) -> None:
    made: Any = next(
        made
        for made in (random_table(seed, kinds=(kind,), depth=0) for seed in range(100))
        if made.table.num_rows > 2
    )
    target = bench.target()
    bench.write(target, made.table)
    assert sorted_rows(by_polars(bench.table(target))) == sorted_rows(made.table)
