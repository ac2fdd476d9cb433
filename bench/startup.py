"""What the command costs before it does anything.

Each of ``seeknal --help`` and ``seeknal --version`` against a bare
``python -c "import click"``, interleaved, byte code compiled first: some
machines set ``PYTHONDONTWRITEBYTECODE``, which triples any Python tool's start.

    python -m bench startup [--rounds 15]

Prints a Markdown table. Exit code 1 where ``--help`` reaches three times click.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

MAX_RATIO = 3.0

COMMANDS = {
    "import click": [sys.executable, "-c", "import click"],
    "seeknal --help": [sys.executable, "-m", "seeknal_core", "--help"],
    "seeknal --version": [sys.executable, "-m", "seeknal_core", "--version"],
}


def _compile() -> None:
    for name in ("click", "seeknal_core"):
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        compileall.compile_dir(str(Path(spec.origin).parent), quiet=2)


def _time(command: list[str]) -> tuple[float, float]:
    """Return seconds and peak memory in MB of one process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    _compile()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            took, peak = _time(command)
            seconds[name].append(took)
            memory[name] = max(memory.get(name, 0.0), peak)
    base = seconds["import click"]
    out = ["| command | seconds (median) | peak MB | times `import click` |", "|---|---|---|---|"]
    ratios: dict[str, float] = {}
    for name, took in seconds.items():
        ratios[name] = statistics.median(t / b for t, b in zip(took, base, strict=True))
        out.append(
            f"| `{name}` | {statistics.median(took):.3f} | {memory[name]:.0f} | {ratios[name]:.2f} |"
        )
    sys.stdout.write("\n".join(out) + "\n")
    return 1 if ratios["seeknal --help"] >= MAX_RATIO else 0


if __name__ == "__main__":
    sys.exit(main())
