"""``python -m bench NAME [options]``: run one benchmark."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

#: Name -> module and what it measures.
BENCHMARKS = {
    "startup": ("bench.startup", "what the command costs before it does anything"),
    "graph": ("bench.graph", "300 models: run, plan, change, promote, beside SQLMesh and dbt"),
    "bulk": ("bench.bulk", "large tables against the limits of the stores"),
    "scale": ("bench.scale", "planning 100, 1,000 and 10,000 nodes"),
    "promote": ("bench.promote", "promoting many tables, and both stores together"),
}


def main() -> int:
    """Run the benchmark that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        lines = [f"  {key:8} {text}" for key, (_, text) in BENCHMARKS.items()]
        sys.stderr.write("usage: python -m bench NAME [options]\n" + "\n".join(lines) + "\n")
        return 2
    sys.argv = [f"python -m bench {name}", *sys.argv[2:]]
    run: Callable[[], int] = importlib.import_module(BENCHMARKS[name][0]).main
    return run()


if __name__ == "__main__":
    sys.exit(main())
