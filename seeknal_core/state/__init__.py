"""What Seeknal remembers between commands, on disk."""

from __future__ import annotations
