"""``python -m seeknal_core`` is ``seeknal``."""

from __future__ import annotations

from seeknal_core.cli import main

if __name__ == "__main__":
    main()
