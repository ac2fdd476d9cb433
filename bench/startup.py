"""What a command costs before it does anything.

`seeknal --help` and `--version` against a bare `python -c "import click"`, and what other tools
take for `--version`; interleaved, byte code compiled first, all whole processes.

    python -m bench startup [--rounds 15] [--no-peers] [--json FILE] [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from bench import peers
from bench.measure import (
    Figures,
    Measured,
    Missing,
    Wanted,
    attempt,
    compile_code,
    parser,
    run,
    seeknal_program,
    turns,
)

CLICK = "import click"
ROW = "start"
#: What is asked for its version, by peer.
PROGRAMS = {
    peers.SQLMESH: ("SQLMesh", "sqlmesh"),
    peers.DBT: ("dbt", "dbt"),
    peers.DLT: ("dlt", "dlt"),
    peers.OLDER: (peers.OLDER.name, "seeknal"),
}


def main() -> int:
    """Measure and print."""
    given = parser(__doc__, rounds=15).parse_args()
    figures = Figures("startup", ours="`seeknal --help`", baseline=f"`{CLICK}`")
    figures.options = {"rounds": given.rounds}
    figures.wanted[ROW] = Wanted(seconds=0.2, peak_mb=40, ratio=3)
    subjects: dict[str, Callable[[], Measured]] = {
        figures.baseline: partial(run, [sys.executable, "-c", CLICK]),
        figures.ours: partial(run, [*seeknal_program(), "--help"]),
        "`seeknal --version`": partial(run, [*seeknal_program(), "--version"]),
    }
    compile_code()
    if not given.no_peers:
        for peer, (name, program) in PROGRAMS.items():
            figures.versions[name] = peer.version
            found = peers.install(peer, given.peers_dir)
            subject = f"`{program} --version` ({name})"
            if isinstance(found, Missing):
                figures.add(ROW, subject, found)
            else:
                subjects[subject] = partial(run, [found.program(program), "--version"])
    for number in range(given.rounds):
        for subject in turns(list(subjects), number):
            figures.add(ROW, subject, attempt(subjects[subject]))
    return figures.finish(given, figures.standing(ROW))


if __name__ == "__main__":
    sys.exit(main())
