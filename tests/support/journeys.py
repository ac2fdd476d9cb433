"""One project over both stores, as a team would have it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg

from support.cli import write

NODES = {
    "seeknal_project.yml": "name: shop\n",
    "seeknal/sources.yml": """\
kind: source
name: orders
source: csv
table: data/orders.csv
schema:
  - {name: order_id, data_type: integer}
  - {name: customer_id, data_type: integer}
  - {name: amount, data_type: integer}
  - {name: ordered_at, data_type: timestamp}
---
kind: source
name: customers
source: postgresql
table: raw.customers
params: {connection: warehouse}
---
kind: source
name: rates
source: postgres
params:
  connection: warehouse
  query: SELECT country, rate FROM raw.rates WHERE rate > 0
---
kind: source
name: stock
source: iceberg
table: raw.stock
params: {connection: lake, columns: [item, pieces]}
""",
    "seeknal/transforms/enriched.sql": """\
/* ---
materializations:
  - {type: postgresql, connection: warehouse, table: analytics.enriched, mode: upsert_by_key,
     unique_keys: [order_id]}
  - {type: iceberg, connection: lake, table: lake.sales.enriched, mode: upsert_by_key,
     unique_keys: [order_id], partition_by: [month(ordered_at)]}
--- */
SELECT o.order_id, o.ordered_at, o.amount, c.name, c.country, o.amount * r.rate AS charged
FROM source.orders AS o
JOIN ref('source.customers') AS c USING (customer_id)
JOIN ref('source.rates') AS r ON r.country = c.country
""",
    "seeknal/transforms/daily.yml": """\
kind: transform
name: daily
inputs: [{ref: transform.enriched}]
transform: |
  SELECT date_trunc('day', ordered_at)::TIMESTAMP AS day, count(*) AS orders, sum(amount) AS amount
  FROM __THIS__ GROUP BY 1
materializations:
  - {type: postgresql, connection: warehouse, table: analytics.daily, mode: incremental_by_time,
     time_column: day}
  - {type: iceberg, connection: lake, table: lake.sales.daily, mode: incremental_by_time,
     time_column: day}
""",
    "seeknal/transforms/log.yml": """\
kind: transform
name: log
transform: SELECT order_id, amount FROM source.orders
materializations:
  - {type: postgresql, connection: warehouse, table: analytics.log, mode: append}
  - {type: iceberg, connection: lake, table: lake.sales.log, mode: append}
""",
    "seeknal/transforms/totals.yml": """\
kind: transform
name: totals
transform: SELECT name, sum(amount) AS total FROM transform.enriched GROUP BY ALL
materializations:
  - {type: postgresql, connection: warehouse, table: totals, mode: full}
  - {type: iceberg, connection: lake, table: lake.eu.sales.totals, mode: overwrite}
""",
    "seeknal/transforms/stocked.py": """\
from seeknal_core.pipeline import materialize, transform


@transform(name="stocked", inputs=["source.stock"])
@materialize(type="postgresql", connection="warehouse", table="analytics.stocked")
def stocked(ctx):
    stock = ctx.ref("source.stock")
    return ctx.sql("SELECT item, sum(pieces) AS pieces FROM stock GROUP BY item")
""",
}

ORDERS = [
    (1, 1, 10, "2026-01-05 08:30:00"),
    (2, 2, 25, "2026-01-05 19:00:00"),
    (3, 1, 9007199254740993, "2026-02-11 07:15:00"),
    (4, 3, 5, "2026-02-12 00:00:00"),
    (5, 2, 7, "2026-03-01 12:00:00"),
]

#: What each table holds, computed from the same rows by DuckDB alone.
EXPECTED = {
    "enriched": (
        "SELECT order_id, ordered_at, amount, name, country, amount * rate AS charged "
        "FROM orders JOIN customers USING (customer_id) JOIN rates USING (country)"
    ),
    "daily": (
        "SELECT date_trunc('day', ordered_at)::TIMESTAMP AS day, count(*) AS orders, "
        "sum(amount)::DECIMAL(38,0) AS amount "
        "FROM orders JOIN customers USING (customer_id) JOIN rates USING (country) GROUP BY 1"
    ),
    "log": "SELECT order_id, amount FROM orders",
    "totals": (
        "SELECT name, sum(amount)::DECIMAL(38,0) AS total "
        "FROM orders JOIN customers USING (customer_id) JOIN rates USING (country) GROUP BY 1"
    ),
    "stocked": "SELECT item, sum(pieces)::DECIMAL(38,0) AS pieces FROM stock GROUP BY 1",
}

CUSTOMERS = [(1, "Ada", "AT"), (2, "Bela 🌱", "DE"), (3, "O'Neil", "IE")]
RATES = [("AT", "1.10"), ("DE", "1.00"), ("IE", "0.95"), ("XX", "0")]
STOCK = [("beans", 3, "a"), ("beans", 4, "b"), ("filters", 1, "c")]


@attrs.frozen(kw_only=True)
class Rows:
    """What one environment's stores hold; the orders come from a file that all share."""

    customers: Sequence[tuple[int, str, str]] = tuple(CUSTOMERS)
    rates: Sequence[tuple[str, str]] = tuple(RATES)
    stock: Sequence[tuple[str, int, str]] = tuple(STOCK)


PRODUCTION = Rows()
#: None of these rows is production's: who reads the wrong store is found out.
DEVELOPMENT = Rows(
    customers=((1, "Test A", "XX"), (2, "Test B", "DE"), (3, "Test C", "DE")),
    rates=(("DE", "2.00"), ("XX", "3.50")),
    stock=(("samples", 9007199254740993, "z"), ("samples", 1, "z")),
)


def write_orders(root: Path, orders: list[tuple[int, int, int, str]]) -> None:
    """Write the CSV file."""
    lines = ["order_id,customer_id,amount,ordered_at", *(",".join(map(str, o)) for o in orders)]
    write(root, {"data/orders.csv": "\n".join(lines) + "\n"})


def expected(
    table: str,
    orders: list[tuple[int, int, int, str]] = ORDERS,
    rows: Rows = PRODUCTION,
) -> list[tuple[Any, ...]]:
    """Return the rows a table should hold, by DuckDB's own answer."""
    import duckdb

    with duckdb.connect() as db:
        db.execute(
            "CREATE TABLE orders (order_id BIGINT, customer_id BIGINT, amount BIGINT, ordered_at TIMESTAMP)"
        )
        db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
        db.execute("CREATE TABLE customers (customer_id BIGINT, name VARCHAR, country VARCHAR)")
        db.executemany("INSERT INTO customers VALUES (?, ?, ?)", rows.customers)
        db.execute("CREATE TABLE rates (country VARCHAR, rate DECIMAL(6,2))")
        db.executemany("INSERT INTO rates VALUES (?, ?)", rows.rates)
        db.execute("DELETE FROM rates WHERE rate = 0")
        db.execute("CREATE TABLE stock (item VARCHAR, pieces BIGINT, shelf VARCHAR)")
        db.executemany("INSERT INTO stock VALUES (?, ?, ?)", rows.stock)
        return sorted(db.execute(EXPECTED[table]).fetchall(), key=str)


def seed_postgres(dsn: dict[str, object], rows: Rows = PRODUCTION) -> None:
    """Put the source tables into a database."""
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute("CREATE SCHEMA raw")
        connection.execute("CREATE TABLE raw.customers (customer_id int8, name text, country text)")
        connection.execute("CREATE TABLE raw.rates (country text, rate numeric(6,2))")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO raw.customers VALUES (%s, %s, %s)", rows.customers)
            cursor.executemany("INSERT INTO raw.rates VALUES (%s, %s)", rows.rates)


def seed_iceberg(options: dict[str, str], namespace: str = "raw", rows: Rows = PRODUCTION) -> None:
    """Put the source table into a catalog."""
    import pyarrow as pa
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("default", **options)
    catalog.create_namespace_if_not_exists(namespace)
    data = pa.table(
        {
            "item": [row[0] for row in rows.stock],
            "pieces": pa.array([row[1] for row in rows.stock], pa.int64()),
            "shelf": [row[2] for row in rows.stock],
        }
    )
    table = catalog.create_table(f"{namespace}.stock", data.schema)
    table.append(data)


def postgres_connection(dsn: dict[str, object]) -> dict[str, object]:
    """Return a profile's connection to a database."""
    return {
        "type": "postgresql",
        "host": dsn["host"],
        "port": dsn["port"],
        "user": dsn["user"],
        "password": dsn["password"],
        "database": dsn["dbname"],
    }


def profile(dsn: dict[str, object], lake: dict[str, object]) -> str:
    """Return a profile (JSON is YAML)."""
    return json.dumps(
        {
            "connections": {
                "warehouse": postgres_connection(dsn),
                "lake": {"type": "iceberg", **lake},
            }
        }
    )


def postgres_rows(dsn: dict[str, object], table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows as psycopg gives them, sorted."""
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        return sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=str)


def iceberg_rows(options: dict[str, str], table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows as pyiceberg gives them, sorted."""
    from pyiceberg.catalog import load_catalog

    data = load_catalog("default", **options).load_table(table).scan().to_arrow()
    return sorted((tuple(row.values()) for row in data.to_pylist()), key=str)


def postgres_marks(dsn: dict[str, object], table: str) -> list[tuple[Any, ...]]:
    """Return a table's rows with the transaction that wrote each and its place on disk."""
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        found = connection.execute(
            f"SELECT tableoid::int8, xmin::text, ctid::text, t.* FROM {table} AS t"
        )
        return sorted(found.fetchall(), key=str)


def iceberg_mark(options: dict[str, str], table: str) -> tuple[object, ...]:
    """Return a table's id and the snapshot that readers see."""
    from pyiceberg.catalog import load_catalog

    found = load_catalog("default", **options).load_table(table)
    current = found.current_snapshot()
    return found.metadata.table_uuid, current and current.snapshot_id, found.metadata_location
