"""What a command opens: the project, its profile, its plugins, its state."""

from __future__ import annotations
