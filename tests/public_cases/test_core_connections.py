"""A role that may open one connection: everything works, one thing after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cli import Cli, write

TARGETS = """/* ---
materializations:
  - {type: postgresql, connection: warehouse, table: out.t%d}
  - {type: iceberg, connection: lake, table: lake.out.t%d}
--- */
SELECT id, a + %d AS a FROM source.s%d
"""


@pytest.fixture(params=[1, 2])
def seeknal(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_dsn: Mapping[str, Any]
) -> Iterator[Cli]:
    """A project of five sources and ten targets, by a role with a limit of connections."""
    database, role = postgres_dsn["dbname"], f"few_{postgres_dsn['dbname']}"
    connect: Any = psycopg.connect
    with connect(**postgres_dsn, autocommit=True) as boss:
        boss.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD 'few-words' CONNECTION LIMIT {request.param}"
        )
        boss.execute(f"GRANT CREATE ON DATABASE {database} TO {role}")
        boss.execute("CREATE SCHEMA raw")
        boss.execute(
            "CREATE TABLE raw.o AS SELECT g AS id, g * 2 AS a FROM generate_series(1, 99) g"
        )
        boss.execute(f"GRANT USAGE ON SCHEMA raw TO {role}")
        boss.execute(f"GRANT SELECT ON raw.o TO {role}")
        warehouse = {
            "type": "postgresql",
            "host": postgres_dsn["host"],
            "port": postgres_dsn["port"],
            "database": database,
            "user": role,
            "password": "few-words",
        }
        lake = {"type": "iceberg", "warehouse": "./lake"}
        profile = json.dumps({"connections": {"warehouse": warehouse, "lake": lake}})
        write(tmp_path, {"seeknal_project.yml": "name: p\n", "profiles.yml": profile})
        for n in range(5):
            source = f"kind: source\nname: s{n}\nsource: postgresql\ntable: raw.o\n"
            write(tmp_path, {f"seeknal/s{n}.yml": f"{source}params: {{connection: warehouse}}\n"})
        yield Cli(cwd=tmp_path)
        boss.execute(f"DROP OWNED BY {role} CASCADE")
        boss.execute(f"DROP ROLE {role}")


def test_a_run_and_a_promotion_do_with_one_connection(seeknal: Cli) -> None:
    for version in (1, 2):
        write(
            seeknal.cwd,
            {f"seeknal/t{n}.sql": TARGETS % (n, n, version, n) for n in range(5)},
        )
        if version == 1:
            seeknal("run")
    seeknal("env", "plan", "dev")
    seeknal("env", "apply", "dev")
    assert "0 drifted" in seeknal("env", "status", "dev").out
    assert "10 targets" in seeknal("env", "promote", "dev").out
    seeknal("env", "rollback", "prod")
    seeknal("env", "delete", "dev", "--yes")
    seeknal("gc")
