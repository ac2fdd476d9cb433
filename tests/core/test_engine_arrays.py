"""Arrays of fixed size are stored so that pyarrow reads them, NULLs included."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from seeknal_core.engine.parquet import copy_query
from seeknal_core.engine.snapshots import Staging

ARRAY = "CASE WHEN i % 2 = 0 THEN array_value(i, i + 1, NULL) END"


@pytest.mark.parametrize(
    ("sql", "row"),
    [
        (ARRAY, [2, 3, None]),
        (f"{{'a b': {ARRAY}}}", {"a b": [2, 3, None]}),
        (f"[{ARRAY}]", [[2, 3, None]]),
        (f"MAP {{'k': {ARRAY}}}", [("k", [2, 3, None])]),
        (f"array_value({ARRAY}, NULL)", [[2, 3, None], None]),
    ],
)
def test_null_arrays_are_read_by_pyarrow(tmp_path: Path, sql: str, row: object) -> None:
    staging = Staging(path=tmp_path)
    with duckdb.connect() as duck:
        copy_query("transform.t", duck, f"SELECT i, {sql} AS c FROM range(5) r(i)", staging)
    found = pq.read_table(staging.file())
    assert found["i"].to_pylist() == [0, 1, 2, 3, 4]
    assert found["c"].to_pylist()[2] == row
