"""The command ``seeknal``. Small modules, one per command group: parse, call, render."""

from __future__ import annotations

from seeknal_core.cli.main import main

__all__ = ["main"]
