"""What a command may take: memory for large texts and tables, and connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
