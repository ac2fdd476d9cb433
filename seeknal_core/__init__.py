"""Data pipelines that know their environment; stores are plugins."""

from __future__ import annotations

__version__ = "0.1.0"
