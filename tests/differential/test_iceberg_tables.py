"""Random tables in Iceberg, read back by readers that have nothing to do with the backend.

``SEEKNAL_RANDOM_TABLES=20000 pytest tests/differential`` reads as many; ``SEEKNAL_RANDOM_SEED`` begins elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from support.differential import story
from support.iceberg import Bench
from support.random_tables import sorted_rows
from support.readers import by_polars, by_pyiceberg

TABLES = int(os.environ.get("SEEKNAL_RANDOM_TABLES", "160"))
FIRST = int(os.environ.get("SEEKNAL_RANDOM_SEED", "0"))
#: Tables of one test, so that several workers share them.
SHARE = 20
READERS: tuple[Callable[[Any], pa.Table], ...] = (by_pyiceberg, by_polars)


@pytest.mark.parametrize("first", range(FIRST, FIRST + TABLES, SHARE))
def test_independent_readers_read_what_was_written(
    bench: Bench, tmp_path: Path, first: int
) -> None:
    for seed in range(first, min(first + SHARE, FIRST + TABLES)):
        told = story(bench, seed)
        told.tell(bench, tmp_path / "snapshots")
        names = told.writes[0].column_names
        table = bench.table(told.target)
        assert sorted_rows(bench.read(told.target), names) == told.expected, told.way
        assert bench.count(told.target) == len(told.expected), told.way
        for reader in READERS:
            found = sorted_rows(reader(table), names)
            if reader is by_pyiceberg:
                assert told_loosely(found) == told_loosely(told.expected), told.way
            else:
                assert found == told.expected, told.way
        shutil.rmtree(tmp_path / "snapshots")


def told_loosely(rows: list[tuple[Any, ...]]) -> list[str]:
    """Take an empty list for a NULL.

    pyiceberg 0.12 gives an empty list, or map, of structs where there is none.
    """
    return sorted(repr(row).replace("[]", "None") for row in rows)
