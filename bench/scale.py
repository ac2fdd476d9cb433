"""What a command costs in a project of 100, 1,000 and 10,000 nodes.

The layered project of `graph_project`, run once; then what people do all day in it. Each
figure is a whole process.

    python -m bench scale [--rounds 3] [--sizes 100,1000,10000] [--json FILE] [--check]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import stores
from bench.graph_project import model_names, parents_of, write_model, write_project
from bench.measure import (
    Figures,
    Measured,
    Wanted,
    attempt,
    compile_code,
    parser,
    run_worker,
    seeknal,
    tell,
    told,
)

CHECK = "`check`, which reads all files"
FULL = "first run"
PLAN = "plan, no change"
COLD = "plan, no change, caches deleted"
NOTHING = "run, nothing to do"
LEAF = "plan of one changed leaf"
APPLY = "apply it in dev"
PROMOTE = "promote it"
LOAD = "state: record and manifest loaded"
SAVE = "state: record and manifest saved"
_WORKERS = Path(__file__).with_name("scale_workers.py")

#: Seconds for a plan, by nodes; memory is bounded for all that runs nothing.
SECONDS = {1_000: 1.0, 10_000: 5.0}
MEMORY_MB = 500
#: Seconds for a record and a manifest of any size: "tens of milliseconds" each.
DOCUMENTS = 0.2


def wanted(step: str, nodes: int) -> Wanted:
    """Return what a step should stay below."""
    if step in (LOAD, SAVE):
        return Wanted(seconds=DOCUMENTS, peak_mb=MEMORY_MB)
    seconds = SECONDS.get(nodes, 0.0) if step in (PLAN, LEAF) else 0.0
    return Wanted(seconds=seconds, peak_mb=MEMORY_MB)


def measure(figures: Figures, server: stores.Server, nodes: int, rounds: int) -> None:
    """Take all steps with one size."""
    database = server.database()
    parents, leaf = parents_of(nodes), model_names(nodes)[-1][0]
    with tempfile.TemporaryDirectory(prefix="seeknal-bench-scale-") as folder:
        root = Path(folder)
        write_project(root, nodes, stores.connection(database))

        def take(step: str, *arguments: str) -> None:
            measured(step, partial(seeknal, root, *arguments))

        def documents(step: str, do: str) -> None:
            options = {"do": do, "state": str(root / "target" / "state"), "environment": "prod"}
            measured(step, partial(run_worker, sys.executable, _WORKERS, options, {}))

        def measured(step: str, what: Callable[[], Measured]) -> None:
            row = f"{nodes:,} nodes: {step}"
            figures.wanted[row] = wanted(step, nodes)
            server.settle()
            # One that fails is told of, and the others go on.
            found = attempt(what)
            figures.add(row, figures.ours, found)
            tell(f"{row}: {told(found)}")

        take(FULL, "run")
        for number in range(rounds):
            take(CHECK, "check")
            take(PLAN, "env", "plan", "prod")
            take(NOTHING, "run")
            documents(LOAD, "load")
            documents(SAVE, "save")
            write_model(root, leaf, parents[leaf], number + 2)
            take(LEAF, "env", "plan", "dev")
            take(APPLY, "env", "apply", "dev")
            take(PROMOTE, "env", "promote", "dev", "--yes")
            shutil.rmtree(root / "target" / "cache", ignore_errors=True)
            take(COLD, "env", "plan", "prod")
            # Fills the caches again.
            attempt(partial(seeknal, root, "run"))
    server.drop(database)


def main() -> int:
    """Measure and print."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--sizes", default="100,1000,10000")
    options.add_argument("--dsn", help="a PostgreSQL server to use, as its superuser")
    given = options.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    figures = Figures("scale")
    figures.options = {"rounds": given.rounds, "sizes": sizes}
    compile_code()
    with stores.server(given.dsn) as server:
        figures.versions["postgresql"] = server.version()
        for nodes in sizes:
            measure(figures, server, nodes, given.rounds)
    return figures.finish(given)


if __name__ == "__main__":
    sys.exit(main())
