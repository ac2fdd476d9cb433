"""The command ``seeknal``. Small modules, one per command group: parse, call, render."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends well, too."""
    try:
        from seeknal_core.cli.main import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:
        os.write(2, b"stopped by the user\n")
        os._exit(130)


__all__ = ["main"]
