"""Fields inside columns keep their values, whatever they are called and however they are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pyarrow as pa
import pytest

from seeknal_core.errors import WriteRefused
from seeknal_core.types import Mode, SchemaChange, Target
from seeknal_iceberg.types import nested
from support.iceberg import Bench
from support.random_tables import NAMES, plain, random_table


@pytest.fixture(params=["embedded", "rest"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[tuple[Bench, str]]:
    """A bench and a namespace that nobody else uses."""
    if request.param == "embedded":
        yield request.getfixturevalue("bench"), "sales"
    else:
        yield request.getfixturevalue("rest"), request.getfixturevalue("lake_namespace")


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return a row of odd names in a struct, a list, a map, and a struct in a struct."""
    odd = {"content-type": f"t{number}", "x id": number, "1st": number * 1.5, **more}
    return {
        "id": number,
        "s": odd,
        "l": [odd, None],
        "m": [("k", odd)],
        "ss": {"in-ner": odd, "a.b": [number]},
    }


def rows(*numbers: int, **more: Any) -> pa.Table:
    """Return rows as a table."""
    odd = pa.struct(
        [("content-type", pa.string()), ("x id", pa.int64()), ("1st", pa.float64())]
        + [(name, pa.string()) for name in more]
    )
    types = {
        "id": pa.int64(),
        "s": odd,
        "l": pa.list_(odd),
        "m": pa.map_(pa.string(), odd),
        "ss": pa.struct([("in-ner", odd), ("a.b", pa.list_(pa.int64()))]),
    }
    return pa.Table.from_pylist([row(number, **more) for number in numbers], pa.schema(types))


WAYS = [
    {},
    {"partition_by": ("bucket(2, id)",)},
    {"mode": Mode.APPEND},
    {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",)},
    {"mode": Mode.UPSERT_BY_KEY, "unique_keys": ("id",), "partition_by": ("id",)},
]


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_odd_names_inside_columns_keep_their_values(
    any_bench: tuple[Bench, str], way: dict[str, Any]
) -> None:
    bench, namespace = any_bench
    target = bench.target(f"{namespace}.t", **way)
    bench.write(attrs.evolve(target, mode=Mode.FULL), rows(1, 2, 3))
    assert bench.rows(target) == [row(1), row(2), row(3)]
    bench.write(target, rows(3) if target.mode is Mode.UPSERT_BY_KEY else rows(4))
    kept = {Mode.APPEND: [1, 2, 3, 4], Mode.UPSERT_BY_KEY: [1, 2, 3]}.get(target.mode, [4])
    assert bench.rows(target) == [row(number) for number in kept]
    found = bench.table(target).scan().to_arrow().to_pylist()
    assert sorted(found, key=lambda found: int(found["id"])) == [row(number) for number in kept]


@pytest.mark.parametrize("way", WAYS, ids=repr)
def test_odd_names_inside_columns_are_promoted_and_rolled_back(
    bench: Bench, way: dict[str, Any]
) -> None:
    target = bench.target(**way)
    bench.write(attrs.evolve(target, mode=Mode.FULL), rows(1, 2))
    promotion = bench.promotion()
    # A new field makes every file be encoded anew.
    promotion.stage(target, rows(2, **{"ne-w": "x"}))
    promotion.publish()
    new = [found for found in bench.rows(target) if found["s"]["ne-w"] == "x"]
    assert new == [row(2, **{"ne-w": "x"})]
    assert promotion.revert()
    assert bench.rows(target) == [row(1), row(2)]


def test_names_that_differ_in_case_are_one_field(bench: Bench) -> None:
    def hosts(name: str, *values: str | None) -> pa.Table:
        struct = pa.struct([(name, pa.string())])
        return pa.table(
            {
                "id": list(range(len(values))),
                "s": pa.array([{name: value} for value in values], struct),
                "l": pa.array([[{name: value}] for value in values], pa.list_(struct)),
            }
        )

    target = bench.target()
    append = attrs.evolve(target, mode=Mode.APPEND)
    bench.write(target, hosts("Host", "a"))
    bench.write(append, hosts("host", "b", None))
    bench.write(attrs.evolve(append, on_schema_change=SchemaChange.FAIL), hosts("HOST", "c"))
    assert [column.type for column in bench.inspect(target).columns] == [
        "long",
        "struct<4: Host: optional string>",
        "list<struct<6: Host: optional string>>",
    ]
    found = bench.read(target)
    assert sorted(str(s["Host"]) for s in found["s"].to_pylist()) == ["None", "a", "b", "c"]
    assert sorted(str(ls[0]["Host"]) for ls in found["l"].to_pylist()) == ["None", "a", "b", "c"]


def test_fields_that_differ_in_case_only_are_refused(bench: Bench) -> None:
    rows = pa.table({"s": [[{"Host": 1, "host": 2}]]})
    with pytest.raises(WriteRefused, match=r"'s\.element\.Host' and 's\.element\.host'"):
        bench.write(bench.target(), rows)
    assert not bench.inspect(bench.target()).exists


def test_a_field_that_the_node_has_no_more_is_null_and_said(bench: Bench) -> None:
    target = bench.target(mode=Mode.APPEND)
    bench.write(target, pa.table({"s": [{"a": 1, "b": 2}]}))
    result = bench.write(target, pa.table({"s": [{"a": 3}]}))
    assert any("'s.b' is NULL in the new rows" in note for note in result.notes)
    assert bench.rows(target) == [{"s": {"a": 1, "b": 2}}, {"s": {"a": 3, "b": None}}]
    with pytest.raises(WriteRefused, match=r"on_schema_change is fail.*'s\.b'"):
        bench.write(
            attrs.evolve(target, on_schema_change=SchemaChange.FAIL), pa.table({"s": [{"a": 4}]})
        )


def by_arrows_cast(
    array: pa.Array, type: object, arrow: pa.DataType, path: nested.Path = ()
) -> pa.Array:
    """Do what `nested.fit` is there to avoid."""
    return array.cast(arrow)


@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("way", WAYS[1:], ids=repr)
def test_values_that_get_lost_on_the_way_are_noticed_before_the_commit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, way: dict[str, Any], promoted: bool
) -> None:
    target = bench.target(**way)
    bench.write(attrs.evolve(target, mode=Mode.FULL), rows(1, 2))
    before = bench.table(target).metadata
    files = list(bench.data_files())
    monkeypatch.setattr(nested, "fit", by_arrows_cast)
    with pytest.raises(WriteRefused, match=r"'s\.content-type' has 0 NULLs here and"):
        lose(bench, target, promoted=promoted)
    monkeypatch.undo()
    assert bench.table(target).metadata == before
    assert list(bench.data_files()) == files
    assert bench.rows(target) == [row(1), row(2)]


def lose(bench: Bench, target: Target, *, promoted: bool) -> None:
    more = rows(2, **{"ne-w": "x"})
    if promoted:
        bench.promotion().stage(target, more)
    else:
        bench.write(target, more)


def test_nulls_are_counted_as_parquet_counts_them(bench: Bench) -> None:
    """Over random tables: no false alarm, in files that are encoded anew."""
    for seed in range(10):
        made = random_table(seed, kinds=("int32", "text", "float64", "date"), names=NAMES[:12])
        target = bench.target(f"n.t{seed}", mode=Mode.APPEND)
        bench.write(target, made.table)
        # A column more: the next file is of another order than the table.
        more = made.table.add_column(0, "zz", pa.array([1] * made.table.num_rows, pa.uint32()))
        bench.write(target, more)
        found = bench.read(target, columns=tuple(made.table.column_names))
        expected = pa.concat_tables([made.table, made.table])
        for name in made.table.column_names:
            assert sorted(plain(found[name]), key=repr) == sorted(
                plain(expected[name]), key=repr
            ), made.describe()


@pytest.mark.parametrize(
    ("first", "rows", "named"),
    [
        ({}, {"a": [{"b": 1}], "a.b": [2]}, ["'a'.'b'", "'a.b'"]),
        ({}, {"s": [{"a": {"b": 1}, "a.b": 2}]}, ["'s'.'a'.'b'", "'s'.'a.b'"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1}], "a.b": [2]}, ["'a'.'b'", "'a.b'"]),
        ({"a": [[{"c": 1}]]}, {"a": [[{"c": 1, "x y": 1, "x_x20y": 2}]]}, ["'x y'", "'x_x20y'"]),
        ({}, {"a b": [1], "a_x20b": [2]}, ["'a b'", "'a_x20b'"]),
        ({"a b": [1]}, {"a b": [1], "a_x20b": [2]}, ["'a b'", "'a_x20b'"]),
        ({}, {"": [1], "b": [2]}, ["column ''"]),
        ({}, {"s": [[{"": 1}]]}, ["'s'.'element'.''"]),
    ],
)
def test_names_that_iceberg_cannot_tell_apart_are_refused(
    bench: Bench, first: dict[str, Any], rows: dict[str, Any], named: list[str]
) -> None:
    target = bench.target()
    if first:
        bench.write(target, first)
    files = bench.files()
    with pytest.raises(WriteRefused) as caught:
        bench.write(target, rows)
    assert all(name in str(caught.value) for name in named), str(caught.value)
    with pytest.raises(WriteRefused):
        bench.promotion().stage(target, rows)
    assert bench.files() == files
