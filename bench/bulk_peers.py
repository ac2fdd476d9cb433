"""What other tools do in `bench bulk`, each run by the interpreter of its own environment.

As in `bulk_workers`; nothing of this project can be imported here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def duckdb_new(path: str, table: str) -> float:
    """Create a PostgreSQL table from Parquet with DuckDB's extension, from its wheel."""
    import duckdb

    wheel = importlib.import_module("duckdb_extension_postgres_scanner")
    place = os.path.dirname(str(wheel.__file__))
    found = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(place)
        for name in names
        if name.endswith(".duckdb_extension")
    ]
    connection = duckdb.connect()
    connection.execute(f"LOAD '{found[0]}'")
    started = time.perf_counter()
    connection.execute(f"ATTACH '{os.environ['BENCH_DSN']}' AS store (TYPE postgres)")
    connection.execute(f"CREATE TABLE store.{table} AS SELECT * FROM read_parquet('{path}')")
    return time.perf_counter() - started


def dlt_new(path: str, table: str, folder: str) -> float:
    """Load Parquet into a PostgreSQL table with dlt, from Parquet by ADBC (its fastest)."""
    import pyarrow.parquet as pq

    dlt = importlib.import_module("dlt")

    schema, _, name = table.partition(".")

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(65_536)

    destination = dlt.destinations.postgres(credentials=os.environ["BENCH_URL"])
    started = time.perf_counter()
    pipeline = dlt.pipeline(
        "bench", pipelines_dir=folder, destination=destination, dataset_name=schema
    )
    resource = dlt.resource(batches(), name=name, write_disposition="replace")
    pipeline.run(resource, loader_file_format="parquet")
    return time.perf_counter() - started


def adbc_read(table: str) -> float:
    """Read a table as record batches and throw them away; the whole process counts."""
    dbapi = importlib.import_module("adbc_driver_postgresql.dbapi")
    with dbapi.connect(os.environ["BENCH_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        for _ in cursor.fetch_record_batch():
            pass
    return -1.0


WORK: dict[str, Callable[..., float]] = {
    made.__name__: made for made in (duckdb_new, dlt_new, adbc_read)
}


def main() -> None:
    """Carry out what the last argument asks for."""
    options = json.loads(sys.argv[-1])
    seconds = WORK[options.pop("do")](**options)
    sys.stdout.write("\n" + json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
