"""New tables in catalogs that begin none in two steps: what readers see, lost answers, leftovers.

Kills at every request are in `tests/public_cases/test_iceberg_new_tables.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, StaleStage, Unreachable, WriteRefused
from seeknal_core.types import Mode
from seeknal_iceberg import plugin
from support.catalog_journey import Look
from support.catalog_modes import ModedCatalog, in_mode, rest_backing
from support.catalog_proxy import Exchange, Request, answer, commits, drop, forward, path
from support.iceberg import Bench

ROWS = {"id": [1, 2]}
SEEN = [(1,), (2,)]
#: The requests that make a new table, and what may be lost of each.
REQUESTS = {
    "create": path("/namespaces/[^/]+/tables$", "POST"),
    "commit": commits(),
    "rename": path("/tables/rename", "POST"),
}


class Tables:
    """A catalog in a mode, hands on its hooks, and a look past it."""

    def __init__(self, made: ModedCatalog, root: Path) -> None:
        self.made, self.proxy, self._root = made, made.proxy, root
        self._look = Look(made.direct_options())
        self.seen: list[Any] = []
        self._open: list[Bench] = []

    def bench(self) -> Bench:
        """Return the hooks as another command has them."""
        made = Bench({"catalog": self.made.catalog_options()}, self._root)
        self._open.append(made)
        return made

    def rows(self, table: str = "orders") -> Any:
        return self._look.rows("sales", table)

    def names(self) -> list[str]:
        return self._look.tables("sales")

    def watch(self) -> None:
        """Note what a reader sees after each request that changes something."""

        def act(exchange: Exchange) -> None:
            forward(exchange)
            self.seen.append(self.rows())

        self.proxy.rule(path("", "POST", "DELETE"), act)

    def close(self) -> None:
        for bench in self._open:
            bench.close()


@pytest.fixture(params=["no-staged-create", "no-staged-create-no-rename"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tables]:
    with rest_backing(tmp_path / "server") as backing, in_mode(request.param, backing) as made:
        found = Tables(made, tmp_path)
        yield found
        found.close()


@pytest.fixture
def renaming(tmp_path: Path) -> Iterator[Tables]:
    with rest_backing(tmp_path / "server") as backing, in_mode("no-staged-create", backing) as made:
        found = Tables(made, tmp_path)
        yield found
        found.close()


def test_readers_see_no_table_and_then_all_of_it(tables: Tables) -> None:
    empty: list[Any] = [[]] if "no-rename" in tables.made.mode.name else []
    tables.watch()
    bench = tables.bench()
    bench.write(bench.target("sales.orders"), ROWS)
    assert tables.rows() == SEEN and tables.names() == ["orders"]
    assert all(each in (None, SEEN, *empty) for each in tables.seen)
    plugin.drop_target(bench.context, plugin.list_owned(bench.context)[0])
    tables.seen.clear()
    promotion = tables.bench().promotion()
    target = promotion.stage(promotion.bench.target("sales.orders"), ROWS)
    assert tables.bench().count(target) == 2
    promotion.publish(tables.bench())
    assert tables.rows() == SEEN and tables.names() == ["orders"]
    assert all(each in (None, SEEN, *empty) for each in tables.seen)
    assert promotion.revert(tables.bench()) and tables.names() == []


@pytest.mark.parametrize("lost", REQUESTS)
def test_a_lost_answer_is_found_out(renaming: Tables, lost: str) -> None:
    answers_are_lost(renaming, REQUESTS[lost], drop(landed=True))


def answers_are_lost(
    tables: Tables, asks: Callable[[Request], bool], way: Callable[[Exchange], None]
) -> None:
    """Write and promote new tables, with one answer to a kind of request lost in a way."""

    def question(request: Request) -> bool:
        return asks(request) and b'"stage-create":true' not in request.body

    tables.proxy.rule(question, way, times=1)
    bench = tables.bench()
    bench.write(bench.target("sales.orders", Mode.APPEND), ROWS)
    assert tables.rows() == SEEN and tables.names() == ["orders"]
    tables.proxy.heal()
    tables.proxy.rule(question, way, times=1)
    promotion = bench.promotion()
    promotion.stage(bench.target("sales.new"), ROWS)
    try:
        promotion.publish(tables.bench())
    except Unreachable:
        promotion.publish(tables.bench())
    assert tables.rows("new") == SEEN and tables.names() == ["new", "orders"]


def test_a_table_that_somebody_makes_meanwhile_stays(renaming: Tables) -> None:
    bench = renaming.bench()
    promotion = bench.promotion()
    promotion.stage(bench.target("sales.orders"), ROWS)
    with renaming._look.catalog() as catalog:
        catalog.create_table(("sales", "orders"), pa.schema([("other", pa.int64())]))
    with pytest.raises(StaleStage, match="changed by somebody else since it was staged"):
        promotion.publish(renaming.bench())
    promotion.discard(renaming.bench())
    assert renaming.names() == ["orders"] and renaming.rows() == []
    with pytest.raises(WriteRefused, match="was not made by this project"):
        bench.write(bench.target("sales.orders"), ROWS)
    assert renaming.names() == ["orders"]


@pytest.mark.parametrize("lost", ["nothing", "what was staged", "the note, too"])
def test_what_was_staged_is_dropped(tables: Tables, lost: str, tmp_path: Path) -> None:
    bench = tables.bench()
    bench.write(bench.target("sales.orders"), ROWS)
    promotion = bench.promotion()
    promotion.stage(bench.target("sales.new"), ROWS)
    assert len(tables.names()) == 2
    if lost != "nothing":
        promotion.forget()
    if lost == "the note, too":
        for note in (tmp_path / "target" / "iceberg-staged").rglob("*.json"):
            note.unlink()
        promotion.discard(bench)  # which knows by now that nothing is staged here
    else:
        promotion.discard(tables.bench())
    assert tables.names() == ["orders"]


def test_what_a_lost_machine_left_goes_with_the_environment(tables: Tables) -> None:
    bench = tables.bench()
    promotion = bench.promotion()
    promotion.stage(bench.target("sales.new"), ROWS)
    other = tables.bench()
    for owned in plugin.list_owned(other.context):
        plugin.drop_target(other.context, owned)
    assert tables.names() == []


def test_gc_drops_what_no_promotion_knows(tables: Tables) -> None:
    bench = tables.bench()
    promotion = bench.promotion()
    promotion.stage(bench.target("sales.new"), ROWS)
    assert len(tables.names()) == 1
    swept = plugin.sweep(tables.bench().context, (), False, ())
    assert swept.removed and not swept.kept and tables.names() == []


def test_a_rename_that_is_refused_ends_in_the_catalogs_words(renaming: Tables) -> None:
    bench = renaming.bench()
    bench.write(bench.target("sales.orders"), ROWS)
    renaming.proxy.rule(REQUESTS["rename"], answer(403))
    with pytest.raises(BackendError, match="refuses to rename"):
        bench.write(bench.target("sales.new"), ROWS)
    assert renaming.names() == ["orders"]


def test_a_name_that_the_catalog_refuses_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    with rest_backing(tmp_path / "server") as backing, in_mode("s3tables", backing) as made:
        bench = Bench({"catalog": made.catalog_options()}, tmp_path)
        with pytest.raises(WriteRefused, match="refuses to make the table") as refused:
            bench.write(bench.target("sales.Orders"), ROWS)
        assert refused.value.hint == "write a name in lower case"
        assert Look(made.direct_options()).tables("sales") == []
        bench.close()


def test_the_limits_are_said(tables: Tables) -> None:
    bench = tables.bench()
    target = bench.target("sales.orders")
    bench.write(target, ROWS)
    notes = " ".join(bench.inspect(target).notes)
    words = "doesn't rename one" if "no-rename" in tables.made.mode.name else "_seeknal_new_"
    assert words in notes
