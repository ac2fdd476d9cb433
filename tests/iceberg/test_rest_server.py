"""The tests' own REST catalog answers as the specification says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NamespaceNotEmptyError, NoSuchTableError

from support.iceberg import Bench
from support.rest_server import RestServer

ROWS = pa.table({"id": [1, 2]})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    with RestServer(tmp_path / "server", tokens=True, prefix="a1b2") as made:
        yield made


@contextlib.contextmanager
def client(server: RestServer) -> Iterator[Catalog]:
    catalog = load_catalog("client", **server.catalog_options())
    yield catalog
    catalog.close()


def test_pyiceberg_makes_writes_renames_and_drops_tables(server: RestServer) -> None:
    with client(server) as catalog:
        catalog.create_namespace("sales")
        catalog.create_namespace("sales.north")
        table = catalog.create_table("sales.north.orders", ROWS.schema)
        table.append(ROWS)
        with table.manage_snapshots() as manage:
            manage.create_tag(table.current_snapshot().snapshot_id, "kept")  # type: ignore[union-attr]
        assert catalog.list_namespaces("sales") == [("sales", "north")]
        catalog.rename_table("sales.north.orders", "sales.orders")
        found = catalog.load_table("sales.orders")
        assert found.scan().to_arrow() == ROWS and set(found.metadata.refs) == {"main", "kept"}
        assert not catalog.table_exists("sales.north.orders")
        with pytest.raises(NamespaceNotEmptyError):
            catalog.drop_namespace("sales")
        catalog.purge_table("sales.orders")
        catalog.drop_namespace("sales.north")
        catalog.drop_namespace("sales")
        assert not catalog.namespace_exists("sales")
    assert not list(Path(server.warehouse.removeprefix("file://")).rglob("*.parquet"))


def test_several_tables_are_committed_at_once_or_not_at_all(
    server: RestServer, tmp_path: Path
) -> None:
    bench = Bench({"catalog": server.catalog_options()}, tmp_path)
    one, two = bench.target("sales.one"), bench.target("sales.two")
    for target in (one, two):
        bench.write(target, {"id": [1]})
    promotion = bench.promotion()
    for target in (one, two):
        promotion.stage(target, {"id": [2]})
    promotion.publish()
    assert bench.rows(one) == bench.rows(two) == [{"id": 2}]
    with client(server) as catalog:
        tables = [catalog.load_table(f"sales.{name}") for name in ("one", "two")]
    wrong: list[Any] = [
        {
            "identifier": {"namespace": ["sales"], "name": table.name()[-1]},
            "requirements": [{"type": "assert-table-uuid", "uuid": str(uuid)}],
            "updates": [{"action": "set-properties", "updates": {"a": "b"}}],
        }
        for table, uuid in zip(tables, [tables[0].metadata.table_uuid] * 2, strict=True)
    ]
    address = f"{server.uri}v1/a1b2/transactions/commit"
    token = _token(server)
    answer = requests.post(
        address, json={"table-changes": wrong}, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 409, answer.text
    assert "a" not in bench.table(one).properties
    bench.close()


def test_requests_without_a_token_are_refused(server: RestServer) -> None:
    assert requests.get(f"{server.uri}v1/config").status_code == 401
    with pytest.raises(Exception, match=r"401|client"):
        load_catalog("x", **{**server.catalog_options(), "credential": "tester:wrong"})


def _token(server: RestServer) -> str:
    client_id, secret = server.catalog_options()["credential"].split(":")
    form = {"client_id": client_id, "client_secret": secret, "grant_type": "client_credentials"}
    answer = requests.post(f"{server.uri}v1/oauth/tokens", data=form)
    return str(answer.json()["access_token"])


def test_what_is_not_there_is_said_with_404(server: RestServer) -> None:
    with client(server) as catalog:
        assert not catalog.namespace_exists("nowhere")
        with pytest.raises(NoSuchTableError):
            catalog.load_table("nowhere.table")
        assert catalog.list_namespaces() == []
