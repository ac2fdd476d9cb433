"""Run a target on all inputs of its corpus."""

from __future__ import annotations

import shlex
from pathlib import Path

from fuzz.target import Target


def replay(target: Target, folder: Path) -> None:
    """Run all of them; what fails says which input it was, and the command that replays it."""
    kept = target.corpus()
    assert kept, "a target without a corpus"
    with target.opened(folder) as run:
        for path in kept:
            try:
                run(path.read_bytes())
            except Exception as error:
                error.add_note(f"python tests/fuzz/run.py --replay {shlex.quote(str(path))}")
                raise
