"""A REST catalog over S3: the same writes, refused credentials, servers that are not there."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import requests

from seeknal_core.errors import BackendError, Unreachable
from seeknal_core.types import Mode
from seeknal_iceberg import plugin
from seeknal_iceberg.connection.rest.rest_catalog import PatientRestCatalog
from support.iceberg import Bench

if TYPE_CHECKING:
    from support.lake import LakeServer

ROWS = {"id": [1, 2, 3], "s": ["a", None, "🦆"]}


def test_every_mode_works_in_nested_namespaces(rest: Bench, lake_namespace: str) -> None:
    table = f"lake.{lake_namespace}.north.orders"
    assert not rest.inspect(rest.target(table)).exists
    created = rest.write(rest.target(table), ROWS)
    assert created.created
    rest.write(rest.target(table, Mode.APPEND), {"id": [4], "s": ["d"]})
    upsert = rest.target(table, Mode.UPSERT_BY_KEY, unique_keys=("id",))
    result = rest.write(upsert, {"id": [2, 5], "s": ["B", "e"], "new": [1.5, 2.5]})
    assert result.rows_after == rest.count(upsert) == 5
    assert {row["id"]: row["s"] for row in rest.rows(upsert)} == {
        1: "a",
        2: "B",
        3: "🦆",
        4: "d",
        5: "e",
    }
    state = rest.inspect(upsert)
    assert state.version == result.version
    assert state.owner is not None
    full = rest.write(rest.target(table), ROWS)
    assert "column 'new' left the node: it is kept, and set to NULL" in full.notes[0]
    assert rest.count(upsert) == 3


def test_partitions_and_their_evolution_work(rest: Bench, lake_namespace: str) -> None:
    target = rest.target(f"{lake_namespace}.t", partition_by=("bucket(3, id)",))
    rest.write(target, {"id": list(range(30)), "day": [number % 4 for number in range(30)]})
    again = rest.target(f"{lake_namespace}.t", Mode.APPEND, partition_by=("day",))
    rest.write(again, {"id": [100], "day": [7]})
    assert rest.count(again) == 31
    assert str(rest.table(again).spec().fields[0].transform) == "identity"


def test_two_writers_lose_no_row(rest: Bench, lake_namespace: str, monkeypatch: Any) -> None:

    target = rest.target(f"{lake_namespace}.t", Mode.APPEND)
    other = rest.other()
    original = PatientRestCatalog.commit_table
    left = [2]

    def commit_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            current, left[0] = left[0], 0
            other.write(target, {"id": [current]})
            left[0] = current
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PatientRestCatalog, "commit_table", commit_table)
    rest.write(target, {"id": [9]})
    other.close()
    assert [row["id"] for row in rest.rows(target)] == [0, 1, 9]


@pytest.mark.parametrize("landed", [True, False])
def test_a_lost_answer_adds_rows_exactly_once(
    rest: Bench, lake_namespace: str, monkeypatch: Any, landed: bool
) -> None:

    target = rest.target(f"{lake_namespace}.t", Mode.APPEND)
    rest.write(target, {"id": [1]})
    original = PatientRestCatalog.commit_table
    left = [1]

    def commit_table(self: Any, *args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            if landed:
                original(self, *args, **kwargs)
            raise requests.exceptions.ConnectionError("the answer got lost")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PatientRestCatalog, "commit_table", commit_table)
    rest.write(target, {"id": [2]})
    assert [row["id"] for row in rest.rows(target)] == [1, 2]


def changed(lake: LakeServer, tmp_path: Path, **options: str) -> Bench:
    catalog: Mapping[str, object] = {**lake.catalog_options(), **options}
    return Bench({"catalog": catalog}, tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"credential": "nobody:wrong-secret"}, BackendError, "refuses the credentials"),
        ({"s3.secret-access-key": "wrong-secret"}, BackendError, "denies access"),
        ({"s3.endpoint": "http://127.0.0.1:1"}, Unreachable, "does not answer"),
        (
            {"uri": "http://127.0.0.1:1/", "oauth2-server-uri": "http://127.0.0.1:1/t"},
            Unreachable,
            "does not answer",
        ),
    ],
)
def test_what_does_not_work_is_said_in_one_sentence_without_the_secret(
    lake: LakeServer,
    lake_namespace: str,
    tmp_path: Path,
    options: dict[str, str],
    error: type[BackendError],
    words: str,
) -> None:
    bench = changed(lake, tmp_path, **options)
    began = time.monotonic()
    with pytest.raises(error) as caught:
        bench.write(bench.target(f"{lake_namespace}.t"), ROWS)
    assert time.monotonic() - began < 15
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value) + repr(caught.value)
    assert "connections.lake" in caught.value.hint
    bench.close()


def test_a_server_that_accepts_and_says_nothing_does_not_hold_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seeknal_iceberg.connection.patience.READ_TOTAL", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        bench = Bench({"catalog": {"type": "rest", "uri": f"http://127.0.0.1:{port}"}}, tmp_path)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer"):
            plugin.check_connection(bench.context)
        assert time.monotonic() - began < 5


def test_the_catalog_says_that_it_answers(rest: Bench) -> None:
    assert plugin.check_connection(rest.context).startswith("rest catalog, ")


def test_aws_variables_of_the_environment_serve(
    lake: LakeServer, lake_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        key: value
        for key, value in lake.catalog_options().items()
        if not key.startswith("s3.") or key in ("s3.endpoint", "s3.region")
    }
    bench = Bench({"catalog": options}, tmp_path)
    for key, value in lake.s3_environment().items():
        monkeypatch.setenv(key, value)
    target = bench.target(f"{lake_namespace}.t")
    bench.write(target, pa.table(ROWS))
    assert bench.count(target) == 3
    bench.close()
