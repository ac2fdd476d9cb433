"""Whatever is called additive or unaffected is so, by DuckDB's own answer.

``SEEKNAL_CHANGES_EXAMPLES=4000`` looks longer, at five queries each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from random import Random

import duckdb
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from seeknal_core.engine.changes import classify, unaffected
from support.random_queries import POOL, TABLES, Databases, Maker, Table, run

_QUERIES = 5
_SETTINGS = settings(
    max_examples=int(os.environ.get("SEEKNAL_CHANGES_EXAMPLES", "40")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
_SEEDS = st.integers(0, 2**48)
_INPUTS = list(TABLES)


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with duckdb.connect() as one, duckdb.connect() as other:
        yield Databases(one, other)


@given(seed=_SEEDS)
@_SETTINGS
def test_old_columns_keep_their_rows_where_a_change_is_called_additive(
    seed: int, databases: Databases
) -> None:
    random = Random(seed)
    for id, columns in TABLES.items():
        databases.fill(random, id, columns)
    for _ in range(_QUERIES):
        old, new = _change(random)
        event(_compare_change(databases, old, new))


def _change(random: Random) -> tuple[str, str]:
    """Make a query, and the same with more columns, or nearly so."""
    maker = Maker(random)
    select = maker.select("source.t", _INPUTS)
    added = [
        (random.randrange(len(select.items) + 1), _added(maker, random, select.scope))
        for _ in range(random.randrange(3))
    ]
    changed = select.with_items(added)
    if maker.chance(10):
        changed = maker.select("source.t", _INPUTS)
    if not maker.chance(15):
        return str(select), str(changed)
    state = random.getstate()
    old = maker.wrapped(select, _INPUTS)
    random.setstate(state)
    return old, maker.wrapped(changed, _INPUTS)


def _added(maker: Maker, random: Random, scope: Sequence[Table]) -> str:
    expression = maker.scalar(scope)
    if random.randrange(4) == 0:
        return maker.column(scope)
    if random.randrange(10) == 0:
        return expression
    return f"{expression} AS {maker.pick(*POOL)}"


def _compare_change(databases: Databases, old: str, new: str) -> str:
    before = run(databases.one, old)
    if before is None:
        return "the old query fails"
    found = classify(old.split("; "), new.split("; "), before.names)
    if not found.additive:
        return "breaking"
    after = run(databases.other, new)
    if after is None:
        return "additive, but the new query fails"
    names = [name.casefold() for name in after.names]
    added = [name.casefold() for name in found.columns]
    known = list(map(str.casefold, before.names))
    assert sorted(names) == sorted([*known, *added]), (old, new)
    kept = [place for place, name in enumerate(names) if name not in added]
    assert [names[place] for place in kept] == known, (old, new)
    assert after.of(kept) == before.of(range(len(known))), (old, new)
    return "additive"


@given(seed=_SEEDS)
@_SETTINGS
def test_a_reader_that_is_called_unaffected_gives_the_same_rows(
    seed: int, databases: Databases
) -> None:
    random = Random(seed)
    kinds = ("INTEGER", "INTEGER", "VARCHAR", "STRUCT(a INTEGER, n INTEGER)")
    old = {"k": "INTEGER"}
    old |= {name: kinds[random.randrange(4)] for name in _some(random, ("a", "b", "s", "st"))}
    taken = {name.casefold() for name in old}
    added = {
        name: kinds[random.randrange(4)]
        for name in _some(random, POOL)
        if name.casefold() not in taken
    }
    for id, columns in TABLES.items():
        databases.fill(random, id, columns)
    databases.fill(random, "transform.p", old, added)
    ids = ["transform.p", *TABLES]
    for _ in range(_QUERIES):
        maker = Maker(random, tables={**TABLES, "transform.p": old})
        reader = maker.wrapped(maker.select("transform.p", ids), ids)
        before = run(databases.one, reader)
        if before is None:
            event("the reader fails")
            continue
        proof = unaffected(reader.split("; "), "transform.p", list(added), list(old))
        event(f"proved: {proof is not None}")
        if proof is None:
            continue
        after = run(databases.other, reader)
        assert after is not None, (reader, old, added)
        assert after.names == before.names, (reader, old, added)
        every = range(len(before.names))
        assert after.of(every) == before.of(every), (reader, old, added)


def _some(random: Random, names: tuple[str, ...]) -> list[str]:
    return random.sample(names, random.randrange(1, min(4, len(names))))


def test_most_of_what_is_additive_by_construction_is_recognised(databases: Databases) -> None:
    recognised = proved = ran = read = 0
    random = Random(15)
    for id, columns in TABLES.items():
        databases.fill(random, id, columns)
    for _ in range(150):
        maker = Maker(random, awkward=False)
        select = maker.select("source.t", _INPUTS)
        new = select.with_items([(len(select.items), f"{maker.scalar(select.scope)} AS fresh")])
        before = run(databases.one, str(select))
        if before is not None:
            ran += 1
            recognised += classify([str(select)], [str(new)], before.names).additive
        reader = maker.select("source.t", _INPUTS)
        if run(databases.one, str(reader)) is not None:
            read += 1
            known = list(TABLES["source.t"])
            proved += unaffected([str(reader)], "source.t", ["fresh"], known) is not None
    assert min(ran, read) > 100
    assert recognised >= 0.95 * ran, (recognised, ran)
    assert proved >= 0.95 * read, (proved, read)
