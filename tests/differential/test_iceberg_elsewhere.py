"""Random tables in Iceberg, read by DuckDB's extension and by Daft.

They need a DuckDB of their own, so they run in an environment that ``SEEKNAL_READERS``, the path
of its Python, leads to (``tox -e differential`` makes it).
"""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from differential.test_iceberg_tables import told_loosely
from support.differential import story
from support.iceberg import Bench
from support.random_tables import sorted_rows

TABLES = int(os.environ.get("SEEKNAL_RANDOM_TABLES", "160"))
FIRST = int(os.environ.get("SEEKNAL_RANDOM_SEED", "0"))
SCRIPT = Path(__file__).with_name("read_elsewhere.py")


@pytest.mark.parametrize("first", range(FIRST, FIRST + TABLES, 80))
def test_other_programs_read_what_was_written(bench: Bench, tmp_path: Path, first: int) -> None:
    told: list[Any] = []
    lines: list[str] = []
    for seed in range(first, min(first + 80, FIRST + TABLES)):
        one = story(bench, seed)
        one.tell(bench, tmp_path / "snapshots")
        told.append(one)
        lines.append(f"{seed} {bench.table(one.target).metadata_location.removeprefix('file://')}")
    listed = tmp_path / "read" / "list"
    listed.parent.mkdir()
    listed.write_text("\n".join(lines), "utf-8")
    subprocess.run([os.environ["SEEKNAL_READERS"], str(SCRIPT), str(listed)], check=True)
    wrong = [line for one in told for line in differing(one, listed.parent)]
    assert not wrong, f"{len(wrong)} of {2 * len(told)} differ:\n" + "\n".join(wrong[:10])


def differing(one: Any, folder: Path) -> list[str]:
    """Say which readers did not read a table's rows."""
    found = []
    for reader in ("duckdb", "daft"):
        file = folder / f"{one.seed}.{reader}.arrow"
        if not file.exists():
            why = (folder / f"{one.seed}.{reader}.txt").read_text("utf-8")
            found.append(f"{reader}: {why[:300]}\n  {one.way}")
            continue
        with pa.memory_map(str(file)) as source:
            rows = pa.ipc.open_file(source).read_all()
        names = one.writes[0].column_names
        for name in names:
            if one.writes[0].schema.field(name).type == pa.uuid():
                index = rows.column_names.index(name)
                rows = rows.set_column(index, name, as_bytes(rows[name]))
        read = sorted_rows(rows, names)
        if told_loosely(read) != told_loosely(one.expected):
            pairs = zip(told_loosely(one.expected), told_loosely(read), strict=False)
            first = next(((a, b) for a, b in pairs if a != b), ("rows", str(len(read))))
            found.append(f"{reader}: {first[0][:400]}\n  became {first[1][:400]}\n  {one.way}")
    return found


def as_bytes(column: pa.ChunkedArray) -> pa.Array:
    """Return UUIDs as bytes: DuckDB hands them out as text."""
    if pa.types.is_string(column.type):
        values = [None if text is None else uuid.UUID(text).bytes for text in column.to_pylist()]
        return pa.array(values, pa.binary())
    return column
