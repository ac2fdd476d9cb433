"""The user's own folder, ~/.seeknal."""

from __future__ import annotations

import os
from pathlib import Path


def seeknal_home() -> Path | None:
    """Return ``SEEKNAL_HOME``, else ``~/.seeknal``; None for a user without a home."""
    if configured := os.environ.get("SEEKNAL_HOME"):
        return Path(configured).absolute()
    home = os.environ.get("HOME")
    return Path(home).absolute() / ".seeknal" if home else None
