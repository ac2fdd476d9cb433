"""Looking at environments, and cleaning them up."""

from __future__ import annotations
