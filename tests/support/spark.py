"""Spark 3.5 with Iceberg 1.10, as another reader and writer of a catalog's tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.java_servers import JAVA, jars, java

#: The catalog's name in Spark's SQL.
CATALOG = "lake"


class Spark:
    """A Spark session in a process of its own.

    Args:
        options: pyiceberg's properties of the catalog and its S3 service.
    """

    def __init__(self, options: Mapping[str, str], folder: Path) -> None:
        program = java(JAVA)
        assert program is not None
        catalog = f"spark.sql.catalog.{CATALOG}"
        config = {
            "spark.jars": ",".join(map(str, jars("spark"))),
            "spark.ui.enabled": "false",
            "spark.driver.memory": "1g",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.warehouse.dir": str(folder / "spark-warehouse"),
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.extensions": (
                "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
            ),
            catalog: "org.apache.iceberg.spark.SparkCatalog",
            f"{catalog}.type": "rest",
            f"{catalog}.uri": options["uri"],
            f"{catalog}.warehouse": options["warehouse"],
            f"{catalog}.cache-enabled": "false",
            f"{catalog}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            f"{catalog}.s3.endpoint": options["s3.endpoint"],
            f"{catalog}.s3.path-style-access": "true",
            f"{catalog}.s3.access-key-id": options["s3.access-key-id"],
            f"{catalog}.s3.secret-access-key": options["s3.secret-access-key"],
            f"{catalog}.client.region": options["s3.region"],
            f"{catalog}.header.X-Iceberg-Access-Delegation": "",
        }
        home = str(Path(program).resolve().parents[1])
        variables = {**os.environ, "JAVA_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1"}
        worker = str(Path(__file__).with_name("spark_worker.py"))
        self._log = (folder / "spark.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, worker, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={key: value for key, value in variables.items() if not key.startswith("AWS_")},
            cwd=folder,
            text=True,
        )
        self._answer()

    def sql(self, text: str) -> list[Any]:
        """Run a statement, and return its rows, each a list.

        Raises:
            RuntimeError: Spark refuses it.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"Spark has ended: {self._log.name}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        rows: list[Any] = answer["rows"]
        return rows

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()
