"""Promotions: many small tables, both stores together, and few rows into a large table.

Of each, dev holds a verified result that differs from production's; what is measured is
`seeknal env promote dev`, undo data and verification included, as a whole process.

    python -m bench promote [--rounds 3] [--models 300] [--rows 5000000] [--json FILE] [--check]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench import stores
from bench.bulk import LIMIT, OURS, Case, Place, Take, Upsert, measure
from bench.graph_project import model_names, parents_of, write_model, write_project
from bench.measure import CommandFailed, Figures, Measured, Wanted, compile_code, parser, seeknal


class Many(Case):
    """All models of the layered project."""

    name = "many"
    models = 300

    def prepare(self) -> None:
        """Run all of it in production."""
        self.root = self.place.path("graph")
        self.row = f"{self.models} small PostgreSQL tables"
        write_project(self.root, self.models, stores.connection(self.place.database))
        seeknal(self.root, "run")

    def wanted(self) -> dict[str, Wanted]:
        """Return nothing: the limit is beside."""
        return {}

    def begin(self, number: int) -> None:
        """Change every root, and so everything below."""
        for name in model_names(self.models)[0]:
            write_model(self.root, name, parents_of(self.models)[name], number + 2)
        _apply(self.root)

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return our promotion, and as many tables replaced by hand."""
        hand = partial(
            self.place.work, "replace_tables", schema=f"hand{number}", tables=self.models
        )
        return {
            self.row: {LIMIT: hand, OURS: partial(_promote, self.root)},
            f"{self.row}: rolled back": {OURS: partial(_roll_back, self.root)},
        }

    def end(self, number: int) -> None:
        """Drop what was made by hand."""
        self.place.sql(f"DROP SCHEMA hand{number} CASCADE")


class Shop(Case):
    """Ten nodes, each with a table in both stores."""

    name = "shop"
    row = "shop of 10 nodes in both stores"

    def prepare(self) -> None:
        """Run all of it in production."""
        nodes: list[dict[str, Any]] = [
            {"kind": "source", "name": "raw", "source": "csv", "table": "data/raw.csv"}
        ]
        for index in range(10):
            targets = [
                {"type": "postgresql", "connection": "warehouse", "table": f"shop.t{index}"},
                {"type": "iceberg", "connection": "lake", "table": f"shop.t{index}"},
            ]
            nodes.append(
                {
                    "kind": "transform",
                    "name": f"t{index}",
                    "transform": f"SELECT id, amount + {index} AS amount FROM source.raw",
                    "materializations": targets,
                }
            )
        self.nodes = nodes
        self.root = self.place.project("shop", nodes)
        lines = "".join(f"{index},{index * 3}\n" for index in range(1000))
        (self.root / "data" / "raw.csv").write_text("id,amount\n" + lines, "utf-8")
        seeknal(self.root, "run")

    def wanted(self) -> dict[str, Wanted]:
        """Return nothing: there is no limit to compare with."""
        return {}

    def begin(self, number: int) -> None:
        """Change every node."""
        for index, node in enumerate(self.nodes[1:]):
            amount = 100 * (number + 1) + index
            node["transform"] = f"SELECT id, amount + {amount} AS amount FROM source.raw"
        self.place.project("shop", self.nodes)
        _apply(self.root)

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return our promotion and its undoing."""
        return {
            self.row: {OURS: partial(_promote, self.root)},
            f"{self.row}: rolled back": {OURS: partial(_roll_back, self.root)},
        }


class UpsertPromoted(Upsert):
    """The upsert of `bench bulk`, brought into production by a promotion."""

    name = "upsert"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.row = self.row.replace("by `run`", "promoted")
        self.lake_row = self.lake_row.replace("by `run`", "promoted")

    def begin(self, number: int) -> None:
        """Make this round's rows, and dev's tables of them."""
        super().begin(number)
        # Rows alone are no change of an environment: its definitions are what is promoted.
        self.write_projects(
            f"SELECT * REPLACE (quantity + {number + 1} AS quantity) FROM {{source}}"
        )
        for root in self.roots.values():
            seeknal(root, "env", "plan", "dev", "--refresh-sources")
            seeknal(root, "env", "apply", "dev")

    def wanted(self) -> dict[str, Wanted]:
        """Return half as much again as a run may take."""
        return {self.row: Wanted(ratio=2.5), self.lake_row: Wanted(ratio=2.25)}

    def rows(self, number: int) -> dict[str, dict[str, Take]]:
        """Return both stores' ways."""
        found = super().rows(number)
        for row, store in ((self.row, "postgresql"), (self.lake_row, "iceberg")):
            found[row][OURS] = partial(_promote, self.roots[store], "--ship")
        return found


def _apply(root: Path) -> None:
    seeknal(root, "env", "plan", "dev")
    seeknal(root, "env", "apply", "dev")


def _promote(root: Path, *options: str) -> Measured:
    found = seeknal(root, "env", "promote", "dev", "--yes", *options)
    if "nothing to promote" in found.output:
        raise CommandFailed(found.output)
    return found


def _roll_back(root: Path) -> Measured:
    return seeknal(root, "env", "rollback", "prod", "--yes")


CASES: tuple[type[Case], ...] = (Many, Shop, UpsertPromoted)


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--models", type=int, default=300)
    options.add_argument("--rows", type=int, default=5_000_000, help="two fifths are upserted into")
    options.add_argument("--only", default="", help="some of " + ", ".join(c.name for c in CASES))
    options.add_argument("--dsn", help="a PostgreSQL server to use, as its superuser")
    given = options.parse_args()
    chosen = [case for case in CASES if not given.only or case.name in given.only.split(",")]
    figures = Figures("promote", ours=OURS, baseline=LIMIT)
    figures.options = {"rounds": given.rounds, "models": given.models, "rows": given.rows}
    compile_code()
    with (
        stores.server(given.dsn) as server,
        tempfile.TemporaryDirectory(prefix="seeknal-bench-promote-") as folder,
    ):
        figures.versions["postgresql"] = server.version()
        for kind in chosen:
            place = Place(Path(folder, kind.name), server, given.rows, {})
            case = kind(place)
            if isinstance(case, Many):
                case.models = given.models
            measure(figures, case, given.rounds, frozenset())
            server.drop(place.database)
            shutil.rmtree(place.folder)
    return figures.finish(given)


if __name__ == "__main__":
    sys.exit(main())
