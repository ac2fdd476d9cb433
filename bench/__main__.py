"""``python -m bench NAME [options]``: run one benchmark."""

from __future__ import annotations

import runpy
import sys

#: Name -> module and what it measures.
BENCHMARKS = {
    "startup": ("bench.startup", "seeknal --help and --version against importing click"),
    "bulk": ("bench.bulk_postgres", "writing 2,000,000 rows to PostgreSQL against a raw COPY"),
}


def main() -> int:
    """Run the benchmark that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        lines = [f"  {key}: {text}" for key, (_, text) in BENCHMARKS.items()]
        sys.stderr.write("usage: python -m bench NAME [options]\n" + "\n".join(lines) + "\n")
        return 2
    module = BENCHMARKS[name][0]
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
