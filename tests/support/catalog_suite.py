"""Run the tests of REST catalogs in every way of answering: ``tox -e catalog-modes``.

``SEEKNAL_CATALOG_MODES`` names some modes, with commas, or says ``all``. What follows the
program's name goes to pytest. Each mode is a run of its own; what the conformance suite found
is written to ``--reports FOLDER``, one file a mode, for `tests/meta/compatibility_page.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

#: What runs in each mode: the suite, and the Iceberg tests that have a REST catalog.
PATHS = ("tests/catalog_modes", "tests/iceberg")


def main() -> None:
    """Run them, one after the other, and say how each ended."""
    from support.catalog_modes import MODES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path)
    arguments, rest = parser.parse_known_args()
    named = os.environ.get("SEEKNAL_CATALOG_MODES", "all")
    modes = list(MODES) if named == "all" else named.split(",")
    paths = [] if any(not each.startswith("-") for each in rest) else list(PATHS)
    failed = []
    for mode in modes:
        sys.stdout.write(f"\n===== {mode}: {MODES[mode].says}\n")
        sys.stdout.flush()
        more = []
        if arguments.reports:
            arguments.reports.mkdir(parents=True, exist_ok=True)
            more = ["--seeknal-report", str(arguments.reports / f"{mode}.json")]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *paths, *more, *rest]
        done = subprocess.run(
            command, env={**os.environ, "SEEKNAL_CATALOG_MODE": mode}, check=False
        )
        if done.returncode not in (0, 5):
            failed.append(mode)
    sys.stdout.write(f"\n{len(modes) - len(failed)} of {len(modes)} modes passed\n")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
