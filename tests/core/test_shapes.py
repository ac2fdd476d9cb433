"""The columns that a plan foresees are those that are stored."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from seeknal_core.contract.types import read_schema
from seeknal_core.plan import shapes

DECIMALS = ["DECIMAL(1,0)", "DECIMAL(4,1)", "DECIMAL(9,9)", "DECIMAL(18,3)", "DECIMAL(38,10)"]


@pytest.mark.parametrize("kind", [*shapes.PLAIN.values(), *DECIMALS])
def test_a_plain_type_is_stored_as_it_is_foreseen(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        query = f"SELECT CAST(NULL AS {kind}) AS c"
        engine.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
        bound = [("c", str(engine.sql(query).types[0]))]
    stored = read_schema(path)
    assert shapes.stored_as(bound) == stored
    assert shapes.in_words(stored) == [("c", kind)]


@pytest.mark.parametrize(
    "columns", [[("c", "HUGEINT")], [("c", "INTEGER[]")], [("c", None)], [("a", "DATE")] * 2]
)
def test_other_columns_are_not_foreseen_by_their_names(
    columns: list[tuple[str, str | None]],
) -> None:
    assert shapes.stored_as(columns) is None
