"""The project that the graph benchmarks run: layers of models over one seed.

Each model selects from one or two models of the layer above, and has one PostgreSQL target.
A model's constant can be changed: of one leaf, of one root, of sixty models.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Collection, Mapping
from pathlib import Path

LAYERS = 10
SEED_ROWS = 200


def model_names(models: int, layers: int = LAYERS) -> list[list[str]]:
    """Return the models' names by layer, the roots first."""
    width = -(-models // layers)
    names = [f"m{index:05d}" for index in range(models)]
    return [names[start : start + width] for start in range(0, models, width)]


def parents_of(models: int, layers: int = LAYERS) -> dict[str, list[str]]:
    """Return what each model selects from; the roots select from the seed (no parents)."""
    chosen = random.Random(7)
    rows = model_names(models, layers)
    parents: dict[str, list[str]] = {name: [] for name in rows[0]}
    for above, row in itertools.pairwise(rows):
        for name in row:
            parents[name] = chosen.sample(above, min(len(above), chosen.choice((1, 2))))
    return parents


def sql_of(name: str, parents: Collection[str], constant: int) -> str:
    """Return a model's SQL; another ``constant`` gives it other rows in every version."""
    # No two models are alike, or one's stored rows would serve the other.
    constant += 10 * int(name[1:])
    if not parents:
        return f"SELECT id, grp, val + {constant} AS val FROM source.seed"
    first, *rest = parents
    if not rest:
        return f"SELECT id, grp, val + {constant} AS val FROM transform.{first} WHERE id % 97 <> 3"
    return (
        f"SELECT a.id, a.grp, a.val + b.val + {constant} AS val\n"
        f"FROM transform.{first} AS a JOIN transform.{rest[0]} AS b USING (id)"
    )


def write_project(
    root: Path, models: int, connection: Mapping[str, object], changed: Collection[str] = ()
) -> None:
    """Write the project; the models in `changed` get another constant."""
    folder = root / "seeknal"
    folder.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "seeknal_project.yml").write_text("name: bench\n", "utf-8")
    profile = {"connections": {"warehouse": {"type": "postgresql", **connection}}}
    (root / "profiles.yml").write_text(json.dumps(profile), "utf-8")
    lines = "".join(f"{i},{i % 7},{i * 3}\n" for i in range(SEED_ROWS))
    (root / "data" / "seed.csv").write_text("id,grp,val\n" + lines, "utf-8")
    (folder / "seed.yml").write_text(
        "kind: source\nname: seed\nsource: csv\ntable: data/seed.csv\nschema:\n"
        + "".join(f"  - {{name: {name}, data_type: integer}}\n" for name in ("id", "grp", "val")),
        "utf-8",
    )
    for name, parents in parents_of(models).items():
        write_model(root, name, parents, 2 if name in changed else 1)


def write_model(root: Path, name: str, parents: Collection[str], constant: int) -> None:
    """Write one model's file."""
    sql = sql_of(name, parents, constant).replace("\n", "\n  ")
    (root / "seeknal" / f"{name}.yml").write_text(
        f"kind: transform\nname: {name}\ntransform: |\n  {sql}\n"
        f"materialization: {{type: postgresql, connection: warehouse, table: bench.{name}}}\n",
        "utf-8",
    )
