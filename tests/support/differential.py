"""One random table's story in Iceberg: how it is written, and what must be in it then."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import attrs
import duckdb
import pyarrow as pa

from seeknal_core.contract.types import Cancellation, Mode, Snapshot, Target
from seeknal_core.engine.parquet import copy_query, write_stream
from seeknal_core.engine.snapshots import Staging
from support.contexts import snapshot_of
from support.iceberg import Bench
from support.random_tables import KINDS, random_table, sorted_rows

#: All but nanoseconds that microseconds cannot hold, which Iceberg refuses.
KINDS_OF_ICEBERG = tuple(sorted(set(KINDS) - {"timestamp_ns_fine"}))
KEY = "the key"


@attrs.frozen(kw_only=True)
class Story:
    """How one table is written.

    ``writes`` are the rows of each write, in order; ``expected`` what the table holds after
    the last. ``way`` says in words what was drawn.
    """

    seed: int
    target: Target
    writes: tuple[pa.Table, ...]
    expected: list[tuple[Any, ...]]
    by_query: bool
    promoted: bool
    way: str

    def tell(self, bench: Bench, folder: Path) -> None:
        """Write the table."""
        full = attrs.evolve(self.target, mode=Mode.FULL)
        for number, rows in enumerate(self.writes):
            snapshot = self._stored(rows, folder / f"{self.seed}-{number}")
            target = full if number == 0 else self.target
            if self.promoted and number:
                promotion = bench.promotion(f"p-{self.seed}", 1)
                promotion.stage(target, snapshot)
                promotion.publish()
            else:
                bench.write(target, snapshot)

    def _stored(self, rows: pa.Table, folder: Path) -> Snapshot:
        """Store rows as a node's output: of a query by DuckDB, or of a stream by pyarrow."""
        folder.mkdir(parents=True)
        staging = Staging(path=folder)
        if self.by_query:
            with duckdb.connect() as duck:
                duck.execute("SET timezone = 'UTC'")
                duck.register("made", rows)
                copy_query("transform.t", duck, "SELECT * FROM made", staging)
        else:
            write_stream("transform.t", rows.to_reader(), staging, Cancellation())
        return snapshot_of([str(staging.file())], content_key=str(folder))


def story(bench: Bench, seed: int) -> Story:
    """Draw a table, its mode, and how it is written, all of the seed."""
    random = Random(f"story {seed}")
    mode = random.choice((Mode.FULL, Mode.APPEND, Mode.UPSERT_BY_KEY, Mode.INSERT_OVERWRITE))
    columns = random.choice((3, 8))
    one, two = (
        random_table(seed, kinds=KINDS_OF_ICEBERG, max_columns=columns, variant=variant).table
        for variant in (0, 1)
    )
    first = one.append_column(KEY, pa.array(range(one.num_rows), pa.int64()))
    half = one.num_rows // 2
    second = two.append_column(KEY, pa.array(range(half, half + two.num_rows), pa.int64()))
    partitioned = mode is Mode.INSERT_OVERWRITE or random.random() < 0.2
    by = random.choice((KEY, f"bucket(3, {KEY})", f"truncate(10, {KEY})")) if partitioned else ""
    if mode is Mode.INSERT_OVERWRITE:
        by = KEY  # so that what is replaced is what has an equal key
    target = bench.target(
        f"d.t{seed}", mode=mode, unique_keys=(KEY,), partition_by=(by,) if by else ()
    )
    keys = set(second[KEY].to_pylist())
    kept = first.filter(pa.array([key not in keys for key in first[KEY].to_pylist()], pa.bool_()))
    stays = {Mode.FULL: first.slice(0, 0), Mode.APPEND: first}.get(mode, kept)
    by_query, promoted = random.random() < 0.6, random.random() < 0.3
    return Story(
        seed=seed,
        target=target,
        writes=(first, second),
        expected=sorted([*sorted_rows(stays), *sorted_rows(second, first.column_names)], key=repr),
        by_query=by_query,
        promoted=promoted,
        way=f"seed {seed}: {mode.value}, partitioned {by!r}, "
        f"{'DuckDB' if by_query else 'pyarrow'}, {'promoted' if promoted else 'run'}\n{first.schema}",
    )
