"""Looking at environments, and cleaning them up: what the commands report."""

from __future__ import annotations
