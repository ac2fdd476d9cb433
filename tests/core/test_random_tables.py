"""The random tables of the differential tests: reproducible, and of every kind."""

from __future__ import annotations

import pyarrow as pa

from support.random_tables import KINDS, NESTED, plain, random_table, sorted_rows


def test_a_seed_gives_the_same_table_again() -> None:
    for seed in range(20):
        one, two = random_table(seed), random_table(seed)
        assert one.table.schema == two.table.schema
        assert sorted_rows(one.table) == sorted_rows(two.table)


def test_every_kind_is_drawn_at_the_top_and_inside() -> None:
    drawn: set[str] = set()
    inner: set[str] = set()
    for seed in range(150):
        made = random_table(seed)
        drawn.update(made.kinds.values())
        inner.update(*made.inner.values())
    assert drawn == {*KINDS, *NESTED}
    assert inner == {*KINDS, *NESTED} - {"json", "uuid", "enum"}


def test_values_are_compared_whatever_their_encoding_but_never_loosely() -> None:
    assert plain(pa.array([1], pa.int8())) == plain(pa.array([1], pa.int64())) == ["1"]
    assert plain(pa.array([0.0, -0.0, float("nan")])) == ["0.0", "-0.0", "nan"]
    assert plain(pa.array(["a"]).dictionary_encode()) == ["a"]
    structs = pa.array([{"Host": 1, "x id": None}, None])
    assert plain(structs) == [[("Host", "1"), ("x id", None)], None]
