"""The measured halves of `bench bulk`, each run as a process of its own.

``python bulk_workers.py '{"do": NAME, ...}'`` carries out one function below with the other
options and prints ``{"seconds": ...}``. Where the clock does not cover the whole process it
begins after the imports. Connection strings come by the environment: a command line is for
everybody to read.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: Seven columns of usual kinds.
COLUMNS = (
    "id bigint, customer bigint, quantity integer, price numeric(10,2), rate double precision,"
    " city text, made_at timestamp with time zone"
)
_SELECT = """SELECT i AS id, (i * 7919) % 100003 AS customer, (i % 97 + {salt})::INTEGER AS quantity,
    ((i * 31) % 100000 / 100)::DECIMAL(10, 2) AS price, sqrt(i + {salt}) AS rate,
    CASE WHEN i % 50 = 0 THEN NULL ELSE 'city ' || i % 500 END AS city,
    TIMESTAMPTZ '2020-01-01 00:00:00+00' + to_seconds(i) AS made_at"""
#: As the engine stores a snapshot.
_PARQUET = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
_CHUNK = 4 * 2**20


# ---------------------------------------------------------------- making rows


def make(path: str, ids: str, salt: int = 0, encoded: str = "") -> float:
    """Write rows as Parquet and, if asked, also as an encoded COPY stream.

    Args:
        ids: a query that gives ``i``.
    """
    import duckdb

    query = f"{_SELECT.format(salt=salt)} FROM ({ids}) AS t(i)"
    duckdb.sql(f"COPY ({query}) TO '{path}' {_PARQUET}")
    if encoded:
        encode(path, encoded)
    return 0.0


def make_mixed(path: str, rows: int, salt: int, encoded: str = "") -> float:
    """Write all rows, every tenth of them changed, in the order of their ids."""
    import duckdb

    parts = (
        f"{_SELECT.format(salt=0)} FROM range({rows}) AS t(i) WHERE i % 10 <> 0",
        f"{_SELECT.format(salt=salt)} FROM range({rows}) AS t(i) WHERE i % 10 = 0",
    )
    duckdb.sql(f"COPY ({' UNION ALL '.join(parts)} ORDER BY id) TO '{path}' {_PARQUET}")
    if encoded:
        encode(path, encoded)
    return 0.0


def make_wide(path: str, rows: int) -> float:
    """Write rows that compress badly, so that a snapshot of them is large."""
    import duckdb

    query = (
        "SELECT i AS id, hash(i) AS a, hash(i + 1) AS b, hash(i + 2) AS c, random() AS d,"
        f" md5(i::VARCHAR) AS e FROM range({rows}) AS t(i)"
    )
    query = f"SELECT id, a::DECIMAL(20, 0) AS a, (b >> 1)::BIGINT AS b, (c >> 1)::BIGINT AS c, d, e FROM ({query})"
    duckdb.sql(f"COPY ({query}) TO '{path}' {_PARQUET}")
    return 0.0


def make_csv(path: str, rows: int) -> float:
    """Write rows as CSV."""
    import duckdb

    duckdb.sql(f"COPY ({_SELECT.format(salt=0)} FROM range({rows}) AS t(i)) TO '{path}' (HEADER)")
    return 0.0


def make_narrow(path: str, rows: int) -> float:
    """Write many rows of two columns."""
    import duckdb

    query = f"SELECT i AS id, (i * 7919) % 1000003 AS v FROM range({rows}) AS t(i)"
    duckdb.sql(f"COPY ({query}) TO '{path}' {_PARQUET}")
    return 0.0


def encode(path: str, encoded: str) -> float:
    """Write a Parquet file's rows as an encoded COPY stream."""
    import pyarrow.parquet as pq
    from pgpq import ArrowToPostgresBinaryEncoder

    with pq.ParquetFile(path) as file, open(encoded, "wb") as out:
        encoder = ArrowToPostgresBinaryEncoder(file.schema_arrow)
        out.write(encoder.write_header())
        for batch in file.iter_batches(32_768):
            out.write(encoder.write_batch(batch))
        out.write(encoder.finish())
    return 0.0


# ------------------------------------------------------------------ the limits


def _connect() -> Any:
    import psycopg

    return psycopg.connect(os.environ["BENCH_DSN"])


def _send(connection: Any, statement: str, encoded: str) -> None:
    with open(encoded, "rb") as file, connection.cursor().copy(statement) as copy:
        while chunk := file.read(_CHUNK):
            copy.write(chunk)


def copy_new(encoded: str, table: str) -> float:
    """COPY encoded rows into a table made in the same transaction; commit."""
    with _connect() as connection:
        started = time.perf_counter()
        connection.execute(f"CREATE TABLE {table} ({COLUMNS})")
        _send(connection, f"COPY {table} FROM STDIN (FORMAT binary, FREEZE)", encoded)
        connection.commit()
        return time.perf_counter() - started


def delete_insert(encoded: str, table: str) -> float:
    """Replace all rows of a table by encoded ones, in one transaction."""
    with _connect() as connection:
        started = time.perf_counter()
        connection.execute(f"DELETE FROM {table}")
        _send(connection, f"COPY {table} FROM STDIN (FORMAT binary)", encoded)
        connection.commit()
        return time.perf_counter() - started


def on_conflict(encoded: str, table: str) -> float:
    """COPY encoded rows beside, and upsert them by key; the whole process counts."""
    names = [column.split()[0] for column in COLUMNS.split(", ")]
    sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in names[1:])
    with _connect() as connection:
        connection.execute(f"CREATE TEMP TABLE new ({COLUMNS}) ON COMMIT DROP")
        _send(connection, "COPY new FROM STDIN (FORMAT binary)", encoded)
        connection.execute(
            f"INSERT INTO {table} SELECT * FROM new ON CONFLICT (id) DO UPDATE SET {sets}"
        )
        connection.commit()
    return -1.0


def copy_out(table: str) -> float:
    """COPY a table out and throw it away; the whole process counts."""
    with (
        _connect() as connection,
        connection.cursor().copy(f"COPY {table} TO STDOUT (FORMAT binary)") as copy,
    ):
        while copy.read():
            pass
    return -1.0


def copy_bytes(path: str, folder: str, sync: bool = True) -> float:
    """Copy a file and, unless told otherwise, have it on the disk."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with open(path, "rb") as source, open(Path(folder, "copy.parquet"), "wb") as out:
        shutil.copyfileobj(source, out, _CHUNK)
        out.flush()
        if sync:
            os.fsync(out.fileno())
    return time.perf_counter() - started


def put_bytes(path: str, key: str) -> float:
    """Copy a file to the S3 store."""
    from pyarrow import fs

    options = json.loads(os.environ["BENCH_CATALOG"])
    store = fs.S3FileSystem(
        access_key=options["s3.access-key-id"],
        secret_key=options["s3.secret-access-key"],
        endpoint_override=options["s3.endpoint"],
        region=options["s3.region"],
    )
    started = time.perf_counter()
    with open(path, "rb") as source, store.open_output_stream(key) as out:
        shutil.copyfileobj(source, out, _CHUNK)
    return time.perf_counter() - started


def replace_tables(schema: str, tables: int, rows: int = 200) -> float:
    """Make small tables beside those that are there and swap all in one transaction.

    The first ones are made before; the whole process does not count, the swap does.
    """
    lines = "".join(f"{i}\t{i % 7}\t{i * 3}\n" for i in range(rows)).encode()

    def fill(connection: Any, name: str) -> None:
        connection.execute(f"CREATE TABLE {name} (id bigint, grp bigint, val bigint)")
        with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
            copy.write(lines)

    names = [f"{schema}.t{number}" for number in range(tables)]
    with _connect() as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        for name in names:
            fill(connection, name)
        connection.commit()
        started = time.perf_counter()
        for name in names:
            fill(connection, f"{name}_new")
        for name in names:
            short = name.rpartition(".")[2]
            connection.execute(f"ALTER TABLE {name} RENAME TO {short}_old")
            connection.execute(f"ALTER TABLE {name}_new RENAME TO {short}")
        connection.commit()
        return time.perf_counter() - started


def duckdb_alone(source: str, path: str, query: str) -> float:
    """Let DuckDB read, transform and write Parquet; the whole process counts."""
    import duckdb

    duckdb.sql(f"COPY ({query.format(source=source)}) TO '{path}' {_PARQUET}")
    return -1.0


# ------------------------------------------------------------------- pyiceberg


def _catalog(warehouse: str) -> Any:
    from pyiceberg.catalog import load_catalog

    if not warehouse:
        return load_catalog("bench", **json.loads(os.environ["BENCH_CATALOG"]))
    Path(warehouse).mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{warehouse}/catalog.db"
    return load_catalog("bench", type="sql", uri=uri, warehouse=f"file://{warehouse}")


def pyiceberg_append(path: str, warehouse: str, table: str) -> float:
    """Append a file's rows to a new table with pyiceberg."""
    import pyarrow.parquet as pq
    from pyiceberg.table import Table  # noqa: F401 - imported before the clock runs

    catalog = _catalog(warehouse)
    started = time.perf_counter()
    catalog.create_namespace_if_not_exists(table.rpartition(".")[0])
    rows = pq.read_table(path)
    catalog.create_table(table, rows.schema).append(rows)
    return time.perf_counter() - started


def pyiceberg_upsert(path: str, warehouse: str, table: str) -> float:
    """Delete by key and append, in one commit; the whole process counts."""
    import pyarrow.parquet as pq
    from pyiceberg.expressions import In, Reference

    rows = pq.read_table(path)
    found = _catalog(warehouse).load_table(table)
    with found.transaction() as change:
        change.delete(In(term=Reference("id"), values=set(rows["id"].to_pylist())))
        change.append(rows)
    return -1.0


# ------------------------------------------------------------------------ ours


def _snapshot(path: str, node: str, key: str) -> Any:
    import pyarrow.parquet as pq

    from seeknal_core.contract.types import Snapshot

    return Snapshot(
        node=node,
        content_key=key,
        schema=pq.read_schema(path).remove_metadata(),
        row_count=pq.read_metadata(path).num_rows,
        files=(path,),
        bytes=Path(path).stat().st_size,
    )


def _context(root: str) -> Any:
    from seeknal_core.contract.types import (
        Cancellation,
        Environment,
        ExecutionContext,
        Profile,
        Resources,
    )

    return ExecutionContext(
        project="bench",
        project_root=root,
        target_dir=str(Path(root, "target")),
        state_id="bench",
        environment=Environment(name="prod", is_production=True),
        run_id="bench",
        started_at=datetime.now(UTC),
        profile=Profile(path=None, reason="bench"),
        resources=Resources(),
        cancellation=Cancellation(),
    )


def materialize(
    type: str, path: str, root: str, table: str, key: str, unique: list[str] | None = None
) -> float:
    """Make a target hold a snapshot: ledger, version and commit included."""
    import importlib

    from seeknal_core.contract.types import ConnectionSpec, Mode, Target, TargetSpec

    names = {"postgresql": "seeknal_postgres", "iceberg": "seeknal_iceberg"}
    plugin = importlib.import_module(f"{names[type]}.plugin")
    importlib.import_module(f"{names[type]}.write")  # before the clock runs
    if type == "postgresql":
        options: dict[str, Any] = {"url": os.environ["BENCH_DSN"]}
    elif "BENCH_CATALOG" in os.environ:
        options = {"catalog": json.loads(os.environ["BENCH_CATALOG"])}
    else:
        options = {"warehouse": str(Path(root, "warehouse"))}
    context = _context(root)
    spec = ConnectionSpec(name="store", type=type, options=options)
    context = context.connected(plugin.resolve_profile(context, spec))
    wanted = TargetSpec(
        node="transform.rows", type=type, table=table, parts=tuple(table.split("."))
    )
    target = Target(
        key=table,
        node=wanted.node,
        type=type,
        name=plugin.namespace_for(context, wanted),
        mode=Mode.FULL,
        unique_keys=tuple(unique or ()),
    )
    snapshot = _snapshot(path, wanted.node, key)
    started = time.perf_counter()
    result = plugin.materialize(context, target, snapshot)
    seconds = time.perf_counter() - started
    context.resources.close()
    assert result.rows_after == snapshot.row_count, result
    return seconds


WORK: dict[str, Callable[..., float]] = {
    made.__name__: made
    for made in (
        *(make, make_mixed, make_wide, make_csv, make_narrow, encode),
        *(
            copy_new,
            delete_insert,
            on_conflict,
            copy_out,
            copy_bytes,
            put_bytes,
            replace_tables,
            duckdb_alone,
        ),
        *(pyiceberg_append, pyiceberg_upsert, materialize),
    )
}


def main() -> None:
    """Carry out what the last argument asks for."""
    options = json.loads(sys.argv[-1])
    seconds = WORK[options.pop("do")](**options)
    sys.stdout.write("\n" + json.dumps({"seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
