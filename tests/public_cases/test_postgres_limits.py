"""Many PostgreSQL targets: on a server's default settings, and said before anything is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Cli, write
from support.postgres import PostgresServer

#: The issue's number; smaller ones are for whoever tries something.
TARGETS = int(os.environ.get("SEEKNAL_MANY_TARGETS", "2000"))


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of its own: no other test's locks count."""
    started = PostgresServer().start()
    yield started
    started.stop()


def make_project(folder: Path, url: str, targets: int) -> Cli:
    """Write a project of many targets below one transform."""
    write(
        folder,
        {
            "seeknal_project.yml": "name: many\n",
            "profiles.yml": f"connections:\n  warehouse: {{type: postgresql, url: '{url}'}}\n",
            "nums.csv": "id,v\n1,10\n2,20\n3,30\n",
            "seeknal/nums.yml": (
                "kind: source\nname: nums\nsource: csv\nparams: {path: nums.csv}\n"
            ),
            "seeknal/many.yml": "---\n".join(
                f"kind: transform\nname: t{n}\ntransform: SELECT id, v + {n} AS v FROM transform.base\n"
                "materializations:\n"
                f"  - {{type: postgresql, connection: warehouse, table: many.t{n}, mode: full,"
                " unique_keys: [id]}\n"
                for n in range(targets)
            ),
        },
    )
    set_base(folder, 0)
    return Cli(cwd=folder)


def set_base(folder: Path, added: int) -> None:
    """Change what all targets are made of."""
    sql = f"SELECT id, v + {added} AS v FROM source.nums"
    write(folder, {"seeknal/base.yml": f"kind: transform\nname: base\ntransform: {sql}\n"})


def test_2000_small_tables_are_promoted_on_a_servers_default_settings(
    server: PostgresServer, tmp_path: Path
) -> None:
    """222 s, then "out of shared memory", were seen."""
    dsn = server.create_database()
    url = "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**dsn)
    seeknal = make_project(tmp_path, url, TARGETS)
    seeknal("run")
    with server.connect(str(dsn["dbname"])) as admin:
        for n in range(TARGETS):
            admin.execute(f"ALTER TABLE many.t{n} ADD PRIMARY KEY (id)")
        set_base(tmp_path, 1)
        planned = seeknal("env", "plan", "dev")
        seeknal("env", "apply", "dev")
        said = seeknal("env", "promote", "dev")
        if TARGETS >= 2000:
            for warning in (planned.err, said.err):
                assert "max_locks_per_transaction 64 x" in warning, warning
        held = admin.execute(
            " UNION ALL ".join(f"SELECT {n}, sum(v) FROM many.t{n}" for n in range(TARGETS)[::40])
        )
        assert all(total == 63 + 3 * n for n, total in held)
        seeknal("env", "delete", "dev", "--yes")
        left = admin.execute("SELECT count(*) FROM pg_namespace WHERE nspname ~ 'dev'").fetchone()
        assert left == (0,)
