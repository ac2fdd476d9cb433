"""A project with a table in each mode and store, and how its runs ended."""

from __future__ import annotations

from typing import Any

from support.cli import Result, write
from support.promotions import Shop

MODES = {
    "whole": "",
    "merged": ", mode: upsert_by_key, unique_keys: [id]",
    "added": ", mode: append",
    "daily": ", mode: incremental_by_time, time_column: day",
}
#: Those whose rows are in no snapshot.
KEEPING = ("added", "daily")


def in_each_mode(shop: Shop) -> Shop:
    """Give production a table in each mode and store, in place of what the folder has."""
    for old in (shop.root / "seeknal").glob("*.sql"):
        old.unlink()
    for name, more in MODES.items():
        sql = (
            "SELECT id, CAST(amount AS INTEGER) AS amount,"
            " DATE '2024-01-01' + CAST(id AS INTEGER) AS day FROM source.orders"
        )
        write(shop.root, shop.node(name, sql, more))
    shop.seeknal("run")
    return shop


def statuses(result: Result) -> dict[str, str]:
    """Return how each target ended, by its final name."""
    return {one["name"]: one["status"] for one in result.json()["targets"]}


def run(shop: Shop, *args: str, code: int = 0) -> dict[str, str]:
    """Run and return how each target ended."""
    return statuses(shop.seeknal("run", "--json", *args, code=code))


def details(shop: Shop) -> dict[str, Any]:
    """Return what `env status` says of each target that drifted."""
    found = shop.seeknal("env", "status", "prod", "--json").json()["targets"]
    harmless = ("as written", "no longer in the project")
    return {one["name"]: one["detail"] for one in found if one["condition"] not in harmless}


def count(shop: Shop, table: str) -> int:
    """Count a table's rows in the database."""
    return int(shop.database.query(f"SELECT count(*) FROM shop.{table}")[0][0])


def views(shop: Shop) -> dict[str, bool]:
    """Return the relations of dev's schema, and whether each is a view."""
    rows = shop.database.query(
        "SELECT relname::text, relkind = 'v' FROM pg_class c JOIN pg_namespace n"
        " ON n.oid = c.relnamespace WHERE nspname = 'dev_shop' AND relkind IN ('r', 'v')"
    )
    return dict(rows)
