"""What a look at tables imports: no Arrow, no engine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli, write

HEAVY = {"duckdb", "numpy", "pandas", "pyarrow"}


@pytest.fixture
def seeknal(tmp_path: Path, postgres_dsn: Mapping[str, Any]) -> Cli:
    connection = {"type": "postgresql", **postgres_dsn}
    connection["database"] = connection.pop("dbname")
    root = tmp_path / "light"
    write(
        root,
        {
            "seeknal_project.yml": "name: light\n",
            "profiles.yml": json.dumps({"connections": {"warehouse": connection}}),
            "data/orders.csv": "id,amount\n1,10\n",
            "seeknal/orders.yml": (
                "kind: source\nname: orders\nsource: csv\ntable: data/orders.csv\n"
                "materialization: {type: postgresql, table: light.orders}\n"
            ),
            "seeknal/t.sql": (
                "-- ---\n-- materialization: {type: postgresql, table: light.t}\n-- ---\n"
                "SELECT id FROM source.orders\n"
            ),
        },
    )
    seeknal = Cli(cwd=root, environ={"HOME": str(tmp_path / "home")}, warm=True)
    seeknal("run")
    return seeknal


@pytest.mark.parametrize("command", ["run", "env plan prod", "env plan dev", "env status prod"])
def test_a_command_with_nothing_to_do_imports_nothing_heavy(seeknal: Cli, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "seeknal_core", *command.split()],
        cwd=seeknal.cwd,
        env=seeknal.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "seeknal_core.cli.main" in imported
    assert not imported & HEAVY
