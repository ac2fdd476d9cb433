"""``python -m seeknal_core`` is ``seeknal``."""

from __future__ import annotations

import os
import sys

# Python puts the working folder first, and a checkout must not put its modules, or what
# looks like an installed plugin, in front of what is installed.
if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from seeknal_core.cli import main

if __name__ == "__main__":
    main()
