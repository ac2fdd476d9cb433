"""What the version before today's digests left is gone on with: nothing is written twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write
from support.earlier_version import earlier
from support.promotions import Shop

_SOURCES = {
    # Named by a digest of their rows: their keys, and all below them, have another form now.
    "seeknal/rates.yml": (
        "kind: source\nname: rates\nsource: postgresql\ntable: raw.rates\n"
        "params: {connection: warehouse}\n"
    ),
    "seeknal/made.py": (
        "import pyarrow as pa\n\nfrom seeknal_core.pipeline import source\n\n\n"
        "@source(name='made')\n"
        "def made(ctx):\n"
        "    return pa.table({'id': [1, 2, 3], 'day': [f'2026-01-0{n}' for n in (1, 2, 3)]})\n"
    ),
}


@pytest.fixture
def former(empty_shop: Shop, tmp_path: Path) -> Cli:
    """The earlier version's command; the project reads a database and Python, in all modes."""
    shop = empty_shop
    shop.database.execute("CREATE SCHEMA raw")
    shop.database.execute("CREATE TABLE raw.rates (id int8, rate float8, tags text[])")
    shop.database.execute(
        "INSERT INTO raw.rates SELECT n, n / 2.0, ARRAY['a', NULL] FROM generate_series(1, 9) n"
    )
    write(shop.root, {**_SOURCES, **nodes(shop)})
    return earlier(shop.seeknal, tmp_path / "earlier")


def nodes(shop: Shop) -> dict[str, str]:
    """Return a node of each mode upon each kind of source."""
    return {
        **shop.node("logged", "SELECT id, rate FROM source.rates", ", mode: append"),
        **shop.node("listed", "SELECT id, day FROM source.made", ", mode: append"),
        **shop.node("twice", "SELECT id FROM transform.logged", ", mode: append"),
        **shop.node("whole", "SELECT id, rate FROM source.rates", ", mode: full"),
        **shop.node(
            "keyed_rates",
            "SELECT id, rate FROM source.rates",
            ", mode: upsert_by_key, unique_keys: [id]",
        ),
        **shop.node(
            "by_day",
            "SELECT id, day::TIMESTAMP AS day FROM source.made",
            ", mode: incremental_by_time, time_column: day",
        ),
    }


def marks(shop: Shop) -> Any:
    """Return what tells that no table was written again, not even by equal rows."""
    tables = shop.database.query(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE '%shop' ORDER BY 1, 2"
    )
    rows = [
        shop.database.query(f'SELECT xmin::text, ctid::text FROM "{schema}"."{name}" ORDER BY 2')
        for schema, name in tables
    ]
    with shop.lake.catalog() as catalog:
        snapshots = {
            name: catalog.load_table(name).metadata.current_snapshot_id
            for space in catalog.list_namespaces()
            for name in catalog.list_tables(space)
        }
    return tables, rows, snapshots


def statuses(report: Any) -> tuple[set[str], set[str]]:
    return ({n["status"] for n in report["nodes"]}, {t["status"] for t in report["targets"]})


def count(shop: Shop, table: str) -> list[int]:
    """Return how many rows a table has in each store."""
    return [len(place.seen()[f"shop.{table}"]) for place in shop.places]


def test_nothing_is_computed_or_written_again(empty_shop: Shop, former: Cli) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    former("run", "--env", "dev", "--all-targets")
    before = marks(shop)
    for environment in ((), ("--env", "dev", "--all-targets")):
        assert statuses(now("run", *environment, "--json").json()) == ({"reused"}, {"unchanged"})
        assert statuses(now("run", *environment, "--json").json()) == ({"reused"}, {"unchanged"})
    assert marks(shop) == before
    # The same rows in another order and other bytes: only their digest tells.
    shop.database.execute("CREATE TABLE raw.copy AS SELECT * FROM raw.rates ORDER BY id DESC")
    shop.database.execute("TRUNCATE raw.rates")
    shop.database.execute("INSERT INTO raw.rates SELECT * FROM raw.copy")
    for environment in ((), ("--env", "dev", "--all-targets")):
        assert statuses(now("run", *environment, "--json").json()) == ({"reused"}, {"unchanged"})
    assert marks(shop) == before
    # A change is one, and is written once.
    shop.database.execute("UPDATE raw.rates SET rate = 100 WHERE id = 1")
    now("run")
    now("run")
    assert count(shop, "logged") == [18, 18]
    assert count(shop, "whole") == [9, 9]


def test_an_append_is_known_by_its_former_key_where_the_folder_is_lost(
    empty_shop: Shop, former: Cli
) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    assert count(shop, "logged") == count(shop, "twice") == [9, 9]
    shutil.rmtree(shop.root / "target")
    now("state", "recover")
    now("run")
    assert count(shop, "logged") == count(shop, "twice") == [9, 9]
    assert count(shop, "listed") == count(shop, "by_day") == [3, 3]
    # Without the recovery, too.
    shutil.rmtree(shop.root / "target")
    now("run", "--adopt")
    assert count(shop, "logged") == count(shop, "twice") == [9, 9]


def test_an_older_batch_that_comes_again_is_not_added_again(empty_shop: Shop, former: Cli) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    shop.database.execute("UPDATE raw.rates SET rate = rate + 1")
    former("run")
    assert count(shop, "logged") == [18, 18]
    shop.database.execute("UPDATE raw.rates SET rate = rate - 1")
    # Nothing refers to the first batch's snapshot any more.
    record = json.loads((shop.root / "target/state/environments/prod.json").read_text("utf-8"))
    kept = {node["content_key"] for node in record["nodes"].values()}
    for folder in (shop.root / "target/snapshots").glob("[0-9a-f][0-9a-f]/*"):
        if folder.name not in kept:
            shutil.rmtree(folder)
    now("run")
    assert count(shop, "logged") == [18, 18]
    assert count(shop, "whole") == [9, 9]


def test_a_plan_is_applied(empty_shop: Shop, former: Cli) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    write(shop.root, shop.node("whole", "SELECT id, rate * 2 AS rate FROM source.rates"))
    former("env", "plan", "dev")
    now("env", "apply", "dev")
    report = now("run", "--env", "dev", "--json").json()
    assert statuses(report)[0] == {"reused"}
    now("env", "promote", "dev")
    assert count(shop, "logged") == [9, 9]
    assert count(shop, "whole") == [9, 9]


@pytest.mark.parametrize("way", ["--resume", "--abort"])
@pytest.mark.parametrize("hook", ["stage", "publish"])
def test_an_unfinished_promotion_is_finished(
    empty_shop: Shop, former: Cli, hook: str, way: str
) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    old = shop.seen()
    write(shop.root, shop.node("whole", "SELECT id, rate * 2 AS rate FROM source.rates"))
    former("run", "--env", "dev")
    former(
        "env", "promote", "dev", code=None, SEEKNAL_KILL_AT="after:1", SEEKNAL_KILL_HOOKS=hook
    )  # fmt: skip
    now("env", "promote", "dev", way)
    if way == "--abort":
        assert shop.seen() == old
        now("env", "promote", "dev")
    assert count(shop, "logged") == [9, 9]
    for place in shop.places:
        assert sorted(dict(row)["rate"] for row in place.seen()["shop.whole"])[-1] == 9.0
    assert statuses(now("run", "--json").json())[1] == {"unchanged"}


def test_a_promotion_is_undone(empty_shop: Shop, former: Cli) -> None:
    shop, now = empty_shop, empty_shop.seeknal
    former("run")
    old = shop.seen()
    write(shop.root, shop.node("whole", "SELECT id, rate * 2 AS rate FROM source.rates"))
    former("run", "--env", "dev")
    former("env", "promote", "dev")
    now("env", "rollback", "prod")
    assert shop.seen() == old
    write(shop.root, nodes(shop))
    now("run")
    assert count(shop, "logged") == [9, 9]
