"""Spark reads what is written, and what Spark writes is read and written over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.catalog_journey import CommandJourney, Look
from support.spark import CATALOG, Spark

if TYPE_CHECKING:
    from support.java_servers import CatalogServer

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def spark(server: CatalogServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    made = Spark(server.catalog_options(), tmp_path_factory.mktemp("spark"))
    yield made
    made.close()


@pytest.fixture
def journey(server: CatalogServer, tmp_path: Path) -> CommandJourney:
    options = server.catalog_options()
    return CommandJourney(options, tmp_path, Look(options))


def test_spark_reads_each_version(spark: Spark, journey: CommandJourney) -> None:
    kept = f"{CATALOG}.{journey.namespace}.kept"
    journey.become(1)
    journey.seeknal("run")
    rows = f"SELECT id, amount FROM {kept} ORDER BY id"
    assert spark.sql(rows) == [[n, n] for n in range(5)]
    journey.become(2)
    journey.seeknal("run", "--env", "dev")
    assert spark.sql(rows) == [[n, n] for n in range(5)]
    journey.seeknal("env", "promote", "dev")
    assert spark.sql(rows) == [[n, 2 * n] for n in range(5)]
    assert spark.sql(f"SELECT count(*) FROM {CATALOG}.{journey.namespace}.new") == [[3]]


def test_values_and_partitions_are_the_same_in_spark(spark: Spark, journey: CommandJourney) -> None:
    sql = (
        "SELECT id, 'text ' || id AS words, (id * 1.25)::DECIMAL(12, 2) AS price, "
        "DATE '2024-02-28' + id::INTEGER AS day, id % 2 = 0 AS even, "
        "{'a': id, 'b': ['x', NULL]} AS nested FROM range(4) AS r(id)"
    )
    journey.node("kinds", sql, ", partition_by: [month(day)]")
    journey.seeknal("run")
    kinds = f"{CATALOG}.{journey.namespace}.kinds"
    found = spark.sql(f"SELECT id, words, price, day, even, nested FROM {kinds} ORDER BY id")
    assert found[2] == [2, "text 2", "2.50", "2024-03-01", True, [2, ["x", None]]]
    assert len(spark.sql(f"SELECT * FROM {kinds}.partitions")) == 2
    assert spark.sql(f"SELECT count(*) FROM {kinds} WHERE day >= DATE '2024-03-01'") == [[2]]


def test_what_spark_deletes_and_adds_is_read_and_written_over(
    spark: Spark, journey: CommandJourney
) -> None:
    name = f"{CATALOG}.{journey.namespace}.theirs"
    journey.become(1)
    journey.seeknal("run")
    spark.sql(
        f"CREATE TABLE {name} (id BIGINT, amount BIGINT) USING iceberg TBLPROPERTIES "
        "('format-version'='2', 'write.delete.mode'='merge-on-read')"
    )
    spark.sql(f"INSERT INTO {name} SELECT id, id * 10 FROM range(0, 100, 1, 1)")
    spark.sql(f"DELETE FROM {name} WHERE id >= 50")
    spark.sql(f"ALTER TABLE {name} ADD COLUMN note STRING")
    journey.node("read", "SELECT * FROM source.theirs")
    source = f"kind: source\nname: theirs\nsource: iceberg\ntable: {journey.namespace}.theirs\n"
    (journey.root / "seeknal" / "theirs.yml").write_text(
        f"{source}params: {{connection: lake}}\n", "utf-8"
    )
    journey.seeknal("run")
    assert spark.sql(f"SELECT count(*), sum(amount) FROM {CATALOG}.{journey.namespace}.read") == [
        [50, 12250]
    ]
    # Spark writes one of ours: it is drift, and a run writes over it where it is told to.
    spark.sql(f"UPDATE {CATALOG}.{journey.namespace}.kept SET amount = -1 WHERE id = 3")
    assert "kept" in journey.seeknal("env", "status", "prod", "--exit-code", code=3).said
    journey.become(2)
    journey.seeknal("run")
    assert spark.sql(f"SELECT amount FROM {CATALOG}.{journey.namespace}.kept WHERE id = 3") == [[6]]


def test_spark_expires_snapshots_beside_us(
    spark: Spark, journey: CommandJourney, server: CatalogServer
) -> None:
    for version in (1, 2, 3):
        journey.become(version)
        journey.seeknal("run")
    table = f"{journey.namespace}.kept"
    # Nessie keeps one snapshot, and lets nobody remove any.
    refuses = server.name == "nessie"
    with pytest.raises(RuntimeError) if refuses else contextlib.nullcontext():
        spark.sql(
            f"CALL {CATALOG}.system.expire_snapshots(table => '{table}', retain_last => 1, "
            "older_than => TIMESTAMP '2100-01-01 00:00:00')"
        )
    journey.expect(3)
    journey.become(4)
    journey.seeknal("run")
    journey.expect(4)
    assert spark.sql(f"SELECT max(amount) FROM {CATALOG}.{table}") == [[16]]
