"""The main story: one project, three environments, both stores, every mode."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Cli, write
from support.journeys import (
    CUSTOMERS,
    DEVELOPMENT,
    ORDERS,
    PRODUCTION,
    Rows,
    expected,
    iceberg_mark,
    iceberg_rows,
    postgres_connection,
    postgres_marks,
    postgres_rows,
    profile,
    seed_iceberg,
    seed_postgres,
    write_orders,
)
from support.postgres import PostgresServer, PostgresStore

POSTGRES = {
    "enriched": "analytics",
    "daily": "analytics",
    "log": "analytics",
    "stocked": "analytics",
    "totals": "public",
}
ICEBERG = {"enriched": "sales", "daily": "sales", "log": "sales", "totals": "eu.sales"}


def local(warehouse: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Return a connection to an embedded catalog, and pyiceberg's own way to it."""
    warehouse.mkdir(parents=True, exist_ok=True)
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{warehouse}/catalog.db",
        "warehouse": warehouse.as_uri(),
    }
    return {"warehouse": str(warehouse)}, properties


def assert_contents(
    dsn: dict[str, object],
    catalog: dict[str, str],
    prefix: str = "",
    orders: list[tuple[int, int, int, str]] = ORDERS,
    rows: Rows = PRODUCTION,
) -> None:
    for table, schema in POSTGRES.items():
        found = postgres_rows(dsn, f"{prefix}{schema}.{table}")
        assert found and found == expected(table, orders, rows), table
    for table, namespace in ICEBERG.items():
        found = iceberg_rows(catalog, f"{prefix}{namespace}.{table}")
        assert found and found == expected(table, orders, rows), table


def marks(dsn: dict[str, object], catalog: dict[str, str], prefix: str) -> list[Any]:
    """Return what tells that no row was written again, not even by an equal one."""
    found: list[Any] = [postgres_marks(dsn, f"{prefix}{s}.{t}") for t, s in POSTGRES.items()]
    found += [iceberg_mark(catalog, f"{prefix}{n}.{t}") for t, n in ICEBERG.items()]
    return found


def assert_a_second_run_writes_nothing(
    seeknal: Cli, *arguments: str, at: tuple[dict[str, object], dict[str, str], str]
) -> None:
    before = marks(*at)
    report = seeknal("run", *arguments, "--json").json()
    assert {node["status"] for node in report["nodes"]} == {"reused"}
    assert {target["status"] for target in report["targets"]} == {"unchanged"}
    assert len(report["nodes"]) == 9 and len(report["targets"]) == len(POSTGRES) + len(ICEBERG)
    assert marks(*at) == before


@pytest.fixture
def stores(
    shop: Path, postgres_dsn: dict[str, object], tmp_path: Path
) -> tuple[dict[str, object], dict[str, str]]:
    """Seeded stores, and the project's default profile on them."""
    connection, properties = local(tmp_path / "lake")
    seed_postgres(postgres_dsn)
    seed_iceberg(properties)
    write(shop, {"profiles.yml": profile(postgres_dsn, connection)})
    return postgres_dsn, properties


def test_production_dev_by_convention_and_dev_by_its_own_profile(
    seeknal: Cli,
    shop: Path,
    stores: tuple[dict[str, object], dict[str, str]],
    postgres_server: PostgresStore,
    tmp_path: Path,
) -> None:
    """Nine nodes, all modes, both stores; dev's own hold none of production's rows."""
    dsn, catalog = stores
    other = postgres_server.create_database()
    connection, properties = local(tmp_path / "devlake")
    seed_postgres(other, DEVELOPMENT)
    seed_iceberg(properties, rows=DEVELOPMENT)

    seeknal("run", "--env", "dev")
    assert_contents(dsn, catalog, "dev_")
    assert_a_second_run_writes_nothing(seeknal, "--env", "dev", at=(dsn, catalog, "dev_"))
    seeknal("run")
    assert_contents(dsn, catalog)
    assert_a_second_run_writes_nothing(seeknal, at=(dsn, catalog, ""))

    before = marks(dsn, catalog, "dev_"), marks(dsn, catalog, "")
    write(shop, {"profiles-dev.yml": profile(other, connection)})
    seeknal("run", "--env", "dev")
    assert_contents(other, properties, rows=DEVELOPMENT)
    assert_a_second_run_writes_nothing(seeknal, "--env", "dev", at=(other, properties, ""))
    assert (marks(dsn, catalog, "dev_"), marks(dsn, catalog, "")) == before
    # What dev computed of its own rows is nothing to production.
    assert_a_second_run_writes_nothing(seeknal, at=(dsn, catalog, ""))
    assert_contents(dsn, catalog)
    postgres_server.drop_database(other)


def test_the_same_over_a_rest_catalog_on_s3(
    seeknal: Cli,
    shop: Path,
    postgres_dsn: dict[str, object],
    rest_lake: dict[str, str],
    lake_namespace: str,
) -> None:
    for path in shop.rglob("*.*"):
        if path.suffix in (".yml", ".sql", ".py"):
            text = path.read_text("utf-8")
            for name in ("lake.sales", "lake.eu"):
                text = text.replace(name, f"lake.{lake_namespace}_{name.removeprefix('lake.')}")
            path.write_text(text.replace("raw.stock", f"{lake_namespace}_raw.stock"), "utf-8")
    seed_postgres(postgres_dsn)
    seed_iceberg(rest_lake, f"{lake_namespace}_raw")
    write(shop, {"profiles.yml": profile(postgres_dsn, {"catalog": rest_lake})})
    seeknal("run")
    report = seeknal("run", "--json").json()
    assert {target["status"] for target in report["targets"]} == {"unchanged"}
    for table, namespace in ICEBERG.items():
        found = iceberg_rows(rest_lake, f"{lake_namespace}_{namespace}.{table}")
        assert found == expected(table), table


def test_new_rows_reach_every_mode(
    seeknal: Cli, shop: Path, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    dsn, catalog = stores
    seeknal("run")
    orders = [*ORDERS, (6, 3, 11, "2026-03-01 23:59:59"), (7, 1, 1, "2026-03-02 00:00:01")]
    write_orders(shop, orders)
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute(
            "CREATE VIEW analytics.seen AS SELECT count(*) AS n FROM analytics.daily"
        )
    seeknal("run")
    for table in ("enriched", "daily"):
        assert postgres_rows(dsn, f"analytics.{table}") == expected(table, orders)
        assert iceberg_rows(catalog, f"sales.{table}") == expected(table, orders)
    assert postgres_rows(dsn, "totals") == expected("totals", orders)
    # An append adds the snapshot's rows: the SQL selects all orders, so the old come twice.
    twice = sorted([*expected("log"), *expected("log", orders)], key=str)
    assert postgres_rows(dsn, "analytics.log") == twice
    assert iceberg_rows(catalog, "sales.log") == twice
    assert postgres_rows(dsn, "analytics.seen") == [(len(expected("daily", orders)),)]


def test_a_changed_source_table_is_noticed(
    seeknal: Cli, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    dsn, _ = stores
    seeknal("run")
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute("UPDATE raw.customers SET name = 'Ada L.' WHERE customer_id = 1")
    report = seeknal("run", "--json").json()
    computed = {node["id"] for node in report["nodes"] if node["status"] == "computed"}
    assert computed >= {"source.customers", "transform.enriched", "transform.totals"}
    assert computed.isdisjoint({"source.orders", "source.stock", "transform.log"})
    assert CUSTOMERS[0][1] not in {row[0] for row in postgres_rows(dsn, "totals")}


@pytest.mark.parametrize(
    ("line", "times"),
    [("transform.enriched: computed", 1), ("written", 1), ("written", 4), ("written", 7)],
)
def test_a_killed_run_leaves_every_target_old_or_new_and_the_next_finishes(
    seeknal: Cli,
    shop: Path,
    stores: tuple[dict[str, object], dict[str, str]],
    line: str,
    times: int,
) -> None:
    dsn, catalog = stores
    seeknal("run")
    orders = [*ORDERS, (6, 3, 11, "2026-03-01 23:59:59")]
    write_orders(shop, orders)
    running = seeknal.start("run", "--threads", "2")
    assert running.stdout is not None
    seen = 0
    while seen < times:
        said = running.stdout.readline()
        assert said, "the run ended before it was killed"
        seen += line in said
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGKILL
    for table in ("enriched", "daily"):
        old_or_new = (expected(table), expected(table, orders))
        assert postgres_rows(dsn, f"analytics.{table}") in old_or_new
        assert iceberg_rows(catalog, f"sales.{table}") in old_or_new
    assert postgres_rows(dsn, "totals") in (expected("totals"), expected("totals", orders))
    seeknal("run")
    for table in ("enriched", "daily"):
        assert postgres_rows(dsn, f"analytics.{table}") == expected(table, orders)
        assert iceberg_rows(catalog, f"sales.{table}") == expected(table, orders)
    twice = sorted([*expected("log"), *expected("log", orders)], key=str)
    assert postgres_rows(dsn, "analytics.log") == twice
    assert iceberg_rows(catalog, "sales.log") == twice


def test_a_wrong_password_is_one_message_without_the_password(
    seeknal: Cli, shop: Path, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    dsn, _ = stores
    document = json.loads((shop / "profiles.yml").read_text())
    role = f"locked_out_{dsn['dbname']}"
    # A server that trusts its loopback takes any password, but not this role's.
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute(f"CREATE ROLE {role} NOLOGIN PASSWORD 'another'")
    document["connections"]["warehouse"] |= {"user": role, "password": "hunter2-xyz"}
    write(shop, {"profiles.yml": json.dumps(document)})
    for option in ((), ("-v",), ("--debug",), ("--json",)):
        running = seeknal.start("run", *option)
        out, err = running.communicate(timeout=120)
        assert running.returncode == 1
        assert err.count("Error:") - err.count("OperationalError:") == 1 and "Next:" in err
        assert role in err
        assert ("Traceback" in err) is (option == ("--debug",))
        assert "hunter2-xyz" not in out + err
    for path in (shop / "target").rglob("*"):
        assert not path.is_file() or b"hunter2-xyz" not in path.read_bytes(), path
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute(f"DROP ROLE {role}")


def test_a_server_that_is_down_is_one_message_and_the_run_can_be_repeated(
    seeknal: Cli, shop: Path, tmp_path: Path
) -> None:
    server = PostgresServer(fsync=True)
    server.start()
    try:
        dsn = server.create_database()
        connection, properties = local(tmp_path / "lake")
        seed_postgres(dsn)
        seed_iceberg(properties)
        write(shop, {"profiles.yml": profile(dsn, connection)})
        server.kill9()
        result = seeknal("run", code=1)
        assert f":{dsn['port']}" in result.err and "Next:" in result.err
        result = seeknal("check", "--connections", code=1)
        assert "connection lake" in result.out and "connection warehouse" in result.err
        server.restart()
        seeknal("run")
        assert_contents(dsn, properties)
    finally:
        server.stop()


def test_a_missing_right_names_the_table(
    seeknal: Cli, shop: Path, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    dsn, _ = stores
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute("DROP ROLE IF EXISTS reader_only")
        connection.execute("CREATE ROLE reader_only LOGIN PASSWORD 'reader-pass'")
        connection.execute("GRANT USAGE ON SCHEMA raw TO reader_only")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA raw TO reader_only")
    document = json.loads((shop / "profiles.yml").read_text())
    document["connections"]["warehouse"] = postgres_connection(
        {**dsn, "user": "reader_only", "password": "reader-pass"}
    )
    write(shop, {"profiles.yml": json.dumps(document)})
    result = seeknal("run", code=1)
    assert "permission denied" in result.said
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute("DROP OWNED BY reader_only")
        connection.execute("DROP ROLE reader_only")


def test_a_deleted_environment_leaves_nothing_in_either_store(
    seeknal: Cli, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    from pyiceberg.catalog import load_catalog

    dsn, catalog = stores

    def objects() -> tuple[list[Any], list[str]]:
        with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
            relations = connection.execute(
                "SELECT n.nspname, c.relname FROM pg_namespace n "
                "LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'v', 'S') "
                "WHERE n.nspname !~ '^(pg_|information_schema)' ORDER BY 1, 2"
            ).fetchall()
        warehouse = Path(catalog["warehouse"].removeprefix("file://"))
        files = sorted(
            path.relative_to(warehouse).as_posix()
            for path in warehouse.rglob("*")
            if not path.name.startswith("catalog.db")
        )
        opened = load_catalog("default", **catalog)
        tables = [".".join(name) for name in opened.list_namespaces()]
        return relations, [*files, *tables]

    seeknal("run")
    before = objects()
    seeknal("run", "--env", "dev", "--all-targets")
    assert objects() != before
    assert "9 targets, 0 drifted" in seeknal("env", "status", "dev", "--exit-code").out
    with psycopg.connect(**dsn) as connection:  # type: ignore[arg-type]
        connection.execute("DELETE FROM dev_public.totals WHERE name = 'Ada'")
    drifted = seeknal("env", "status", "dev", "--exit-code", "--json", code=3).json()["targets"]
    assert [one["name"] for one in drifted if one["condition"] != "as written"] == [
        "dev_public.totals"
    ]
    seeknal("env", "delete", "dev", "--yes")
    assert objects() == before
    assert_contents(dsn, catalog)


def test_adoption_takes_no_table_of_an_environment_that_is_recorded_elsewhere(
    seeknal: Cli, shop: Path, stores: tuple[dict[str, object], dict[str, str]]
) -> None:
    dsn, _ = stores
    seeknal("run")
    before = postgres_rows(dsn, "analytics.stocked")
    # Another checkout: its state folder knows nothing of production.
    shutil.rmtree(shop / "target")
    write(shop, {"profiles-dev.yml": (shop / "profiles.yml").read_text()})
    write(shop, {"profiles.yml": "connections: {}\n"})
    result = seeknal("run", "--env", "dev", "--adopt", "--select", "stocked", code=2)
    assert "'prod'" in result.err
    assert postgres_rows(dsn, "analytics.stocked") == before
