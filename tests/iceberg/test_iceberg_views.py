"""Views of a catalog are named as such, and passed over where tables are looked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.errors import BackendError, WriteRefused
from seeknal_core.types import OwnedKind
from seeknal_iceberg import plugin
from support.iceberg import Bench
from support.rest_server import RestServer

Made = tuple[Bench, Callable[[str, str], None]]


@pytest.fixture(params=["embedded", "rest"])
def made(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Iterator[Made]:
    """A catalog with the table sales.orders, and what makes a view in it as others do."""
    if request.param == "embedded":
        bench.write(bench.target(), {"id": [1]})

        def in_file(namespace: str, name: str) -> None:
            with sqlite3.connect(tmp_path / "warehouse" / "catalog.db") as connection:
                connection.execute(
                    "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name,"
                    " metadata_location, iceberg_type) VALUES ('default', ?, ?, 'x', 'VIEW')",
                    (namespace, name),
                )
            connection.close()

        yield bench, in_file
        return
    with RestServer(tmp_path / "server") as server:
        over = Bench({"catalog": server.catalog_options()}, tmp_path)
        over.write(over.target(), {"id": [1]})
        yield over, lambda namespace, name: server.views.add((namespace, name))
        over.close()


def test_a_source_that_is_a_view_is_named(made: Made) -> None:
    bench, make = made
    make("sales", "seen")
    with pytest.raises(BackendError, match=r"sales\.seen is a view") as caught:
        bench.read(bench.target("sales.seen"))
    assert "transform" in caught.value.hint
    with pytest.raises(BackendError, match=r"no table sales\.other"):
        bench.read(bench.target("sales.other"))


def test_a_target_that_is_a_view_is_refused_before_anything_is_written(made: Made) -> None:
    bench, make = made
    make("sales", "seen")
    target = bench.target("sales.seen")
    with pytest.raises(WriteRefused, match=r"sales\.seen is a view"):
        bench.write(target, {"id": [1]})
    with pytest.raises(WriteRefused, match=r"sales\.seen is a view"):
        bench.promotion().stage(target, {"id": [1]})
    schema = pa.schema([("id", pa.int64())])
    assert "is a view" in plugin.preview_write(bench.context, target, schema).refused
    assert not bench.inspect(target).exists


def test_looking_and_cleaning_pass_over_views(made: Made) -> None:
    bench, make = made
    make("sales", "seen")
    owned = plugin.list_owned(bench.context)
    assert [str(each.name) for each in owned] == ["sales.orders", "sales"]
    assert not plugin.sweep(bench.context, (), False, ()).removed
    assert "namespace" in plugin.check_connection(bench.context)
    (table,) = (each for each in owned if each.kind is OwnedKind.TABLE)
    (space,) = (each for each in owned if each.kind is OwnedKind.NAMESPACE)
    assert plugin.drop_target(bench.context, table)
    with pytest.raises(WriteRefused, match=r"it holds sales\.seen"):
        plugin.drop_target(bench.context, space)
