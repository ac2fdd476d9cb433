"""What a command may take: memory for large texts and tables, and connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

_NUMBERS = "SELECT * FROM source.nums WHERE id IN ({})"
_BRANCHES = "SELECT id, CASE {} ELSE 'x' END AS c FROM source.nums"


def run(folder: Path, *command: str) -> int:
    """Run a command that ends well, and return its peak memory in MB."""
    seeknal = Path(sys.executable).with_name("seeknal")
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [seeknal, *command], cwd=folder, stdout=said, stderr=said, env={**os.environ}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (folder / "said").read_text()
    return usage.ru_maxrss // 1024


@pytest.mark.parametrize(
    "sql",
    [
        _NUMBERS.format(",\n".join(str(10_000_000 + i) for i in range(101_000))),
        _BRANCHES.format("\n".join(f"WHEN id = {i} THEN 'branch {i:07d}'" for i in range(27_000))),
    ],
    ids=["in-list", "case"],
)
def test_a_megabyte_of_sql_takes_less_than_400_mb(sql: str, tmp_path: Path) -> None:
    """794 MB were seen: the parser's tree, and what the engine keeps of parsing."""
    assert len(sql) > 1_000_000
    (tmp_path / "seeknal").mkdir()
    (tmp_path / "seeknal_project.yml").write_text("name: large\n")
    (tmp_path / "nums.csv").write_text("id\n" + "\n".join(map(str, range(100))))
    (tmp_path / "seeknal" / "nums.yml").write_text(
        "kind: source\nname: nums\nsource: csv\nparams: {path: nums.csv}\n"
    )
    lines = "".join(f"  {line}\n" for line in sql.splitlines())
    (tmp_path / "seeknal" / "large.yml").write_text(
        f"kind: transform\nname: large\ntransform: |\n{lines}"
    )
    assert run(tmp_path, "check") < 400
    assert run(tmp_path, "run") < 400


#: 1 GB as CSV, 2 GB as JSON lines.
_ROWS = """SELECT i AS id, i % 100000 AS customer_id, (i * 37 % 1000003 / 100)::DECIMAL(10,2) AS amount,
 DATE '2020-01-01' + (i % 2000)::INT AS day, 'name ' || (i % 5000) AS name
 FROM range(20_000_000) AS t(i)"""
_FORMATS = {"parquet": "(FORMAT parquet)", "csv": "(FORMAT csv)", "jsonl": "(FORMAT json)"}


def project(folder: Path, files: dict[str, str]) -> Path:
    """Write a project's files."""
    for name, text in {"seeknal_project.yml": "name: large\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def file_source(kind: str) -> str:
    return f"kind: source\nname: rows\nsource: {kind}\nparams: {{path: rows.{kind}}}\n"


@pytest.mark.parametrize("kind", list(_FORMATS))
def test_twenty_million_rows_of_a_file_take_less_than_400_mb(kind: str, tmp_path: Path) -> None:
    """1.2 GB were seen: DuckDB keeps rows in their order in all the memory it may have."""
    with duckdb.connect(config={"memory_limit": "1GB", "preserve_insertion_order": False}) as db:
        db.execute(f"COPY ({_ROWS}) TO '{tmp_path}/rows.{kind}' {_FORMATS[kind]}")
    assert run(project(tmp_path, {"seeknal/rows.yml": file_source(kind)}), "run") < 400
    stored = duckdb.execute(
        f"SELECT count(*), sum(id) FROM read_parquet('{tmp_path}/target/snapshots/*/*/*.parquet')"
    )
    assert stored.fetchall() == [(20_000_000, sum(range(20_000_000)))]


def test_a_query_that_passes_twenty_million_rows_on_takes_less_than_400_mb(tmp_path: Path) -> None:
    with duckdb.connect(config={"memory_limit": "1GB", "preserve_insertion_order": False}) as db:
        db.execute(f"COPY ({_ROWS}) TO '{tmp_path}/rows.parquet' (FORMAT parquet)")
    sql = "SELECT *, amount * 2 AS twice FROM source.rows WHERE id <> 7"
    files = {"seeknal/rows.yml": file_source("parquet"), "seeknal/passed.sql": sql}
    assert run(project(tmp_path, files), "run") < 400


@pytest.mark.parametrize("kind", list(_FORMATS))
@pytest.mark.parametrize(
    "rows",
    [
        "SELECT i AS id, repeat('x', 8_000_000 + i) AS text FROM range(4) AS t(i)",
        "SELECT i AS id, "
        + ", ".join(f"repeat('x', i % {n + 7}) AS c{n}" for n in range(1_000))
        + " FROM range(2_000) AS t(i)",
    ],
    ids=["rows of 8 MB", "1,000 columns"],
)
def test_wide_rows_are_read_though_memory_is_limited(kind: str, rows: str, tmp_path: Path) -> None:
    if kind == "parquet":
        # Packed they are small: many of them need more than the limit.
        rows = rows.replace("range(4)", "range(100)")
    with duckdb.connect() as db:
        db.execute(f"COPY ({rows}) TO '{tmp_path}/rows.{kind}' {_FORMATS[kind]}")
        wanted = db.execute(
            f"SELECT count(*), sum(id), count(COLUMNS('^(text|c9)$')) FROM ({rows})"
        )
        expected = wanted.fetchall()
    run(project(tmp_path, {"seeknal/rows.yml": file_source(kind)}), "run")
    found = duckdb.execute(
        "SELECT count(*), sum(id), count(COLUMNS('^(text|c9)$'))"
        f" FROM read_parquet('{tmp_path}/target/snapshots/*/*/*.parquet')"
    )
    assert found.fetchall() == expected
