"""The command ``seeknal``: one module for each command, named as the command.

`main` lists them. What they share is in `options`, `output`, `tables`, `report` and `progress`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading

#: Objects made before the collector of cycles looks for garbage. A command makes many that
#: stay to its end and few cycles: by Python's own 700, an eighth of a plan of 10,000 nodes
#: is looking.
_UNCOLLECTED = 50_000


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends well, too."""
    gc.set_threshold(_UNCOLLECTED, 20, 20)
    try:
        from seeknal_core.cli.main import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        os.write(2, b"stopped by the user\n")
        os._exit(130)
    except SystemExit as end:
        if isinstance(end.code, int):
            _leave(end.code)
        raise


def _leave(code: int) -> None:
    """End the process without taking the interpreter apart, which costs up to 0.3 s.

    What asked to be called at the end is called. Where a thread is still at work that
    an ordinary exit would wait for, this returns, and the exit is an ordinary one.
    """
    main_thread = threading.main_thread()
    if any(t is not main_thread and not t.daemon for t in threading.enumerate()):
        return
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1  # What a command says is flushed, and told of, as it is said.
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


__all__ = ["main"]
