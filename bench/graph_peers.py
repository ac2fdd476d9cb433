"""The layered project of `graph_project`, written for SQLMesh and for dbt.

Same names, same SQL, same seed, one table each: what differs is how a tool is told of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bench.graph_project import SEED_ROWS, parents_of, sql_of
from bench.measure import write_files

#: How many tables a peer writes at a time; ours is 4 unless told otherwise.
THREADS = 4


def _seed() -> str:
    return "id,grp,val\n" + "".join(f"{i},{i % 7},{i * 3}\n" for i in range(SEED_ROWS))


def write_sqlmesh(root: Path, models: int, connection: Mapping[str, Any]) -> None:
    """Write the project for SQLMesh, whose state is in the same database (its default)."""
    config = {
        "gateways": {
            "bench": {"connection": {"type": "postgres", **connection, "concurrent_tasks": THREADS}}
        },
        "default_gateway": "bench",
        "model_defaults": {"dialect": "postgres", "start": "2024-01-01"},
        "disable_anonymized_analytics": True,
    }
    seed = (
        "MODEL (name bench.seed, kind SEED (path '../seeds/seed.csv'),\n"
        "  columns (id BIGINT, grp BIGINT, val BIGINT));\n"
    )
    write_files(
        root,
        {
            "config.yaml": config,
            "seeds/seed.csv": _seed(),
            "models/seed.sql": seed,
        },
    )
    for name, parents in parents_of(models).items():
        write_sqlmesh_model(root, name, parents, 1)


def write_sqlmesh_model(root: Path, name: str, parents: Collection[str], constant: int) -> None:
    """Write one model's file."""
    sql = sql_of(name, parents, constant)
    sql = sql.replace("source.seed", "bench.seed").replace("transform.", "bench.")
    write_files(root, {f"models/{name}.sql": f"MODEL (name bench.{name}, kind FULL);\n{sql}\n"})


def write_dbt(root: Path, models: int, connection: Mapping[str, Any]) -> None:
    """Write the project for dbt: a seed, and models that are tables."""
    project = {
        "name": "bench",
        "version": "1.0",
        "profile": "bench",
        "models": {"bench": {"+materialized": "table"}},
        "flags": {"send_anonymous_usage_stats": False},
    }
    output = {
        "type": "postgres",
        "threads": THREADS,
        **{name: connection[name] for name in ("host", "port", "user", "password")},
        "dbname": connection["database"],
    }
    profile = {
        "bench": {
            "target": "prod",
            "outputs": {
                "prod": {**output, "schema": "bench"},
                "dev": {**output, "schema": "dev_bench"},
            },
        }
    }
    write_files(
        root,
        {
            "dbt_project.yml": project,
            "profiles.yml": profile,
            "seeds/seed.csv": _seed(),
        },
    )
    for name, parents in parents_of(models).items():
        write_dbt_model(root, name, parents, 1)


def write_dbt_model(root: Path, name: str, parents: Collection[str], constant: int) -> None:
    """Write one model's file."""
    sql = sql_of(name, parents, constant).replace("source.seed", "{{ ref('seed') }}")
    for parent in parents:
        sql = sql.replace(f"transform.{parent}", f"{{{{ ref('{parent}') }}}}")
    write_files(root, {f"models/{name}.sql": sql + "\n"})
