"""Queries over large inputs that only pass rows on, in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from seeknal_core.engine import duckdb, streaming
from support.engines import Lab, open_lab, rows


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(streaming, "LARGE", 0)
    with open_lab(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("sql", "passes"),
    [
        ("SELECT id + 1 AS id FROM source.numbers WHERE id % 2 = 0", True),
        ("SELECT id FROM source.numbers UNION ALL SELECT 5", True),
        ("SELECT id, unnest([1, 2]) AS n FROM source.numbers", True),
        ("SELECT sum(id) AS n FROM source.numbers", False),
        ("SELECT DISTINCT id FROM source.numbers", False),
        ("SELECT id FROM source.numbers ORDER BY id DESC", False),
        ("SELECT id, row_number() OVER (ORDER BY id) AS n FROM source.numbers", False),
        ("SELECT a.id FROM source.numbers a JOIN source.numbers b USING (id)", False),
        ("SELECT nope FROM source.numbers", False),
    ],
)
def test_a_query_that_keeps_rows_may_take_all_memory(sql: str, passes: bool, lab: Lab) -> None:
    numbers = lab.stream(pa.table({"id": range(10)}), node="source.numbers")
    with lab.engine.cursor() as cursor:  # type: ignore[attr-defined]
        lab.engine._name_inputs("transform.t", cursor, {"source.numbers": numbers})  # type: ignore[attr-defined]
        written = sql.replace("source.numbers", '"source.numbers"')
        assert streaming.only_passes_rows_on(cursor, written) is passes


def test_rows_keep_their_order_whichever_way_they_go(lab: Lab) -> None:
    numbers = lab.stream(pa.table({"id": range(300_000)}), node="source.numbers")
    passed = lab.sql('SELECT id FROM "source.numbers" WHERE id % 3 = 1', source_numbers=numbers)
    assert [row["id"] for row in rows(passed)] == list(range(1, 300_000, 3))


def test_rows_that_need_more_than_little_memory_are_computed_all_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb, "_FILES_BYTES", 40_000_000)
    monkeypatch.setattr(duckdb, "_FILES_BYTES_A_THREAD", 0)
    numbers = lab.stream(pa.table({"id": range(4)}), node="source.numbers")
    wide = lab.sql(
        "SELECT id, repeat('x', 30_000_000) AS text FROM \"source.numbers\"",
        source_numbers=numbers,
    )
    assert wide.row_count == 4
